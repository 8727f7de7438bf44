"""The table of kinds: a row holds everything about a kind of request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import orjson
import pytest
from support.scripted import Driven, recipe
from support.strategies import OneLevel

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.kinds import KINDS, LOOKAHEAD, brings_examples
from explore_async.exploration.values import ExampleKept, TaskAdded
from explore_async.settings.recipe import Kind


def test_the_table_and_the_keys_of_a_recipe_agree() -> None:
    """The kinds that `models` and `prompts` of a recipe may name are the rows of the table, in its order."""
    assert tuple(KINDS) == get_args(Kind)
    assert [kind.name for kind in KINDS.values()] == list(KINDS)


def test_kinds_that_bring_examples() -> None:
    """A name that is not in the table, such as from a later version's store, brings none."""
    assert [name for name in (*KINDS, "refine") if brings_examples(name)] == ["generate"]


def test_a_new_kind_is_a_row_and_its_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an additional row and its template, a strategy issues requests of the new kind: they are rendered, answered, parsed
    and committed, have a key and a seed of their own, and their tasks get examples.
    """
    template = tmp_path / "brainstorm.j2"
    template.write_text("[user]\nThink of {{ count }} odd parts of {{ task }}, unlike {{ existing | join(', ') }}.\n")
    brainstorm = replace(LOOKAHEAD, name="brainstorm", template=template)
    monkeypatch.setitem(KINDS, "brainstorm", brainstorm)
    settings = recipe(exploration={"depth": 1, "breadth": [3], "step": 2}, targets={"per_task": 4})
    run = Driven(settings, strategy=OneLevel.asking(brainstorm)).run()
    plain = Driven(settings, strategy=OneLevel.asking(LOOKAHEAD)).run()

    asked = [request for request in run.commits if request.kind == "brainstorm"]
    assert [run.book.render(request).messages[0]["content"] for request in asked] == [
        "Think of 2 odd parts of Look after a garden, unlike ."
    ]
    added = [event.task for event in run.events if isinstance(event, TaskAdded)]
    assert [(task.id, task.origin) for task in added] == [("0.0", "brainstorm"), ("0.1", "brainstorm")]
    kept = {event.example.task_id for event in run.events if isinstance(event, ExampleKept)}
    assert kept == {"0", "0.0", "0.1"}
    other = next(request for request in plain.commits if request.kind == "lookahead")
    assert asked[0].seed != other.seed
    assert not set(run.keys) & {plain.book.render(other).key}
    assert run.explorer.stopped == "complete"


def test_a_new_kind_is_in_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outstanding request of a new kind is issued again, as it was, by an explorer restored to that moment."""
    template = tmp_path / "brainstorm.j2"
    template.write_text("[user]\n{{ count }} of {{ task }}\n")
    brainstorm = replace(LOOKAHEAD, name="brainstorm", template=template)
    monkeypatch.setitem(KINDS, "brainstorm", brainstorm)
    settings = recipe(exploration={"depth": 1, "breadth": [3], "step": 2})
    strategy = OneLevel.asking(brainstorm)
    first, second = (Explorer(settings, strategy=strategy) for _ in range(2))
    while first.next_request() is not None:
        pass
    assert "brainstorm" in {request.kind for request in first.outstanding}
    second.restore(orjson.loads(orjson.dumps(first.state())), ())
    assert second.outstanding == first.outstanding
