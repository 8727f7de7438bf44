"""Reads what the view shows of a run from its files, in bounded time and memory however large the run is.

Lists are read from an offset in bytes on, for at most `MOST_SECONDS`, and name the offset of the next part: a search
through a million lines comes in parts, so that the first ones show at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from explore_async.curation.collections.collection import below
from explore_async.curation.collections.evidence import EvidenceRows, find_evidence, find_request, whole_lines
from explore_async.curation.collections.run_data import RunData
from explore_async.errors import DataError
from explore_async.exploration.values import Completion
from explore_async.storage.rows import StoredRequest

LIVE_FILE = "live.json"
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
ListName = Literal["kept", "dropped", "failed"]


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
    }


@lru_cache(maxsize=_CACHED_RUNS)
def _run(path: Path, *_stamps: Stamp) -> RunData:
    """The run, read again only when one of its files has changed: a run writes every second."""
    return RunData.read(path)


@lru_cache(maxsize=_CACHED_RUNS)
def _nodes(path: Path, _stamp: Stamp) -> list[dict[str, Any]]:
    return [_node(node) for root in RunData.read(path).trees() for node in below(root)]


def version(path: Path) -> tuple[Stamp, ...]:
    """A value that changes whenever a file that `state` reads changes."""
    names = ("tree.json", "stats.json", LIVE_FILE, "config.json", "data.json")
    return tuple(_stamp(path / name) for name in names)


def list_rows(path: Path, what: ListName, *, task: str, query: str, offset: int) -> dict[str, Any]:
    """Kept examples, dropped items or failed requests from `offset` on, of a task and those below it, that contain
    `query`.
    """
    file = path / ("dataset.jsonl" if what == "kept" else "decisions.jsonl")
    wanted = query.casefold()
    rows: list[dict[str, Any]] = []
    ends = time.monotonic() + MOST_SECONDS
    end = None
    for start, line in whole_lines(file, offset):
        if len(rows) >= MOST_LISTED or time.monotonic() > ends:
            end = start
            break
        if task and f'"{task}'.encode() not in line:
            continue  # so that most lines need no parsing
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the run is writing this line
        if _is(what, row) and _is_of(row, task) and _holds(row, wanted):
            rows.append(_short(row) | _hit(row, wanted))
    size = file.stat().st_size if file.is_file() else 0
    return {"rows": rows, "next": end, "searched": (end if end is not None else size), "of": size}


def evidence(path: Path, wanted: str) -> dict[str, Any]:
    """A task or an example with its decision, its nearest neighbour, the prompt and the raw completion.

    DataError where there is no such id.
    """
    run = RunData.read(path)
    rows = find_evidence(run, wanted)
    if rows is None:
        raise DataError(f"no task and no example has the id {wanted}")
    decision = _taken_over(rows, wanted) if rows.decision is None else rows.decision
    shown: dict[str, Any] = {"decision": decision}
    if decision.get("what") == "example":
        shown["example"] = rows.example
    if isinstance(nearest := decision.get("nearest"), str):
        shown["nearest"] = rows.nearest or {"id": nearest}
    return shown | ({} if rows.stored is None else _exchange(rows.stored))


def exchange(path: Path, key: str) -> dict[str, Any]:
    """The request of this key and its outcome: the evidence for what has no id. DataError where nothing is stored."""
    stored = find_request(RunData.read(path), key)
    if stored is None:
        raise DataError(f"no outcome is stored for the request {key}")
    return _exchange(stored)


def _exchange(stored: StoredRequest) -> dict[str, Any]:
    request = {"key": stored.key, "kind": stored.kind, "messages": stored.question.get("messages", [])}
    outcome = stored.outcome
    if isinstance(outcome, Completion):
        answer = {
            "text": outcome.text[:LONGEST_SHOWN],
            "reasoning": outcome.reasoning[:LONGEST_SHOWN],
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "cached_tokens": outcome.cached_tokens,
            "seconds": round(outcome.latency_s, 2),
            "endpoint": outcome.endpoint,
            "model": outcome.model,
        }
        return {"request": request, "answer": answer}
    failure = {"kind": outcome.kind, "detail": outcome.detail, "attempts": outcome.attempts}
    return {"request": request, "failure": failure}


def _taken_over(rows: EvidenceRows, wanted: str) -> dict[str, Any]:
    """In place of the decision on a task or an example that came from elsewhere."""
    decision = {"id": wanted, "kept": True, "reason": "taken over"}
    if rows.task is not None:
        return {**decision, "what": "task", "name": rows.task["name"]}
    return {**decision, "what": "example"}


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
    return {name: node[name] for name in names}


def _counts(stats: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stats[name] for name in ("examples", "tasks", "requests", "tokens") if name in stats}


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _is(what: ListName, row: Mapping[str, Any]) -> bool:
    return what == "kept" or (row.get("what") == "failure" if what == "failed" else row.get("kept") is False)


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


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value[:LONGEST_LISTED]}…" if isinstance(value, str) and len(value) > LONGEST_LISTED else value
        for name, value in row.items()
    }
