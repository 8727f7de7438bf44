"""The evidence of one task or example: its decision, its nearest text, and the request that it came from.

Files of a run may be large, and a run may be writing them: a line is parsed only where it names the id, and an
unfinished line is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, Node, below
from explore_async.curation.files.row import reading
from explore_async.storage.completions import read_stored
from explore_async.storage.rows import StoredRequest


@dataclass(frozen=True, slots=True)
class EvidenceRows:
    """Evidence as the files have it. `decision` is None for tasks and examples that were taken over from elsewhere."""

    decision: Mapping[str, Any] | None
    task: Node | None
    example: ExampleRow | None
    nearest: ExampleRow | None
    stored: StoredRequest | None
    """The request with its outcome, where the run still has them."""


def find_evidence(source: Collection, wanted: str) -> EvidenceRows | None:
    """The evidence of the task or example with this id; None where there is no such id.

    `task` is looked up for a task, `example` for an example; it is None for a dropped one.
    """
    decision = find_decision(source, wanted)
    if decision is not None:
        nearest, key = decision.get("nearest"), decision.get("request")
        is_task = decision.get("what") == "task"
        return EvidenceRows(
            decision,
            task=find_task(source, wanted) if is_task else None,
            example=None if is_task else find_example(source, wanted),
            nearest=find_example(source, nearest) if isinstance(nearest, str) else None,
            stored=find_request(source, key) if isinstance(key, str) else None,
        )
    if source.is_run:
        return None
    task, example = find_task(source, wanted), find_example(source, wanted)
    return None if task is None and example is None else EvidenceRows(None, task, example, None, None)


def find_request(source: Collection, key: str) -> StoredRequest | None:
    """The stored request of this key with its outcome."""
    return None if source.completions is None else read_stored(source.completions, key)


def find_task(source: Collection, wanted: str) -> Node | None:
    return next((node for root in source.trees() for node in below(root) if node["id"] == wanted), None)


def find_example(source: Collection, wanted: str) -> ExampleRow | None:
    """A kept example."""
    rows = _rows(source.path / "dataset.jsonl", wanted) if source.config else source.examples()
    return next((row for row in rows if row.get("id") == wanted), None)


def find_decision(source: Collection, wanted: str) -> Mapping[str, Any] | None:
    rows = _rows(source.path / "decisions.jsonl", wanted) if source.config else iter(())
    return next((row for row in rows if row.get("id") == wanted), None)


def _rows(file: Path, wanted: str) -> Iterator[dict[str, Any]]:
    """The rows that may have this id."""
    mark = orjson.dumps(wanted)
    for _, line in whole_lines(file):
        if mark in line:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(row, dict):
                yield row


def whole_lines(file: Path, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The finished lines from an offset in bytes on, each with its own offset; none where there is no such file.

    Raises DataError where the file cannot be read.
    """
    if not file.is_file():
        return
    with reading(file), file.open("rb") as content:
        content.seek(max(0, offset))
        at = content.tell()
        for line in content:
            if not line.endswith(b"\n"):
                return
            yield at, line
            at += len(line)
