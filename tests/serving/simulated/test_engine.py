"""The model of continuous batching."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.serving.simulated.engine import Engine, FinishedRequest, Profile
from explore_async.serving.simulated.profiles import PROFILES

PROFILE = Profile(slots=4, step_s=0.01, request_s=0.001, prefill_s=0.0001, kv_tokens=1000)
Arrival = tuple[float, int, int, int]
ARRIVALS = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 300), st.integers(1, 200), st.integers(-2, 2)), min_size=1, max_size=40
)


def simulated(arrivals: list[Arrival], profile: Profile, looks: list[float]) -> tuple[Engine, list[FinishedRequest]]:
    """All arrivals until all have finished, looked at in between at these times."""
    engine, finished = Engine(profile), []
    events = [(at, number) for number, (at, *_) in enumerate(arrivals)] + [(at, -1) for at in looks]
    for at, number in sorted(events):
        finished += engine.advance(at)
        if number >= 0:
            _, prompt, answer, priority = arrivals[number]
            engine.submit(number, prompt_tokens=prompt, answer_tokens=answer, priority=priority)
        assert engine.running <= profile.slots
        assert 0 <= engine.kv_usage <= 1
    return engine, finished + engine.advance(1e9)


@given(ARRIVALS, st.integers(1, 8), st.integers(500, 5000))
def test_every_request_finishes_once(arrivals: list[Arrival], slots: int, cache: int) -> None:
    """Whatever comes, each is answered once and in full, in order of time, preempted on the way or not."""
    profile = Profile(slots, PROFILE.step_s, PROFILE.request_s, PROFILE.prefill_s, cache)
    engine, finished = simulated(arrivals, profile, [])
    assert sorted(one.number for one in finished) == list(range(len(arrivals)))
    assert all(first.at <= second.at for first, second in pairwise(finished))
    assert engine.generation_tokens == sum(answer for _, _, answer, _ in arrivals)
    assert (engine.running, engine.waiting, engine.kv_usage) == (0, 0, 0)
    for one in finished:
        at, prompt, answer, _ = arrivals[one.number]
        alone_s = prompt * profile.prefill_s + answer * (profile.step_s + profile.request_s)
        lag_s = profile.step_s + profile.request_s * profile.slots  # it may join a step that is under way
        assert one.at >= at + alone_s - lag_s - 1e-9


@given(ARRIVALS, st.lists(st.floats(0, 20), max_size=60))
def test_looking_changes_nothing(arrivals: list[Arrival], looks: list[float]) -> None:
    """Requests finish at the same times however often the clock is read in between."""
    _, once = simulated(arrivals, PROFILE, [])
    _, often = simulated(arrivals, PROFILE, looks)
    assert [one.number for one in often] == [one.number for one in once]
    assert [one.at for one in often] == pytest.approx([one.at for one in once])


def test_a_lone_request_takes_its_prompt_and_its_steps() -> None:
    """The formula: what is not cached of the prompt is read, then a step for each token."""
    engine = Engine(PROFILE)
    engine.submit(0, prompt_tokens=100, cached_tokens=40, answer_tokens=50)
    expected = 60 * 0.0001 + 50 * 0.011
    assert engine.next_at() == pytest.approx(expected)
    assert engine.advance(expected - 1e-6) == []
    assert [one.at for one in engine.advance(expected + 1e-6)] == pytest.approx([expected])


def test_priority_decides_who_gets_a_free_place() -> None:
    """Of those that wait, the lowest number of priority is let in first, then the one that came first."""
    engine = Engine(PROFILE.with_slots(1))
    for number, priority in enumerate([5, 3, 1, 1]):
        engine.submit(number, prompt_tokens=0, answer_tokens=10, priority=priority)
    assert [one.number for one in engine.advance(100)] == [0, 2, 3, 1]


def test_who_is_gone_leaves_a_place() -> None:
    """Cancelling a running request lets the next one in; cancelling a waiting one keeps it out."""
    engine = Engine(PROFILE.with_slots(1))
    for number in range(3):
        engine.submit(number, prompt_tokens=10, answer_tokens=1000)
    engine.advance(1)
    engine.cancel(0)
    engine.cancel(1)
    assert (engine.running, engine.waiting) == (1, 0)
    assert [one.number for one in engine.advance(1e6)] == [2]


def test_a_full_cache_preempts() -> None:
    """When contexts grow beyond the cache the last request waits; it counts, and costs time, but no tokens."""
    engine = Engine(Profile(2, 0.01, 0.0, 0.001, kv_tokens=300))
    for number in range(2):
        engine.submit(number, prompt_tokens=100, answer_tokens=150)
    finished = engine.advance(1e6)
    assert engine.preemptions == 1
    assert [one.number for one in finished] == [0, 1]
    assert engine.generation_tokens == 300


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("h100", 6.8), ("a100", 8.9), ("rtx-6000-ada", 19.2), ("l40s", 21.3), ("rtx-4090", 24.1), ("rtx-5090", 10.0)],
)  # fmt: skip
def test_profiles_repeat_the_published_measurement(name: str, seconds: float) -> None:
    """100 requests at once, with as many tokens as in the measurement and the longest at its limit of 512, take the time
    that was published; so the formula that takes it apart puts it together again.
    """
    engine = Engine(PROFILES[f"{name}-llama-3-8b"])
    for number in range(100):
        engine.submit(number, prompt_tokens=256, answer_tokens=512 if number < 50 else 184)
    assert engine.advance(1e6)[-1].at == pytest.approx(seconds, rel=0.03)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_reach_the_published_figure(name: str) -> None:
    """A full batch of short prompts gives the tokens a second that the profile was made from, a lone request fewer."""
    profile = PROFILES[name]
    engine = Engine(profile)
    for number in range(profile.slots):
        engine.submit(number, prompt_tokens=1, answer_tokens=150)
    (*_, last) = engine.advance(1e6)
    assert engine.generation_tokens / last.at == pytest.approx(profile.tokens_per_s(256), rel=0.01)
    assert profile.request_s > 0
    assert profile.kv_tokens > 40_000
    assert profile.tokens_per_s(1) < profile.tokens_per_s(16) < profile.tokens_per_s(256)
