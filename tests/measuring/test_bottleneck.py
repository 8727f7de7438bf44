"""Figures and the rule that names the bottleneck, against numpy and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.errors import ConfigError
from explore_async.measuring.bottleneck import WORTH, advice, between, diagnose, recommended
from explore_async.measuring.command import levels
from explore_async.measuring.figures import ClientFigures, Gauge, LevelFigures, ServerFigures, Spread, percentile

VALUES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200)


@given(VALUES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_numpys(values: list[float], share: float):
    """To the rounding of a float."""
    assert percentile(sorted(values), share) == pytest.approx(np.percentile(values, 100 * share), rel=1e-9, abs=1e-9)


@given(VALUES)
def test_a_spread_is_numpys(values: list[float]):
    """Mean and percentiles, in another unit."""
    spread = Spread.of(values, scale=1000.0)
    assert spread is not None
    assert spread.mean == pytest.approx(1000 * np.mean(values), rel=1e-9)
    assert spread.p90 == pytest.approx(1000 * np.percentile(values, 90), rel=1e-9, abs=1e-6)


def test_no_values_have_no_spread():
    """Without values there is no spread, rather than a zero that looks measured."""
    assert Spread.of([]) is None


IDLE = ClientFigures(cpu_share=0.1, loop_lag_p99_ms=2.0)
CALM = ServerFigures(Gauge(4, 4), Gauge(0.2, 3), Gauge(0.1, 0.2), 0.0, None)


def level(concurrency: int, rate: float, **changes) -> LevelFigures:
    whole = LevelFigures(
        concurrency=concurrency, in_flight=concurrency, asked=16, completed=16, errors={}, first_errors={}, kinds={},
        seconds=1.0, prompt_tokens=1, output_tokens=1, without_usage=0, output_tokens_per_s=rate,
        steady_output_tokens_per_s=None, total_tokens_per_s=rate, requests_per_s=1.0, ttft_ms=None, tpot_ms=None, itl_ms=None, e2e_ms=None,
        server=CALM, client=IDLE, endpoints=(),
    )  # fmt: skip
    return replace(whole, **changes)


def names(*found: LevelFigures) -> list[str]:
    return [verdict.bottleneck for verdict in diagnose(found)]


def test_the_next_level_says_whether_there_is_room():
    """A tenth more tokens at the next level: room. Less: the engine. The last is judged by the one before it."""
    assert names(level(1, 100), level(4, 300), level(16, 320)) == ["room", "engine", "engine"]
    assert names(level(1, 100), level(4, 300)) == ["room", "room"]
    assert names(level(1, 100)) == ["unknown"]


def test_who_waits_fills_the_engine():
    """Whatever the rates say; but not where only a few were on their way into the batch."""
    waits = replace(CALM, waiting=Gauge(12.0, 20.0))
    assert names(level(1, 100), level(4, 300, server=waits)) == ["room", "queue"]
    assert names(level(1, 100), level(4, 300, server=None)) == ["room", "room"]
    unread = ServerFigures(None, None, None, 0.0, None)
    assert names(level(1, 100), level(4, 300, server=unread)) == ["room", "room"]


@pytest.mark.parametrize("client", [ClientFigures(0.95, 1.0), ClientFigures(0.2, 150.0)])
def test_a_busy_client_comes_before_all_else(client: ClientFigures):
    """What it measures of a server is then its own doing."""
    waits = replace(CALM, waiting=Gauge(12.0, 20.0))
    assert names(level(1, 100, client=client, server=waits), level(4, 300)) == ["client", "room"]


def test_a_level_without_answers_says_nothing():
    """Neither of itself nor of its neighbours."""
    assert names(level(1, 100), level(4, 0, completed=0)) == ["unknown", "unknown"]


def test_the_lowest_level_that_gives_nearly_the_most_is_recommended():
    """No other beats it by a tenth; none where nothing was answered. The steady rate counts, where there is one."""
    found = recommended([level(1, 100), level(4, 960), level(16, 1000), level(64, 400)])
    assert found is not None
    assert found.concurrency == 4
    found = recommended([level(1, 100), level(4, 960, steady_output_tokens_per_s=800), level(16, 1000)])
    assert found is not None
    assert found.concurrency == 16
    assert recommended([level(1, 0, completed=0)]) is None
    assert recommended([]) is None


@given(
    st.lists(st.integers(1, 10_000), min_size=2, max_size=6),
    st.lists(st.sampled_from([0.0, 0.2, 3.0]), min_size=6, max_size=6),
)
def test_no_two_lines_contradict_each_other(rates: list[int], waits: list[float]):
    """The recommended level has no room below another; where requests wait there, the advice says so and names fewer; and
    a level below it has room, or requests wait at it too.
    """
    found = [
        level(4**power, rate, server=replace(CALM, running=Gauge(0.9 * 4**power, 4**power), waiting=Gauge(wait, 9)))
        for power, (rate, wait) in enumerate(zip(rates, waits, strict=False))
    ]
    best = recommended(found)
    assert best is not None
    bottlenecks = {one.concurrency: verdict.bottleneck for one, verdict in zip(found, diagnose(found), strict=True)}
    for one in found:
        if one.concurrency < best.concurrency:
            assert bottlenecks[one.concurrency] in {"room", "queue"}
    assert max(rates) < WORTH * best.rate
    line = advice(found)
    assert f"--concurrency {best.concurrency}:" in line
    assert ("some requests wait" in line) is (bottlenecks[best.concurrency] == "queue")
    assert ("--most" in line) is (bottlenecks[best.concurrency] == "room")
    if bottlenecks[best.concurrency] == "room":
        assert best is found[-1]


def test_a_level_between_is_measured_where_it_tells_more():
    """A full engine runs a number of requests at once: that one, at each endpoint. Else the middle, by ratio. None where
    the best is the lowest, has room, is near the one below, or was held back by this process.
    """
    full = replace(CALM, running=Gauge(40.0, 48.0), waiting=Gauge(16.0, 20.0))
    assert between([level(1, 100), level(16, 1000), level(64, 2000, server=full), level(256, 2000, server=full)]) == 40
    assert (
        between([level(16, 1000), level(64, 2000, in_flight=128, server=replace(full, running=Gauge(80, 96)))] * 1)
        == 40
    )
    assert between([level(16, 1000), level(64, 1990), level(256, 2000)]) == 32
    assert between([level(16, 1000), level(64, 1001)]) is None
    assert between([level(16, 1000), level(64, 3000)]) is None
    assert between([level(40, 1000), level(64, 2000, server=full)]) is None
    assert between([level(16, 1000), level(64, 2000, client=ClientFigures(0.95, 1.0)), level(256, 2000)]) is None
    assert between([level(16, 0, completed=0)]) is None


@pytest.mark.parametrize(
    ("listed", "most", "found"),
    [
        (None, 256, (1, 4, 16, 64, 256)),
        (None, 1, (1,)),
        (None, 100, (1, 4, 16, 64, 100)),
        (None, 1024, (1, 4, 16, 64, 256, 1024)),
        ("8,32", 256, (8, 32)),
        (" 32, 8,8", 256, (8, 32)),
    ],
)
def test_levels_rise(listed: str | None, most: int, found: tuple[int, ...]):
    """By powers of four up to the highest, or as listed, each once."""
    assert levels(listed, most) == found


@pytest.mark.parametrize("listed", ["", "0", "-1", "x", "8,,32", "1.5", "1000000"])
def test_levels_that_are_none_are_refused(listed: str):
    """The message has an example."""
    with pytest.raises(ConfigError, match="8,32"):
        levels(listed, 256)
