"""Limits of requests in flight, against the model of an engine on a clock of its own."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.serving.endpoints.concurrency import FIRST_LIMIT, READING_S, AutoLimit, FixedLimit, Limit
from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.simulated.engine import Engine, Profile


def reading(engine: Engine) -> EngineMetrics:
    return EngineMetrics(
        engine.running, engine.waiting, engine.kv_usage, engine.preemptions, engine.generation_tokens, 0, 0, 0
    )


class Client:
    """Keeps as many requests in flight as the limit allows, all the time."""

    def __init__(
        self,
        limit: Limit,
        profile: Profile,
        *,
        metrics: bool = True,
        tokens: int = 300,
        rejects: Callable[[Client], bool] = lambda _: False,
    ) -> None:
        self.limit = limit
        self.rejects = rejects
        self.rejected = 0
        self.engine = Engine(profile)
        self.metrics = metrics
        self.rng = random.Random(1)
        self.numbers = count()
        self.in_flight: dict[int, int] = {}
        self.mean = tokens
        self.trace: list[tuple[float, int, int]] = []
        """Time, limit, running."""

    def run(self, until: float) -> None:
        now = self.engine.now
        while now < until:
            for _ in range(20):
                now += READING_S / 20
                for one in self.engine.advance(now):
                    self.limit.answered(now, self.in_flight.pop(one.number))
                while len(self.in_flight) < self.limit.value:
                    if self.rejects(self):
                        self.rejected += 1
                        self.limit.rejected(now)
                        break  # a rejected request waits
                    tokens = min(8 * self.mean, round(self.rng.lognormvariate(math.log(self.mean), 0.5)))
                    number = next(self.numbers)
                    self.in_flight[number] = tokens
                    self.engine.submit(number, prompt_tokens=200, cached_tokens=150, answer_tokens=tokens)
            self.limit.read(now, len(self.in_flight), reading(self.engine) if self.metrics else None)
            self.trace.append((now, self.limit.value, self.engine.running))

    def share(self, since: float, until: float, slots: int) -> float:
        """Mean share of the slots that was busy."""
        seen = [running / slots for now, _, running in self.trace if since < now <= until]
        return sum(seen) / len(seen)


PROFILE = Profile(slots=256, step_s=0.008, request_s=0.00012, prefill_s=0.00003, kv_tokens=1_000_000)


@pytest.mark.parametrize("slots", [16, 256, 1024])
def test_finds_an_unknown_capacity_and_follows_it(slots: int) -> None:
    """95 % of the slots are busy within 15 s and stay so; a halving and a doubling are followed as quickly; and no
    more than a third of what runs ever waits for long."""
    client = Client(AutoLimit(10_000), PROFILE.with_slots(slots))
    client.run(15)
    client.run(60)
    assert client.share(15, 60, slots) > 0.98
    assert min(running for now, _, running in client.trace if now > 15) >= 0.95 * slots
    client.engine.resize(slots // 2)
    client.run(120)
    assert client.share(75, 120, slots // 2) > 0.98
    assert client.limit.value <= 1.5 * slots / 2 + 4
    client.engine.resize(slots * 2)
    client.run(180)
    assert client.share(135, 180, slots * 2) > 0.98


def test_is_full_within_seconds() -> None:
    """A server of 256 slots is full three seconds after the first request."""
    client = Client(AutoLimit(10_000), PROFILE)
    client.run(3)
    assert client.engine.running == 256


def test_does_not_swing() -> None:
    """Once it has found its number it stays within a fifth of it."""
    client = Client(AutoLimit(10_000), PROFILE)
    client.run(120)
    limits = [limit for now, limit, _ in client.trace if now > 15]
    assert max(limits) <= 1.2 * min(limits)


def test_a_small_cache_is_not_thrashed() -> None:
    """Where the cache is full before the slots are, preemptions make it come down: few of them, and not much lost."""
    small = Profile(256, PROFILE.step_s, PROFILE.request_s, PROFILE.prefill_s, kv_tokens=40_000)
    client = Client(AutoLimit(10_000), small)
    client.run(300)
    flood = Client(FixedLimit(400), small)
    flood.run(300)
    assert client.engine.preemptions < flood.engine.preemptions / 2
    assert client.engine.generation_tokens > 0.9 * flood.engine.generation_tokens


@pytest.mark.parametrize("slots", [16, 256])
def test_without_metrics_the_slope_of_tokens_leads(slots: int) -> None:
    """An engine that tells nothing is filled as well, if later: 95 % of its tokens a second."""
    client = Client(AutoLimit(10_000), PROFILE.with_slots(slots), metrics=False)
    client.run(200)
    before = client.engine.generation_tokens
    client.run(400)
    full = Client(AutoLimit(10_000), PROFILE.with_slots(slots))
    full.run(200)
    reference = full.engine.generation_tokens
    full.run(400)
    assert client.engine.generation_tokens - before > 0.95 * (full.engine.generation_tokens - reference)
    assert client.limit.value < 16 * slots


QUICK = Profile(slots=256, step_s=0.008, request_s=0.0, prefill_s=0.00003, kv_tokens=1_000_000)


@pytest.mark.parametrize(
    ("limit", "metrics"), [(AutoLimit(10_000), True), (AutoLimit(10_000), False), (FixedLimit(280), True)]
)
def test_one_failing_request_in_a_thousand_does_not_hold_it_down(limit: Limit, metrics: bool) -> None:
    """A server that rejects one of a thousand at any load, some of each two seconds, keeps as full as one that rejects
    none.
    """
    undisturbed = Client(type(limit)(limit.most), QUICK, metrics=metrics, tokens=100)
    client = Client(limit, QUICK, metrics=metrics, tokens=100, rejects=lambda client: client.rng.random() < 0.001)
    for one in (undisturbed, client):
        one.run(60)
    assert client.rejected >= 10
    assert client.share(20, 60, 256) > 0.98 * undisturbed.share(20, 60, 256)


def test_rejections_by_a_full_server_bring_it_down() -> None:
    """A gateway that takes a hundred at once and rejects the rest: most of them are in flight, and few are rejected."""
    client = Client(AutoLimit(10_000), QUICK, tokens=100, rejects=lambda client: len(client.in_flight) >= 100)
    client.run(20)
    before, asked = client.rejected, next(client.numbers)
    client.run(80)
    assert client.share(20, 80, 100) > 0.65
    assert client.rejected - before < 0.05 * (next(client.numbers) - asked)


@pytest.mark.parametrize("make", [FixedLimit, AutoLimit])
def test_a_burst_of_refusals_halves_it_once(make: Callable[[int], Limit]) -> None:
    """Many refusals within a second are one; a later one counts again; it never falls below one."""
    limit = make(FIRST_LIMIT)
    for at in (10.0, 10.2, 10.9):
        limit.rejected(at)
    assert limit.value == FIRST_LIMIT // 2
    for at in range(20, 40, 2):
        limit.rejected(float(at))
    assert limit.value == 1


def test_answers_earn_a_fixed_limit_back() -> None:
    """After refusals as many answers as the limit win about one slot; never more than was given."""
    limit = FixedLimit(8)
    limit.rejected(0)
    limit.rejected(0)
    assert limit.value == 4
    for _ in range(60):
        limit.answered(1, 10)
    assert limit.value == 8


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 9), st.floats(0, 1)), max_size=50),
)
def test_never_beyond_its_bounds(most: int, readings: list[tuple[int, int, int, float]]) -> None:
    """No reading, however odd, makes a limit below one or above the most."""
    limit = AutoLimit(most)
    for at, (running, waiting, preemptions, usage) in enumerate(readings):
        limit.read(at / 2, limit.value, EngineMetrics(running, waiting, usage, preemptions, 0, 0, 0, 0))
        assert 1 <= limit.value <= most
        limit.read(at / 2 + 0.1, running, None)
        assert 1 <= limit.value <= most
