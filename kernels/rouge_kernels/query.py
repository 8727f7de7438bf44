"""A text prepared for the search: its arrangement, its signatures and the bounds on its duplicates."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.bounds import shortest_partner
from rouge_kernels.lcs import ONE, WORD, ZERO
from rouge_kernels.prefixes import ARRANGED, DEPTH, PATH, TOKEN_BITS, Rows, arrange

ONE_TOKEN = 1 << 16
"""One token as a fixed-point number, the unit of `slope` and `base`."""


class Rule(NamedTuple):
    """The definition of a duplicate: F above the threshold."""

    threshold: float
    least: npt.NDArray[np.int32]
    """`Bounds.least` of this threshold."""


class Corpus(NamedTuple):
    """The texts of an index. Everything behind the last text is undefined."""

    values: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    signatures: npt.NDArray[np.uint64]
    """The signature of `WORD` bits of each text."""
    size: npt.NDArray[np.int64]
    """The number of texts, in an array of one, as the kernels write it."""


class Scratch(NamedTuple):
    """Memory for the preparation of a text; the next text uses it again."""

    arranged: Rows
    path: Rows


class Query(NamedTuple):
    """A text whose duplicates we look for, with all that the search computes from it."""

    text: npt.NDArray[np.int32]
    signature: np.uint64
    short_signature: np.uint64
    """A signature of `TOKEN_BITS` bits, short enough for a hint."""
    need: int
    """The least LCS with any duplicate; more than the text's length if it cannot have a duplicate."""
    slope: int
    """Growth of the least LCS with each token of the other text, in units of 1 / `ONE_TOKEN` token, rounded down."""
    base: int
    """The part of the least LCS that comes from the tokens of this text, in the same units."""
    arranged: Rows
    distinct: int
    path: Rows
    """The position of a walk over the text's keys."""


@jit
def allocate_scratch(starts: npt.NDArray[np.int64]) -> Scratch:
    """Scratch that is large enough for each of the texts with these starts."""
    longest = 0
    for i in range(len(starts) - 1):
        longest = max(longest, starts[i + 1] - starts[i])
    return Scratch(
        np.empty((ARRANGED, longest), dtype=np.int64),
        np.zeros((PATH, DEPTH), dtype=np.int64),
    )


@jit
def prepare(text: npt.NDArray[np.int32], rule: Rule, scratch: Scratch) -> Query:
    """The query for a text. It holds views of the scratch, so it is valid until the next call."""
    length = len(text)
    need = shortest_partner(rule.least, rule.threshold, length)
    slope = int(rule.threshold / 2 * ONE_TOKEN)
    base = int(rule.threshold / 2 * length * ONE_TOKEN) - 1  # the 1 is far more than the rounding error of a score
    distinct = arrange(text, scratch.arranged)
    signature, short_signature = signatures_of(text)
    return Query(text, signature, short_signature, need, slope, base, scratch.arranged, distinct, scratch.path)


@jit
def signatures_of(tokens: npt.NDArray[np.int32]) -> tuple[np.uint64, np.uint64]:
    """A signature of `WORD` bits and a signature of `TOKEN_BITS` bits: each token sets bit `id % bits`.

    A bit that only one of two texts has stands for at least one token outside their LCS.
    """
    signature, short_signature = ZERO, ZERO
    for token in tokens:
        signature |= ONE << np.uint64(token % WORD)
        short_signature |= ONE << np.uint64(token % TOKEN_BITS)
    return signature, short_signature
