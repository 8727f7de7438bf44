"""Marks that a reader gives to examples: good or bad, with a note. `marks.jsonl` beside the examples holds them.

A mark is appended as a line, and the last line on an id counts. It belongs to one text: a mark does not apply where the
id has another instruction by now.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collections.collection import ExampleRow, Mark, MarkName, Marks
from explore_async.curation.collections.documents import MarkLine, check
from explore_async.curation.files.row import BadRow
from explore_async.curation.files.source import Source
from explore_async.errors import DataError, StorageError
from explore_async.storage.whole_files import check_regular, storage_errors

MARKS_FILE = "marks.jsonl"
MARK_COLUMNS = ("mark", "mark_note")
"""Columns that an export has beside the others where examples are marked."""


def read_marks(folder: Path) -> dict[str, Mark]:
    """The marks beside these examples. Raises DataError for a line that is none."""
    file = folder / MARKS_FILE
    marks: dict[str, Mark] = {}
    if not file.exists():
        return marks
    source = Source(file)
    for row in source:
        if isinstance(row, BadRow):
            raise DataError(f"{source.place(row.number)}: {row.fault}")
        line = dict(row.value)
        check(line, MarkLine, source.place(row.number))
        if line["mark"] is None:
            marks.pop(line["id"], None)
        else:
            marks[line["id"]] = Mark(line["mark"], line["note"], line["task_id"], line["instruction"])
    return marks


def write_mark(folder: Path, example: Mapping[str, Any], mark: MarkName | None, note: str = "") -> None:
    """Marks the example with this id, task_id and instruction; None takes its mark back. Raises StorageError."""
    file = folder / MARKS_FILE
    line = _line(example["id"], mark, note if mark is not None else "", example["task_id"], example["instruction"])
    with storage_errors(file):
        check_regular(file)
        with file.open("ab", buffering=0) as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            before = out.seek(0, os.SEEK_END)
            if out.write(line) != len(line):
                out.truncate(before)  # half a line would be a fault of the file
                raise StorageError(f"{file}: no space is left for a mark")


def mark_lines(marks: Marks) -> bytes:
    """The content of a file with these marks."""
    fields = ((example_id, one.mark, one.note, one.task_id, one.instruction) for example_id, one in marks.items())
    return b"".join(_line(*values) for values in fields)


def mark_of(example: Mapping[str, Any], marks: Marks) -> Mark | None:
    """The mark of this example; None where it has none, or the mark was given to another text."""
    mark = marks.get(str(example.get("id")))
    return mark if mark is not None and mark.instruction == example.get("instruction") else None


def with_mark(example: ExampleRow, marks: Marks) -> ExampleRow:
    """The example with the MARK_COLUMNS; where it is not marked they are null, or what its source has in them."""
    mark = mark_of(example, marks)
    given = {} if mark is None else dict(zip(MARK_COLUMNS, (mark.mark, mark.note), strict=True))
    return {**dict.fromkeys(MARK_COLUMNS), **example, **given}


def _line(example_id: str, mark: MarkName | None, note: str, task_id: str, instruction: str) -> bytes:
    document = {"id": example_id, "mark": mark, "note": note, "task_id": task_id, "instruction": instruction}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
