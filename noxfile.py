"""Everything that is run on this project, as nox sessions: ``nox -l`` lists them.

How this works. Each session has an environment of its own and installs the project with the dependency group it
needs. Sessions use the interpreter that runs nox, but ``tests-all``, which takes every version there is.
"""

from __future__ import annotations

import shutil
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
def trio_suite(session: nox.Session) -> None:
    """Trio's own tests of its SSLStream, run on ours."""
    install(session, "tests")
    session.run(
        *("python", "-m", "pytest", "-o", "trio_mode=false", "--run-slow"),
        *("-p", "trio._tests.pytest_plugin", "-p", "tests.trio_suite.shim"),
        *("--pyargs", "trio._tests.test_ssl", "trio._tests.test_highlevel_ssl_helpers"),
        *session.posargs,
    )


@nox.session
def interop(session: nox.Session) -> None:
    """Against other implementations, such as the ``openssl`` command."""
    install(session, "tests")
    pytest(session, "tests/interop")


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
    session.run("basedpyright", "--level", "error", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session
def docs(session: nox.Session) -> None:
    """The manual, without a warning, and its internal links."""
    install(session, "docs")
    common = ["-W", "--keep-going", "-d", "docs/_build/doctrees", "docs"]
    session.run("sphinx-build", "-b", "html", *common, "docs/_build/html")
    session.run("sphinx-build", "-b", "linkcheck", *common, "docs/_build/linkcheck")


@nox.session
def coverage(session: nox.Session) -> None:
    """All tests, with what they cover; fails below the limit."""
    install(session, "tests")
    session.run("coverage", "erase")
    session.run("pytest", "-n", "auto", "--cov", "--cov-report=", *session.posargs)
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """Ratios to trio.SSLStream; ``nox -s bench -- --quick`` takes less than two minutes."""
    install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel; the wheel has its licenses, and works in a fresh environment."""
    session.install("build")
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(out / "dist"), silent=True)
    (wheel,) = (out / "dist").glob("*.whl")
    contents = zipfile.ZipFile(wheel).namelist()
    for name in PYPROJECT["project"]["license-files"]:
        if not any(path.endswith(f".dist-info/licenses/{name}") for path in contents):
            session.error(f"{wheel.name} lacks {name}")
    if stray := [path for path in contents if not path.startswith(("trio_tls/", "trio_tls-"))]:
        session.error(f"{wheel.name} has more than the package: {stray}")
    session.run("python", "-m", "venv", "--clear", str(out / "fresh"))
    python = out / "fresh" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    session.run(str(python), "-m", "pip", "install", "--quiet", str(wheel), external=True)
    with session.chdir(out):  # away from the source tree
        session.run(str(python.with_name("trio-tls")), "--help", external=True, silent=True)
    session.log(f"{wheel.name} works, and has its licenses")
