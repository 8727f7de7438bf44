"""The prompts of the bench are those of a run."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from support.scripted import recipe_config

from explore_async.config import load as config
from explore_async.errors import ConfigError
from explore_async.measuring.prompts import bench_requests, limited, of_each_kind


def test_equal_seeds_ask_the_same_and_others_share_heads_only():
    """Another level's prompts have the same system prompts and other sub-tasks: what a cache may know is the head."""
    brainstorming = config.load("brainstorming")
    one, other = (bench_requests(brainstorming, 60, seed=seed) for seed in (1, 2))
    assert not {each.chat_request.key for each in one} & {each.chat_request.key for each in other}
    systems = [{each.kind: each.chat_request.messages[0]["content"] for each in found} for found in (one, other)]
    assert all(systems[1].get(kind, system) == system for kind, system in systems[0].items())
    tasks = [
        {each.chat_request.messages[1]["content"].partition("\nTask: ")[2] for each in found} for found in (one, other)
    ]
    assert len(tasks[0] & tasks[1]) < len(tasks[0]) / 4
    short = recipe_config(targets={"examples": 5})
    assert bench_requests(short, 30, seed=1) == bench_requests(short, 30, seed=1)


@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_a_level_of_any_size_has_the_mix_of_a_run(answer_format: str):
    """Mostly generation, with both kinds of exploration, in both formats; sub-tasks were explored."""
    chosen = config.load("mathematics", answer_format=answer_format)
    kinds = Counter(one.kind for one in bench_requests(chosen, 300, seed=3))
    assert kinds["generate"] > kinds["lookahead"] + kinds["backtrack"]
    assert set(kinds) == {"generate", "lookahead", "backtrack"}
    assert {one.kind for one in of_each_kind(chosen, seed=3)} == set(kinds)


def test_a_run_too_short_for_a_level_is_followed_by_another():
    """There are as many as wanted, whatever the config's targets, and all differ."""
    short = recipe_config(targets={"examples": 5})
    found = bench_requests(short, 100, seed=0)
    assert len({one.chat_request.key for one in found}) == 100


def test_a_config_that_asks_for_nothing_is_refused():
    """It is refused at once."""
    with pytest.raises(ConfigError, match="nothing to ask"):
        bench_requests(recipe_config(targets={"per_task": 0}, exploration={"depth": 0}), 3, seed=0)


def test_the_body_asks_for_a_stream_with_its_usage():
    """Everything else is as in a run, apart from a lower limit of tokens."""
    one = of_each_kind(limited(recipe_config(), 7), seed=0)[0]
    body = orjson.loads(one.body("served"))
    assert (body["model"], body["stream"], body["stream_options"]) == ("served", True, {"include_usage": True})
    assert body["max_tokens"] == 7
    assert body["messages"] == [dict(message) for message in one.chat_request.messages]
