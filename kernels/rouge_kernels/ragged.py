"""Rows of different lengths, back to back in one growing array."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


def grown(array: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    """`array` with room for `size` elements: itself, or a copy at least twice as long, padded with zeros."""
    if size <= len(array):
        return array
    larger = np.zeros(max(size, 2 * len(array)), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


class RaggedRows:
    """Owns the buffers of the rows; row i is `values[starts[i]:starts[i + 1]]`.

    Kernels write new rows into the buffers themselves: `reserve` room, let them write, then `extend_to` the new
    number of rows. Whatever lies behind the last row is undefined, and `reserve` may replace both buffers.
    """

    def __init__(self) -> None:
        self.values: npt.NDArray[np.int32] = np.zeros(1024, dtype=np.int32)
        self.starts: npt.NDArray[np.int64] = np.zeros(128, dtype=np.int64)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def reserve(self, rows: int, values: int) -> None:
        """Make room for so many more rows with so many values in all."""
        self.starts = grown(self.starts, self._rows + rows + 1)
        self.values = grown(self.values, int(self.starts[self._rows]) + values)

    def extend_to(self, rows: int) -> None:
        """There are now so many rows."""
        self._rows = rows


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Token ids of several texts back to back: text i is `ids[starts[i]:starts[i + 1]]`."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, positions: npt.NDArray[np.int64]) -> "Texts":
        """Those at these positions, in this order."""
        lengths = np.diff(self.starts)[positions]
        starts = np.zeros(len(positions) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        moved = np.repeat(self.starts[positions] - starts[:-1], lengths)
        return Texts(self.ids[np.arange(starts[-1]) + moved], starts)
