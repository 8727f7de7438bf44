"""Commands on a run that still goes on."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from support.cli import in_process

from explore_async.storage.directory import RunDirectory


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """A run with an example."""
    node = {"id": "0", "name": "Root", "reason": "", "origin": "seed", "depth": 0, "kept": 1, "dropped": 0}
    tree = {"trees": [{**node, "answers": 1, "exhausted": False, "children": []}]}
    example = {
        "id": "0-0.0",
        "task_id": "0",
        "task_path": ["Root"],
        "instruction": "Say so",
        "input": "",
        "output": "x",
    }
    path = tmp_path / "run"
    path.mkdir()
    for name, document in {
        "config.json": {"recipe": {"name": "test"}},
        "tree.json": tree,
        "dataset.jsonl": {**example, "request": "ab"},
        "stats.json": {},
    }.items():
        (path / name).write_bytes(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    return path


def test_they_say_that_it_goes_on(run_path: Path, tmp_path: Path) -> None:
    """While a process works on the run, each command says so in one line, and does its work; afterwards none does."""
    commands = (
        ("tree", run_path),
        ("stats", run_path),
        ("show", run_path, "--dropped", "all"),
        ("export", run_path, "--out", tmp_path / "rows.jsonl"),
        ("sample", run_path, "--out", tmp_path / "sample.jsonl", "--size", "1"),
        ("import", run_path, "--out", tmp_path / "imported"),
        ("dedup", run_path / "dataset.jsonl", "--out", tmp_path / "distinct.jsonl"),
    )
    with RunDirectory(run_path):
        during = [in_process(*command) for command in commands]
    after = [in_process(*command) for command in commands[:3]]
    assert {result.code for result in (*during, *after)} == {0}, [result.stderr for result in (*during, *after)]
    assert [result.stderr.count("still goes on") for result in during] == [1] * len(commands)
    assert not [result.stderr for result in after if "still goes on" in result.stderr]


def test_stats_say_of_when_they_are(run_path: Path) -> None:
    """Figures of this start, of the start before it, and of one that was killed are told apart; those of a run that has
    ended need no word.
    """
    end = "2026-01-01T00:00:00Z"
    during: dict[str, str | None] = {"ending": None, "end": end}
    before: dict[str, str | None] = {"ending": "interrupted", "end": end}

    def said(figures: dict[str, str | None]) -> str:
        (run_path / "stats.json").write_bytes(orjson.dumps(figures))
        result = in_process("stats", run_path)
        assert orjson.loads(result.stdout) == figures
        return result.stderr

    with RunDirectory(run_path):
        assert "still goes on; these are its figures of 20" in said(during)
        assert "has nothing new yet; these are the figures of the start that ended at 20" in said(before)
    assert "the last start was killed: these are its figures of 20" in said(during)
    assert not said(before)
