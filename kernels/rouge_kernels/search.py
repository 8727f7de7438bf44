"""The decisions of an index: which texts it keeps, their nearest duplicates, and the keys that they are posted under.

The kernels here and in `query` and `candidates` see arrays and no objects.
"""

# ruff: noqa: PLR0917  (compiled calls are positional)

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.bounds import least_lcs
from rouge_kernels.candidates import find_candidates
from rouge_kernels.lcs import WORD, mark, marked_lcs, unmark
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
) -> None:
    """Find the nearest duplicate of each text from `begin` to `end` among those posted in the table; keep none."""
    scratch = allocate_scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    for i in range(begin, end):
        text = texts[starts[i] : starts[i + 1]]
        query = prepare(text, rule, scratch)
        candidates, number = find_candidates(query, corpus, table, candidates)
        _choose(text, rule, corpus, candidates[:number], rows, findings, i)


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
    size: int,
    anyway: bool,
) -> tuple[int, int]:
    """Keep, in order from `begin`, each text that is not a duplicate, or with `anyway` each text.

    It stops when there is no room for the keys of a text. Returns the new size and the first text not looked at.
    """
    scratch = allocate_scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i
        query = prepare(text, rule, scratch)
        if not anyway:
            candidates, number = find_candidates(query, corpus, table, candidates)
            _choose(text, rule, corpus, candidates[:number], rows, findings, i)
        if anyway or findings.nearest[i] < 0:
            _append(query, corpus, size)
            post_text(query, size, table)
            size += 1
    return size, len(starts) - 1


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
    size: int,
) -> tuple[int, int]:
    """Do the same as `admit` without a search: `findings` and `pairs` already hold all duplicates.

    `findings`: the nearest duplicates among the texts kept before, from `look_up`. `pairs`: the duplicates among these
    texts, as sorted rows of (text, earlier text, LCS). `positions`: where each text before `begin` was kept, or -1;
    this function writes the following entries.
    """
    scratch = allocate_scratch(starts)
    at = np.searchsorted(pairs[:, 0], begin)
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i
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
    return size, len(starts) - 1


@jit
def pair_up(
    texts: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    begin: int,
    rule: Rule,
    corpus: Corpus,
    table: Table,
    rows: npt.NDArray[np.int32],
    size: int,
) -> tuple[int, int, npt.NDArray[np.int64]]:
    """Keep every text from `begin` on, while there is room, and report all its duplicates before it.

    Returns the new size, the first text not looked at, and rows of (earlier position, own position, LCS).
    """
    scratch = allocate_scratch(starts)
    candidates = np.empty(FIRST_CANDIDATES, dtype=np.int32)
    pairs = np.empty((FIRST_CANDIDATES, 3), dtype=np.int64)
    filled = len(pairs[:0])  # numba gives a literal 0 a type of its own and would compile `_append_pairs` twice
    for i in range(begin, len(starts) - 1):
        text = texts[starts[i] : starts[i + 1]]
        if not has_room(table, keys_at_most(len(text), size), size):
            return size, i, pairs[:filled]
        query = prepare(text, rule, scratch)
        candidates, number = find_candidates(query, corpus, table, candidates)
        if filled + number > len(pairs):
            larger = np.empty((2 * (filled + number), 3), dtype=np.int64)
            larger[:filled] = pairs[:filled]
            pairs = larger
        if number > 0:
            filled = _append_pairs(text, size, rule, corpus, candidates[:number], rows, pairs, filled)
        _append(query, corpus, size)
        post_text(query, size, table)
        size += 1
    return size, len(starts) - 1, pairs[:filled]


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
) -> int:
    """Append a pair for each candidate that is a duplicate, each once; return the new number of pairs."""
    candidates.sort()
    masks = mark(text, rows)
    state = np.empty(masks.shape[1], dtype=np.uint64)
    before = -1
    for candidate in candidates:
        if candidate == before:
            continue
        before = candidate
        other = corpus.values[corpus.starts[candidate] : corpus.starts[candidate + 1]]
        least = least_lcs(rule.least, rule.threshold, len(text), len(other))
        lcs = marked_lcs(masks, rows, other, state, least)
        if lcs >= least:
            pairs[filled, 0], pairs[filled, 1], pairs[filled, 2] = candidate, position, lcs
            filled += 1
    unmark(text, rows)
    return filled


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
) -> None:
    """Write the candidate with the highest F, the earliest of equals, if it is nearer than the known duplicate."""
    if len(candidates) == 0:
        return
    if len(text) > WORD:  # a long text meets the same candidate under many keys, and each comparison is dear
        candidates.sort()
    masks = mark(text, rows)
    state = np.empty(masks.shape[1], dtype=np.uint64)
    before = -1
    for candidate in candidates:
        if candidate == before:
            continue
        before = candidate
        other = corpus.values[corpus.starts[candidate] : corpus.starts[candidate + 1]]
        least = least_lcs(rule.least, rule.threshold, len(text), len(other))
        lcs = marked_lcs(masks, rows, other, state, least)
        if lcs < least:
            continue
        score = fmeasure(lcs, len(text), len(other))
        nearest = findings.nearest[i]
        if nearest < 0 or score > findings.score[i] or (score == findings.score[i] and candidate < nearest):
            findings.nearest[i], findings.lcs[i], findings.score[i] = candidate, lcs, score
    unmark(text, rows)
