"""Millions of short strings by their positions, in little more memory than their bytes take."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate

_AT_ONCE = 1024
"""Strings that are packed together: what is packed is never copied again, so no append waits for long."""


class Ids:
    """Owns strings of any kind, in the order in which they came: as UTF-8 back to back with four bytes each for where
    one ends, where a `str` takes some fifty bytes beyond its letters. Only the last few are kept as they are.
    """

    def __init__(self) -> None:
        self._packed: list[tuple[bytes, array[int]]] = []
        """Of so many strings at a time their bytes, and where each of them begins and the last one ends."""
        self._last: list[str] = []

    def __len__(self) -> int:
        return len(self._packed) * _AT_ONCE + len(self._last)

    @property
    def nbytes(self) -> int:
        """The memory that the packed ones take."""
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
            encoded = [one.encode("utf-8", "surrogatepass") for one in self._last]
            self._packed.append((b"".join(encoded), array("I", accumulate(map(len, encoded), initial=0))))
            self._last = []

    def extend(self, names: Iterable[str]) -> None:
        for name in names:
            self.append(name)
