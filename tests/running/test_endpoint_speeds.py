"""Speeds and states of endpoints: each is named when it is slow, silent or out, and only then."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.values import Completion
from explore_async.planning.fleet import Fleet
from explore_async.running.endpoint_speeds import EndpointSpeeds, LatencyCounts
from explore_async.running.endpoint_status import EndpointChanges, EndpointStatus, statuses
from explore_async.serving.endpoints.endpoint import Endpoint
from explore_async.serving.endpoints.values import EndpointStatistics, PoolStatistics
from explore_async.serving.simulated.profiles import PROFILES

SECONDS = st.floats(min_value=0.001, max_value=10_000)


def completion(url: str, seconds: float, tokens: int = 100) -> Completion:
    return Completion("text", "stop", 10, tokens, model="m", endpoint=url, latency_s=seconds)


def endpoint(url: str, *, healthy: bool = True, in_flight: int = 1, **changes: object) -> EndpointStatistics:
    values = {
        "url": url, "healthy": healthy, "left": False, "limit": 8, "in_flight": in_flight, "peak_in_flight": 8, "answered": 9,
        "failed_attempts": 0, "retries": 0, "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "last_error": "",
    }  # fmt: skip
    return EndpointStatistics(**{**values, **changes})  # type: ignore[arg-type]


def seen(speeds: EndpointSpeeds, now: float, *endpoints: EndpointStatistics) -> tuple[EndpointStatus, ...]:
    return statuses(PoolStatistics.of(endpoints, asking=0, failed_requests=0, held_back=False), speeds, now)


@given(st.lists(SECONDS, min_size=1), st.lists(SECONDS))
def test_quantiles_of_any_number_of_latencies(first: list[float], second: list[float]) -> None:
    """They are those of the sorted latencies, at most 5 % above them; two counts add up to that of all latencies."""
    counts, more = LatencyCounts(), LatencyCounts()
    for seconds in first:
        counts.note(seconds)
    for seconds in second:
        more.note(seconds)
    counts.add(more)
    figures = counts.figures()
    assert figures is not None
    latencies = sorted([*first, *second])
    assert figures.max == pytest.approx(latencies[-1], abs=1e-4)
    assert figures.mean == pytest.approx(sum(latencies) / len(latencies), rel=1e-6, abs=1e-4)
    for share, found in ((0.5, figures.p50), (0.9, figures.p90), (0.99, figures.p99)):
        rank = max(0, -int(-share * len(latencies) // 1) - 1)  # the least latency that this share does not exceed
        assert latencies[rank] * 0.999 - 1e-4 <= found <= latencies[rank] * 1.051 + 1e-4


def test_rates_are_of_the_last_minute() -> None:
    """Each endpoint has its own completions and tokens per second; the sum is that of all; old ones are forgotten."""
    speeds = EndpointSpeeds()
    speeds.begin(1000.0)
    assert speeds.rate(1000.0).tokens_per_s == 0
    for second in range(100):
        speeds.note(completion("a", 1.0, tokens=50), "m", 1000.0 + second)
        if second < 30:
            speeds.note(completion("b", 1.0, tokens=10), "m", 1000.0 + second)
    a, b = seen(speeds, 1099.5, endpoint("a"), endpoint("b"))
    assert a.answers_per_s == pytest.approx(1, rel=0.05)
    assert a.tokens_per_s == pytest.approx(50, rel=0.05)
    assert b.answers_per_s == b.tokens_per_s == 0
    assert speeds.rate(1099.5).tokens_per_s == pytest.approx(a.tokens_per_s, rel=0.01)
    early = EndpointSpeeds()
    early.begin(0.0)
    for second in range(10):
        early.note(completion("a", 1.0), "m", float(second))
    assert early.rate(10.0).answers_per_s == pytest.approx(1)


def test_latencies_are_compared_within_a_model() -> None:
    """Endpoints that serve other models, and those with a few completions, are no measure for one another."""
    speeds = EndpointSpeeds()
    for url, model, seconds, number in (
        ("a", "large", 9.0, 5), ("b", "small", 1.0, 5), ("c", "small", 1.0, 5), ("d", "small", 4.0, 5),
        ("e", "small", 50.0, 4),
    ):  # fmt: skip
        for moment in range(number):
            speeds.note(completion(url, seconds), model, 1000.0 + moment)
    times = speeds.times_median()
    assert set(times) == {"b", "c", "d"}
    assert times["d"] == pytest.approx(4, rel=0.06)
    assert times["b"] == times["c"] < 1


def bring(
    speeds: EndpointSpeeds,
    url: str,
    seconds: float,
    load: int,
    *,
    at: float = 0.0,
    until: float = 60.0,
    model: str = "m",
) -> None:
    """So many requests are always in flight there, each answered after so long."""
    while (at := at + seconds) <= until:
        for _ in range(load):
            speeds.note(completion(url, seconds), model, at)


@pytest.mark.parametrize("factor", [1.0, 2.5, 3.5, 6.0])
def test_an_endpoint_that_is_three_times_slower_is_named(factor: float) -> None:
    """At equal load, by the time of a token; the others stay ok. Endpoints of another model are no measure, nor is one
    that is out.
    """
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    for url, seconds, model in (
        ("a", 2, "m"),
        ("b", 2, "m"),
        ("c", 2 * factor, "m"),
        ("large", 30, "n"),
        ("o", 50, "m"),
    ):
        bring(speeds, url, seconds, 5, model=model)
    found = seen(speeds, 60.0, *(endpoint(url, healthy=url != "o") for url in ("a", "b", "c", "large", "o")))
    assert [one.state for one in found] == ["ok", "ok", "slow" if factor > 3 else "ok", "ok", "out"]
    assert found[2].slower == pytest.approx(factor)
    assert ("c is slow" in found[2].trouble) == (factor > 3)


def test_an_endpoint_that_has_brought_nothing_yet_is_waited_for() -> None:
    """It is not said to be ok; it has joined without a word, as one that is."""
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    found = seen(speeds, 1.0, endpoint("a", answered=0), endpoint("b", answered=0, in_flight=0), endpoint("c"))
    assert [one.state for one in found] == ["waiting", "ok", "ok"]
    assert not list(EndpointChanges().of(found, 1.0))


def test_an_endpoint_that_holds_many_requests_is_not_slow() -> None:
    """Each of its 32 takes 16 times as long as the two at another one, and together they bring as much. One that is as
    slow with two requests is named.
    """
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    for url, seconds, load in (("busy", 16, 32), ("idle", 1, 2), ("slow", 16, 2)):
        bring(speeds, url, seconds, load)
    found = seen(speeds, 60.0, endpoint("busy"), endpoint("idle"), endpoint("slow"))
    assert [one.state for one in found] == ["ok", "ok", "slow"]


def test_endpoints_are_compared_over_a_period_that_they_share() -> None:
    """Not by the first quick completions of one that has just joined, nor by few."""
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    bring(speeds, "old", 9, 5, until=70)
    bring(speeds, "new", 1, 6, at=50, until=70)
    bring(speeds, "few", 1, 1, at=60, until=64)
    urls = {"old", "new", "few"}
    assert [speed.slower for speed in speeds.of(["old", "few"], 55.0, in_use=urls)] == [None, None]
    old, few = speeds.of(["old", "few"], 70.0, in_use=urls)
    assert old.slower is not None
    assert old.slower > 3
    assert few.slower is None


def test_the_latest_request_there_is_answered_in_time() -> None:
    """A request that was just sent takes as long as a slow one does; the time passes until it is late, and begins anew
    with the next request.
    """
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    for _ in range(20):
        speeds.note(completion("a", 10.0), "m", 10.0)
    for now, sent, left_s in ((20.0, 21, 10.0), (26.0, 21, 4.0), (29.5, 21, 1.0), (60.0, 21, 30.0), (61.0, 22, 10.0)):
        speeds.look("a", sent=sent, in_flight=1, now=now)
        assert speeds.answered_within_s("a", now) == pytest.approx(left_s)
    assert speeds.answers_per_s(["a"], 61.0, over_s=100.0) == pytest.approx(20 / 61)
    assert speeds.answers_per_s(["b"], 61.0, over_s=100.0) == 0


def test_an_endpoint_that_is_out_has_no_rate() -> None:
    """What it brought in the last minute is no pace of the run: nothing comes from there."""
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    for second in range(30):
        speeds.note(completion("a", 1.0), "m", float(second))
    (works,), (out,) = (seen(speeds, 30.0, endpoint("a", healthy=healthy)) for healthy in (True, False))
    assert works.answers_per_s == pytest.approx(1.0)
    assert (out.state, out.answers_per_s, out.tokens_per_s) == ("out", 0, 0)
    assert speeds.rate(30.0).answers_per_s == pytest.approx(1.0)  # of all, in the last minute


def test_the_load_of_engines_is_none_of_the_end() -> None:
    """What a server ran some moments before the end of the run is not said beside nothing in flight."""
    one = endpoint("a", in_flight=0, running=4, waiting=1, kv_usage=0.5, tokens_per_s=9.0, prefix_hits=0.25)
    (left,) = PoolStatistics.of((one,), asking=0, failed_requests=0, held_back=False).without_engines().endpoints
    assert left == replace(one, running=None, waiting=None, kv_usage=None, tokens_per_s=None)


async def test_the_figures_of_an_engine_end_with_it() -> None:
    """Once its endpoint is out, its running and waiting requests and its rate are not known."""
    fleet = Fleet([PROFILES["h100-qwen3-8b"]])
    (settings,) = fleet.endpoints(None)
    async with AsyncExitStack() as stack:
        client = await (await fleet.open_clients(stack))(settings)
    one = Endpoint(client, settings)
    one.mark_healthy(0.0)
    await one.read()
    assert one.statistics().running == 0
    assert one.trip(1.0)
    assert one.statistics().running is one.statistics().waiting is one.statistics().tokens_per_s is None


def test_an_endpoint_that_holds_requests_and_brings_nothing_is_named() -> None:
    """After 30 s and three times the usual time, where others bring completions; one without a request is not, nor is
    one whose completions take as long as everybody's.
    """
    speeds = EndpointSpeeds()
    speeds.begin(0.0)
    for second in range(25):
        speeds.note(completion("a", 1.0), "m", float(second))
    both = endpoint("a"), endpoint("b")
    assert [one.state for one in seen(speeds, 25.0, *both)] == ["ok", "ok"]
    speeds.note(completion("a", 1.0), "m", 31.0)
    assert [one.state for one in seen(speeds, 31.0, *both)] == ["ok", "silent"]
    (_, silent) = seen(speeds, 31.0, endpoint("a"), endpoint("b", in_flight=12))
    assert "what it has not answered is asked again at another endpoint" in silent.trouble
    speeds.look("b", sent=1, in_flight=0, now=40.0)
    assert [one.state for one in seen(speeds, 41.0, *both)] == ["ok", "ok"]
    slow = EndpointSpeeds()
    slow.begin(0.0)
    for _ in range(5):
        slow.note(completion("a", 100.0), "m", 100.0)
    assert [one.state for one in seen(slow, 101.0, *both)] == ["ok", "ok"]


def test_each_change_of_state_is_told_once() -> None:
    """An endpoint that goes out and comes back has a line for each, though it is only spare then; one that does so all
    the time has few.
    """
    speeds, changes = EndpointSpeeds(), EndpointChanges()
    error = "http://b cannot be reached: Connection refused"

    def told(now: float, *, healthy: bool) -> list[str]:
        found = seen(speeds, now, endpoint("http://a"), endpoint("http://b", healthy=healthy, last_error=error))
        return list(changes.of(found, now))

    assert told(0, healthy=True) == []
    assert told(1, healthy=False) == ["http://b is out: it cannot be reached: Connection refused"]
    assert told(2, healthy=False) == []
    assert told(20, healthy=True) == ["http://b is back"]
    spare = endpoint("http://s", in_flight=0, spare=True)
    assert [one.state for one in seen(speeds, 20, spare)] == ["spare"]
    ups = (
        endpoint("http://s"),
        spare,
        endpoint("http://s", healthy=False, last_error=error),
        spare,
        endpoint("http://s"),
    )
    lines = [line for at, one in enumerate(ups) for line in changes.of(seen(speeds, 20 * at, one), 20 * at)]
    assert lines == [f"http://s is out: it {error}", "http://s is back"]
    first = endpoint("http://c", healthy=False, checked=False), endpoint("http://c", healthy=False, last_error=error)
    assert [line for at, one in enumerate(first, 20) for line in changes.of(seen(speeds, at, one), at)] == [
        "http://c is still being checked: it gets requests when it has answered small ones",
        f"http://c is out: it {error}",
    ]
    waits = (
        endpoint("http://d", healthy=False, checked=False, is_heard=False, checking_s=seconds)
        for seconds in (1.0, 12.0, 31.0, 62.0)
    )
    status = [seen(speeds, at, one)[0] for at, one in enumerate(waits, 20)]
    assert [one.state for one in status] == ["checking", "checking", "silent", "silent"]
    assert [line for at, one in enumerate(status, 20) for line in changes.of([one], at)] == [
        "http://d is still being checked: it gets requests when it has answered small ones",
        "http://d is silent: no answer for 31 s, so it gets no requests",
    ]
    slow = (
        endpoint("http://e", healthy=False, checked=False, checking_s=31.0),
        endpoint("http://e", healthy=True, answered=0, last_error=error),
    )
    assert [line for at, one in enumerate(slow, 20) for line in changes.of(seen(speeds, at, one), at)] == [
        "http://e is still being checked (31 s so far): it gets requests when it has answered small ones",
        "http://e has joined: it gets requests",
    ]
    nearly = (
        replace(one, state=state, slower=slower, trouble="is slow" if state == "slow" else "")
        for one in seen(speeds, 0, endpoint("http://f"))
        for state, slower in (("ok", 1.0), ("slow", 3.1), ("ok", 2.9), ("ok", 1.9))
    )
    assert [line for at, one in enumerate(nearly) for line in changes.of([one], 100.0 + 20 * at)] == [
        "is slow",
        "http://f is no longer slow",
    ]
    flapping = [line for second in range(21, 81) for line in told(second, healthy=bool(second % 2))]
    assert 1 <= len(flapping) <= 6
