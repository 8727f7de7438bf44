"""The comparison of a text with its candidates, in pieces: it stops after a number of steps, and goes on later.

A comparison in order, or of all pairs, may be as long as the texts make it. A kernel that returns after a bounded
number of steps lets Python answer a signal, and the next call goes on in the middle of a candidate if need be.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.bounds import least_lcs
from rouge_kernels.lcs import ALL, WORD, Marks, advance, length_of, may_share, one_word, words_of
from rouge_kernels.query import Corpus, Rule

NEXT, AT, STEPS, MOST, LIMIT, PAIRS, COUNTS = 0, 1, 2, 3, 4, 5, 6
"""The `COUNTS` entries of `Progress.counts`: the candidate to go on with, its tokens that were taken in, the steps of
this call, the steps after which a call stops, the same for this text, and the pairs of texts compared by all calls. A
step takes a few nanoseconds."""
NONE, STOPPED = 0, -1
"""Results of `next_duplicate` that are no LCS: there is no more duplicate; the steps are used up."""


class Progress(NamedTuple):
    """The place in a search at which a kernel stopped, and memory for it."""

    counts: npt.NDArray[np.int64]
    state: npt.NDArray[np.uint64]
    """The words of the text's LCS with a candidate, with room for the longest text."""


def new_progress(longest: int, most: int) -> Progress:
    """The beginning of a search for texts of at most `longest` tokens; a call stops after about `most` steps."""
    counts = np.zeros(COUNTS, dtype=np.int64)
    counts[MOST] = most
    return Progress(counts, np.empty(1 + longest // WORD, dtype=np.uint64))


@jit
def begin_call(progress: Progress) -> None:
    """Count the steps of a call from 0."""
    progress.counts[STEPS] = 0


@jit
def is_used_up(progress: Progress) -> bool:
    """True when a call should stop before the next text."""
    return bool(progress.counts[STEPS] > progress.counts[MOST])


@jit
def begin_text(progress: Progress, steps: int) -> None:
    """Count the steps of finding a text's candidates. They are taken again when its comparison goes on in another
    call, and do not count for its limit, so that each call compares something.
    """
    counts = progress.counts
    counts[STEPS] += steps
    counts[LIMIT] = counts[STEPS] + counts[MOST]


@jit
def next_duplicate(
    text: npt.NDArray[np.int32],
    marks: Marks,
    rows: npt.NDArray[np.int32],
    rule: Rule,
    corpus: Corpus,
    candidates: npt.NDArray[np.int32],
    progress: Progress,
) -> int:
    """The LCS with the next candidate that is a duplicate, which is the one before `NEXT`; or `NONE` or `STOPPED`."""
    counts = progress.counts
    while counts[NEXT] < len(candidates):
        if counts[STEPS] > counts[LIMIT]:
            return STOPPED
        candidate = candidates[counts[NEXT]]
        other = corpus.values[corpus.starts[candidate] : corpus.starts[candidate + 1]]
        least = least_lcs(rule.least, rule.threshold, len(text), len(other))
        if len(text) <= WORD:
            lcs = one_word(marks.bits, rows, other)
            counts[STEPS] += len(other)
        else:
            lcs = _long_lcs(len(text), marks, rows, other, least, progress)
            if counts[AT] > 0:
                return STOPPED
        counts[PAIRS] += 1
        counts[NEXT] += 1
        if lcs >= least:
            return lcs
    counts[NEXT] = 0
    return NONE


@jit
def _long_lcs(
    length: int,
    marks: Marks,
    rows: npt.NDArray[np.int32],
    other: npt.NDArray[np.int32],
    least: int,
    progress: Progress,
) -> int:
    """The LCS, or a number below `least` where it is below it. When it stops on the way, `AT` is above 0."""
    counts, words = progress.counts, words_of(length)
    state = progress.state[:words]
    at = int(np.int64(counts[AT]))
    if at == 0:
        counts[STEPS] += len(other) + len(marks.left)
        if not may_share(marks, rows, other, least):
            return least - 1
        state[:] = ALL
    portion = max(WORD, words)  # tokens: looking at all words after each portion costs at most a step for each token
    while at < len(other):
        end = min(at + portion, len(other))
        counts[STEPS] += words + advance(marks, rows, other[at:end], state)
        at = end
        if length_of(state) + len(other) - at < least:
            break  # not even with all that is left
        if counts[STEPS] > counts[LIMIT] and at < len(other):
            counts[AT] = at
            return least - 1
    counts[AT] = 0
    return length_of(state)
