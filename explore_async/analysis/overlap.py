"""How alike the texts of a data set are: ROUGE-L of each with all others, by the batch kernel. Exact.

Where there are more texts than `MOST_COMPARED`, that many drawn by lot are compared with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rouge_kernels import TOKENIZERS, Texts, Vocabulary, best, histogram, mean

BINS = 50
MOST_COMPARED = 50_000
_MOST_PAIRS = 5_000_000_000
"""Beyond so many, fewer texts are drawn: some ten seconds of two cores."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """Of each compared text (`positions` among all) the greatest ROUGE-L F with another one, which one that is, and the
    mean F with all others. `pairs`: how many pairs have their F in each of BINS equal parts of [0, 1].
    """

    positions: npt.NDArray[np.int64]
    greatest: npt.NDArray[np.float64]
    nearest: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    pairs: npt.NDArray[np.int64]
    texts: int

    @property
    def is_sampled(self) -> bool:
        return len(self.positions) < self.texts


def within(texts: Sequence[str], tokenizer: str = "rouge", *, seed: int = 0) -> Overlap:
    """Each text against all others of the same data set."""
    encoded = Vocabulary(TOKENIZERS[tokenizer]).encode(texts)
    positions = _compared(len(texts), len(texts), seed)
    queries = encoded if len(positions) == len(texts) else encoded.of(positions)
    return _overlap(queries, encoded, positions, excluding=positions)


def between(texts: Sequence[str], others: Sequence[str], tokenizer: str = "rouge", *, seed: int = 0) -> Overlap:
    """Each text against all of another data set: `nearest` counts in that one."""
    encoded = Vocabulary(TOKENIZERS[tokenizer]).encode([*texts, *others])
    positions = _compared(len(texts), len(others), seed)
    corpus = encoded.of(np.arange(len(texts), len(texts) + len(others)))
    return _overlap(encoded.of(positions), corpus, positions, excluding=None, of=len(texts))


def _overlap(
    queries: Texts,
    corpus: Texts,
    positions: npt.NDArray[np.int64],
    *,
    excluding: npt.NDArray[np.int64] | None,
    of: int | None = None,
) -> Overlap:
    found = best(queries, corpus, excluding=excluding)
    return Overlap(
        positions=positions,
        greatest=np.nan_to_num(found.score),
        nearest=found.position,
        mean=np.nan_to_num(mean(queries, corpus, excluding=excluding)),
        pairs=histogram(queries, corpus, BINS, excluding=excluding),
        texts=len(corpus) if of is None else of,
    )


def _compared(texts: int, corpus: int, seed: int) -> npt.NDArray[np.int64]:
    """The positions of the texts to compare, in order."""
    most = min(texts, MOST_COMPARED, max(1, _MOST_PAIRS // max(corpus, 1)))
    if most == texts:
        return np.arange(texts)
    return np.sort(np.random.default_rng(seed).choice(texts, most, replace=False))
