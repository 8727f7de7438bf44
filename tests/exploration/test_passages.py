"""How texts are cut into passages, and which request shows which."""

from __future__ import annotations

import re
import time
from collections import Counter
from itertools import islice

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import answer, recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.passages import PassageDeck, cut
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ExampleKept, Request
from explore_async.settings.recipe import DomainFile, Passage, Recipe

LINES = st.sampled_from(
    [
        "",
        "# Title",
        "## Part",
        "```",
        "A short line.",
        "One. Two! Three? " * 9,
        "word " * 40,
        "x" * 130,
        "\u5b57\u3002" * 70,
        "#tag",
    ]
)


@settings(max_examples=100, deadline=None)
@given(
    lines=st.lists(st.one_of(LINES, st.text(max_size=80)), max_size=25),
    markdown=st.booleans(),
    most=st.integers(8, 200),
)
def test_nothing_is_lost_and_no_passage_is_too_long(lines: list[str], markdown: bool, most: int) -> None:
    """The passages hold all characters of any text but white space, in order; each has some, and at most `most`."""
    text = "\n".join(lines)
    passages = cut(text, markdown=markdown, most=most)
    assert re.sub(r"\s", "", "".join(passages)) == re.sub(r"\s", "", text)
    assert all(passage.strip() and len(passage) <= most for passage in passages)


def test_where_it_is_cut() -> None:
    """Paragraphs are joined while they fit; a heading begins a passage and is never the last of one before its own
    text; a long paragraph is cut after a sentence, also within its heading's passage.
    """
    assert cut("One.\n\nTwo.\n\nThree.", most=12) == ["One.\n\nTwo.", "Three."]
    assert cut("# A\n## B\ntext\n# C\nmore", markdown=True) == ["# A\n\n## B\n\ntext", "# C\n\nmore"]
    assert cut("# A\nOne is one. Two is two.", markdown=True, most=20) == ["# A\n\nOne is one.", "Two is two."]
    assert cut("```\n# no heading\n\ncode\n```", markdown=True) == ["```\n# no heading\n\ncode\n```"]
    assert cut("# no Markdown\ntext") == ["# no Markdown\ntext"]
    assert cut(" \n\n") == []


def grounded(number: int, window: int, responses: str = "joint") -> Recipe:
    """A recipe of two domains, one of which has this number of passages."""
    first = recipe().domains[0]
    file = DomainFile(path="notes.md").holding(tuple(Passage(f"notes.md#{n}", f"fact {n}") for n in range(number)), "d")
    return recipe(
        window=window,
        domains=[first.model_copy(update={"files": (file,)}), {"name": "Mend a roof"}],
        targets={"examples": 60},
        responses=responses,
    )


@settings(max_examples=10, deadline=None)
@given(number=st.integers(1, 40), window=st.sampled_from([1, 4, 24]), at=st.integers(0, 40))
def test_each_task_goes_through_all_also_after_a_checkpoint(number: int, window: int, at: int) -> None:
    """No task has seen a passage twice more often than another; only requests of the domain that has files show one, and
    which one depends on task and turn alone, so that its key does not depend on other tasks. A restored explorer has the same outstanding prompts, and goes on with the same ones.
    """
    made = grounded(number, window)
    explorer, book = Explorer(made), PromptBook(made)
    kept = []
    issued: dict[int, Request] = {}
    for request, _, events in islice(play(explorer, lambda one: answer(book.render(one), one)), at):
        kept += [event.example for event in events if isinstance(event, ExampleKept)]
        issued |= {one.ordinal: one for one in (request, *explorer.outstanding)}
    shown = [one for one in issued.values() if one.kind == "generate" and one.task_id.startswith("0")]
    counts = Counter(one.prompt.values["passage_name"] for one in shown)
    for task in {one.task_id for one in shown}:
        of_task = Counter(one.prompt.values["passage_name"] for one in shown if one.task_id == task)
        assert max(of_task.values()) - min(of_task[f"notes.md#{n}"] for n in range(number)) <= 1
    deck = PassageDeck(grounded(number, 2 * window))
    assert all(deck.dealt(0, one.task_id, one.turn).items() <= one.prompt.values.items() for one in shown)
    assert all(one.prompt.values["passage"] in book.render(one).messages[-1]["content"] for one in shown)
    others = (one for one in issued.values() if one.task_id.startswith("1"))
    assert not any(one.prompt.values.get("passage") for one in others)
    assert all(example.source.get("passage") in counts for example in kept if example.task_id.startswith("0"))
    assert not any(example.source for example in kept if example.task_id.startswith("1"))
    outstanding = {one.ordinal for one in explorer.outstanding}
    committed = {one.prompt.values["passage_name"] for one in shown if one.ordinal not in outstanding}
    assert explorer.passages() == {"used": len(committed), "unused": number - len(committed)}

    again = Explorer(made)
    again.restore(orjson.loads(orjson.dumps(explorer.state())), kept)
    assert again.outstanding == explorer.outstanding
    assert again.passages() == explorer.passages()
    rest, rest_again = (
        [(request, events) for request, _, events in islice(play(one, lambda r: answer(book.render(r), r)), 20)]
        for one in (explorer, again)
    )
    assert rest == rest_again


@given(number=st.integers(1, 200), tasks=st.integers(1, 57))
def test_tasks_begin_evenly(number: int, tasks: int) -> None:
    """The first passages of the tasks of a tree: none is shown by many more tasks than another."""
    deck = PassageDeck(grounded(number, 1))
    ids = [
        "0",
        *(f"0.{a}" for a in range(8)),
        *(f"0.{a}.{b}" for a in range(8) for b in range(6)),
    ]  # breadths of a recipe
    counts = Counter(deck.dealt(0, task, 0)["passage"] for task in ids[:tasks])
    assert max(counts.values()) - min(counts[f"fact {n}"] for n in range(number)) <= 4


def test_the_longest_passage_is_tried_on_endpoints() -> None:
    """A form of the run holds the longest passage, so that one that does not fit the context is told at the start."""
    made = grounded(12, 4)
    assert any("fact 10" in form.request.messages[-1]["content"] for form in PromptBook(made).forms())


@pytest.mark.parametrize("piece", [".", "!?", "\u2026", "\u3002", '."', ".) ", "\u3002\u300d", " ", "a"])
def test_a_run_of_signs_is_cut_in_linear_time(piece: str) -> None:
    """Passages of 40,000 characters of one piece take at most a small multiple of what those of a tenth take: ten
    times as much would be linear, a hundred times quadratic. Nothing but white space is lost.
    """

    def seconds(most: int) -> float:
        text = piece * (3 * most // len(piece))
        began = time.process_time()
        passages = cut(text, most=most)
        taken = time.process_time() - began
        assert "".join("".join(passages).split()) == "".join(text.split())
        return taken

    assert seconds(40_000) < 40 * max(seconds(4_000), 0.01)
