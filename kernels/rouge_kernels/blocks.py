"""Many queries prepared for the LCS with one text at once, each as a lane of the vectors of `lanes`."""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lanes import ALIGNMENT, SHAPES, Shape, walk, walk_on
from rouge_kernels.lcs import ONE, WORD
from rouge_kernels.ragged import Texts


class Block(NamedTuple):
    """Queries prepared for the comparison with any number of texts; query i is lane i."""

    masks: npt.NDArray[np.uint64]
    """[row, word]: positions of a token in a part of each query, as bits. Row 0 is zero: for tokens not in the part."""
    row_of: npt.NDArray[np.int32]
    """[part, id]: the row of a token."""
    shape: Shape


def shape_for(longest: int) -> Shape:
    """The shape for queries of up to `longest` tokens; longer queries than the last shape holds take several parts."""
    return next((shape for shape in SHAPES if longest <= shape.bits * shape.slabs), SHAPES[-1])


def make_block(texts: Texts, queries: npt.NDArray[np.int64], shape: Shape, vocabulary: int) -> Block:
    """Makes a block (lanes of vectors) of the texts at positions `queries`. Token ids must be below `vocabulary`."""
    # not made there, because numba needs longer to return a NamedTuple than to fill it
    return Block(*_fill(texts.ids, texts.starts, queries, shape, vocabulary), shape)


@jit
def _fill(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    queries: npt.NDArray[np.int64],
    shape: Shape,
    vocabulary: int,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """The masks and the row of each token."""
    longest = 1
    for query in queries:
        longest = max(longest, starts[query + 1] - starts[query])
    part = shape.bits * shape.slabs
    row_of = np.zeros(((longest + part - 1) // part, vocabulary), dtype=np.int32)
    rows = 1
    for query in queries:
        for position, token in enumerate(ids[starts[query] : starts[query + 1]]):
            if row_of[position // part, token] == 0:
                row_of[position // part, token] = rows
                rows += 1
    words, spare = part * shape.lanes // WORD, ALIGNMENT // 8
    buffer = np.zeros(rows * words + spare, dtype=np.uint64)
    skipped = -(buffer.ctypes.data // 8) % spare
    masks = buffer[skipped : len(buffer) - spare + skipped].reshape((rows, words))
    for lane, query in enumerate(queries):
        for position, token in enumerate(ids[starts[query] : starts[query + 1]]):
            slab = position % part // shape.bits
            bit = (slab * shape.lanes + lane) * shape.bits + position % shape.bits
            masks[row_of[position // part, token], bit // WORD] |= ONE << np.uint64(bit % WORD)
    return masks, row_of


@jit
def block_lcs(
    block: Block,
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    first: int,
    last: int,
    lengths: npt.NDArray[np.uint16],
) -> None:
    """Write into `lengths[t, lane]` the LCS of text `first + t` and the lane's query, for the texts before `last`.

    The walks run over all texts in one call each, because a call costs about as much as a walk over a short text.
    """
    rows = np.empty(starts[last] - starts[first], dtype=np.int32)
    ends = np.empty(last - first, dtype=np.int64)
    if len(block.row_of) > 1:
        carries = np.zeros(len(rows), dtype=np.uint8)
        lengths[: last - first] = 0
        ends[:] = starts[first + 1 : last + 1] - starts[first]
        for row_of in block.row_of:
            for at, token in enumerate(ids[starts[first] : starts[last]]):
                rows[at] = row_of[token]
            walk_on(block.masks, rows, ends, carries, lengths)
        return
    _look_up_rows(ids[starts[first] : starts[last]], block.row_of[0], rows, starts[first : last + 1], ends)
    walk(block.masks, rows, ends, block.shape.bits, block.shape.slabs, lengths)


@jit
def _look_up_rows(
    ids: npt.NDArray[np.int32],
    row_of: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> None:
    """Write the rows of all tokens that have one, and where those of each text end.

    No branch depends on a token or a text, because the processor could not predict it. Indexes are unsigned, because
    numba looks at the sign of others.
    """
    before = np.empty(len(ids) + 1, dtype=np.int64)
    count = np.uint64(0)
    before[0] = 0
    for at in range(len(ids)):
        row = row_of[np.uint32(ids[at])]
        rows[count] = row
        count += np.uint64(row != 0)
        before[at + 1] = count
    for text in range(len(ends)):
        ends[text] = before[starts[text + 1] - starts[0]]
