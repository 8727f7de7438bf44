"""The LCS of many queries with one text at once: each query is a lane of one wide vector.

The bit-parallel method of Hyyrö (2004), as in `lcs`, where bit i of a word represents token i of the query. Queries do
not depend on each other, so one vector operation advances every query of a block by one token of the text: 256 queries
of up to 8 tokens, 128 of up to 16, 64 of up to 32 or 32 of up to 64. Longer queries take two, four or eight words each,
the slabs of a lane, and the carries of a token go from slab to slab in registers. Still longer queries are cut into
parts of eight slabs. A part walks the whole text and stores, for each token, the carries that the next part reads.

The masks of a row are one string of bits, slab by slab and lane by lane. It can be read in words of any width on
little-endian machines only.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from rouge_kernels.lcs import ONE, WORD, popcount

VECTOR = 2048
"""Bits of all lanes of a block: four AVX-512 registers, so that the work on three hides the latency of the fourth."""
WIDTHS = (8, 16, 32, 64)
SLABS = (2, 4, 8)
LONGEST_ROW = 2 * VECTOR
"""Bits of a row with several slabs: eight registers, each of which waits for the carries of the one before it."""
ALIGNMENT = 64
"""Bytes of a cache line. Each row of masks begins at a multiple of it, because the compiled walks load whole lines."""


class Shape(NamedTuple):
    """The form of a row of masks."""

    bits: int
    """Width of a lane in each slab."""
    slabs: int
    lanes: int


SHAPES = (
    *(Shape(bits, 1, VECTOR // bits) for bits in WIDTHS),
    *(Shape(WORD, slabs, LONGEST_ROW // WORD // slabs) for slabs in SLABS),
)


def walk(
    masks: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
    bits: int,
    slabs: int,
    lengths: npt.NDArray[np.uint16],
) -> None:
    """Write the LCS of each lane with each text. `ends`: where the rows of each text's tokens end in `rows`."""
    lanes = masks.view(f"u{bits // 8}").reshape(len(masks), slabs, -1)
    for text, begin, end in zip(range(len(ends)), [0, *ends], ends, strict=False):
        state = ~np.zeros_like(lanes[0])
        for row in rows[begin:end]:
            _next_state(state, lanes[row])
        lengths[text] = _zeros(state)


def walk_on(
    masks: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
    carries: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.uint16],
) -> None:
    """Add one part's LCS to that of each lane. Bit i of `carries` is the carry of lane i at a token, in and out."""
    lanes = masks.reshape(len(masks), SLABS[-1], -1)
    lane = np.arange(lanes.shape[-1], dtype=np.uint64)
    for text, begin, end in zip(range(len(ends)), [0, *ends], ends, strict=False):
        state = ~np.zeros_like(lanes[0])
        for at in range(begin, end):
            over = _next_state(state, lanes[rows[at]], carries[at] >> lane & ONE)
            carries[at] = (over << lane).sum()
        lengths[text] += _zeros(state)


def _next_state(state: npt.NDArray[Any], masks: npt.NDArray[Any], carry: Any = None) -> Any:
    """Take one token into the slabs of the state, with the carries into the first; return those from the last."""
    for before, mask in zip(state, masks, strict=True):
        matching = before & mask
        total = before + matching if carry is None else before + matching + carry
        carry = (matching | before & ~total) >> before.dtype.type(8 * before.itemsize - 1)
        before[:] = total | before & ~mask
    return carry


def _zeros(state: npt.NDArray[Any]) -> npt.NDArray[Any]:
    counts = np.array([[popcount(lane) for lane in slab] for slab in ~state], dtype=np.uint32)
    return np.asarray(counts.sum(axis=0))


class _Lanes:
    """Emits the walks over vectors as wide as a slab. LLVM cuts these into the registers of the machine.

    So the state of all lanes stays in registers from the first token of a text to the last.
    """

    def __init__(self, context: Any, builder: Any, shape: Shape) -> None:
        self.context = context
        self.builder = builder
        self.slabs = shape.slabs
        self.lane = ir.IntType(shape.bits)
        self.vector = ir.VectorType(self.lane, shape.lanes)
        self.carries = ir.VectorType(ir.IntType(1), shape.lanes)

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def walk(self, arrays: Sequence[Any], width: int, carries: Any = None) -> None:
        """Walk over each text. With `carries` the walk reads and writes them, and adds to the lengths.

        `arrays`: masks, rows, ends and lengths, of integers of this width.
        """
        builder, (masks, rows, ends, lengths) = self.builder, arrays
        table = builder.bitcast(masks.data, self.vector.as_pointer())
        ones = ir.Constant(self.vector, [ir.Constant(self.lane, -1)] * self.vector.count)
        state = [cgutils.alloca_once(builder, self.vector) for _ in range(self.slabs)]
        begin = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(64), 0))
        out = builder.bitcast(lengths.data, ir.VectorType(ir.IntType(width), self.vector.count).as_pointer())
        with cgutils.for_range(builder, builder.extract_value(ends.shape, 0)) as text:
            for slab in state:
                builder.store(ones, slab)
            end = builder.load(builder.gep(ends.data, [text.index]))
            with cgutils.for_range(builder, end, start=builder.load(begin)) as token:
                row = builder.zext(builder.load(builder.gep(rows.data, [token.index])), ir.IntType(64))
                if carries is None:
                    self._step(state, table, row, None)
                else:
                    place = builder.bitcast(builder.gep(carries.data, [token.index]), self.carries.as_pointer())
                    builder.store(self._step(state, table, row, builder.load(place, align=1)), place, align=1)
            builder.store(end, begin)
            counts = self._zeros(state, width)
            place = builder.gep(out, [text.index])
            if carries is not None:
                counts = builder.add(builder.load(place, align=1), counts)
            builder.store(counts, place, align=1)

    def _step(self, state: list[Any], table: Any, row: Any, carry: Any) -> Any:
        """Take a token into each slab of the state; return the carries from the last slab."""
        builder = self.builder
        for number, slab in enumerate(state):
            place = builder.add(builder.mul(row, ir.Constant(row.type, self.slabs)), ir.Constant(row.type, number))
            mask = builder.load(builder.gep(table, [place]), align=ALIGNMENT)
            before = builder.load(slab)
            matching = builder.and_(before, mask)
            total = builder.add(before, matching)
            if carry is not None:
                total = builder.add(total, builder.zext(carry, self.vector))
            builder.store(builder.or_(total, builder.and_(before, builder.not_(mask))), slab)
            over = builder.or_(matching, builder.and_(before, builder.not_(total)))
            carry = builder.icmp_signed("<", over, ir.Constant(self.vector, None))
        return carry

    def _zeros(self, state: list[Any], width: int) -> Any:
        """The number of clear bits in each lane, in integers of this width."""
        name = f"llvm.ctpop.v{self.vector.count}i{self.lane.width}"
        kind = ir.FunctionType(self.vector, [self.vector])
        count = cgutils.get_or_insert_function(self.builder.module, kind, name)
        counts = ir.Constant(self.vector, None)
        for slab in state:
            counts = self.builder.add(counts, self.builder.call(count, [self.builder.not_(self.builder.load(slab))]))
        if width == self.lane.width:
            return counts
        target = ir.VectorType(ir.IntType(width), self.vector.count)
        return (self.builder.zext if width > self.lane.width else self.builder.trunc)(counts, target)


@intrinsic
def _walk_in_registers(
    _typing: Any, masks: Any, rows: Any, ends: Any, bits: Any, slabs: Any, lengths: Any
) -> tuple[Any, Callable[..., Any]]:
    def emit(context: Any, builder: Any, _signature: Any, arguments: tuple[Any, ...]) -> Any:
        for shape in SHAPES:
            lanes = _Lanes(context, builder, shape)
            is_this = [
                builder.icmp_unsigned("==", argument, ir.Constant(argument.type, number))
                for argument, number in ((arguments[3], shape.bits), (arguments[4], shape.slabs))
            ]
            with builder.if_then(builder.and_(*is_this)):
                given = zip((masks, rows, ends, lengths), (*arguments[:3], arguments[5]), strict=True)
                lanes.walk([lanes.array(*array) for array in given], lengths.dtype.bitwidth)
        return context.get_dummy_value()

    return types.void(masks, rows, ends, bits, slabs, lengths), emit


@intrinsic
def _walk_on_in_registers(
    _typing: Any, masks: Any, rows: Any, ends: Any, carries: Any, lengths: Any
) -> tuple[Any, Callable[..., Any]]:
    def emit(context: Any, builder: Any, _signature: Any, arguments: tuple[Any, ...]) -> Any:
        lanes = _Lanes(context, builder, SHAPES[-1])
        given = zip((masks, rows, ends, lengths), (*arguments[:3], arguments[4]), strict=True)
        carried = lanes.array(carries, arguments[3])
        lanes.walk([lanes.array(*array) for array in given], lengths.dtype.bitwidth, carried)
        return context.get_dummy_value()

    return types.void(masks, rows, ends, carries, lengths), emit


@overload(walk, strict=False)  # strict also compares annotations
def _walk(_masks: Any, _rows: Any, _ends: Any, _bits: Any, _slabs: Any, _lengths: Any) -> Callable[..., None]:
    # numba inspects this lambda, and passes the typing context itself
    return lambda _masks, _rows, _ends, _bits, _slabs, _lengths: _walk_in_registers(  # type: ignore[call-arg]  # noqa: PLW0108
        _masks, _rows, _ends, _bits, _slabs, _lengths
    )


@overload(walk_on, strict=False)
def _walk_on(_masks: Any, _rows: Any, _ends: Any, _carries: Any, _lengths: Any) -> Callable[..., None]:
    return lambda _masks, _rows, _ends, _carries, _lengths: _walk_on_in_registers(  # type: ignore[call-arg]  # noqa: PLW0108
        _masks, _rows, _ends, _carries, _lengths
    )
