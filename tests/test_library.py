"""`import explore_async`: its names, its weight, and the examples of docs/python.md and the README."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import re
import subprocess
import sys
from collections import abc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from blockbuster import BlockBuster
from support.cli import ROOT, environment, filled
from support.stored_run import serving

import explore_async as ea

HEAVY = {"aiohttp", "numba", "numpy", "pydantic", "rich", "typer", "yaml"}


@pytest.fixture
def folder(tmp_path, monkeypatch, blockbuster: BlockBuster) -> Path:
    """An empty working directory. The examples open files on a loop of their own, where nothing else runs."""
    blockbuster.deactivate()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_public_name_is_there_and_described():
    """Each name of `__all__` can be imported, has a docstring of ours if it is a class or function, and is in dir()."""
    assert ea.__all__ == sorted(ea.__all__)
    assert {"run", "run_sync", "load", "open", "play", "dedup", "filter", "sample", "export", "analyze"} <= set(
        ea.__all__
    )
    for name in ea.__all__:
        value = getattr(ea, name)
        assert name in dir(ea)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
            assert not (value.__doc__ or "").startswith(f"{name}("), name  # dataclasses write such a line by themselves
            assert value.__module__.startswith("explore_async."), name


def test_every_public_type_is_described():
    """A type of ours that is no class has its description below it, where editors and readers look."""
    stub = ast.parse(Path(ea.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    modules = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    types = [name for name in ea.__all__ if name in modules and not callable_of_ours(getattr(ea, name))]
    assert {"Ending", "Mode"} <= {*types}
    for name in types:
        body = ast.parse(inspect.getsource(importlib.import_module(modules[name]))).body
        defined = next(at for at, node in enumerate(body) if name in assigned_by(node))
        assert isinstance(below := body[defined + 1], ast.Expr), name
        assert isinstance(below.value, ast.Constant), name


def callable_of_ours(value: object) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def assigned_by(node: ast.stmt) -> list[str]:
    """The names that a statement gives a value to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [ast.unparse(target) for target in targets]


def test_all_errors_are_public():
    """Each error class that this program raises can be caught by a name of the library, or is below one that can."""
    errors = importlib.import_module("explore_async.errors")
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    public = tuple(getattr(ea, name) for name in ea.__all__ if inspect.isclass(getattr(ea, name)))
    assert classes
    assert all(issubclass(error, public) for error in classes)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    """A misspelled name fails as in any module."""
    with pytest.raises(AttributeError, match="runn"):
        _ = ea.runn


def test_the_import_costs_nothing():
    """`import explore_async` loads no other package: each name is imported at its first use."""
    program = "import sys, explore_async; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY.isdisjoint(loaded)


@pytest.mark.timeout(300)
def test_the_examples_of_the_reference_run(folder):
    """Every example of docs/python.md runs against the simulated server, and prints what the page says."""
    with serving() as url:
        failed, tried = doctest.testfile(
            str(ROOT / "docs" / "python.md"),
            module_relative=False,
            globs={"endpoint": url},
            optionflags=doctest.ELLIPSIS,
        )
    assert (failed, tried > 40) == (0, True)


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_readme_run(folder, capsys):
    """Both Python examples of the README run as they are; only the URL is that of the simulated server."""
    run, dedup = python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    init = subprocess.run(
        [sys.executable, "-m", "explore_async", "init", "Answer questions about houseplants"],
        env=environment(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (folder / "plants.yaml").write_text(re.sub(r"examples: \d+", "examples: 20", filled(init)), encoding="utf-8")
    with serving() as url:
        exec(compile(run.replace("http://localhost:8000/v1", url), "README.md", "exec"), {})  # noqa: S102
    assert len(capsys.readouterr().out.splitlines()) == 20
    exec(compile(dedup, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "('Name a red fruit.', 'Write a poem.')\n"


def test_the_reference_names_everything():
    """docs/python.md mentions each public name."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert [name for name in ea.__all__ if not re.search(rf"\b{name}\b", text)] == ["__version__"]


@pytest.mark.types
def test_type_checkers_see_every_name(folder):
    """A program that uses the library passes mypy --strict: each public name is exported with its type.

    `make types` runs it, when mypy has just read everything: without its cache it would be the dearest of all tests.
    """
    uses = "\n".join(f"reveal_type(ea.{name})" for name in ea.__all__)
    (folder / "program.py").write_text(f"import explore_async as ea\n{uses}\n", encoding="utf-8")
    checked = subprocess.run(
        [Path(sys.executable).with_name("mypy"), "--config-file", "pyproject.toml", folder / "program.py"],
        env=environment(), cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    assert 'Any"' not in checked.stdout


ROWS = [{"instruction": "Name a red fruit.", "n": 1}, {"instruction": "Name one red fruit.", "n": 2}]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ea.run_sync("plants.yaml", "run"), "as `load` returns"),
        (lambda: ea.run_sync(ea.load("brainstorming", endpoint="http://127.0.0.1:1/v1"), "run", mode="again"), "resume"),
        (lambda: ea.dedup("Name a red fruit."), "one text"),
        (lambda: ea.dedup(ROWS, fields=[]), "fields"),
        (lambda: ea.dedup([None]), "item 0"),
        (lambda: ea.dedup_files([], "out.jsonl"), "at least one file"),
        (lambda: ea.decontaminate("rows.jsonl", "out", []), "at least one file"),
        (lambda: ea.sample("rows.jsonl", "out.jsonl", -1), "at least 1"),
        (lambda: ea.merge("rows.jsonl", "out"), "two or more"),
        (lambda: ea.analyze(report="page.html"), "needs a source"),
        (lambda: ea.score_sync("rows.jsonl", []), "needs answers"),
        (lambda: ea.open("rows.jsonl", {"instrution": "n"}), "instrution"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(folder, call, says):
    """An argument that a user of Python gets wrong ends in an error of ours that names it, and nothing is written."""
    Path("rows.jsonl").write_text('{"instruction": "a b c", "output": "d"}\n', encoding="utf-8")
    with pytest.raises(ea.ExploreError, match=says):
        call()
    assert [path.name for path in folder.iterdir()] == ["rows.jsonl"]


def test_a_source_is_never_written_over(folder):
    """A filter or merge into the data that it reads is refused: it would leave nothing to go back to."""
    Path("rows.jsonl").write_text('{"instruction": "a b c", "output": "d"}\n', encoding="utf-8")
    ea.import_data("rows.jsonl", "data")
    before = sorted(path.read_bytes() for path in Path("data").iterdir())
    for call in (lambda: ea.filter("data", "data", threshold=0.1), lambda: ea.merge(["rows.jsonl", "data"], "data")):
        with pytest.raises(ea.ConfigError, match="it is a source"):
            call()
    assert sorted(path.read_bytes() for path in Path("data").iterdir()) == before


def test_examples_of_a_data_set_can_be_compared(folder):
    """dedup takes the typed examples that `open` gives, and one text or field where several may stand."""
    Path("rows.jsonl").write_text(
        "".join(f'{{"instruction": "{row["instruction"]}", "output": "d"}}\n' for row in ROWS), encoding="utf-8"
    )
    assert len(ea.dedup(ea.open("rows.jsonl").examples()).kept) == 1
    assert ea.dedup(ROWS, fields="instruction", against="Name a red fruit.").kept == ()
    assert ea.filter("rows.jsonl", "data", settings=ea.Filters(threshold=0.9)).kept == 2


def test_run_sync_in_a_loop_says_what_to_use(folder):
    """Inside an event loop run_sync says that `await run(...)` is meant, and leaves no coroutine behind."""

    async def main() -> None:
        settings = ea.load("brainstorming", endpoint="http://127.0.0.1:1/v1")
        with pytest.raises(RuntimeError, match="await run"):
            ea.run_sync(settings, "run")

    import asyncio

    asyncio.run(main())
    assert not Path("run").exists()


def takes_several_texts(annotation: Any) -> bool:
    """True for the type of an argument that takes a list of texts, paths or sources, beside others or not."""
    members = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    of_lists = [member for member in members if get_origin(member) in {list, abc.Iterable, abc.Sequence}]
    return any(issubclass(str, inner) for member in of_lists for inner in members_of(get_args(member)[0]))


def members_of(annotation: Any) -> list[type]:
    return [member for member in (get_args(annotation) or (annotation,)) if isinstance(member, type)]


def ending(call: Callable[[], Any]) -> str:
    """The result of a call, or the words of its error."""
    try:
        result = call()
        return repr(asyncio.run(result) if inspect.iscoroutine(result) else result)
    except ea.ExploreError as error:
        return str(error)


ABSENT = "absent.jsonl"
OTHERS: dict[str, tuple[Any, ...]] = {
    "load": ("brainstorming",),
    "dedup": (ROWS,),
    "dedup_files": ("rows.jsonl", "out.jsonl"),
    "decontaminate": ("rows.jsonl", "out", "rows.jsonl"),
    "sample": ("rows.jsonl", "out.jsonl", 1),
    "score": ("rows.jsonl", "rows.jsonl"),
    "judge": ("rows.jsonl", "rows.jsonl", "out"),
}
"""The arguments that a function needs; those of all others are a source and a place for the output."""
ONE_OF_SEVERAL = {"endpoint": "ftp://a", "overrides": "window=0", "judges": "", "by": "odd", "keep": "odd",
                  "fields": "odd", "against_fields": "odd", "against": "Name a red fruit."}  # fmt: skip
"""One value of each argument that takes several: most are wrong, so that the message shows which value was read."""
SEVERAL = [
    (name, argument)
    for name in ea.__all__
    if inspect.isfunction(function := getattr(ea, name))
    for argument, annotation in get_type_hints(function).items()
    if takes_several_texts(annotation)
]


def test_one_text_is_never_a_list_of_letters(folder):
    """Wherever a public function takes several texts, paths or sources, one alone means a list of it: the call ends with
    the same result or message as with the list, and with another than with its letters. Type checkers cannot see this
    fault, as a text is a sequence of texts, too.
    """
    Path("rows.jsonl").write_text('{"instruction": "a b c", "output": "d"}\n', encoding="utf-8")
    assert {("score_sync", "answers"), ("judge", "judges"), ("export", "keep"), ("load", "overrides")} <= {*SEVERAL}
    for name, argument in SEVERAL:
        function = getattr(ea, name)
        needed = OTHERS.get(name.removesuffix("_sync"), ("rows.jsonl", "out"))
        given = inspect.signature(function).bind(*needed).arguments
        known = {"against": "rows.jsonl"} if argument == "against_fields" else {}
        one = ONE_OF_SEVERAL.get(argument, ABSENT)
        calls = [partial(function, **{**given, **known, argument: value}) for value in (one, [one], list(one))]
        with_one, with_list, with_letters = map(ending, calls)
        assert with_one == with_list, (name, argument)
        assert with_one != with_letters, (name, argument)
