"""Packed strings are read back unchanged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration import ids
from explore_async.exploration.ids import Ids

any_text = st.text(st.characters(exclude_categories=()), max_size=4)


@given(st.lists(any_text, max_size=40), st.lists(any_text, max_size=40), st.integers(1, 9))
def test_every_string_comes_back(first: list[str], rest: list[str], at_once: int) -> None:
    """Any string, lone surrogates and empty ones too, packed or not yet."""
    before, ids._AT_ONCE = ids._AT_ONCE, at_once
    try:
        kept = Ids()
        kept.extend(first)
        for name in rest:
            kept.append(name)
        assert [kept[position] for position in range(len(kept))] == first + rest
    finally:
        ids._AT_ONCE = before


def test_an_id_takes_few_bytes() -> None:
    """The ids of a run, of about ten letters, take fifteen bytes each; as strings they take sixty."""
    kept = Ids()
    kept.extend(f"{n % 16}.{n % 12}-{n // 20}.{n % 20}" for n in range(100_000))
    assert kept.nbytes < 17 * len(kept)
