"""Draws and levels, compared with obvious implementations."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.choice import draw, sample
from explore_async.exploration.levels import level

parts = st.lists(st.text(max_size=5) | st.integers(), max_size=4)


@given(parts, parts)
def test_draws_depend_on_the_parts_alone(some: list, others: list) -> None:
    """Equal parts draw equal numbers of 63 bits, other parts other ones; 1 and "1" are the same part."""
    assert 0 <= draw(*some) < 2**63
    assert draw(*some) == draw(*map(str, some))
    if list(map(str, some)) != list(map(str, others)) and not any("\x1f" in str(part) for part in some + others):
        assert (draw(*some) == draw(*others)) is ("\x1f".join(map(str, some)) == "\x1f".join(map(str, others)))


def test_draws_are_the_same_for_ever() -> None:
    """The numbers themselves are fixed: the keys of stored completions depend on them."""
    assert [draw(), draw(0, "generate", "0.1", 2), draw("\ud800")] == DRAWS


DRAWS = [8238016292129134938, 6845745141909473018, 2379092608228951732]


@given(st.lists(st.integers(), max_size=12), st.integers(0, 15), parts)
def test_a_sample_is_without_repetition(items: list[int], count: int, some: list) -> None:
    """As many as asked for or as there are, each position once; a smaller sample begins a larger one."""
    drawn = sample(list(enumerate(items)), count, *some)
    assert len(drawn) == min(count, len(items))
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(enumerate(items))
    assert sample(list(enumerate(items)), count + 1, *some)[: len(drawn)] == drawn


def test_samples_are_fair() -> None:
    """Over many draws every ordered pair of four comes up about as often as every other."""
    counts = Counter(sample("abcd", 2, "fair", number) for number in range(12_000))
    assert set(counts) == set(itertools.permutations("abcd", 2))
    assert all(850 < count < 1150 for count in counts.values())


groups = st.lists(st.tuples(st.none() | st.integers(0, 12), st.integers(0, 6)), max_size=5)


@given(groups, st.integers(1, 150), st.booleans())
def test_a_level_is_what_filling_by_hand_finds(some: list[tuple[int | None, int]], target: int, at_most: bool) -> None:
    """The level equals that of a search unit by unit, which counts the examples of all tasks."""

    def held(height: int) -> int:
        return sum(min(height, height if cap is None else cap) for cap, count in some for _ in range(count))

    found = level(target, iter(some), at_most=at_most)
    open_to = [cap for cap, count in some if count and cap != 0]
    if not open_to:
        assert found == 0
        return
    heights = range(max(target, *(cap or 0 for cap in open_to), 1) + 1)
    reaching = [height for height in heights if held(height) >= target]
    if not reaching:
        assert found == max(cap for cap in open_to if cap is not None)
    elif at_most:
        assert found == max([1, *(height for height in range(reaching[0] + 1) if held(height) <= target)])
    else:
        assert found == reaching[0]


@pytest.mark.parametrize("at_most", [True, False])
@given(some=groups, target=st.integers(1, 100))
def test_a_higher_target_never_lowers_the_level(at_most: bool, some: list[tuple[int | None, int]], target: int) -> None:
    """A higher target allows a task at least as many examples: extending a run takes nothing back."""
    assert level(target, some, at_most=at_most) <= level(target + 1, some, at_most=at_most)
