"""Which module may import which: the arrows of the house point one way.

How this works. The sources are parsed, not imported, so what stands under ``TYPE_CHECKING`` and inside functions
can be told apart from what runs at import. Types may point anywhere; code may not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import trio_tls

PACKAGE = Path(trio_tls.__file__).parent

#: From the leaves up. A module imports only from rows above its own, or from its own row.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("alerts", "names"),
    ("errors",),
    ("machine",),
    ("credentials", "key_shares", "keylog", "trust"),
    ("from_context",),
    ("config",),
    (
        "blocking_contexts",
        "by_hello",
        "config_context",
        "nodelay",
        "peek",
        "ports",
        "reloading",
        "ticket_secrets",
        "transport",
        "workers",
    ),
    ("pump",),
    ("accessors", "core"),
    ("receiving", "sending"),
    ("ending",),
    ("stream",),
    ("identity", "ssl_sessions"),
    ("metrics",),
    ("serving",),
    ("listener", "tcp", "unix", "serve", "testing"),
    ("redis",),
    ("compat",),
    ("anyio", "asgi", "httpcore"),
    ("httpx",),
    ("bench", "cli", "__main__"),
)

#: What only those modules may import that are named.
RESERVED: dict[str, tuple[str, ...]] = {
    "machine": ("trio", "socket", "ssl", "asyncio", "anyio", "selectors", "threading", "time", "random", "secrets"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run, those inside functions included; not those for the type checker."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            for _field, value in ast.iter_fields(node):
                if isinstance(value, list):
                    yield from statements([each for each in value if isinstance(each, ast.stmt)])
                    for each in value:
                        if isinstance(each, ast.ExceptHandler | ast.match_case):
                            yield from statements(each.body)


def imports_of(path: Path) -> set[str]:
    """What a module imports: ``"trio"`` or ``".machine.bio"``, the latter from the root of the package."""
    found: set[str] = set()
    package = path.relative_to(PACKAGE).parent.parts
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif node.level:
            base = ".".join((*package[: len(package) - node.level + 1], *((node.module or "").split("."))))
            names = ["." + ".".join(part for part in f"{base}.{alias.name}".split(".") if part) for alias in node.names]
        else:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            ours = name == "trio_tls" or name.startswith("trio_tls.")
            found.add("." + name[len("trio_tls.") :] if ours else name)
    return found


def layer_of(module: str) -> int | None:
    first = module.split(".", maxsplit=1)[0]
    return next((index for index, row in enumerate(LAYERS) if first in row), None)


def module_behind(name: str) -> str:
    """The module that ``.machine.bio.MemoryBIO`` is in."""
    parts = name[1:].split(".")
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists() or path.is_dir():
            return ".".join(parts)
        parts.pop()
    return ""


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_every_module_has_its_layer_and_imports_only_from_below(path: Path) -> None:
    name = name_of(path)
    if not name:
        return  # the package itself: it gathers the public names
    here = layer_of(name)
    assert here is not None, f"LAYERS does not have {name}: say where it belongs"
    for imported in imports_of(path):
        if imported.startswith("."):
            behind = module_behind(imported)
            there = layer_of(behind)
            if here == len(LAYERS) - 1 and not behind:
                continue  # the command uses the package as anybody does
            assert behind, f"{name} imports the whole package ({imported})"
            assert there is not None and there <= here, f"{name} imports {imported}, which stands above it"


@pytest.mark.parametrize("path", [path for path in modules() if name_of(path).startswith("machine")], ids=name_of)
def test_a_machine_knows_nothing_of_io_time_or_trio(path: Path) -> None:
    reserved = set(RESERVED["machine"])
    if name_of(path) in ("machine.openssl", "machine.openssl_blocking"):
        reserved.remove("ssl")  # the machines that are made of it
    assert not {name for name in imports_of(path) if name.split(".")[0] in reserved}


def test_only_the_machine_is_asked_for_what_it_drives() -> None:
    for path in modules():
        name = name_of(path)
        if name.startswith(("transport", "pump")):
            assert not {each for each in imports_of(path) if each.startswith(".machine.openssl")}, name


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        name_of(path): {module_behind(each) for each in imports_of(path) if each.startswith(".")} - {name_of(path)}
        for path in modules()
        if name_of(path)
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_the_package_itself_only_gathers_the_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Expr | ast.For), (
            ast.unparse(node)
        )
