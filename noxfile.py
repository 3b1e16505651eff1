"""Everything that is run on this project, as nox sessions: ``nox -l`` lists them.

How this works. Each session has an environment of its own and installs the project with the dependency group it
needs. Sessions use the interpreter that runs nox, but ``tests-all``, which takes every version there is.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["tests", "lint", "typecheck", "docs"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """Install the project as it lies here, and the dependency groups named."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest on all cores."""
    session.run("pytest", "-n", "auto", *arguments, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on real sockets: a handshake and data that survive every cancel."""
    install(session)
    session.run("python", "-m", "trio_tls", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The quick suite."""
    install(session, "tests")
    pytest(session, "-m", "not slow")


@nox.session(name="tests-all", python=PYTHONS)
def tests_all(session: nox.Session) -> None:
    """The quick suite on every Python version; those that are not installed are skipped."""
    install(session, "tests")
    pytest(session, "-m", "not slow")


def least_versions() -> list[str]:
    """The least versions of what the package needs, as pyproject.toml has them."""
    return [each.replace(">=", "==", 1) for each in PYPROJECT["project"]["dependencies"]]


@nox.session
def least(session: nox.Session) -> None:
    """The quick suite on the least versions of trio and cryptography that pyproject.toml admits."""
    install(session, "tests")
    session.install(*least_versions())
    pytest(session, "-m", "not slow")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests marked slow."""
    install(session, "tests")
    pytest(session, "-m", "slow")


@nox.session
def cancellation(session: nox.Session) -> None:
    """Cancel every operation at every step; then the same on trio.SSLStream, side by side.

    ``-- report`` leaves out the tests, and prints the comparison alone.
    """
    install(session, "tests")
    if "report" not in session.posargs:
        pytest(session, "tests/cancellation")
    session.run("python", "-m", "tests.cancellation.report")


@nox.session
def chaos(session: nox.Session) -> None:
    """Walk at random through all operations, against a model; ``-- --minutes N`` for longer than two minutes.

    ``CHAOS_SEED`` in the environment leads to the same walks again.
    """
    install(session, "tests")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz what reads a peer's bytes and a user's files, guided by coverage; ``-- --minutes N`` for longer than ten."""
    install(session, "tests", "fuzz")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Take each check away in turn, and see that a test fails; ``-- --every 10`` takes a sample."""
    install(session, "tests")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """100,000 handshakes and 10 GB, with memory that stays flat; ``-- --handshakes N --gigabytes N`` for less."""
    install(session, "tests")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what the package depends on, as PyPI knows them.

    A mirror may not pass them on: then nothing is audited, and that is said. ``-- --strict`` makes it a failure.
    """
    session.install("-e", ".")
    runtime = session.run("python", "-m", "pip", "freeze", "--exclude-editable", silent=True)
    requirements = Path(session.create_tmp(), "requirements.txt")
    requirements.write_text(str(runtime), encoding="utf-8")
    session.install(*nox.project.dependency_groups(PYPROJECT, "audit"))
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    told = session.run(
        *("pip-audit", "-r", str(requirements), *options, *session.posargs), silent=True, stderr=subprocess.DEVNULL
    )
    dependencies = json.loads(str(told))["dependencies"]
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    audited = len(dependencies) - len(skipped)
    session.log(f"{audited} of {len(dependencies)} dependencies were audited, and nothing is known of these")
    if skipped:
        session.warn(f"nobody could be asked about {', '.join(skipped)}: the index does not tell, or is not reachable")


@nox.session
def trio_suite(session: nox.Session) -> None:
    """Trio's own tests of its SSLStream, run on ours: on an ssl.SSLContext, and on our own machine."""
    install(session, "tests")
    for shim in ("tests.trio_suite.shim", "tests.trio_suite.shim_own"):
        session.run(
            *("python", "-m", "pytest", "-o", "trio_mode=false", "--run-slow"),
            *("-p", "trio._tests.pytest_plugin", "-p", shim),
            *("--pyargs", "trio._tests.test_ssl", "trio._tests.test_highlevel_ssl_helpers"),
            *session.posargs,
        )


@nox.session
def interop(session: nox.Session) -> None:
    """Against other implementations, such as the ``openssl`` command."""
    install(session, "tests")
    pytest(session, "tests/interop")


@nox.session
def ecosystem(session: nox.Session) -> None:
    """Other libraries on our streams, our streams with mail servers and databases, as in libp2p; prints the matrix."""
    install(session, "tests", "ecosystem")
    session.env["TRIO_TLS_ECOSYSTEM"] = "required"
    pytest(session, "tests/ecosystem", "tests/test_starttls_recipes.py", "tests/test_libp2p_example.py")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely defects."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Types, by two checkers."""
    install(session, "types")
    session.run("mypy")
    # Told which Python to look at: by itself it takes a .venv that lies here.
    python = str(Path(session.bin) / "python")
    session.run("basedpyright", "--level", "error", "--pythonpath", python)
    # Whoever uses the package sees a type of everything in it: 100 %, or it fails.
    session.run("basedpyright", "--verifytypes", "trio_tls", "--ignoreexternal", "--pythonpath", python, silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The manual, without a warning, its internal links, and how it looks in Chromium."""
    install(session, "docs", "tests")
    common = ["-W", "--keep-going", "-d", "docs/_build/doctrees", "docs"]
    session.run("sphinx-build", "-b", "html", *common, "docs/_build/html")
    session.run("sphinx-build", "-b", "linkcheck", *common, "docs/_build/linkcheck")
    session.run("pytest", "-n", "0", "tests/manual_in_chromium.py")


@nox.session
def load(session: nox.Session) -> None:
    """Thousands of clients, hundreds of attackers, 50,000 handshakes; the small form is one of the slow tests.

    It takes some fifteen minutes, and wants two cores for itself.
    """
    install(session, "tests")
    session.env["TRIO_TLS_LOAD"] = "full"
    session.run("pytest", "-n", "0", "-s", "tests/serving/load", *session.posargs)


#: Where slow tests reach code that no quick one does: they start commands, workers and servers. The other slow ones go
#: the same ways as the quick ones, more often.
REACHING = (
    "tests/cli",
    "tests/ecosystem",
    "tests/test_bench.py",
    "tests/test_docs_guides.py",
    "tests/test_starttls_recipes.py",
    "tests/test_workers.py",
)

#: Where tests go over and over what others cover once. Watched line by line they would take most of the time.
REPEATING = ("tests/cancellation", "tests/chaos", "tests/differential")


@nox.session
def coverage(session: nox.Session) -> None:
    """What the quick tests, other libraries' tests and the slow ones that reach further cover; fails below a limit."""
    install(session, "tests", "ecosystem")
    session.env["TRIO_TLS_ECOSYSTEM"] = "required"
    session.run("coverage", "erase")
    counting = ("--cov", "--cov-report=", "--cov-fail-under=0")  # the limit is for both together
    pytest(session, *counting, "-m", "not slow", *(f"--ignore={each}" for each in REPEATING))
    pytest(session, *counting, "--cov-append", "-m", "slow", *REACHING)
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """How fast this is, beside trio.SSLStream and others; ``nox -s bench -- --quick`` takes two minutes.

    ``-- --publish`` renews what the manual shows: a full run, and where the time goes. For a machine that does nothing
    else meanwhile.
    """
    session.install("-e", ".[bench]")
    if "--publish" not in session.posargs:
        session.run("python", "-m", "trio_tls.bench", *session.posargs)
        return
    session.install("py-spy")
    rest = [each for each in session.posargs if each != "--publish"]
    session.run("python", "-m", "trio_tls.bench", *rest, "--out", "docs/performance")
    session.run("python", "-m", "tests.instructions.profile", "docs/performance/profile.json")


@nox.session
def instructions(session: nox.Session) -> None:
    """Counts instructions under callgrind, and compares with the committed counts; ``-- --update`` renews those."""
    install(session, "tests")
    session.run("python", "-m", "tests.instructions", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel: whole, with their licenses, and each works in a fresh environment of its own."""
    session.install("build", "twine")
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(out / "dist"), silent=True)
    (wheel,), (sdist,) = (list((out / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    contents = zipfile.ZipFile(wheel).namelist()
    for name in PYPROJECT["project"]["license-files"]:
        if not any(path.endswith(f".dist-info/licenses/{name}") for path in contents):
            session.error(f"{wheel.name} lacks {name}")
    if "trio_tls/py.typed" not in contents:
        session.error(f"{wheel.name} lacks py.typed, so nobody sees its types")
    if "trio_tls/bench/libssl.c" not in contents:
        session.error(f"{wheel.name} lacks the C program of the benchmark")
    ours = ("trio_tls/", "trio_tls-", "trio_tls_command.py")
    if stray := [path for path in contents if not path.startswith(ours)]:
        session.error(f"{wheel.name} has more than the package: {stray}")
    for package in (wheel, sdist):
        try_package(session, package, out)


def try_package(session: nox.Session, package: Path, out: Path) -> None:
    """Install it where nothing else is, and use it there, away from the source tree; warnings are errors."""
    shutil.rmtree(out / "fresh", ignore_errors=True)
    session.run("python", "-m", "venv", str(out / "fresh"))
    python = out / "fresh" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    session.run(str(python), "-m", "pip", "install", "--quiet", str(package), external=True)
    files = [str(out / "fresh" / name) for name in ("ca", "localhost.pem")]
    with session.chdir(out):
        for command in (
            [str(python.with_name("trio-tls")), "--help"],
            [str(python), "-W", "error", "-m", "trio_tls", "cert", "--ca-dir", files[0], "--out", files[1]],
            [str(python), "-W", "error", "-m", "trio_tls", "check", files[1], "--ca", f"{files[0]}/ca.pem"],
        ):
            session.run(*command, external=True, silent=True)
    session.log(f"{package.name} works")
