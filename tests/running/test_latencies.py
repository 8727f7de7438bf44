"""When a request counts as lost."""

from __future__ import annotations

from explore_async.running.latencies import Latencies


def test_a_deadline_is_five_times_the_p99_of_its_kind() -> None:
    """Never shorter than the first deadline; None for a kind with too few latencies, whatever the others have."""
    latencies = Latencies(first_deadline_s=60)
    for _ in range(19):
        latencies.note("generate", 20.0)
    assert latencies.deadline_s("generate") is None
    latencies.note("generate", 20.0)
    assert latencies.deadline_s("generate") == 100
    assert latencies.deadline_s("lookahead") is None
    for _ in range(20):
        latencies.note("lookahead", 0.1)
    assert latencies.deadline_s("lookahead") == 60
    assert latencies.slowest_s == 20


def test_a_request_is_waited_for_though_little_is_known() -> None:
    """Before there are 20 latencies, 20 s or twice the age of the oldest in flight, up to a minute; so too while few of
    its kind are known, as lookaheads are short. Then as long as the slowest, so that a server that hangs does not hold
    up a stop.
    """
    latencies = Latencies(first_deadline_s=60)
    kinds = {"lookahead", "generate"}
    assert [latencies.longest_s(age, kinds) for age in (0, 16, 600)] == [20, 32, 60]
    for _ in range(19):
        latencies.note("lookahead", 3.0)
    assert latencies.longest_s(16, kinds) == 32
    latencies.note("lookahead", 3.0)
    assert latencies.longest_s(16, kinds) == 32
    assert latencies.longest_s(16, {"lookahead"}) == 3
    for _ in range(3):
        latencies.note("generate", 70.0)
    assert latencies.longest_s(600, kinds) == 70


def test_only_the_latest_latencies_count() -> None:
    """A slow start is forgotten."""
    latencies = Latencies(first_deadline_s=1)
    assert latencies.slowest_s == 0
    for seconds in [50.0] * 100 + [2.0] * 200:
        latencies.note("generate", seconds)
    assert latencies.deadline_s("generate") == 10
    assert latencies.slowest_s == 2
