"""Rows of different lengths, back to back in one growing array."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


SMALL = 1 << 20
"""Bytes up to which an array grows to twice its size, for fewer steps; a larger one by a sixteenth, for less waste."""


def grown(array: npt.NDArray[Scalar], rows: int) -> npt.NDArray[Scalar]:
    """`array`, made longer if need be, so that it has room for so many rows; padded with zeros.

    It grows in place where the memory allows: a large one is moved by its page table and not copied. No view of it may
    be used any longer.
    """
    if rows > len(array):
        more = len(array) if array.nbytes < SMALL else len(array) // 16
        array.resize((max(rows, len(array) + more), *array.shape[1:]), refcheck=False)
    return array


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
