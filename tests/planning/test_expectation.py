"""The size of a run by arithmetic, and what is said about an odd one."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import Driven

from explore_async.config.load import load, presets
from explore_async.exploration.values import ChatRequest, Completion, ExampleKept, Request
from explore_async.planning.expectation import expect, index_warning, sample_prompts, warnings, window_warning
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RecipeConfig


def recipe(**changes: Any) -> Recipe:
    document = {"domains": [{"name": "Look after a garden"}], "targets": {"examples": 1000}, **changes}
    return RecipeConfig.model_validate(document).resolved(model="m")


def told(**changes: Any) -> list[str]:
    made = recipe(**changes)
    return warnings(made, expect(made, sample_prompts(made)))


def all_new(chat_request: ChatRequest, request: Request) -> Completion:
    """A completion in which no name and no instruction is like another."""
    count = int(request.prompt.values["count"])
    phrases = [" ".join(f"w{chat_request.key[:12]}x{item}x{word}" for word in range(4)) for item in range(count)]
    if request.kind == "generate":
        document = {"examples": [{"instruction": phrase, "input": "", "output": phrase[::-1]} for phrase in phrases]}
    else:
        document = {"tasks": [{"name": phrase, "reason": ""} for phrase in phrases]}
    return Completion(orjson.dumps(document).decode(), "stop", 1, 1)


@settings(max_examples=12)
@given(
    depth=st.integers(0, 2), breadth=st.lists(st.integers(1, 3), min_size=1, max_size=2), step=st.integers(1, 4),
    per_task=st.integers(1, 9), demonstrations=st.integers(0, 3), per_request=st.integers(1, 12),
)  # fmt: skip
def test_a_run_in_which_nothing_is_dropped_is_as_expected(
    *, depth: int, breadth: list[int], step: int, per_task: int, demonstrations: int, per_request: int
) -> None:
    """Tasks, examples, requests and the examples in them are those of the real explorer, one request at a time."""
    made = recipe(
        exploration={"depth": depth, "breadth": breadth, "step": step}, targets={"per_task": per_task}, window=1, lag=1,
        generation={"per_request": per_request, "demonstrations": demonstrations},
    )  # fmt: skip
    expected = expect(made, sample_prompts(made))
    run = Driven(made, all_new).run()
    assert expected.requests == len(run.commits)
    assert expected.tasks == len({request.task_id for request in run.commits})
    assert expected.examples == sum(isinstance(event, ExampleKept) for event in run.events)
    asked_for = [request.prompt.values["count"] for request in run.commits if request.kind == "generate"]
    assert expected.examples_asked_for == sum(asked_for)


@pytest.mark.parametrize("budget", [40_000, 150_000, 7_000_000])
def test_a_budget_is_expected_to_be_spent(budget: int) -> None:
    """Given tokens alone, the size is that of a run that spends them; a budget below what the tasks need for a first
    completion each is told.
    """
    made = recipe(targets={"token_budget": budget})
    expected = expect(made, sample_prompts(made))
    assert expected.tokens == pytest.approx(budget, rel=0.01)
    assert expected.examples == expected.examples_asked_for >= 3 * expected.tasks
    assert any("a budget of 9,000 tokens" in line for line in told(targets={"token_budget": 9_000}))


def test_a_budget_below_the_other_targets_is_told() -> None:
    """A run that its tokens end before it has its examples is told, with the tokens that these take."""
    assert not any("a budget" in line for line in told(targets={"examples": 1000, "token_budget": 7_000_000}))
    lines = told(targets={"examples": 1000, "token_budget": 40_000})
    assert any("a budget of 40,000 tokens ends the run before it has its 1,000 examples" in line for line in lines)


def test_the_presets_and_the_config_of_init_are_not_odd() -> None:
    """Nothing is said about a config that the program itself ships: its settings fit one another."""
    for name in presets():
        made = load(name).resolved(model="m")
        assert warnings(made, expect(made, sample_prompts(made))) == [], name


def test_a_tree_that_costs_more_than_the_data_is_told() -> None:
    """57 tasks for 20 examples: most tokens explore. Without a tree, or with a target that fits it, nothing is said."""
    (line,) = told(targets={"examples": 20}, generation={"per_request": 5})
    assert "costs more than the data" in line
    assert "57 tasks for 20 examples" in line
    assert "exploration.breadth" in line
    assert told(targets={"examples": 20}, generation={"per_request": 5}, exploration={"depth": 0}) == []


def test_requests_that_bring_more_than_is_needed_are_told() -> None:
    """12 examples of a task in requests for 3, 6 and 10 are a quarter too many; the advice names a number that helps."""
    small: dict[str, Any] = {"exploration": {"depth": 1}, "targets": {"examples": 100}}
    (line,) = told(**small)
    assert "171 examples where 100 are wanted" in line
    number = int(re.search(r"generation.per_request: (\d+)", line)[1])
    assert told(**small, generation={"per_request": number}) == []


@pytest.mark.parametrize(("language", "says"), [
    ("German", None), ("Swiss German", None), ("pt-BR", None), ("Deutsch (formell)", None), ("简体中文", None),
    ("Icelandic", None), ("Germann", "Did you mean German?"), ("Frensh", "Did you mean French?"), ("Elvish", "as it is."),
])  # fmt: skip
def test_a_language_that_is_not_known_is_told(language: str, says: str | None) -> None:
    """With the known name that is most like it; codes, own names and names with more beside them are known."""
    said = [line for line in told(language=language) if line.startswith("language:")]
    assert [line.endswith(says) for line in said] == [True] if says else said == []


def test_completions_that_have_no_room_are_told() -> None:
    """A request for 5 examples in 300 tokens, and one whose own examples are long: both settings are named."""
    small = {"generation": {"max_tokens": 300}}
    (line,) = told(generation={"per_request": 5}, sampling=small)
    assert "60 for each of the 5 examples" in line
    assert "sampling.generation.max_tokens" in line
    assert told(generation={"per_request": 1, "demonstrations": 0}, sampling=small) == []
    long = {"name": "a", "examples": [{"instruction": "Tell it all", "output": "word " * 1000}]}
    assert any("takes about 1,25" in line for line in told(domains=[long], generation={"per_request": 5}))


def test_more_texts_than_an_index_holds_are_told() -> None:
    """One text more than an index holds, in the dry run and in a plan; each part that has an index of its own helps."""
    most = 1 << 26
    assert index_warning(recipe(), most) == ""
    assert "an index holds at most 67,108,864 texts" in index_warning(recipe(), most + 1)
    assert any(line == index_warning(recipe(), 10**12) for line in told(targets={"examples": 10**12}))
    two = [{"name": "Mend a roof"}, {"name": "Keep bees"}]
    for change in ({"shard": "1/2"}, {"domains": two, "filters": {"scope": "domain"}}, {"filters": {"scope": "task"}}):
        assert index_warning(recipe(**change), 2 * most) == ""
    assert index_warning(recipe(domains=two), 2 * most)


def test_a_window_that_is_too_narrow_is_told() -> None:
    """The number that is named is enough, and the least that is; a run that fits into its window needs no wider one."""
    line = window_warning(192, 256, 100_000)
    assert "about 24 requests in flight" in line
    enough = int(re.search(r"--window (\d+)", line)[1])
    assert window_warning(enough, 256, 100_000) == ""
    assert window_warning(enough - 1, 256, 100_000)
    assert window_warning(192, 256, 150) == ""
