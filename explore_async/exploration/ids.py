"""A list of millions of short strings that needs little more memory than their bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate

_AT_ONCE = 1024
"""Strings that are packed together. They are never copied again, so no append takes long."""


class Ids:
    """Owns strings of any kind, in the order of `append`. They are UTF-8 back to back, with four bytes each for where
    a string begins; a `str` takes about fifty bytes beyond its letters. Only the latest ones are not packed yet.
    """

    def __init__(self) -> None:
        self._packed: list[tuple[bytes, array[int]]] = []
        """For each `_AT_ONCE` strings: their bytes, and the places where each string begins and the last one ends."""
        self._last: list[str] = []

    def __len__(self) -> int:
        return len(self._packed) * _AT_ONCE + len(self._last)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the packed strings take."""
        return sum(len(packed) + starts.itemsize * len(starts) for packed, starts in self._packed)

    def __getitem__(self, position: int) -> str:
        part, place = divmod(position, _AT_ONCE)
        if part == len(self._packed):
            return self._last[place]
        packed, starts = self._packed[part]
        return packed[starts[place] : starts[place + 1]].decode("utf-8", "surrogatepass")

    def append(self, name: str) -> None:
        self._last.append(name)
        if len(self._last) == _AT_ONCE:
            encoded = [name.encode("utf-8", "surrogatepass") for name in self._last]
            self._packed.append((b"".join(encoded), array("I", accumulate(map(len, encoded), initial=0))))
            self._last = []

    def extend(self, names: Iterable[str]) -> None:
        for name in names:
            self.append(name)
