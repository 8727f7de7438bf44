"""The evidence of one task or example: its decision, its nearest text, and the request that it came from.

Files of a run may be large, and a run may be writing them: a line is parsed only where it names the id, and an
unfinished line is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, Mark, Node, below
from explore_async.curation.collections.copies import Copied, read_copied
from explore_async.curation.collections.marks import mark_of
from explore_async.curation.collections.shown_turns import shown_turns
from explore_async.curation.collections.steps import (
    ENDS,
    Step,
    answers_of_dropped,
    draft_in,
    draft_of_steps,
    read_steps,
)
from explore_async.curation.files.row import reading
from explore_async.errors import StorageError
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.values import Completion
from explore_async.storage.completions import read_stored
from explore_async.storage.rows import StoredRequest


@dataclass(frozen=True, slots=True)
class EvidenceRows:
    """Evidence as the files have it. `decision` is None for tasks and examples that were taken over from elsewhere; it
    is that on the instruction where no other is there yet.
    """

    decision: Mapping[str, Any] | None
    task: Node | None
    example: ExampleRow | None
    nearest: ExampleRow | None
    stored: StoredRequest | None
    """The request with its outcome, where the run still has them."""
    mark: Mark | None
    """The mark that a reader gave to the example."""
    draft: ExampleDraft | None = None
    """A dropped example as its completion has it; decisions keep only its instruction."""
    task_path: Sequence[str] = ()
    """The names of an example's task and those above it."""
    copied: Copied | None = None
    """The text that the output of an example repeats, which was dropped for this."""
    steps: Sequence[Step] = ()
    """Of an instruction that has requests of its own: the lines on it, its answers and their scores, in their order."""


def find_evidence(source: Collection, wanted: str) -> EvidenceRows | None:
    """The evidence of the task or example with this id; None where there is no such id.

    `task` is looked up for a task, `example` for an example; it is None for a dropped one.
    """
    if lines := _decisions(source, wanted):
        decision = _decisive(lines)
        steps = read_steps(source, [line for line in lines if line.get("what") not in ENDS])
        nearest, key = decision.get("nearest"), decision.get("request")
        is_task = decision.get("what") == "task"
        example = None if is_task else find_example(source, wanted)
        stored = find_request(source, key) if isinstance(key, str) else None
        draft = None
        if not is_task and example is None and stored is not None:
            draft = draft_of_steps(source, steps) or draft_in(source, decision, stored)
        return EvidenceRows(
            decision,
            task=find_task(source, wanted) if is_task else None,
            example=example,
            nearest=find_example(source, nearest) if isinstance(nearest, str) else None,
            stored=stored,
            mark=mark_of(example or decision, source.marks),
            draft=draft,
            task_path=() if is_task else find_path(source, str(decision.get("task_id"))),
            copied=read_copied(source, [decision]).get(wanted),
            steps=steps,
        )
    if source.is_run:
        return None
    task, example = find_task(source, wanted), find_example(source, wanted)
    if task is None and example is None:
        return None
    return EvidenceRows(None, task, example, None, None, mark=mark_of(example or {}, source.marks))


def evidence_document(rows: EvidenceRows, wanted: str) -> dict[str, Any]:
    """The evidence of the task or example with this id, for JSON: decision, task, example (a dropped one as
    `draft`) with the turns of its conversation, what it copies, nearest, mark, the steps to it where it has requests of
    its own, and the request with its completion or failure, as far as they are known.
    """
    nearest = None if rows.decision is None else rows.decision.get("nearest")
    parts: dict[str, Any] = {
        "decision": _taken_over(rows, wanted) if rows.decision is None else rows.decision,
        "task": rows.task,
        "example": rows.example,
        "draft": None if rows.draft is None else asdict(rows.draft),
        "copied": None if rows.copied is None else asdict(rows.copied),
        "nearest": rows.nearest or ({"id": nearest} if isinstance(nearest, str) else None),
        "turns": _turns(rows.example),
        "steps": [_step_document(step) for step in rows.steps] or None,
        "task_path": (list(rows.task_path) or None) if rows.example is None else None,
        "mark": None if rows.mark is None else {"mark": rows.mark.mark, "note": rows.mark.note},
    }
    known = {name: part for name, part in parts.items() if part is not None}
    return known if rows.stored is None else known | request_document(rows.stored)


def _step_document(step: Step) -> dict[str, Any]:
    said = {name: text for name, text in (("output", step.answer), ("why", step.why)) if text}
    return {**step.line, **said} | ({} if step.stored is None else {"asked": request_document(step.stored)})


def request_document(stored: StoredRequest) -> dict[str, Any]:
    """A request and its completion or failure, for JSON."""
    request = {
        "key": stored.key,
        "kind": stored.kind,
        "task_id": stored.task_id,
        "messages": stored.question.get("messages", []),
    }
    outcome = "completion" if isinstance(stored.outcome, Completion) else "failure"
    return {"request": request, outcome: asdict(stored.outcome)}


def _turns(example: ExampleRow | None) -> list[dict[str, str]] | None:
    return [{"role": role, "text": text} for role, text in shown_turns(example or {})] or None


def _taken_over(rows: EvidenceRows, wanted: str) -> dict[str, Any]:
    """In place of the decision on a task or an example that came from elsewhere."""
    decision = {"id": wanted, "kept": True, "reason": "taken over"}
    if rows.task is not None:
        return {"what": "task", **decision, "name": rows.task["name"]}
    return {"what": "example", **decision}


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Decisions on what was dropped, in their order; each has `nearest_text` where its nearest text is known, `copied`
    where its output repeats a known text, and `answers` where it had some of its own.
    """

    rows: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    """Everything that was dropped, by its reason."""
    tasks: Mapping[str, int]
    """The tasks among them."""


def find_dropped(source: Collection, reason: str | None) -> DroppedRows:
    """The tasks and examples that were dropped for this reason; None for any reason."""
    counts: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    texts: dict[str, str] = {}
    on_the_way: dict[str, list[Mapping[str, Any]]] = {}
    steps: list[Mapping[str, Any]] = []
    for row in _all_rows(source.path / "decisions.jsonl"):
        if row.get("what") not in ENDS:
            if "answer" in row:
                on_the_way.setdefault(str(row.get("id")), []).append(row)
            continue
        lines = on_the_way.pop(str(row.get("id")), [])
        if row.get("kept") is False:
            counts[str(row.get("reason"))] += 1
            tasks[str(row.get("reason"))] += row.get("what") == "task"
            if reason in {None, row.get("reason")}:
                rows.append(row)
                steps += lines
        elif row.get("what") == "task":
            texts[row["id"]] = row.get("name", "")
    nearest = {row["nearest"] for row in rows if isinstance(row.get("nearest"), str)}
    if nearest:
        for example in _all_rows(source.path / "dataset.jsonl"):
            if example.get("id") in nearest:
                texts[example["id"]] = example.get("instruction", "")
    known = [{**row, "nearest_text": texts[row["nearest"]]} if row.get("nearest") in texts else row for row in rows]
    copied: Mapping[str, Copied] = {}
    answers: Mapping[str, Any] = {}
    with suppress(StorageError):  # what was dropped is listed also where the completions are damaged
        copied = read_copied(source, rows)
        answers = answers_of_dropped(source, steps)
    if answers:
        known = [{**row, "answers": answers[row["id"]]} if row.get("id") in answers else row for row in known]
    if copied:
        known = [{**row, "copied": asdict(copied[row["id"]])} if row.get("id") in copied else row for row in known]
    return DroppedRows(known, dict(counts.most_common()), dict((+tasks).most_common()))


def find_request(source: Collection, key: str) -> StoredRequest | None:
    """The stored request of this key with its outcome."""
    stores = [source.completions] if source.completions is not None else _stores_of_shards(source)
    return next((stored for store in stores if (stored := read_stored(store, key)) is not None), None)


def _stores_of_shards(source: Collection) -> list[Path]:
    """The stores of the shards that were joined to this data, as far as they are still there."""
    shards = source.config.get("sources", []) if "shards" in source.config else []
    return [store for shard in shards if (store := Path(shard["path"]) / "completions.sqlite").is_file()]


def find_task(source: Collection, wanted: str) -> Node | None:
    return next((node for root in source.trees() for node in below(root) if node["id"] == wanted), None)


def find_path(source: Collection, task_id: str) -> list[str]:
    """The names of the task and those above it, the highest first; none where it is not in the tree."""
    names = {node["id"]: node["name"] for root in source.trees() for node in below(root)}
    steps = task_id.split(".")
    return [names[above] for end in range(len(steps)) if (above := ".".join(steps[: end + 1])) in names]


def find_example(source: Collection, wanted: str) -> ExampleRow | None:
    """A kept example."""
    rows = _rows(source.path / "dataset.jsonl", wanted) if source.config else source.examples()
    return next((row for row in rows if row.get("id") == wanted), None)


def find_decision(source: Collection, wanted: str) -> Mapping[str, Any] | None:
    """The line of evidence that says whether it is kept, so far."""
    lines = _decisions(source, wanted)
    return _decisive(lines) if lines else None


def _decisive(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The line with the verdict; that on the instruction while there is no other."""
    return lines[-1] if lines[-1].get("what") in ENDS else lines[0]


def _decisions(source: Collection, wanted: str) -> list[Mapping[str, Any]]:
    """The lines of evidence on this id up to the one that says whether it is kept for good, if that is there."""
    found: list[Mapping[str, Any]] = []
    for row in _rows(source.path / "decisions.jsonl", wanted) if source.config else ():
        if row.get("id") == wanted:
            found.append(row)
            if row.get("what") in ENDS:
                break
    return found


def _rows(file: Path, wanted: str) -> Iterator[dict[str, Any]]:
    """The rows that may have this id."""
    return _all_rows(file, orjson.dumps(wanted))


def _all_rows(file: Path, part: bytes = b"") -> Iterator[dict[str, Any]]:
    """The rows whose line has this part."""
    for _, line in whole_lines(file):
        if part in line:
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
