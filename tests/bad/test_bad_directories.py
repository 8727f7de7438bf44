"""Run directories, data directories and folders of the original in which any one file is damaged, strange or gone."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import Finished, config, explore, in_process
from support.damage import altered, attempted, cases, damaged, deep, in_json, values
from support.originals import original_folder

from explore_async.serving.simulated.server import Latency, SimulatedServer

COVERAGE = {
    "examples": 1, "examined": 1, "unique": 1, "mean_occurrences": 1.0, "std_occurrences": 0.5, "with_pair": 1,
    "chao1": {"value": 1.0, "low": 1.0, "high": 2.0}, "unseen_mass": {"value": 0.1, "low": 0.0, "high": 1.0},
    "entropy_bits": {"value": 0.1, "low": 0.0, "high": 1.0}, "overlap_nearest": 0.5, "overlap_all": 0.1, "near_duplicates": 0.1,
}  # fmt: skip

COMMANDS = {
    "export": ["export", "{source}", "--out", "{out}.jsonl"],
    "export parquet": ["export", "{source}", "--out", "{out}.parquet"],
    "export folder": ["export", "{source}", "--out", "{out}", "--validation", "0.2", "--split-by", "task"],
    "export original": ["export", "{source}", "--out", "{out}", "--format", "explore-instruct"],
    "sample": ["sample", "{source}", "-n", "3", "--out", "{out}.json", "--method", "diverse"],
    "filter": ["filter", "{source}", "--out", "{out}", "--scope", "task"],
    "filter domains": ["filter", "{source}", "--out", "{out}", "--scope", "domain", "--set", "refusals=true"],
    "merge": ["merge", "{source}", "{source}", "--out", "{out}"],
    "merge file": ["merge", "{good}", "{source}", "--out", "{out}"],
    "decontaminate": ["decontaminate", "{source}", "--against", "{good}", "--benchmark-field", "instruction", "--out", "{out}"],
    "import": ["import", "{source}", "--out", "{out}"],
    "prune": ["prune", "{source}", "--threshold", "0.3"],
    "reparse": ["reparse", "{source}", "--out", "{out}"],
    "tree": ["tree", "{source}"],
    "tree top": ["tree", "{source}", "--depth", "1"],
    "show task": ["show", "{source}", "0"],
    "show example": ["show", "{source}", "{example}"],
    "show dropped": ["show", "{source}", "{dropped}"],
    "stats": ["stats", "{source}"],
}  # fmt: skip
SOME = st.lists(st.sampled_from(sorted(COMMANDS)), min_size=5, max_size=5, unique=True)
KINDS = ("run", "data", "original")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole one of each: a real run with its answers, filtered data, a folder of the original."""
    folder = tmp_path_factory.mktemp("whole")

    async def made() -> None:
        async with SimulatedServer(64, Latency(0.001, 0.5), duplicate_share=0.3) as server:
            result = await explore(
                "run", config(folder), "--endpoint", server.url, "--out", folder / "run", "--max-examples", "25"
            )
        assert result.code == 0, result.stderr

    asyncio.run(made())
    (folder / "run" / "coverage.json").write_bytes(orjson.dumps({**COVERAGE, "examples": 25}))
    original_folder(folder / "original", 3, tasks=5, per_task=4)
    result = in_process("filter", folder / "run", "--out", folder / "data", "--threshold", "0.6", "--json")
    assert result.code == 0, result.stderr
    (folder / "data" / "coverage.json").write_bytes(orjson.dumps({**COVERAGE, "examples": result.json["kept"]}))
    for name in ("run", "data"):
        assert in_process("prune", folder / name, "--threshold", "0.3").code == 0
    (folder / "run" / ".lock").unlink()
    return folder


def gone_through(folder: Path, sources: Path, kind: str, commands: Iterable[str], change: Any) -> list[Finished]:
    """Each command on a copy of the source that `change` has had its way with."""
    lines = (sources / "run" / "decisions.jsonl").read_bytes().splitlines()
    decisions = [line for line in map(orjson.loads, lines) if line["what"] == "example"]
    example, dropped = (next(one["id"] for one in decisions if one["kept"] is kept) for kept in (True, False))
    results = []
    for command in commands:
        place = folder / "bad_folder"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source = place / "source"
        shutil.copytree(sources / kind, source)
        change(source)
        good = place / "good.jsonl"
        good.write_bytes(b'{"instruction": "Name a river", "output": "Rhine"}\n')
        arguments = [
            one.format(source=source, good=good, out=place / "out", example=example, dropped=dropped)
            for one in COMMANDS[command]
        ]
        changed = "pruned.json" if command == "prune" else ""
        results.append(attempted(*arguments, among=place, about="source", may_change=changed))
    return results


def files_of(sources: Path, kind: str) -> list[str]:
    """Those that hold the most rows come last, for hypothesis likes the first."""
    files = [path for path in (sources / kind).iterdir() if path.suffix in {".json", ".jsonl"}]
    return [path.name for path in sorted(files, key=lambda path: (path.name != "tree.json", path.suffix, path.name))]


@cases(15)
@given(st.data(), st.sampled_from(KINDS), SOME)
def test_a_damaged_file(tmp_path: Path, sources: Path, data: st.DataObject, kind: str, commands: list[str]) -> None:
    """The bytes of any one file wounded, SQLite's too."""
    name = data.draw(st.sampled_from([*files_of(sources, kind), *(["completions.sqlite"] if kind == "run" else [])]))
    content = data.draw(damaged((sources / kind / name).read_bytes()))
    gone_through(tmp_path, sources, kind, commands, lambda source: (source / name).write_bytes(content))


@cases(30)
@given(st.data(), st.sampled_from(KINDS), SOME)
def test_a_strange_document(tmp_path: Path, sources: Path, data: st.DataObject, kind: str, commands: list[str]) -> None:
    """Any value in any place of any one document, or of a line of one."""
    name = data.draw(st.sampled_from(files_of(sources, kind)))
    body = (sources / kind / name).read_bytes()
    if name.endswith(".jsonl"):
        lines = [orjson.loads(line) for line in body.splitlines()]
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = data.draw(altered(lines[number], values | deep))
        content = b"".join(in_json(line) + b"\n" for line in lines)
    else:
        content = in_json(data.draw(altered(orjson.loads(body), values | deep)))
    gone_through(tmp_path, sources, kind, commands, lambda source: (source / name).write_bytes(content))


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_of_an_unknown_sort(tmp_path: Path, sources: Path, kind: str) -> None:
    """Lines of evidence say with a list, a number or nothing what they are about."""
    body = (sources / kind / "decisions.jsonl").read_bytes() if (sources / kind / "decisions.jsonl").exists() else b""
    lines = [orjson.loads(line) for line in body.splitlines()]
    for line, what in zip(lines, ([], {}, 1, None), strict=False):
        line["what"] = what
    content = b"".join(in_json(line) + b"\n" for line in lines)
    gone_through(tmp_path, sources, kind, [*COMMANDS], lambda source: (source / "decisions.jsonl").write_bytes(content))


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@cases(15)
@given(st.data(), st.tuples(st.sampled_from(KINDS), SOME), st.sampled_from([_gone, _folder, _loop, _nowhere, _empty, _pipe]))  # fmt: skip
def test_a_file_that_is_none(
    tmp_path: Path, sources: Path, data: st.DataObject, where: tuple[str, list[str]], change: Any
) -> None:
    """Any one file missing, empty, a directory, a pipe that nobody writes to, a link to itself or to nowhere."""
    kind, commands = where
    name = data.draw(st.sampled_from([*files_of(sources, kind), *(["completions.sqlite"] if kind == "run" else [])]))
    gone_through(tmp_path, sources, kind, commands, lambda source: change(source / name))


NODE = {
    "id": "0", "name": "a", "reason": "", "origin": "seed", "depth": 0, "kept": 0, "dropped": 0, "answers": 0,
    "exhausted": False, "children": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "document", "says"),
    [
        ("tree.json", {"trees": [{}]}, "trees.0.id"),
        ("tree.json", {"trees": [{**NODE, "kept": -1}]}, "trees.0.kept"),
        ("tree.json", {"trees": []}, "trees"),
        ("tree.json", {"trees": [NODE, NODE]}, "there twice"),
        ("tree.json", {"trees": [{**NODE, "children": [{**NODE, "id": "1.0"}]}]}, "1.0 is below task 0"),
        ("tree.json", {"trees": [{**NODE, "id": "0.1"}]}, "its id is not that of a root"),
        ("tree.json", {"trees": [{**NODE, "children": '(deep {"children":[ 300)'}]}, "tree.json"),
        ("config.json", {"recipe": []}, "recipe"),
        ("config.json", {"recipe": {"domains": [5]}}, "recipe.domains.0"),
        ("stats.json", {"examples": {"read": 1}}, "examples.kept"),
        ("coverage.json", {**COVERAGE, "examples": 25, "chao1": 3}, "chao1"),
        ("pruned.json", {"tasks": 17, "pruned": [None]}, "pruned.0"),
    ],
)
def test_documents_that_say_something_else(tmp_path: Path, sources: Path, name: str, document: Any, says: str) -> None:
    """Each of our documents is checked where it is read: the file and the place in it are named."""
    shutil.copytree(sources / "run", tmp_path / "source")
    (tmp_path / "source" / name).write_bytes(in_json(document))
    result = attempted("export", tmp_path / "source", "--out", tmp_path / "out", among=tmp_path, about=f"source/{name}")
    assert result.code == 5
    assert says in result.stderr


@pytest.mark.parametrize("command", ["import", "filter", "merge", "export original"])
def test_a_foreign_field_too_deep(tmp_path: Path, sources: Path, command: str) -> None:
    """Whatever a tree from elsewhere says of its tasks goes with them; what cannot be written is named by its source."""
    tree = orjson.loads((sources / "original" / "tree_meta_info.json").read_bytes())
    content = in_json({**tree, "more": "(deep [ 300)"})
    attempt = partial(gone_through, tmp_path, sources, "original", [command])
    results = attempt(lambda source: (source / "tree_meta_info.json").write_bytes(content))
    assert [result.code for result in results] == [5]
