"""Mutants: a module with one of its checks taken away, and how to put one in the place of what runs.

How this works. What refuses a peer is a ``raise``, a condition before one, a bound of a vector, a call of a function
that judges, or one of several conditions in a predicate. For each of these in a module there is a mutant without it. A
mutant is the source with one node of its tree changed; where it runs, only the code of the function around it is
replaced. So every name that other modules have imported goes on being the same object.

A mutant is named by its module, its function and the text that it takes away: the name outlives edits elsewhere.
"""

from __future__ import annotations

import ast
import copy
import importlib
import re
import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: Calls that are there to raise.
JUDGING = re.compile(r"_?(judge|refuse|compare|finish|check|require|verify)")

#: Methods by which a policy or a verifier is built, one requirement after the other.
REQUIRING = {"require_present", "may_be_present", "max_chain_depth", "time", "extension_policies"}

#: The comparison that a boundary moves to.
SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One check that is taken away.

    Attributes:
      name: module, function and what is done to which text.
      module: its import name.
      line: where the check is.
      outer: the name and the first line of the outermost function around it, as its code object has them.
      inside: the lines that run only where the check has something to say; its own line if none do.
      tree: the module as it is.
      node: what of it is changed.
      change: makes the changed node of a copy of that one.
    """

    name: str
    module: str
    line: int
    outer: tuple[str, int]
    inside: frozenset[int]
    tree: ast.Module
    node: ast.AST
    change: Callable[[ast.AST], ast.AST]

    def apply(self) -> None:
        """Put the mutant in the place of what it is made from, in this process, for good."""
        module = importlib.import_module(self.module)
        assert module.__file__ is not None
        code = compile(_changed(self.tree, self.node, self.change), module.__file__, "exec", dont_inherit=True)
        changed = next(each for each in _codes(code) if (each.co_name, each.co_firstlineno) == self.outer)
        for function in _functions(module):
            found = function.__code__
            if (found.co_name, found.co_firstlineno, found.co_filename) == (*self.outer, module.__file__):
                function.__code__ = changed
                for value in vars(module).values():
                    if callable(clear := getattr(value, "cache_clear", None)):
                        clear()  # what it has returned before was another one's
                return
        raise LookupError(f"{self.name}: no such function is in memory")


def mutants_of(name: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    module = importlib.import_module(name)
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for function, path, outer in _outermost(tree):
        for what, node, change in _changes(function):
            text = " ".join(ast.unparse(node).split())
            title = f"{name.removeprefix('trio_tls.')}.{path}: {what} {text}"
            seen[title] += 1
            if seen[title] > 1:
                title += f" #{seen[title]}"
            found.append(
                Mutant(
                    title,
                    name,
                    node.lineno,
                    (outer.name, min([outer.lineno, *(each.lineno for each in outer.decorator_list)])),
                    _inside(function, node),
                    tree,
                    node,
                    change,
                )
            )
    return sorted(found, key=lambda mutant: mutant.line)


def _outermost(tree: ast.Module) -> Iterator[tuple[Function, str, Function]]:
    """Each function that is not inside another one: it, its name with its classes, and it again."""
    waiting: list[tuple[ast.AST, tuple[str, ...]]] = [(tree, ())]
    while waiting:
        node, path = waiting.pop(0)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, ".".join((*path, child.name)), child
            elif isinstance(child, ast.ClassDef):
                waiting.append((child, (*path, child.name)))
            elif isinstance(child, ast.If) and "TYPE_CHECKING" not in ast.unparse(child.test):
                waiting.append((child, path))


Change = Callable[[ast.AST], ast.AST]
Found = Iterator[tuple[str, "ast.stmt | ast.expr", Change]]


def _changes(function: Function) -> Found:
    for node in ast.walk(function):
        if isinstance(node, ast.Raise):
            yield "without", node, lambda raising: ast.copy_location(ast.Pass(), raising)
        elif isinstance(node, ast.Expr) and JUDGING.match(_called(node.value)):
            yield "without", node, lambda statement: ast.copy_location(ast.Pass(), statement)
        elif isinstance(node, ast.If) and any(isinstance(each, ast.Raise) for each in node.body):
            yield from _weaker(node.test)
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.BoolOp):
            yield from _weaker(node.value)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in REQUIRING:
                yield f"no .{node.func.attr}() in", node, _without_method
            for keyword in node.keywords:
                if keyword.arg in {"low", "high"}:
                    yield f"no {keyword.arg} in", node, _without_keyword(keyword.arg)


def _weaker(test: ast.expr) -> Found:
    """A condition with one operand less, or with a boundary that is off by one."""
    for node in ast.walk(test):
        if isinstance(node, ast.BoolOp):
            for index, operand in enumerate(node.values):
                yield f"no ({ast.unparse(operand)}) in", node, _without_operand(index)
        elif isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                if type(operator) in SHIFTED:
                    yield f"boundary {index} of", node, _shifted(index)


def _without_operand(index: int) -> Change:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.BoolOp)
        rest = node.values[:index] + node.values[index + 1 :]
        return rest[0] if len(rest) == 1 else ast.copy_location(ast.BoolOp(node.op, rest), node)

    return change


def _shifted(index: int) -> Change:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Compare)
        node.ops[index] = SHIFTED[type(node.ops[index])]()
        return node

    return change


def _without_keyword(name: str) -> Change:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != name]
        return node

    return change


def _without_method(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Attribute)
    return node.func.value


def _called(value: ast.expr) -> str:
    """The name of the function that an expression calls, or awaits; nothing if it does something else."""
    call = value.value if isinstance(value, ast.Await | ast.YieldFrom) else value
    if not isinstance(call, ast.Call):
        return ""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _inside(function: Function, node: ast.AST) -> frozenset[int]:
    """Where to look for tests that kill the mutant: a test that gets there makes the check speak."""
    for each in ast.walk(function):
        if isinstance(each, ast.If) and any(inner is node for inner in ast.walk(each.test)):
            return frozenset({each.body[0].lineno})
    return frozenset({getattr(node, "lineno", 0)})


class _Changer(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Change) -> None:
        self._target, self._change = target, change

    def visit(self, node: ast.AST) -> ast.AST:
        return self._change(node) if node is self._target else self.generic_visit(node)


def _changed(tree: ast.Module, node: ast.AST, change: Change) -> ast.Module:
    """A copy of the tree with this one node changed."""
    memo: dict[int, object] = {}
    twin = copy.deepcopy(tree, memo)
    target = memo[id(node)]
    assert isinstance(target, ast.AST)
    changed = _Changer(target, change).visit(twin)
    assert isinstance(changed, ast.Module)
    return ast.fix_missing_locations(changed)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _functions(holder: object) -> Iterator[types.FunctionType]:
    """The functions of a module, and those of its classes, out of whatever is wrapped around them."""
    for value in list(vars(holder).values()):
        if isinstance(value, type) and value.__module__ == getattr(holder, "__name__", value.__module__):
            yield from _functions(value)
        parts = [value, getattr(value, "__func__", None), getattr(value, "__wrapped__", None)]
        parts += [getattr(value, "fget", None), getattr(value, "fset", None), getattr(value, "func", None)]
        yield from (part for part in parts if isinstance(part, types.FunctionType))
