"""The LCS of many queries with one text at once: each query is a lane of one wide vector.

The bit-parallel method of Hyyrö (2004), as in `lcs`, where bit i of a word stands for token i of a query. Nothing
there ever looks at another query, so one vector operation advances every query of a block by one token of the text:
256 queries of up to 8 tokens, 128 of up to 16, 64 of up to 32 or 32 of up to 64. Longer queries take several words,
one slab of lanes after the other, with the carries of a slab handed to the next.

The masks of a block are bit strings: lane by lane in each slab, `bits` to a lane. That the words of a row can be read
in any width is a property of little-endian machines.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from rouge_kernels._jit import jit
from rouge_kernels.lcs import ALL, ONE, WORD, ZERO, popcount

VECTOR = 2048
"""Bits of the lanes of a block: four AVX-512 registers, so that the latency of one hides behind the others."""
WIDE_LANES = 16
"""Queries in a block of more than one word each."""
WIDTHS = (8, 16, 32, 64)
ALIGNMENT = 64
"""Bytes of a cache line; a row that begins elsewhere costs a second line with every load."""


class Block(NamedTuple):
    """Queries made ready to be compared with any number of texts; query i is lane i."""

    masks: npt.NDArray[np.uint64]
    """[row, slab, word]: where each token stands in each query. In row 0 are the tokens of no query: nowhere."""
    row_of: npt.NDArray[np.int32]
    """From a token's id to its row."""
    bits: int
    """Width of a lane."""


def shape(longest: int) -> tuple[int, int, int]:
    """For queries of up to so many tokens: the width of a lane in bits, the slabs, the lanes of a block."""
    for bits in WIDTHS:
        if longest <= bits:
            return bits, 1, VECTOR // bits
    return WORD, -(-longest // WORD), WIDE_LANES


@jit
def marked(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    queries: npt.NDArray[np.int64],
    bits: int,
    slabs: int,
    lanes: int,
    vocabulary: int,
) -> Block:
    """The block of these of the texts. Every id that any text holds is below `vocabulary`."""
    row_of = np.zeros(vocabulary, dtype=np.int32)
    rows = 1
    for query in queries:
        for token in ids[starts[query] : starts[query + 1]]:
            if row_of[token] == 0:
                row_of[token] = rows
                rows += 1
    words = lanes * bits // WORD
    spare = ALIGNMENT // 8
    buffer = np.zeros(rows * slabs * words + spare, dtype=np.uint64)
    skipped = -(buffer.ctypes.data // 8) % spare
    masks = buffer[skipped : len(buffer) - spare + skipped].reshape((rows, slabs, words))
    for lane, query in enumerate(queries):
        for position, token in enumerate(ids[starts[query] : starts[query + 1]]):
            bit = lane * bits + position % bits
            masks[row_of[token], position // bits, bit // WORD] |= ONE << np.uint64(bit % WORD)
    return Block(masks, row_of, bits)


@jit
def block_lcs(
    block: Block,
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    first: int,
    last: int,
    lengths: npt.NDArray[np.uint16],
) -> None:
    """Write into `lengths[t, lane]` the LCS of text `first + t` and the lane's query, for the texts before `last`."""
    longest = 0
    for text in range(first, last):
        longest = max(longest, starts[text + 1] - starts[text])
    rows = np.empty(longest, dtype=np.int32)
    slabs, words = block.masks.shape[1:]
    state = np.empty((slabs, words), dtype=np.uint64)
    for text in range(first, last):
        met = 0
        for token in ids[starts[text] : starts[text + 1]]:
            row = block.row_of[token]
            rows[met] = row
            met += row != 0  # no branch: which token occurs in a block cannot be predicted
        if slabs == 1:
            walk(block.masks, rows[:met], block.bits, lengths[text - first])
        else:
            wide_walk(block.masks, rows[:met], state, lengths[text - first])


def walk(
    masks: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], bits: int, lengths: npt.NDArray[np.uint16]
) -> None:
    """Write the LCS of every lane with the text whose tokens have these rows, for queries of one slab.

    Compiled, the state of all lanes stays in registers from the first token to the last.
    """
    lanes = masks[:, 0].view(f"u{bits // 8}")
    state = ~np.zeros_like(lanes[0])
    for row in rows:
        matching = state & lanes[row]
        state = (state + matching) | (state - matching)
    lengths[:] = [popcount(lane) for lane in ~state]


def _walk_in_registers(bits: int) -> Callable[..., None]:
    @intrinsic
    def walk_lanes(_typing: Any, masks: Any, rows: Any, lengths: Any) -> tuple[Any, Callable[..., Any]]:
        lane = ir.IntType(bits)
        vector = ir.VectorType(lane, VECTOR // bits)
        counts = ir.VectorType(ir.IntType(lengths.dtype.bitwidth), vector.count)

        def emit(context: Any, builder: Any, _signature: Any, arguments: tuple[Any, ...]) -> Any:
            mask, row, length = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip((masks, rows, lengths), arguments, strict=True)
            )
            table = builder.bitcast(mask.data, vector.as_pointer())
            state = cgutils.alloca_once_value(builder, ir.Constant(vector, [ir.Constant(lane, -1)] * vector.count))
            with cgutils.for_range(builder, builder.extract_value(row.shape, 0)) as step:
                index = builder.zext(builder.load(builder.gep(row.data, [step.index])), ir.IntType(64))
                before = builder.load(state)
                matching = builder.and_(before, builder.load(builder.gep(table, [index]), align=ALIGNMENT))
                builder.store(builder.or_(builder.add(before, matching), builder.sub(before, matching)), state)
            popcounts = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{vector.count}i{bits}"
            )
            result = builder.call(popcounts, [builder.not_(builder.load(state))])
            if counts.element.width != bits:
                result = (builder.zext if counts.element.width > bits else builder.trunc)(result, counts)
            builder.store(result, builder.bitcast(length.data, counts.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(masks, rows, lengths), emit

    return walk_lanes


_walk_8, _walk_16, _walk_32, _walk_64 = map(_walk_in_registers, WIDTHS)


@overload(walk, strict=False)
def _walk(_masks: Any, _rows: Any, _bits: Any, _lengths: Any) -> Callable[..., None]:
    def compiled(_masks: Any, _rows: Any, _bits: Any, _lengths: Any) -> None:
        if _bits == 8:
            _walk_8(_masks, _rows, _lengths)
        elif _bits == 16:
            _walk_16(_masks, _rows, _lengths)
        elif _bits == 32:
            _walk_32(_masks, _rows, _lengths)
        else:
            _walk_64(_masks, _rows, _lengths)

    return compiled


@jit
def wide_walk(
    masks: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    state: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.uint16],
) -> None:
    """The same for queries of several slabs. `state` is scratch, of the shape of a row of `masks`."""
    slabs, lanes = state.shape
    carry = np.empty(lanes, dtype=np.uint64)
    state[:] = ALL
    for row in rows:
        carry[:] = ZERO
        for slab in range(slabs):
            for lane in range(lanes):
                before = state[slab, lane]
                matching = before & masks[row, slab, lane]
                partial = before + matching
                total = partial + carry[lane]
                carry[lane] = np.uint64(partial < before) | np.uint64(total < partial)
                state[slab, lane] = total | (before - matching)
    for lane in range(lanes):
        length = 0
        for slab in range(slabs):
            length += popcount(~state[slab, lane])
        lengths[lane] = length
