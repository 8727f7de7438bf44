"""A free slot or a wait for a faster endpoint: the rule against the schedule that it stands for."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.serving.endpoints.choice import (
    FASTER,
    AnswerSpeed,
    Candidate,
    Rivals,
    passed_over,
    speeds_now,
)

SERVERS = st.lists(st.tuples(st.floats(0.1, 10.0), st.integers(1, 20)), max_size=5)


def measured(seconds: float, load: int = 4, *, number: int = 20, check_s: float | None = None) -> AnswerSpeed:
    speed = AnswerSpeed(check_s)
    for second in range(number):
        speed.note(100, seconds, load, float(second))
    return speed


def candidate(speed: AnswerSpeed, in_flight: int, *, busy_since: float = 0.0) -> Candidate:
    return Candidate(speed, in_flight, busy_since)


def position_by_schedule(own_s: float, servers: list[tuple[float, int]]) -> int:
    """The first place in the line whose request ends sooner at the free slot, when each of the others waits for the next
    slot of the endpoint where it then ends first. The slots of a server become free at even distances.
    """
    ends = [
        (seconds * (slot + 1) / slots + seconds, seconds, slots) for seconds, slots in servers for slot in range(slots)
    ]
    heapq.heapify(ends)
    place = 0
    while ends and ends[0][0] < own_s:
        end, seconds, _ = heapq.heappop(ends)
        heapq.heappush(ends, (end + seconds, seconds, 0))
        place += 1
    return place


@given(st.floats(0.1, 10.0), SERVERS)
def test_a_slow_slot_is_for_the_first_that_would_wait_longer_than_it_gains(own_s, servers) -> None:
    """Up to a request for each slot of the faster endpoints, the place is that of the schedule in which every request
    takes the slot where it ends first.
    """
    faster = [(seconds, slots) for seconds, slots in servers if own_s > FASTER * seconds]
    place = passed_over(1 / own_s, [(1 / seconds, slots) for seconds, slots in servers])
    assert place == pytest.approx(position_by_schedule(own_s, faster), abs=1 + sum(slots for _, slots in faster))
    assert (place > 0) == bool(faster)


def test_speeds_are_those_of_the_latest_completions() -> None:
    """Of a slower endpoint they are as much lower as its completions take longer; more requests than were seen at once
    make each slower; one that becomes silent slows down, and one without a request for long may be as fast as any.
    """
    quick, slow = measured(1.0), measured(5.0)
    one, other = speeds_now([candidate(quick, 3), candidate(slow, 3)], 20.0)
    assert one / other == pytest.approx(5, rel=0.1)
    busier, _ = speeds_now([candidate(quick, 31), candidate(slow, 3)], 20.0)
    assert one / busier == pytest.approx(2)
    silent, _ = speeds_now([candidate(quick, 3), candidate(slow, 3)], 100.0)
    assert silent < one / 20
    begun, _ = speeds_now([candidate(quick, 3, busy_since=99.0), candidate(slow, 3)], 100.0)
    assert begun == one
    assert speeds_now([candidate(quick, 0), candidate(measured(1.0), 1)], 20.0)[0] == pytest.approx(one, rel=0.01)
    idle, known = speeds_now([candidate(slow, 0), candidate(measured(1.0), 1)], 200.0)
    assert idle == known


def test_before_the_first_completions_the_checks_tell() -> None:
    """An endpoint whose check took much longer counts as slower, at most four times, and gets one request rather than
    many; a small difference, or no check, tells nothing.
    """
    quick, twice, cold, alike, unchecked = map(AnswerSpeed, (0.5, 1.0, 60.0, 0.6, None))
    fresh = [candidate(speed, 0) for speed in (quick, twice, cold, alike, unchecked)]
    assert speeds_now(fresh, 0.0) == pytest.approx([1.0, 1 / 2, 1 / 4, 1.0, 1.0], rel=0.05)
    assert speeds_now([candidate(quick, 9), candidate(cold, 1)], 0.0) == pytest.approx([1.0, 1 / 8])
    known = measured(1.0, check_s=0.5)
    best, other = speeds_now([candidate(known, 0), candidate(twice, 0)], 20.0)
    assert best / other == pytest.approx(2, rel=0.05)


def test_asking_again_pays_where_the_rest_takes_longer_than_all() -> None:
    """On a slow endpoint while much of its time is left; anywhere when it is long overdue; and only where the wait for a
    slot is not longer still.
    """
    rivals = Rivals({"slow": 6.0, "equal": 1.1}, queue=0.0)
    assert rivals.are_quicker("slow", 0.0, 10.0)
    assert not rivals.are_quicker("slow", 51.0, 10.0)
    assert rivals.are_quicker("slow", 100.0, 10.0)  # far over its time there
    assert not rivals.are_quicker("equal", 0.0, 10.0)
    assert not rivals.are_quicker("equal", 99.0, 10.0)
    assert rivals.are_quicker("equal", 101.0, 10.0)
    assert not Rivals({"slow": 6.0}, queue=5.0).are_quicker("slow", 1.0, 10.0)
    assert not Rivals({}, queue=0.0).are_quicker("slow", 1000.0, 1.0)


def test_a_request_that_is_sent_again_is_answered_as_soon_as_there() -> None:
    """So the end of a run does not take as long as its slowest endpoint. Without a much faster one nothing is known."""
    rivals = Rivals({"slow": 6.0, "equal": 1.1}, queue=0.5)
    assert [rivals.at_most_s(url, 10.0) for url in ("slow", "equal", "other")] == [15.0, float("inf"), float("inf")]
