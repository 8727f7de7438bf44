"""Reads what the view shows of a run from its files, in bounded time and memory however large the run is.

Lists are read from an offset in bytes on, for at most `MOST_SECONDS`, and name the offset of the next part: a search
through a million lines comes in parts, so that the first ones show at once, and a list follows a run that appends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from explore_async.curation.collections.collection import MarkName, Marks, below
from explore_async.curation.collections.evidence import (
    evidence_document,
    find_decision,
    find_evidence,
    find_example,
    find_request,
    request_document,
    whole_lines,
)
from explore_async.curation.collections.marks import MARKS_FILE, mark_of, read_marks, write_mark
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.collections.steps import ENDS
from explore_async.errors import DataError

LIVE_FILE = "live.json"
REPORT_FILE = "report.html"
MOST_SECONDS = 0.4
MOST_LISTED = 50
LONGEST_LISTED = 600
LONGEST_SHOWN = 200_000
"""Most characters of a text in a list, and of a completion in the evidence."""
_FRESH_S = 10.0
_CONTEXT_CHARACTERS = 60
_CACHED_RUNS = 16

Stamp: TypeAlias = tuple[int, int]
"""Time of the last change of a file, in ns, and its size in bytes."""
ListName: TypeAlias = Literal["kept", "dropped", "failed"]


def state(path: Path) -> dict[str, Any]:
    """The present tree and figures."""
    run = _run(path, *(_stamp(path / name) for name in ("config.json", "data.json", "stats.json")))
    live = _live(path)
    try:
        nodes = _nodes(path, _stamp(path / "tree.json"))
    except DataError:  # the run has just begun
        nodes = []
    recipe = run.recipe
    return {
        "name": run.name,
        "path": str(path),
        "simulated": run.is_simulated or bool(live.get("simulated")),
        "target": (recipe.get("targets") or {}).get("examples"),
        "models": list(dict.fromkeys([recipe.get("model") or "", *(recipe.get("models") or {}).values()])),
        "ending": run.stats.get("ending") if not live.get("on") else None,
        "live": live,
        "stats": _counts(run.stats),
        "tree": nodes,
        "marks": Counter(mark.mark for mark in _marks(path).values()),
        "has_report": (path / REPORT_FILE).is_file(),
    }


def mark(path: Path, example_id: str, name: MarkName | None, note: str) -> dict[str, Any]:
    """Marks an example, kept or dropped; None takes its mark back. DataError where there is no such example."""
    run = RunData.read(path)
    example = find_example(run, example_id) or find_decision(run, example_id) or {}
    if not isinstance(example.get("instruction"), str):
        raise DataError(f"no example has the id {example_id}")
    write_mark(path, example, name, note)
    return {"mark": name, "note": note if name is not None else ""}


def _marks(path: Path) -> Marks:
    return _marks_at(path, _stamp(path / MARKS_FILE))


@lru_cache(maxsize=_CACHED_RUNS)
def _marks_at(path: Path, _stamp: Stamp) -> Marks:
    return read_marks(path)


@lru_cache(maxsize=_CACHED_RUNS)
def _run(path: Path, *_stamps: Stamp) -> RunData:
    """The run, read again only when one of its files has changed: a run writes every second."""
    return RunData.read(path)


@lru_cache(maxsize=_CACHED_RUNS)
def _nodes(path: Path, _stamp: Stamp) -> list[dict[str, Any]]:
    return [_node(node) for root in RunData.read(path).trees() for node in below(root)]


def version(path: Path) -> tuple[Stamp, ...]:
    """A value that changes whenever a file that `state` reads changes."""
    names = ("tree.json", "stats.json", LIVE_FILE, "config.json", "data.json", MARKS_FILE, REPORT_FILE)
    return tuple(_stamp(path / name) for name in names)


def list_rows(path: Path, what: ListName, *, task: str, query: str, offset: int) -> dict[str, Any]:
    """Kept examples, dropped items or failed requests from `offset` on, of a task and those below it, that contain
    `query`. `next` is the offset of what comes after them; `done` is true where nothing does yet.
    """
    file = path / ("dataset.jsonl" if what == "kept" else "decisions.jsonl")
    marks = _marks(path)
    wanted = query.casefold()
    rows: list[dict[str, Any]] = []
    ends = time.monotonic() + MOST_SECONDS
    end, done = offset, True
    for start, line in whole_lines(file, offset):
        end = start
        if len(rows) >= MOST_LISTED or time.monotonic() > ends:
            done = False
            break
        end = start + len(line)
        if task and f'"{task}'.encode() not in line:
            continue  # so that most lines need no parsing
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the run is writing this line
        if _is(what, row) and _is_of(row, task) and _holds(row, wanted):
            rows.append(_short(row) | _hit(row, wanted) | _mark(row, marks))
    return {"rows": rows, "next": end, "done": done, "of": file.stat().st_size if file.is_file() else 0}


def list_marked(path: Path, *, task: str, query: str, offset: int) -> dict[str, Any]:
    """The same for examples with a mark, in the order of their marks; offsets count examples."""
    rows = [
        {"id": key, "task_id": one.task_id, "instruction": one.instruction, "mark": one.mark, "mark_note": one.note}
        for key, one in _marks(path).items()
    ]
    found = [row for row in rows if _is_of(row, task) and _holds(row, query.casefold())]
    end = min(len(found), offset + MOST_LISTED)
    return {
        "rows": [_short(row) for row in found[offset:end]],
        "next": end,
        "done": end == len(found),
        "of": len(found),
    }


def evidence(path: Path, wanted: str) -> dict[str, Any]:
    """A task or an example with its decision, its nearest neighbour, the prompt and the raw completion.

    DataError where there is no such id.
    """
    rows = find_evidence(RunData.read(path), wanted)
    if rows is None:
        raise DataError(f"no task and no example has the id {wanted}")
    return _bounded(evidence_document(rows, wanted))


def exchange(path: Path, key: str) -> dict[str, Any]:
    """The request of this key and its outcome: the evidence for what has no id. DataError where nothing is stored."""
    stored = find_request(RunData.read(path), key)
    if stored is None:
        raise DataError(f"no outcome is stored for the request {key}")
    return _bounded(request_document(stored))


def _bounded(document: dict[str, Any]) -> dict[str, Any]:
    """The evidence as far as a page shows it: the beginning of each text of a completion, and no tree below a task."""
    document.pop("task", None)
    for asked in (document, *(step["asked"] for step in document.get("steps", ()) if "asked" in step)):
        if "completion" in asked:
            texts = asked["completion"].items()
            asked["completion"] = {k: v[:LONGEST_SHOWN] if isinstance(v, str) else v for k, v in texts}
    return document


def _live(path: Path) -> dict[str, Any]:
    """The last live.json of the run; its `on` is true while the run keeps writing it."""
    file = path / LIVE_FILE
    try:
        document = orjson.loads(file.read_bytes())
        age = time.time() - file.stat().st_mtime
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {**document, "on": bool(document.get("on")) and age < _FRESH_S} if isinstance(document, dict) else {}


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "name", "reason", "origin", "depth", "kept", "dropped", "exhausted")
    given = ("criterion", "facets")
    return {name: node[name] for name in names} | {name: node[name] for name in given if name in node}


def _counts(stats: Mapping[str, Any]) -> dict[str, Any]:
    names = ("examples", "tasks", "requests", "tokens", "instructions", "answers", "scores")
    return {name: stats[name] for name in names if name in stats}


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _is(what: ListName, row: Mapping[str, Any]) -> bool:
    return what == "kept" or (
        row.get("what") == "failure" if what == "failed" else row.get("kept") is False and row.get("what") in ENDS
    )


def _is_of(row: Mapping[str, Any], task: str) -> bool:
    own = str(row.get("task_id") or row.get("parent") or "")
    return not task or own == task or own.startswith(f"{task}.")


def _holds(row: Mapping[str, Any], wanted: str) -> bool:
    return not wanted or any(wanted in value.casefold() for value in row.values() if isinstance(value, str))


def _hit(row: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """The place where a search matched, unless the list shows it anyway."""
    if not wanted or wanted in str(row.get("instruction") or "")[:LONGEST_LISTED].casefold():
        return {}
    for name in ("instruction", "input", "output"):
        text = row.get(name)
        if isinstance(text, str) and (at := text.casefold().find(wanted)) >= 0:
            around = text[max(0, at - _CONTEXT_CHARACTERS) : at + len(wanted) + _CONTEXT_CHARACTERS]
            return {"found": {"field": name, "text": around}}
    return {}


def _mark(row: Mapping[str, Any], marks: Marks) -> dict[str, Any]:
    found = mark_of(row, marks)
    return {} if found is None else {"mark": found.mark, "mark_note": found.note}


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value[:LONGEST_LISTED]}…" if isinstance(value, str) and len(value) > LONGEST_LISTED else value
        for name, value in row.items()
        if name != "answers"  # the evidence has them, however many and long they are
    }
