"""Overlap of the texts of a dataset: ROUGE-L of each with all others, by the batch kernel. Exact.

Of more texts than `MOST_COMPARED`, that many are drawn at random and compared with all; fewer where the pairs are too
many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from explore_async.curation.ray_workers import Workers
from rouge_kernels import TOKENIZERS, Texts, Vocabulary, best, histogram, mean, top_k

BINS = 50
MOST_COMPARED = 50_000
_MOST_PAIRS = 5_000_000_000
"""With more pairs, fewer texts are drawn: about ten seconds of two cores."""
_FIRST_NEIGHBOURS = 8

_PARTS_PER_WORKER = 4

Positions = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


class _Part(NamedTuple):
    """Texts to compare with a corpus. `threads`: None takes one for each processor."""

    queries: Texts
    excluding: Positions | None
    threads: int | None


Measure: TypeAlias = Callable[[_Part, Texts], tuple[npt.NDArray[Any], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """For each compared text (`positions` among all): the greatest ROUGE-L F with another text, the position of that
    text, and the mean F with all others. `pairs`: the number of pairs with F in each of BINS equal parts of [0, 1].
    """

    positions: Positions
    greatest: Scores
    nearest: Positions
    mean: Scores
    pairs: npt.NDArray[np.int64]
    texts: int


@dataclass(frozen=True, slots=True, eq=False)
class ByTask:
    """The same, apart for other texts of the same task and for texts of other tasks; nan where there are none."""

    greatest_within: Scores
    greatest_across: Scores
    mean_within: Scores
    mean_across: Scores
    pairs_within: npt.NDArray[np.int64]
    pairs_across: npt.NDArray[np.int64]


def within(
    texts: Sequence[str],
    tokenizer: str = "rouge",
    *,
    tasks: Sequence[str] = (),
    seed: int = 0,
    workers: Workers | None = None,
) -> tuple[Overlap, ByTask | None]:
    """Each text against all others of the same dataset.

    `tasks`: the task of each text; with fewer than two, ByTask is None. `workers` here and below: compare the same
    texts, with the same figures.
    """
    encoded = Vocabulary(TOKENIZERS[tokenizer]).encode(texts)
    positions = _compared(len(texts), len(texts), seed)
    queries = encoded if len(positions) == len(texts) else encoded.of(positions)
    overlap = _overlap(queries, encoded, positions, workers, excluding=positions)
    if len(set(tasks)) < 2:  # noqa: PLR2004
        return overlap, None
    return overlap, _by_task(overlap, encoded, np.unique(tasks, return_inverse=True)[1], workers)


def between(
    texts: Sequence[str],
    others: Sequence[str],
    tokenizer: str = "rouge",
    *,
    seed: int = 0,
    workers: Workers | None = None,
) -> Overlap:
    """Each text against all of another dataset; `nearest` is a position in that dataset."""
    encoded = Vocabulary(TOKENIZERS[tokenizer]).encode([*texts, *others])
    positions = _compared(len(texts), len(others), seed)
    corpus = encoded.of(np.arange(len(texts), len(texts) + len(others)))
    return _overlap(encoded.of(positions), corpus, positions, workers, excluding=None, of=len(texts))


def _overlap(
    queries: Texts,
    corpus: Texts,
    positions: Positions,
    workers: Workers | None,
    *,
    excluding: Positions | None,
    of: int | None = None,
) -> Overlap:
    greatest, nearest, means, pairs = _measured(_all_figures, queries, corpus, excluding, workers)
    return Overlap(
        positions=positions,
        greatest=np.nan_to_num(greatest),
        nearest=nearest,
        mean=np.nan_to_num(means),
        pairs=pairs.sum(axis=0),
        texts=len(corpus) if of is None else of,
    )


def _measured(
    measure: Measure, queries: Texts, corpus: Texts, excluding: Positions | None, workers: Workers | None
) -> tuple[npt.NDArray[Any], ...]:
    """The arrays of a measure, each with an entry for each query."""
    if workers is None or len(queries) < workers.count:
        return measure(_Part(queries, excluding, None), corpus)
    cuts = np.linspace(0, len(queries), _PARTS_PER_WORKER * workers.count + 1).astype(int).tolist()
    parts = (
        _Part(queries.of(np.arange(begin, end)), None if excluding is None else excluding[begin:end], 1)
        for begin, end in pairwise(cuts)
        if begin < end
    )
    return tuple(np.concatenate(arrays) for arrays in zip(*workers.results(measure, parts, corpus), strict=True))


def _all_figures(part: _Part, corpus: Texts) -> tuple[npt.NDArray[Any], ...]:
    """The greatest F, its position, the mean F, and the pairs in each of BINS parts."""
    nearest = best(part.queries, corpus, excluding=part.excluding, threads=part.threads)
    return (
        nearest.score,
        nearest.position,
        mean(part.queries, corpus, excluding=part.excluding, threads=part.threads),
        histogram(part.queries, corpus, BINS, per_query=True, excluding=part.excluding, threads=part.threads),
    )


def _neighbours(part: _Part, corpus: Texts, *, count: int) -> tuple[npt.NDArray[Any], ...]:
    """Positions and scores of the nearest texts."""
    found = top_k(part.queries, corpus, count, excluding=part.excluding, threads=part.threads)
    return found.position, found.score


def _by_task(overlap: Overlap, encoded: Texts, tasks: Positions, workers: Workers | None) -> ByTask:
    """Sums across tasks are the sums over all less those within tasks; only the nearest has to be looked for."""
    compared = overlap.positions
    own = tasks[compared]
    others_within = np.bincount(tasks)[own] - 1
    greatest, means = np.full(len(compared), np.nan), np.full(len(compared), np.nan)
    pairs = np.zeros(BINS, dtype=np.int64)
    by_task = np.argsort(own, kind="stable")
    for of_task in np.split(by_task, np.flatnonzero(np.diff(own[by_task])) + 1):
        members = np.flatnonzero(tasks == own[of_task[0]])
        if len(members) < 2:  # noqa: PLR2004
            continue
        queries, corpus = encoded.of(compared[of_task]), encoded.of(members)
        itself = np.searchsorted(members, compared[of_task])
        greatest[of_task] = best(queries, corpus, excluding=itself).score
        means[of_task] = mean(queries, corpus, excluding=itself)
        pairs += histogram(queries, corpus, BINS, excluding=itself)
    others_across = len(tasks) - 1 - others_within
    sum_across = overlap.mean * (len(tasks) - 1) - np.nan_to_num(means) * others_within
    return ByTask(
        greatest_within=greatest,
        greatest_across=_greatest_across(overlap, encoded, tasks, workers),
        mean_within=means,
        mean_across=np.where(others_across > 0, np.maximum(sum_across, 0) / np.maximum(others_across, 1), np.nan),
        pairs_within=pairs,
        pairs_across=overlap.pairs - pairs,
    )


def _greatest_across(overlap: Overlap, encoded: Texts, tasks: Positions, workers: Workers | None) -> Scores:
    """Most texts have one of their first neighbours in another task; only the others need more neighbours."""
    compared, greatest = overlap.positions, overlap.greatest.copy()
    left = np.flatnonzero(tasks[overlap.nearest] == tasks[compared])
    largest = int(np.bincount(tasks).max())
    most = _FIRST_NEIGHBOURS
    while len(left):
        open_texts = compared[left]
        measure = partial(_neighbours, count=min(most, largest))
        position, score = _measured(measure, encoded.of(open_texts), encoded, open_texts, workers)
        elsewhere = tasks[position] != tasks[open_texts][:, None]
        first = elsewhere.argmax(axis=1)
        greatest[left] = score[np.arange(len(left)), first]
        if most >= largest:  # a task has no more texts than these, of which one is itself
            break
        left = left[~elsewhere.any(axis=1)]
        most *= _FIRST_NEIGHBOURS
    return greatest


def _compared(texts: int, corpus: int, seed: int) -> Positions:
    """The positions of the texts to compare, in order."""
    most = min(texts, MOST_COMPARED, max(1, _MOST_PAIRS // max(corpus, 1)))
    if most == texts:
        return np.arange(texts)
    return np.sort(np.random.default_rng(seed).choice(texts, most, replace=False))
