"""The LCS of many queries with one text at once: each query is a lane of one wide vector.

The bit-parallel method of Hyyrö (2004), as in `lcs`, where bit i of a word represents token i of a query. Queries do
not depend on each other, so one vector operation advances every query of a block by one token of the text: 256 queries
of up to 8 tokens, 128 of up to 16, 64 of up to 32 or 32 of up to 64. Longer queries are cut into slabs of 64 tokens. A
slab walks the whole text and stores, for each token of the text, the carries that the next slab reads.

The masks of a row are one string of bits, lane by lane. It can be read in words of any width on little-endian machines
only.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from rouge_kernels._jit import jit
from rouge_kernels.lcs import ONE, WORD, popcount

VECTOR = 2048
"""Bits of all lanes of a block: four AVX-512 registers, so that the work on three hides the latency of the fourth."""
WIDTHS = (8, 16, 32, 64)
ALIGNMENT = 64
"""Bytes of a cache line. Each row of masks begins at a multiple of it, because the compiled walks load whole lines."""


class Block(NamedTuple):
    """Queries prepared for the comparison with any number of texts; query i is lane i."""

    masks: npt.NDArray[np.uint64]
    """[row, word]: positions of a token in a slab of each query, as bits. Row 0, for tokens not in the slab, is
    zero."""
    row_of: npt.NDArray[np.int32]
    """[slab, id]: the row of a token."""
    bits: int
    """Width of a lane."""


def lane_bits(longest: int) -> int:
    """The width of a lane for queries of up to `longest` tokens; above the last width a query takes several slabs."""
    return next((bits for bits in WIDTHS if longest <= bits), WIDTHS[-1])


@jit
def make_block(
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    queries: npt.NDArray[np.int64],
    bits: int,
    vocabulary: int,
) -> Block:
    """Makes a block (lanes of vectors) of the texts at positions `queries`. Token ids must be below `vocabulary`."""
    longest = 1
    for query in queries:
        longest = max(longest, starts[query + 1] - starts[query])
    row_of = np.zeros(((longest + bits - 1) // bits, vocabulary), dtype=np.int32)
    rows = 1
    for query in queries:
        for position, token in enumerate(ids[starts[query] : starts[query + 1]]):
            if row_of[position // bits, token] == 0:
                row_of[position // bits, token] = rows
                rows += 1
    words, spare = VECTOR // WORD, ALIGNMENT // 8
    buffer = np.zeros(rows * words + spare, dtype=np.uint64)
    skipped = -(buffer.ctypes.data // 8) % spare
    masks = buffer[skipped : len(buffer) - spare + skipped].reshape((rows, words))
    for lane, query in enumerate(queries):
        for position, token in enumerate(ids[starts[query] : starts[query + 1]]):
            bit = lane * bits + position % bits
            masks[row_of[position // bits, token], bit // WORD] |= ONE << np.uint64(bit % WORD)
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
    rows = np.empty(starts[last] - starts[first], dtype=np.int32)
    if len(block.row_of) > 1:
        _slab_by_slab(block, ids[starts[first] : starts[last]], starts[first : last + 1], rows, lengths)
        return
    row_of = block.row_of[0]
    for text in range(first, last):
        count = 0
        for at in range(starts[text], starts[text + 1]):
            row = row_of[ids[at]]
            rows[count] = row
            count += row != 0  # no branch: the processor could not predict which tokens occur in a block
        walk(block.masks, rows[:count], block.bits, lengths[text - first])


@jit
def _slab_by_slab(
    block: Block,
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    lengths: npt.NDArray[np.uint16],
) -> None:
    """`block_lcs` for long queries: all texts with one slab before the next, whose masks then stay in the cache."""
    carries = np.zeros(len(ids), dtype=np.uint32)
    lengths[: len(starts) - 1] = 0
    for row_of in block.row_of:
        for at, token in enumerate(ids):
            rows[at] = row_of[token]
        for text in range(len(starts) - 1):
            start, end = starts[text] - starts[0], starts[text + 1] - starts[0]
            walk_on(block.masks, rows[start:end], carries[start:end], lengths[text])


def walk(
    masks: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], bits: int, lengths: npt.NDArray[np.uint16]
) -> None:
    """Write the LCS of each lane with the text whose tokens have these rows."""
    lanes = masks.view(f"u{bits // 8}")
    state = ~np.zeros_like(lanes[0])
    for row in rows:
        matching = state & lanes[row]
        state = (state + matching) | (state - matching)
    lengths[:] = [popcount(lane) for lane in ~state]


def walk_on(
    masks: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    carries: npt.NDArray[np.uint32],
    lengths: npt.NDArray[np.uint16],
) -> None:
    """Add one slab's LCS to that of each lane. Bit i of `carries` is the carry of lane i at a token, in and out."""
    state = ~np.zeros_like(masks[0])
    lane = np.arange(len(state), dtype=np.uint64)
    for at, row in enumerate(rows):
        matching = state & masks[row]
        total = state + matching + (carries[at] >> lane & ONE)
        carries[at] = ((matching | state & ~total) >> np.uint64(WORD - 1) << lane).sum()
        state = total | (state - matching)
    lengths += np.array([popcount(lane) for lane in ~state], dtype=lengths.dtype)


class _Lanes:
    """Emits the two walks over vectors as wide as a block. LLVM cuts these into the registers of the machine.

    So the state of all lanes stays in registers from the first token of a text to the last.
    """

    def __init__(self, context: Any, builder: Any, bits: int) -> None:
        self.context = context
        self.builder = builder
        self.lane = ir.IntType(bits)
        self.vector = ir.VectorType(self.lane, VECTOR // bits)

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def walk(self, masks: Any, rows: Any, step: Callable[[Any, Any, Any], Any]) -> Any:
        """The state after the last row. `step` makes the next state of a state, a row's mask and its position."""
        builder = self.builder
        table = builder.bitcast(masks.data, self.vector.as_pointer())
        state = cgutils.alloca_once_value(
            builder, ir.Constant(self.vector, [ir.Constant(self.lane, -1)] * self.vector.count)
        )
        with cgutils.for_range(builder, builder.extract_value(rows.shape, 0)) as loop:
            row = builder.zext(builder.load(builder.gep(rows.data, [loop.index])), ir.IntType(64))
            mask = builder.load(builder.gep(table, [row]), align=ALIGNMENT)
            builder.store(step(builder.load(state), mask, loop.index), state)
        return builder.load(state)

    def zeros(self, state: Any, width: int) -> Any:
        """The number of clear bits in each lane, in integers of this width."""
        name = f"llvm.ctpop.v{self.vector.count}i{self.lane.width}"
        kind = ir.FunctionType(self.vector, [self.vector])
        counts = self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, name), [self.builder.not_(state)]
        )
        target = ir.VectorType(ir.IntType(width), self.vector.count)
        if width == self.lane.width:
            return counts
        return (self.builder.zext if width > self.lane.width else self.builder.trunc)(counts, target)


@intrinsic
def _walk_in_registers(_typing: Any, masks: Any, rows: Any, bits: Any, lengths: Any) -> tuple[Any, Callable[..., Any]]:
    def emit(context: Any, builder: Any, _signature: Any, arguments: tuple[Any, ...]) -> Any:
        for width in WIDTHS:
            lanes = _Lanes(context, builder, width)

            def step(before: Any, mask: Any, _at: Any) -> Any:
                matching = builder.and_(before, mask)
                return builder.or_(builder.add(before, matching), builder.sub(before, matching))

            with builder.if_then(builder.icmp_unsigned("==", arguments[2], ir.Constant(arguments[2].type, width))):
                state = lanes.walk(lanes.array(masks, arguments[0]), lanes.array(rows, arguments[1]), step)
                counts = lanes.zeros(state, lengths.dtype.bitwidth)
                out = lanes.array(lengths, arguments[3]).data
                builder.store(counts, builder.bitcast(out, counts.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(masks, rows, bits, lengths), emit


@intrinsic
def _walk_on_in_registers(
    _typing: Any, masks: Any, rows: Any, carries: Any, lengths: Any
) -> tuple[Any, Callable[..., Any]]:
    def emit(context: Any, builder: Any, _signature: Any, arguments: tuple[Any, ...]) -> Any:
        lanes = _Lanes(context, builder, WORD)
        carry = lanes.array(carries, arguments[2]).data
        flags = ir.VectorType(ir.IntType(1), lanes.vector.count)

        def step(before: Any, mask: Any, at: Any) -> Any:
            place = builder.bitcast(builder.gep(carry, [at]), flags.as_pointer())
            matching = builder.and_(before, mask)
            added = builder.zext(builder.load(place, align=4), lanes.vector)
            total = builder.add(builder.add(before, matching), added)
            over = builder.or_(matching, builder.and_(before, builder.not_(total)))
            negative = builder.icmp_signed("<", over, ir.Constant(lanes.vector, None))
            builder.store(negative, place, align=4)
            return builder.or_(total, builder.sub(before, matching))

        state = lanes.walk(lanes.array(masks, arguments[0]), lanes.array(rows, arguments[1]), step)
        counts = lanes.zeros(state, lengths.dtype.bitwidth)
        out = builder.bitcast(lanes.array(lengths, arguments[3]).data, counts.type.as_pointer())
        builder.store(builder.add(builder.load(out, align=1), counts), out, align=1)
        return context.get_dummy_value()

    return types.void(masks, rows, carries, lengths), emit


@overload(walk, strict=False)  # strict also compares annotations
def _walk(_masks: Any, _rows: Any, _bits: Any, _lengths: Any) -> Callable[..., None]:
    # numba inspects this lambda, and passes the typing context itself
    return lambda _masks, _rows, _bits, _lengths: _walk_in_registers(_masks, _rows, _bits, _lengths)  # type: ignore[call-arg]  # noqa: PLW0108


@overload(walk_on, strict=False)
def _walk_on(_masks: Any, _rows: Any, _carries: Any, _lengths: Any) -> Callable[..., None]:
    return lambda _masks, _rows, _carries, _lengths: _walk_on_in_registers(_masks, _rows, _carries, _lengths)  # type: ignore[call-arg]  # noqa: PLW0108
