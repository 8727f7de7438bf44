"""The text that the output of an example repeats: the evidence for the reason `copied`.

A demonstration is an example of the recipe, or one from the first completion for a task above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.steps import draft_in, items_in
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import copied_field
from explore_async.storage.completions import StoredReader
from explore_async.storage.rows import StoredRequest

COPIED: Final = "copied"
_OPENING: Final = "0"
"""The turn of the first request for examples of a task, in the ids of its examples: TASK-0.INDEX."""


@dataclass(frozen=True, slots=True)
class Copied:
    """`what` the output repeats: the example's own instruction or input, or the output of a demonstration; its text."""

    what: str
    text: str
    id: str | None = None
    """Of the demonstration; None where it is an example of the recipe."""

    @property
    def said(self) -> str:
        """The output is a copy of this."""
        if self.what != "demonstration":
            return f"its own {self.what}"
        return f"the output of the demonstration {self.id}" if self.id else "the output of a demonstration"


def read_copied(source: Collection, decisions: Sequence[Mapping[str, Any]]) -> dict[str, Copied]:
    """By the ids of examples that were dropped as copied: what their outputs repeat, where the completions show it."""
    copied = [row for row in decisions if row.get("reason") == COPIED and isinstance(row.get("id"), str)]
    if not copied or source.completions is None:
        return {}
    openings = _openings(source)
    found: dict[str, Copied] = {}
    with StoredReader(source.completions) as reader:

        def stored_at(key: Any) -> StoredRequest | None:
            return reader.get_many([key]).get(key) if isinstance(key, str) else None

        for row in copied:
            stored = stored_at(row.get("request"))
            draft = None if stored is None else draft_in(source, row, stored)
            if draft is None:
                continue
            if field := copied_field(draft):
                found[row["id"]] = Copied(field, draft.output)
            elif any(draft.output == output for output in _outputs(source.recipe.get("domains", []))):
                found[row["id"]] = Copied("demonstration", draft.output)
            else:
                above = (stored_at(openings.get(task)) for task in _above(str(row.get("task_id"))))
                shown = (_id_of(source, opening, draft.output) for opening in above if opening is not None)
                found[row["id"]] = Copied("demonstration", draft.output, next(filter(None, shown), None))
    return found


def _id_of(source: Collection, opening: StoredRequest, output: str) -> str | None:
    for index, item in enumerate(items_in(source, opening)):
        if isinstance(item, ExampleDraft) and item.output == output:
            return f"{opening.task_id}-{_OPENING}.{index}"
    return None


def _openings(source: Collection) -> dict[str, Any]:
    """The keys of the first requests for examples of all tasks."""
    openings: dict[str, Any] = {}
    for row in source.decisions():
        task_id, key = str(row.get("task_id")), row.get("request")
        if str(row.get("id")).startswith(f"{task_id}-{_OPENING}.") and isinstance(key, str):
            openings[task_id] = key
    return openings


def _above(task_id: str) -> Iterator[str]:
    while "." in task_id:
        task_id = task_id.rpartition(".")[0]
        yield task_id


def _outputs(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The outputs of all examples that a recipe gives."""
    for task in tasks:
        yield from (example["output"] for example in task.get("examples", ()))
        yield from _outputs(task.get("tasks", ()))
