"""What the view shows of a run, read from its files: bounded in time and size, whatever the run's.

Lists are read from an offset in bytes on, at most for `PATIENCE_S`, and say where the next reading begins: a search
through a million lines comes in pieces, and nobody waits for the whole.
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
PATIENCE_S = 0.4
MOST_LISTED = 50
LONGEST_LISTED = 600
LONGEST_SHOWN = 200_000
"""Characters of a text in a list, and of one that is looked at."""
_FRESH_S = 10.0
_AROUND = 60
_REMEMBERED = 16

Stamp: TypeAlias = tuple[int, int]
"""When a file was written, and its size."""
What = Literal["kept", "dropped", "failed"]


def state(path: Path) -> dict[str, Any]:
    """The tree and the figures as they are now."""
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


@lru_cache(maxsize=_REMEMBERED)
def _run(path: Path, *_stamps: Stamp) -> RunData:
    """As it was read when its files were last written: a run says something every second, and little of it is new."""
    return RunData.read(path)


@lru_cache(maxsize=_REMEMBERED)
def _nodes(path: Path, _stamp: Stamp) -> list[dict[str, Any]]:
    return [_node(node) for root in RunData.read(path).trees() for node in below(root)]


def version(path: Path) -> tuple[Stamp, ...]:
    """Changes whenever something that `state` reads does."""
    names = ("tree.json", "stats.json", LIVE_FILE, "config.json", "data.json")
    return tuple(_stamp(path / name) for name in names)


def listed(path: Path, what: What, *, task: str, query: str, offset: int) -> dict[str, Any]:
    """Kept examples, what was dropped, or requests that failed, from `offset` on: of a task and those below it, with
    `query` in it.
    """
    file = path / ("dataset.jsonl" if what == "kept" else "decisions.jsonl")
    wanted = query.casefold()
    rows: list[dict[str, Any]] = []
    ends = time.monotonic() + PATIENCE_S
    end = None
    for start, line in whole_lines(file, offset):
        if len(rows) >= MOST_LISTED or time.monotonic() > ends:
            end = start
            break
        if task and f'"{task}'.encode() not in line:
            continue  # spares most lines their parsing
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the run is just writing it
        if _is(what, row) and _is_of(row, task) and _holds(row, wanted):
            rows.append(_short(row) | _found(row, wanted))
    size = file.stat().st_size if file.is_file() else 0
    return {"rows": rows, "next": end, "searched": (end if end is not None else size), "of": size}


def evidence(path: Path, wanted: str) -> dict[str, Any]:
    """A task or an example with its decision, its nearest neighbour, the prompt and the raw completion.

    DataError where there is no such id.
    """
    run = RunData.read(path)
    rows = find_evidence(run, wanted)
    if rows is None:
        raise DataError(f"there is no task and no example {wanted}")
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
        raise DataError(f"nothing is stored for a request {key}")
    return _exchange(stored)


def _exchange(stored: StoredRequest) -> dict[str, Any]:
    request = {"key": stored.key, "kind": stored.kind, "messages": stored.question.get("messages", [])}
    outcome = stored.outcome
    if isinstance(outcome, Completion):
        answer = {
            "text": outcome.text[:LONGEST_SHOWN],
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
    """What the run last said of itself; `on` while it says something."""
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


def _is(what: What, row: Mapping[str, Any]) -> bool:
    return what == "kept" or (row.get("what") == "failure" if what == "failed" else row.get("kept") is False)


def _is_of(row: Mapping[str, Any], task: str) -> bool:
    own = str(row.get("task_id") or row.get("parent") or "")
    return not task or own == task or own.startswith(f"{task}.")


def _holds(row: Mapping[str, Any], wanted: str) -> bool:
    return not wanted or any(wanted in value.casefold() for value in row.values() if isinstance(value, str))


def _found(row: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """Where a search found something that the list does not show."""
    if not wanted or wanted in str(row.get("instruction") or "")[:LONGEST_LISTED].casefold():
        return {}
    for name in ("instruction", "input", "output"):
        text = row.get(name)
        if isinstance(text, str) and (at := text.casefold().find(wanted)) >= 0:
            return {"found": {"field": name, "text": text[max(0, at - _AROUND) : at + len(wanted) + _AROUND]}}
    return {}


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: f"{value[:LONGEST_LISTED]}…" if isinstance(value, str) and len(value) > LONGEST_LISTED else value
        for name, value in row.items()
    }
