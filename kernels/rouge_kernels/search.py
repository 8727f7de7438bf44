"""The decisions of an index: which texts it keeps, their nearest duplicates, and the keys that they are posted under.

The kernels here and in `query` and `candidates` see arrays and no objects. Those with a `progress` stop when a call has
taken its steps, and the next call with the same `progress` goes on from there.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.candidates import find_candidates
from rouge_kernels.comparison import (
    NEXT,
    NONE,
    STOPPED,
    Progress,
    begin_call,
    begin_text,
    is_used_up,
    next_duplicate,
)
from rouge_kernels.lcs import mark, unmark
from rouge_kernels.placement import keys_at_most, post_text
from rouge_kernels.postings import Table, has_room
from rouge_kernels.query import Corpus, Query, Rule, allocate_scratch, prepare
from rouge_kernels.scoring import fmeasure

FIRST_CANDIDATES = 256


class Findings(NamedTuple):
    """The nearest duplicate of each text of a batch: position (-1: none), LCS (-1) and F (nan)."""

    nearest: npt.NDArray[np.int64]
    lcs: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]

    def of(self, first: int, last: int) -> "Findings":
        """A view of those of the texts from `first` to `last`."""
        return Findings(self.nearest[first:last], self.lcs[first:last], self.score[first:last])

    def clear(self) -> None:
        """Forget all."""
        self.nearest[:], self.lcs[:], self.score[:] = -1, -1, np.nan


@jit
def look_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    end: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    findings: Findings,
    progress: Progress,
) -> int:
    """Find the nearest duplicate of each text from `begin` to `end` among those posted in the table; keep none.

    Returns the first text that is not finished.
    """
    scratch = allocate_scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    begin_call(progress)
    for i in range(begin, end):
        if is_used_up(progress):
            return i
        text = texts[starts[i] : starts[i + 1]]
        query = prepare(text, rule, scratch)
        candidates, number, steps = find_candidates(query, corpus, table, candidates)
        begin_text(progress, steps)
        if not _choose(text, rule, corpus, candidates[:number], rows, findings, i, progress):
            return i
    return end


@jit
def admit(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    findings: Findings,
    progress: Progress,
    anyway: bool,
) -> int:
    """Keep, in order from `begin`, each text that is not a duplicate, or with `anyway` each text.

    It also stops when there is no room for the keys of a text. Returns the first text that is not finished.
    """
    size = corpus.size[0]
    scratch = allocate_scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    begin_call(progress)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if is_used_up(progress) or not has_room(table, keys_at_most(len(text), size), size):
            return i
        query = prepare(text, rule, scratch)
        if not anyway:
            candidates, number, steps = find_candidates(query, corpus, table, candidates)
            begin_text(progress, steps)
            if not _choose(text, rule, corpus, candidates[:number], rows, findings, i, progress):
                return i
        if anyway or findings.nearest[i] < 0:
            _append(query, corpus, size)
            post_text(query, size, table)
            size += 1
            corpus.size[0] = size
    return len(starts) - 1


@jit
def admit_looked_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    pairs: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    findings: Findings,
) -> int:
    """Do the same as `admit` without a search: `findings` and `pairs` already hold all duplicates.

    `findings`: the nearest duplicates among the texts kept before, from `look_up`. `pairs`: the duplicates among these
    texts, as sorted rows of (text, earlier text, LCS). `positions`: where each text before `begin` was kept, or -1;
    this function writes the following entries.
    """
    size = corpus.size[0]
    scratch = allocate_scratch(starts)
    at = np.searchsorted(pairs[:, 0], begin)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return i
        while at < len(pairs) and pairs[at, 0] == i:
            earlier, lcs = pairs[at, 1], pairs[at, 2]
            score = fmeasure(lcs, len(text), starts[earlier + 1] - starts[earlier])
            if positions[earlier] >= 0 and not score <= findings.score[i]:  # nan while there is no duplicate
                findings.nearest[i], findings.lcs[i], findings.score[i] = positions[earlier], lcs, score
            at += 1
        positions[i] = -1
        if findings.nearest[i] < 0:
            query = prepare(text, rule, scratch)
            _append(query, corpus, size)
            post_text(query, size, table)
            positions[i] = size
            size += 1
            corpus.size[0] = size
    return len(starts) - 1


@jit
def pair_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    progress: Progress,
) -> tuple[int, npt.NDArray[np.int64]]:
    """Keep every text from `begin` on, while there is room, and report all its duplicates before it.

    Returns the first text that is not finished, and rows of (earlier position, own position, LCS).
    """
    size = corpus.size[0]
    scratch = allocate_scratch(starts)
    begin_call(progress)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    pairs = np.empty((FIRST_CANDIDATES, 3), dtype=np.int64)
    filled = len(pairs[:0])  # numba gives a literal 0 a type of its own and would compile `_append_pairs` twice
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if is_used_up(progress) or not has_room(table, keys_at_most(len(text), size), size):
            return i, pairs[:filled]
        query = prepare(text, rule, scratch)
        candidates, number, steps = find_candidates(query, corpus, table, candidates)
        begin_text(progress, steps)
        if filled + number > len(pairs):
            larger = np.empty((2 * (filled + number), 3), dtype=np.int64)
            larger[:filled] = pairs[:filled]
            pairs = larger
        if number > 0:
            filled, is_finished = _append_pairs(
                text, size, rule, corpus, candidates[:number], rows, pairs, filled, progress
            )
            if not is_finished:
                return i, pairs[:filled]
        _append(query, corpus, size)
        post_text(query, size, table)
        size += 1
        corpus.size[0] = size
    return len(starts) - 1, pairs[:filled]


@jit
def _append_pairs(
    text: npt.NDArray[np.int32],
    position: int,
    rule: Rule,
    corpus: Corpus,
    candidates: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    pairs: npt.NDArray[np.int64],
    filled: int,
    progress: Progress,
) -> tuple[int, bool]:
    """Append a pair for each candidate that is a duplicate. Return the number of pairs, and False if it stopped."""
    marks = mark(text, rows)
    lcs = next_duplicate(text, marks, rows, rule, corpus, candidates, progress)
    while lcs > NONE:
        candidate = candidates[progress.counts[NEXT] - 1]
        pairs[filled, 0], pairs[filled, 1], pairs[filled, 2] = candidate, position, lcs
        filled += 1
        lcs = next_duplicate(text, marks, rows, rule, corpus, candidates, progress)
    unmark(text, rows)
    return filled, lcs != STOPPED


@jit
def _append(query: Query, corpus: Corpus, size: int) -> None:
    """Write the text behind the last text of the corpus, which has room for it."""
    start = corpus.starts[size]
    end = start + len(query.text)
    corpus.values[start:end] = query.text
    corpus.starts[size + 1] = end
    corpus.signatures[size] = query.signature


@jit
def _choose(
    text: npt.NDArray[np.int32],
    rule: Rule,
    corpus: Corpus,
    candidates: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int32],
    findings: Findings,
    i: int,
    progress: Progress,
) -> bool:
    """Write the candidate with the highest F, the earliest of equals, if it is nearer than the known duplicate.

    Returns False if it stopped.
    """
    if len(candidates) == 0:
        return True
    marks = mark(text, rows)
    lcs = next_duplicate(text, marks, rows, rule, corpus, candidates, progress)
    while lcs > NONE:
        candidate = candidates[progress.counts[NEXT] - 1]
        score = fmeasure(lcs, len(text), corpus.starts[candidate + 1] - corpus.starts[candidate])
        nearest = findings.nearest[i]
        if nearest < 0 or score > findings.score[i] or (score == findings.score[i] and candidate < nearest):
            findings.nearest[i], findings.lcs[i], findings.score[i] = candidate, lcs, score
        lcs = next_duplicate(text, marks, rows, rule, corpus, candidates, progress)
    unmark(text, rows)
    return bool(lcs != STOPPED)
