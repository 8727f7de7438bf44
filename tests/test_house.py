"""The rules of the house that no type can state: who imports whom, and what the pure part may not touch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.cli import ROOT, environment

EXPLORATION = ROOT / "explore_async" / "exploration"
PURE = {
    "__future__", "array", "collections", "collections.abc", "dataclasses", "functools", "hashlib", "heapq", "importlib.resources", "importlib.resources.abc",
    "itertools", "jinja2", "jinja2.meta", "jinja2.sandbox", "math", "operator", "orjson", "re", "rouge_kernels", "typing", "unicodedata",
    "explore_async.errors", "explore_async.settings.comparing_recipe", "explore_async.settings.recipe",
}  # fmt: skip
"""All that exploration/ may import beside itself: nothing here knows the time, chance, files, sockets or a loop.
importlib.resources reads the packaged templates, once, when a run is built."""

IMPURE_CALLS = {"hash", "id", "open", "input", "print", "exec", "eval", "__import__"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
IN_ORDER = {"list", "tuple", "iter", "next", "enumerate", "zip", "map", "filter", "dict", "str", "repr", "sample"}
"""Calls whose result depends on the order of what they are given."""


def imports(tree: ast.AST) -> set[str]:
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return found | {
        "." * node.level + (node.module or "") for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }


def name_of(node: ast.AST) -> str:
    """The last part of a name: `x` for x, self.x and a.b.x."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def sets_in(tree: ast.AST) -> set[str]:
    """The names that are declared to hold a set, or given one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith(("set", "frozenset")):
            found.add(name_of(node.target))
        elif isinstance(node, ast.Assign) and is_set(node.value, set()):
            found |= {name_of(target) for target in node.targets}
        elif (
            isinstance(node, ast.arg)
            and node.annotation
            and ast.unparse(node.annotation).startswith(("set", "frozenset"))
        ):
            found.add(node.arg)
    return found - {""}


def is_set(node: ast.AST, known: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in SET_METHODS:
            return True
        case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return is_set(left, known) or is_set(right, known)
    return name_of(node) in known


def impurities(source: str) -> list[str]:
    """What in a module makes its result depend on more than its arguments, as far as reading it can tell."""
    tree = ast.parse(source)
    known = sets_in(tree)
    faults = []
    unordered: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=args):
                if name in IMPURE_CALLS:
                    faults.append(f"line {node.lineno}: {name}()")
                if name in IN_ORDER:
                    unordered += [arg.value if isinstance(arg, ast.Starred) else arg for arg in args]
            case ast.Call(func=ast.Attribute(attr="join" | "extend"), args=args):
                unordered += args
            case ast.Call(func=ast.Attribute(value=value, attr="pop"), args=[]):
                unordered.append(value)
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated) | ast.Starred(value=iterated):
                unordered.append(iterated)
    faults += [f"line {node.lineno}: the order of a set" for node in unordered if is_set(node, known)]  # type: ignore[attr-defined]
    return faults


@pytest.mark.parametrize("path", sorted(EXPLORATION.glob("**/*.py")), ids=lambda path: path.name)
def test_exploration_is_pure(path: Path) -> None:
    """No module of exploration/ imports what knows the time, chance, files or a loop, or goes by the order of a set."""
    source = path.read_text(encoding="utf-8")
    strange = {name for name in imports(ast.parse(source)) - PURE if not name.startswith("explore_async.exploration")}
    assert not strange
    assert impurities(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "hash('a')",
        "for x in {1, 2}: pass",
        "[x for x in set(a)]",
        "list({x for x in a})",
        "tuple(frozenset(a))",
        "','.join({'a'})",
        "s: set[int] = f()\nfor x in s: pass",
        "class A:\n  def f(self):\n    self.s = set()\n  def g(self):\n    return list(self.s)",
        "def f(s: set[str]):\n  return [*s]",
        "s = {1}\nnext(iter(s))",
        "s = {1}\nfor x in s | a: pass",
        "s = {1}\ns.pop()",
        "for x in a.union(b): pass",
        "print(open('a'))",
    ],
)
def test_the_rule_sees_what_it_forbids(source: str) -> None:
    """Each way round the rule that we could think of is found: the test above can fail."""
    assert impurities(source)


@pytest.mark.parametrize("source", ["x in {1, 2}", "sorted({1, 2})", "len(set(a))", "d: dict[int, int] = {}\nfor x in d: pass", "s = set()\ns.add(1)\n1 in s", "for x in sorted(set(a)): pass", "l = [1]\nl.pop()"])  # fmt: skip
def test_the_rule_leaves_the_rest_alone(source: str) -> None:
    """Membership, counting and sorting are what sets are for."""
    assert impurities(source) == []


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name, parsed."""
    found = {}
    for path in sorted((ROOT / "explore_async").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported_modules(tree: ast.AST, known: Collection[str]) -> set[str]:
    """The known modules that a module imports anywhere in it, within functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found & set(known)


def test_imports_have_no_circle() -> None:
    """No module imports itself by way of others, not even within functions. The package's own __init__ offers what lies
    in all rooms, and rooms take nothing but the version from it: it is left out.
    """
    known = modules()
    graph = {name: imported_modules(tree, known) - {name, "explore_async"} for name, tree in known.items()}
    del graph["explore_async"]
    assert set(TopologicalSorter(graph).static_order()) >= graph.keys()  # CycleError names the circle


IMPLEMENTATIONS = {"RunData", "PlainFile", "OriginalFolder"}


def told_apart(tree: ast.AST) -> list[str]:
    """The implementations of Collection that a module asks a value to be."""
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, classes]):
                found += [name_of(part) for part in ast.walk(classes)]
            case ast.MatchClass(cls=cls):
                found.append(name_of(cls))
            case ast.Compare(left=ast.Call(func=ast.Name(id="type")), comparators=classes):
                found += map(name_of, classes)
    return [name for name in found if name in IMPLEMENTATIONS]


def test_a_collection_is_used_through_its_protocol() -> None:
    """Outside their own room nobody asks which of the three implementations of Collection a value is."""
    room = "explore_async.curation.collections"
    faults = {name: told_apart(tree) for name, tree in modules().items() if not name.startswith(room)}
    assert not {name: classes for name, classes in faults.items() if classes}


@pytest.mark.parametrize("source", ["isinstance(a, RunData)", "isinstance(a, b.PlainFile | int)", "isinstance(a, (str, RunData))", "match a:\n  case OriginalFolder(): pass", "type(a) is RunData"])  # fmt: skip
def test_the_rule_sees_a_collection_told_apart(source: str) -> None:
    """Each way to ask for an implementation is found."""
    assert told_apart(ast.parse(source))


def test_imports_go_one_way() -> None:
    """import-linter's contracts in pyproject.toml hold: the layers, and kernels that know no domain."""
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    assert "0 broken" in found.stdout


def test_the_model_fetcher_needs_nothing_installed() -> None:
    """serving/models.py and all of ours that it imports, at any depth, import the standard library alone: it runs
    before anything is installed.
    """
    seen: set[str] = set()
    waiting = ["explore_async.serving.servers.models"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        path = ROOT.joinpath(*name.split("."))
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for imported in sorted(imports(ast.parse(source.read_text(encoding="utf-8")))):
            if imported.startswith("explore_async"):
                waiting.append(imported)
            else:
                assert imported.partition(".")[0] in sys.stdlib_module_names, f"{name} imports {imported}"
    assert "explore_async.serving" in seen


def test_a_run_is_the_same_under_any_hash_seed() -> None:
    """Two processes whose sets and dicts of strings have other orders ask, keep and drop the same, byte for byte."""
    program = """
import hashlib, orjson
from support.scripted import Driven, recipe
run = Driven(recipe(window=16, exploration={"depth": 2, "breadth": [3, 2], "step": 2}, language="Chinese")).run()
print(len(run.events), hashlib.sha256(orjson.dumps([run.keys, run.events, run.explorer.trees()])).hexdigest())
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**environment(), "PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}:{ROOT / 'tests'}"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
    assert int(told.pop().split()[0]) > 60
