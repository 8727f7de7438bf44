"""Batches of rows: many short ones, or a few long ones, so that memory does not grow with the length of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

MOST_CHARACTERS = 1 << 23
"""Characters of a batch, unless one row has more."""
_OTHER = 8  # a number, true, false or null counts as this many characters

T = TypeVar("T")


def batches(items: Iterable[T], most: int, size: Callable[[T], int]) -> Iterator[list[T]]:
    """The items in order, `most` in a batch, or fewer long ones. `size`: the number of characters of an item."""
    batch: list[T] = []
    characters = 0
    for item in items:
        batch.append(item)
        characters += size(item)
        if len(batch) >= most or characters >= MOST_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def characters_in(value: object) -> int:
    """About the number of characters in a value of JSON: those of all texts within it."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters_in, value.values()))
    return sum(map(characters_in, value)) if isinstance(value, list | tuple) else _OTHER
