"""The search for the nearest earlier duplicate: single-threaded kernels that see arrays and no objects.

Two bounds spare most pairs their LCS. A pair whose lengths differ too much scores too low whatever the words. And a
text's signature has bit `id % 64` set for each of its tokens: every bit that only one of the two texts has stands
for at least one token of it that the LCS lacks.
"""

# ruff: noqa: PLR0917  (a kernel takes bare arrays, and compiled calls are positional)

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lcs import ONE, WORD, ZERO, mark, marked_lcs, popcount, unmark
from rouge_kernels.scoring import fmeasure, least_duplicate_lcs


@jit
def signature_of(tokens: npt.NDArray[np.int32]) -> np.uint64:
    signature = ZERO
    for token in tokens:
        signature |= ONE << np.uint64(token % WORD)
    return signature


@jit
def duplicate_lengths(length: int, longest: int, threshold: float) -> tuple[int, npt.NDArray[np.int64]]:
    """The lengths, up to `longest`, of the texts that a text of `length` tokens can be a duplicate of.

    Given as the first of them and the least duplicate LCS of each from there on.
    """
    first = length
    while first > 1 and least_duplicate_lcs(length, first - 1, threshold) < first:
        first -= 1
    last = length
    while last < longest and least_duplicate_lcs(length, last + 1, threshold) <= length:
        last += 1
    least = np.empty(last + 1 - first, dtype=np.int64)
    for other in range(first, last + 1):
        least[other - first] = least_duplicate_lcs(length, other, threshold)
    return first, least


@jit
def nearest_duplicate(
    query: npt.NDArray[np.int32],
    signature: np.uint64,
    values: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    size: int,
    longest: int,
    rows: npt.NDArray[np.int32],
    threshold: float,
) -> tuple[int, int, float]:
    """Position, LCS and F of the text with the highest F above the threshold, the earliest of equals; (-1, -1, nan)."""
    nearest, nearest_lcs, highest = -1, -1, np.nan
    length = len(query)
    if length == 0:
        return nearest, nearest_lcs, highest
    first, least = duplicate_lengths(length, longest, threshold)
    masks = mark(query, rows)
    state = np.empty(masks.shape[1], dtype=np.uint64)
    for position in range(size):
        start, end = starts[position], starts[position + 1]
        other_length = end - start
        if other_length < first or other_length - first >= len(least):
            continue
        enough = least[other_length - first]
        other = signatures[position]
        if length - popcount(signature & ~other) < enough or other_length - popcount(other & ~signature) < enough:
            continue
        lcs = marked_lcs(masks, rows, values[start:end], state)
        if lcs < enough:
            continue
        score = fmeasure(lcs, length, other_length)
        if nearest < 0 or score > highest:
            nearest, nearest_lcs, highest = position, lcs, score
    unmark(query, rows)
    return nearest, nearest_lcs, highest


@jit
def append(
    text: npt.NDArray[np.int32],
    signature: np.uint64,
    values: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    size: int,
) -> None:
    """Write the text behind the last one; there is room for it."""
    start = starts[size]
    end = start + len(text)
    values[start:end] = text
    starts[size + 1] = end
    signatures[size] = signature


@jit
def add_all(
    texts: npt.NDArray[np.int32],
    text_starts: npt.NDArray[np.int64],
    values: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    size: int,
) -> int:
    """Append every text; returns the new size."""
    for i in range(len(text_starts) - 1):
        text = texts[text_starts[i] : text_starts[i + 1]]
        append(text, signature_of(text), values, starts, signatures, size)
        size += 1
    return size


@jit
def admit_in_order(
    texts: npt.NDArray[np.int32],
    text_starts: npt.NDArray[np.int64],
    values: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    signatures: npt.NDArray[np.uint64],
    size: int,
    longest: int,
    rows: npt.NDArray[np.int32],
    threshold: float,
    nearest: npt.NDArray[np.int64],
    lcs: npt.NDArray[np.int64],
    score: npt.NDArray[np.float64],
) -> int:
    """Append each text that is no duplicate of one before it, write what was found of each; returns the new size."""
    for i in range(len(text_starts) - 1):
        text = texts[text_starts[i] : text_starts[i + 1]]
        signature = signature_of(text)
        nearest[i], lcs[i], score[i] = nearest_duplicate(
            text, signature, values, starts, signatures, size, longest, rows, threshold
        )
        if nearest[i] < 0:
            append(text, signature, values, starts, signatures, size)
            size += 1
    return size
