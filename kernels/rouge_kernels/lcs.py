"""The length of the longest common subsequence of two token sequences, 64 tokens at a time.

The bit-parallel method of Hyyrö (2004): bit i of a word represents token i of the query, and one addition advances
the whole column of the dynamic-programming table by one token of the other text. Sums wrap at 64 bits on purpose, so
calls must be inside `wrapping()`, for the case that the functions are not compiled.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, overload

from rouge_kernels._jit import config, jit

ZERO = np.uint64(0)
ONE = np.uint64(1)
ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
WORD = 64
"""Tokens of a query in one word."""


def lcs_length(first: list[str], second: list[str]) -> int:
    """The length of the longest common subsequence of two lists of tokens."""
    known: dict[str, int] = {}
    ids = [np.array([known.setdefault(token, len(known)) for token in tokens], np.int32) for tokens in (first, second)]
    rows = np.zeros(max(1, len(known)), dtype=np.int32)
    with wrapping():
        return int(lcs_of_ids(ids[0], ids[1], rows))


def wrapping() -> AbstractContextManager[object]:
    """A context in which NumPy's scalars, used when the JIT is off, wrap without a warning as compiled sums do."""
    return np.errstate(over="ignore") if config.DISABLE_JIT else _COMPILED


_COMPILED = nullcontext()


class Marks(NamedTuple):
    """The positions of a query's tokens as bits, a row for each distinct token; row 0 stands for all other tokens.

    A row has a piece for each word in which it has a bit, and for no other. So the memory grows with the length of the
    query, and a token of a text costs as many steps as its row has pieces. In a query of one word, piece r is row r.
    """

    first: npt.NDArray[np.int32]
    """The first piece of each row, and at the end the number of pieces."""
    word: npt.NDArray[np.int32]
    """The word of each piece."""
    bits: npt.NDArray[np.uint64]
    """The bits of each piece."""
    times: npt.NDArray[np.int32]
    """The number of times that each row's token occurs in the query."""
    left: npt.NDArray[np.int32]
    """Scratch memory, with an entry for each row."""


@jit
def lcs_of_ids(query: npt.NDArray[np.int32], text: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> int:
    """The same for token ids. `rows` has an entry for each id; all entries are 0 before and after the call."""
    marks = mark(query, rows)
    if len(query) <= WORD:
        length = one_word(marks.bits, rows, text)
    else:
        state = np.full(words_of(len(query)), ALL, dtype=np.uint64)
        advance(marks, rows, text, state)
        length = length_of(state)
    unmark(query, rows)
    return length


@jit
def words_of(length: int) -> int:
    """The number of words for a query of `length` tokens."""
    return (length + WORD - 1) // WORD


@jit
def mark(query: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> Marks:
    """Mark the tokens of the query. Sets `rows` to each token's row; 0: absent."""
    distinct = 0
    for token in query:
        if rows[token] == 0:
            distinct += 1
            rows[token] = distinct
    times = np.zeros(distinct + 1, dtype=np.int32)
    newest = np.full(distinct + 1, -1, dtype=np.int32)
    first = np.zeros(distinct + 2, dtype=np.int32)
    first[0] = first[1] = 1  # row 0 has no pieces, and piece 0 has no bits
    for position, token in enumerate(query):
        row = rows[token]
        times[row] += 1
        if newest[row] != position // WORD:
            newest[row] = position // WORD
            first[row + 1] += 1
    for row in range(1, distinct + 1):
        first[row + 1] += first[row]
    bits = np.zeros(first[distinct + 1], dtype=np.uint64)
    word = np.full(len(bits), -1, dtype=np.int32)
    newest[:] = first[:-1]
    for position, token in enumerate(query):
        row = rows[token]
        if word[newest[row]] != position // WORD:
            newest[row] += word[newest[row]] >= 0
            word[newest[row]] = position // WORD
        bits[newest[row]] |= ONE << np.uint64(position % WORD)
    return Marks(first, word, bits, times, newest)


@jit
def unmark(query: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> None:
    """Reset `rows` to the state before `mark`; this is cheaper than clearing all of it."""
    for token in query:
        rows[token] = 0


@jit
def one_word(bits: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], text: npt.NDArray[np.int32]) -> int:
    """The LCS of a text and a marked query of at most `WORD` tokens."""
    state = ALL
    for token in text:
        row = rows[token]
        if row != 0:
            matching = state & bits[row]
            state = (state + matching) | (state - matching)
    return popcount(~state)


@jit
def may_share(marks: Marks, rows: npt.NDArray[np.int32], text: npt.NDArray[np.int32], least: int) -> bool:
    """False when the text and the marked query have fewer than `least` tokens in common, in whatever order."""
    left, spare = marks.left, len(text) - least
    left[:] = marks.times
    for token in text:
        row = rows[token]
        left[row] -= 1
        spare -= left[row] < 0
        if spare < 0:
            return False
    return True


@jit
def advance(
    marks: Marks, rows: npt.NDArray[np.int32], text: npt.NDArray[np.int32], state: npt.NDArray[np.uint64]
) -> int:
    """Take a text, or the next part of it, into the state, whose words are `ALL` before the first token.

    Returns the number of steps: one for each token, and one for each word that it changes. Words from `top` on are
    still as at the start. A carry that reaches them runs to the end, and leaves them so wherever the token occurs.
    """
    first, word, bits = marks.first, marks.word, marks.bits
    top = len(state)
    while top > 0 and state[top - 1] == ALL:
        top -= 1
    steps = len(text)
    for token in text:
        row = rows[token]
        carry, at = ZERO, int(np.int64(0))
        for piece in range(first[row], first[row + 1]):
            stop = min(int(word[piece]), top)
            while carry != ZERO and at < stop:
                carry = _carry(state, at)
                at += 1
                steps += 1
            if carry != ZERO and at >= top:
                break
            at = int(word[piece])
            before = state[at]
            matching = before & bits[piece]
            partial = before + matching
            total = partial + carry
            carry = ONE if partial < before or total < partial else ZERO
            state[at] = total | (before - matching)
            at += 1
            steps += 1
            if at > top and state[at - 1] != ALL:
                top = at
        while carry != ZERO and at < top:
            carry = _carry(state, at)
            at += 1
            steps += 1
    return steps


@jit
def _carry(state: npt.NDArray[np.uint64], at: int) -> np.uint64:
    """Add a carry to a word without a match; return the carry to the next word."""
    total = state[at] + ONE
    state[at] |= total
    return ONE if total == ZERO else ZERO


@jit
def length_of(state: npt.NDArray[np.uint64]) -> int:
    """The LCS with the tokens so far."""
    length = 0
    for word in state:
        length += popcount(~word)
    return length


def popcount(word: np.uint64) -> int:
    """The number of bits that are set. Compiled, this is one instruction."""
    return int(word).bit_count()


@intrinsic
def _ctpop(_typing: Any, _word: Any) -> tuple[Any, Callable[..., Any]]:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: tuple[Any]) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), emit


@overload(popcount, strict=False)  # strict also compares annotations
def _popcount(_word: Any) -> Callable[[np.uint64], np.int64]:
    return lambda _word: np.int64(_ctpop(_word))  # type: ignore[call-arg]  # numba passes the typing context
