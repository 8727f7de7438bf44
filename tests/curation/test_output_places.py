"""No data command writes over something that it reads, or over a file of a run or data directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.cli import in_process

ROWS = "".join(json.dumps({"instruction": f"Name plant {number}.", "output": "Fern."}) + "\n" for number in range(20))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, a data directory `data`, an export `folder` and a folder `tree` of the published code."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS)
    Path("rows.validation.jsonl").write_text(ROWS)
    for command in (
        ("import", "rows.jsonl", "--out", "data"),
        ("export", "rows.jsonl", "--out", "folder"),
        ("export", "data", "--out", "tree", "--format", "explore-instruct"),
    ):
        assert in_process(*command).code == 0
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize(
    "command",
    [
        ("import", "data/dataset.jsonl", "--out", "data"),
        ("filter", "data/dataset.jsonl", "--out", "data"),
        ("filter", "data", "--out", "data"),
        ("merge", "rows.jsonl", "data/dataset.jsonl", "--out", "data"),
        (
            *("decontaminate", "data/dataset.jsonl", "--against", "rows.jsonl"),
            *("--benchmark-field", "instruction", "--out", "data"),
        ),
        (
            *("decontaminate", "rows.jsonl", "--against", "data/dataset.jsonl"),
            *("--benchmark-field", "instruction", "--out", "data"),
        ),
        ("sample", "folder/data/train.parquet", "-n", "5", "--out", "folder"),
        ("export", "folder/data/train.parquet", "--out", "folder", "--format", "messages"),
        ("export", "rows.validation.jsonl", "--out", "rows.jsonl", "--validation", "0.1"),
        ("export", "tree", "--out", "tree", "--format", "explore-instruct"),
        ("dedup", "rows.jsonl", "--out", "data/dataset.jsonl"),
        ("dedup", "rows.jsonl", "--out", "kept.jsonl", "--evidence", "data/why.jsonl"),
        ("dedup", "rows.jsonl", "--out", "data/data.json"),
        ("dedup", "rows.jsonl", "--out", "rows.jsonl"),
        ("compare", "rows.jsonl", "rows.validation.jsonl", "--results", "--export", "data/dataset.jsonl"),
        ("score", "rows.jsonl", "--questions", "rows.jsonl", "--out", "data/dataset.jsonl"),
        ("analyze", "rows.jsonl", "--out", "data/data.json"),
    ],
)
def test_what_is_read_or_belongs_to_data_is_refused(place: Path, command: Sequence[str]) -> None:
    """Each command ends with code 2, names the place, and leaves every file as it was."""
    before = contents(place)
    ended = in_process(*command)
    assert (ended.code, "choose another" in ended.stderr or "write elsewhere" in ended.stderr) == (2, True), ended
    assert contents(place) == before


@pytest.mark.usefixtures("in_this_process")
def test_a_config_of_another_project_is_no_sign_of_data(place: Path) -> None:
    """A folder with a config.json of somebody else takes exports."""
    (place / "config.json").write_text("{}")
    assert in_process("export", "rows.jsonl", "--out", "new.jsonl").code == 0
    assert in_process("dedup", "rows.jsonl", "--out", "kept.jsonl").code == 0
