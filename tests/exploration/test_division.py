"""Sub-tasks with the criterion of their division."""

from __future__ import annotations

from functools import partial
from itertools import islice

import orjson
from support.scripted import WORDS, Driven, answer, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.values import TaskAdded, TaskDropped
from explore_async.running.records import decision
from explore_async.settings.recipe import Recipe

FEW_WORDS = partial(answer, words=WORDS[:7])
"""Names often repeat."""
ASKS = {"lookahead": "criterion"}


def settings(**exploration: object) -> Recipe:
    return recipe(
        exploration={"depth": 2, "breadth": [5, 3], "step": 2, **exploration},
        filters={"task_threshold": 0.6},
        targets={"per_task": 4},
    )


def test_the_evidence_and_the_tree_hold_what_the_model_said() -> None:
    """Each task but the root has a criterion, in its line of evidence and in the tree; so has a name that was dropped. Where
    none is asked for, no line speaks of one.
    """
    run = Driven(settings(**ASKS), FEW_WORDS).run()
    added = [event for event in run.events if isinstance(event, TaskAdded) and event.task.depth]
    dropped = [event for event in run.events if isinstance(event, TaskDropped)]
    assert len(added) > 6
    assert dropped
    for event in (*added, *dropped):
        assert decision(event, "key")["criterion"]
    (root,) = run.explorer.trees()
    assert "criterion" not in root
    by_id = {event.task.id: event.task for event in added}
    for child in root["children"]:
        assert child["criterion"] == by_id[child["id"]].criterion
    plain = [decision(event, "key") for event in Driven(settings()).run().events if isinstance(event, TaskAdded)]
    assert not any("criterion" in line for line in plain)


def test_a_lookahead_asks_for_the_whole_division_and_a_backtrack_shows_its_criteria() -> None:
    """All four places are asked for at once with a criterion, and two, the step, without; what is asked later
    names the criteria so far, each once.
    """
    run = Driven(settings(**ASKS, breadth=[4, 3]), FEW_WORDS).run()
    first, *later = [request for request in run.issued if request.kind in {"lookahead", "backtrack"}]
    assert first.prompt.values["count"] == 4
    shown = [request.prompt.values["criteria"] for request in later if request.kind == "backtrack"]
    assert any(shown)
    for request in later:
        text = run.book.render(request).messages[-1]["content"]
        assert all(criterion in text for criterion in request.prompt.values["criteria"])
    plain = next(request for request in Driven(settings()).run().issued if request.kind == "lookahead")
    assert plain.prompt.values["count"] == 2


def test_timing_and_checkpoints_change_nothing() -> None:
    """At any concurrency, and from a checkpoint at any commit, the run issues and decides the same."""
    whole = Driven(settings(**ASKS), FEW_WORDS).run()
    other = Driven(settings(**ASKS), FEW_WORDS).drive(most_delay_s=0.002, concurrency=7)
    assert (other.keys, other.events) == (whole.keys, whole.events)
    for commits in (1, 2, 5, 11):
        first, second = Explorer(whole.recipe), Explorer(whole.recipe)
        for _ in islice(play(first, lambda request: whole.perform(request).outcome), commits):
            pass
        state = orjson.loads(orjson.dumps(first.state()))
        second.restore(state, ())
        assert second.outstanding == first.outstanding
        assert second.trees() == first.trees()
