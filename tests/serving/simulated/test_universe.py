"""The known universe: what is written for a task is what the universe says, and can be told again."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest
from support.naive_rouge import fmeasure, lcs_length
from support.scripted import recipe

from explore_async.exploration.kinds import kinds_of
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, Prompt, Request
from explore_async.serving.endpoints.wire import chat_fields
from explore_async.serving.simulated.model import SimulatedModel
from explore_async.serving.simulated.universe import FACETS, Page, Shape, Universe, number_of

SMALL = Shape(breadths=(4, 3), instructions=72)
UNIVERSE = Universe(SMALL, seed=3)


def rouge_l(first: str, second: str) -> float:
    one, other = (text.lower().rstrip(".").split() for text in (first, second))
    return fmeasure(lcs_length(one, other), len(one), len(other))


def drawn(task: str, end: str = "", draws: int = 400) -> Counter[int]:
    """The first instructions of so many completions."""
    numbers = Counter[int]()
    for draw in range(draws):
        page = Page(UNIVERSE, random.Random(1), f"Task: {task} (why)\n{end}", lambda *_: "", asked="")
        number = number_of(page.text(random.Random(draw), "instruction"))
        assert number is not None
        numbers[number] += 1
    return numbers


def test_every_instruction_has_a_text_that_tells_it_and_that_rouge_tells_apart() -> None:
    """The number is read from the text in each of its variants, which are near-duplicates; others are none."""
    texts = [UNIVERSE.instruction(number) for number in range(UNIVERSE.size)]
    assert [number_of(text) for text in texts] == list(range(len(texts)))
    assert number_of("Write a letter.") is None
    for number in range(0, len(texts), 97):
        for variant in (1, 2):
            other = UNIVERSE.instruction(number, variant)
            assert number_of(other) == number
            assert rouge_l(texts[number], other) > 0.7
    pairs = random.Random(0)
    assert all(rouge_l(*pairs.sample(texts, 2)) < 0.7 for _ in range(300))


def test_names_differ() -> None:
    """Each task has three names of its own."""
    assert len(UNIVERSE.by_name) == 3 * (1 + 4 + 12)


def test_a_task_gets_its_own_instructions_and_a_known_share_of_its_siblings() -> None:
    """So for a task at the bottom and one above it, by any of its names; an unknown name gets all."""
    for place in (UNIVERSE.root.parts[1], UNIVERSE.root.parts[1].parts[2]):
        leaves = len(place.parts) or 1
        own = range(place.leaf * 72, (place.leaf + leaves) * 72)
        for name in place.names:
            counts = drawn(name, draws=1500)
            share = sum(count for number, count in counts.items() if number in own) / counts.total()
            assert share == pytest.approx(0.8, abs=0.07)
    assert len({number // 72 for number in drawn("Never heard of")}) > 8


def test_facets_choose_among_the_instructions_of_a_task() -> None:
    """Those with other values of the first two facets are not drawn, the others tell nothing; together the values have
    all of a leaf.
    """
    place = UNIVERSE.root.parts[0].parts[0]
    first, second, third, _ = FACETS.values()
    seen = [{number % 72 for number in drawn(place.names[0], f"Write for {value}.")} for value in first]
    assert [len(some) for some in seen] == [12] * 6
    assert set.union(*seen) == set(range(72))
    assert len({number % 72 for number in drawn(place.names[0], f"{first[0]}, {second[1]}, {third[2]}", 99)}) == 2


def test_what_is_asked_for_often_comes_often() -> None:
    """By Zipf's law with exponent 1: the first of a leaf about twice as often as the second."""
    place = UNIVERSE.root.parts[0].parts[0]
    rng = random.Random(0)
    counts = Counter(UNIVERSE.draw(rng, place) for _ in range(20_000))
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("clean", [False, True])
def test_names_of_parts(clean: bool) -> None:
    """Parts that are missing come first, each once under its first name; other names of those that are named come in
    between, or, with a criterion, only when no part is missing.
    """
    place = UNIVERSE.root
    names = list(islice(UNIVERSE.propose(random.Random(5), place, {1}, clean=clean), 40))
    parts = [UNIVERSE.place(name).index for name in names]
    assert set(parts) == {0, 1, 2, 3}
    firsts = [part.index for part in place.parts for name in names if name == part.names[0]]
    assert sorted(firsts) == [0, 2, 3]
    assert sorted(parts[:3]) == [0, 2, 3] or not clean


@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_a_simulated_model_writes_of_it_in_both_formats(answer_format: str) -> None:
    """What our prompts ask for is read back as tasks and instructions of the universe, with criteria;
    the same request has the same completion.
    """
    settings = recipe(answer_format=answer_format, exploration={"lookahead": "criterion"})
    book, kinds = PromptBook(settings), kinds_of(settings)
    model = SimulatedModel(seed=0, duplicate_share=0.2, full_share=1.0, universe=UNIVERSE)
    area = UNIVERSE.root.parts[2]
    values = {"domain": "All", "description": "", "task": area.names[1], "reason": "", "count": 3, "criteria": (), "facets": (),
              "existing": (area.parts[0].names[0],), "demonstrations": (), "topic": "", "style": "", "passage": "",
              "passage_name": ""}  # fmt: skip
    for kind, brings in (("lookahead", "tasks"), ("generate", "examples")):
        request = book.render(Request(0, 0, kind, "0", 0, Prompt(kind, values), seed=1))
        texts = {model.complete(chat_fields(request, "m", None), b"digest")[0] for _ in range(2)}
        assert len(texts) == 1
        items = kinds[kind].parse(Completion(*texts, "stop", 1, 1), settings)
        assert len(items) == 3
        for item in items:
            if brings == "tasks":
                assert UNIVERSE.place(item.name).parent is area
                assert item.criterion == area.criterion
            else:
                assert number_of(item.instruction) is not None


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_request_for_facets_gets_those_of_the_universe(form: str) -> None:
    """Each criterion once, with all of its values, as a list or on a line."""
    asked = '{"criterion": {}, "values": []}' if form == "json" else "### Criterion: c\n### Values: v"
    rng = random.Random(2)
    page = Page(UNIVERSE, rng, "Task: Any\nName 4 criteria", lambda *_: "", asked=asked)
    said = {}
    for _ in range(4):
        criterion = page.text(rng, "criterion")
        times = 6 if form == "json" else 1
        said[criterion] = tuple("; ".join(page.text(rng, "values") for _ in range(times)).split("; "))
    assert said == FACETS
