"""Rows of different lengths, back to back in one growing array."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


SMALL = 1 << 20
"""Bytes. A smaller array doubles, so that it grows rarely; a larger one grows by a sixteenth, to waste little."""


def grown(array: npt.NDArray[Scalar], rows: int) -> npt.NDArray[Scalar]:
    """`array` with room for at least `rows` rows; new rows are zero.

    It grows in place if possible: the system remaps the pages of a large array and copies nothing. Old views of it are
    invalid afterwards.
    """
    if rows > len(array):
        more = len(array) if array.nbytes < SMALL else len(array) // 16
        array.resize((max(rows, len(array) + more), *array.shape[1:]), refcheck=False)
    return array


class RaggedRows:
    """Owns the buffers of the rows; row i is `values[starts[i]:starts[i + 1]]`.

    Kernels write new rows into the buffers themselves, and their number into `count`: call `reserve`, then run the
    kernel. So the rows and their number agree, even where a signal ends a call right behind a kernel. Everything behind
    the last row is undefined, and `reserve` may replace both buffers.
    """

    def __init__(self) -> None:
        self.values: npt.NDArray[np.int32] = np.zeros(1024, dtype=np.int32)
        self.starts: npt.NDArray[np.int64] = np.zeros(128, dtype=np.int64)
        self.count: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.count[0])

    def reserve(self, rows: int, values: int) -> None:
        """Make room for `rows` more rows with `values` values in total."""
        self.starts = grown(self.starts, len(self) + rows + 1)
        self.values = grown(self.values, int(self.starts[len(self)]) + values)


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Token ids of several texts back to back: text i is `ids[starts[i]:starts[i + 1]]`."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, positions: npt.NDArray[np.int64]) -> "Texts":
        """The texts at these positions, in this order."""
        lengths = np.diff(self.starts)[positions]
        starts = np.zeros(len(positions) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        moved = np.repeat(self.starts[positions] - starts[:-1], lengths)
        return Texts(self.ids[np.arange(starts[-1]) + moved], starts)
