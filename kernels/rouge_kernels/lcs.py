"""The length of the longest common subsequence of two token sequences, 64 tokens at a time.

The bit-parallel method of Hyyrö (2004): bit i of a word represents token i of the query, and one addition advances
the whole column of the dynamic-programming table by one token of the other text. Sums wrap at 64 bits on purpose, so
calls must be inside `wrapping()`, for the case that the functions are not compiled.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic, overload

from rouge_kernels._jit import jit

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


def wrapping() -> np.errstate:
    """A context in which NumPy's scalars, used when the JIT is off, wrap without a warning as compiled sums do."""
    return np.errstate(over="ignore")


@jit
def lcs_of_ids(query: npt.NDArray[np.int32], text: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> int:
    """The same for token ids. `rows` has an entry for each id; all entries are 0 before and after the call."""
    masks = mark(query, rows)
    length = marked_lcs(masks, rows, text, np.empty(masks.shape[1], dtype=np.uint64), 0)
    unmark(query, rows)
    return length


@jit
def mark(query: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """The positions of each token in the query as bits: [row, word]. Sets `rows` to each token's row; 0: absent."""
    distinct = 0
    for token in query:
        if rows[token] == 0:
            distinct += 1
            rows[token] = distinct
    masks = np.zeros((distinct + 1, max(1, (len(query) + WORD - 1) // WORD)), dtype=np.uint64)
    for position, token in enumerate(query):
        masks[rows[token], position // WORD] |= ONE << np.uint64(position % WORD)
    return masks


@jit
def unmark(query: npt.NDArray[np.int32], rows: npt.NDArray[np.int32]) -> None:
    """Reset `rows` to the state before `mark`; this is cheaper than clearing all of it."""
    for token in query:
        rows[token] = 0


@jit
def marked_lcs(
    masks: npt.NDArray[np.uint64],
    rows: npt.NDArray[np.int32],
    text: npt.NDArray[np.int32],
    state: npt.NDArray[np.uint64],
    least: int,
) -> int:
    """The LCS of the marked query and one text; some number below `least` where the LCS is below it. `state` is scratch
    memory, as long as a row of `masks`.
    """
    words = masks.shape[1]
    if words == 1:
        return _one_word(masks, rows, text)
    state[:] = ALL
    for at, token in enumerate(text):
        if at % WORD == 0 and _length(state) + len(text) - at < least:
            break  # not even with all that is left
        row = rows[token]
        if row == 0:
            continue
        carry = ZERO
        for word in range(words):
            before = state[word]
            matching = before & masks[row, word]
            partial = before + matching
            total = partial + carry
            carry = ONE if partial < before or total < partial else ZERO
            state[word] = total | (before - matching)
    return _length(state)


@jit
def _length(state: npt.NDArray[np.uint64]) -> int:
    """The LCS with the tokens so far."""
    length = 0
    for word in state:
        length += popcount(~word)
    return length


@jit
def _one_word(masks: npt.NDArray[np.uint64], rows: npt.NDArray[np.int32], text: npt.NDArray[np.int32]) -> int:
    state = ALL
    for token in text:
        row = rows[token]
        if row != 0:
            matching = state & masks[row, 0]
            state = (state + matching) | (state - matching)
    return popcount(~state)


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
