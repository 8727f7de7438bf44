"""Texts that say the same in other words, by the cosines of their vectors. Exact: all pairs, in blocks of numpy.

Cosines are rounded to four digits before anything is decided: below that they depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from explore_async.curation.embeddings import Embedder, Vectors
from explore_async.exploration.values import Verdict

PARAPHRASE: Final = "paraphrase"
PARAPHRASE_THRESHOLD: Final = 0.8
"""The cosine above which two texts count as paraphrases."""
_DIGITS = 4
_ROWS, _COLUMNS = 512, 8192
_ACCEPTED = Verdict(kept=True, reason="accepted")

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]


class Paraphrases:
    """Owns the vectors of the texts kept so far, and decides if another text says something new."""

    def __init__(self, embedder: Embedder, threshold: float = PARAPHRASE_THRESHOLD) -> None:
        self.model = embedder.name
        self.threshold = threshold
        self._embed = embedder.embed
        self._vectors: dict[str, list[Vectors]] = {}
        self._ids: dict[str, list[str]] = {}

    def admit_all(self, texts: Sequence[tuple[str, str]], scope: str = "") -> list[Verdict]:
        """Decides about texts, each with its id, in order: each is compared with all of its scope that were kept
        before it. The nearest is the one with the greatest cosine, of several the first.
        """
        vectors = self._embed([text for text, _ in texts])
        verdicts: list[Verdict] = []
        for at in range(0, len(texts), _ROWS):
            ids = [text_id for _, text_id in texts[at : at + _ROWS]]
            verdicts += self._admit(vectors[at : at + _ROWS], ids, scope)
        return verdicts

    def _admit(self, vectors: Vectors, ids: Sequence[str], scope: str) -> list[Verdict]:
        kept_before, known = self._vectors.setdefault(scope, []), self._ids.setdefault(scope, [])
        nearest, greatest = _nearest(vectors, kept_before)
        among = _cosines(vectors, vectors)
        verdicts: list[Verdict] = []
        kept: list[int] = []
        for row in range(len(ids)):
            score = greatest[row]
            near = known[nearest[row]] if nearest[row] >= 0 else ""
            if kept and among[row, kept].max() > score:
                first = kept[int(among[row, kept].argmax())]
                score, near = among[row, first], ids[first]
            if score > np.float32(self.threshold):
                cosine = round(float(score), _DIGITS)
                verdicts.append(Verdict(kept=False, reason=PARAPHRASE, score=cosine, nearest=near))
            else:
                verdicts.append(_ACCEPTED)
                kept.append(row)
        kept_before.append(vectors[kept])
        known += [ids[row] for row in kept]
        return verdicts


def neighbours(vectors: Vectors, on_progress: Callable[[int], None] | None = None) -> tuple[Positions, Scores]:
    """For each vector the position of the nearest other, of several the first, and the cosine with it; -1 and 0 where
    there is no other.
    """
    positions = np.full(len(vectors), -1, dtype=np.int64)
    scores = np.zeros(len(vectors), dtype=np.float32)
    if len(vectors) < 2:  # noqa: PLR2004
        return positions, scores
    blocks = [vectors[at : at + _COLUMNS] for at in range(0, len(vectors), _COLUMNS)]
    for at in range(0, len(vectors), _ROWS):
        rows = slice(at, at + _ROWS)
        positions[rows], scores[rows] = _nearest(vectors[rows], blocks, itself=at)
        if on_progress is not None:
            on_progress(min(at + _ROWS, len(vectors)))
    return positions, scores


def vendi_score(vectors: Vectors) -> float:
    """The effective number of different texts (Friedman and Dieng 2023): e to the entropy of the eigenvalues of the
    cosines of all pairs divided by their number. They are those of the smaller matrix of the dimensions.
    """
    if not len(vectors):
        return 0.0
    exact = vectors.astype(np.float64)
    shares = np.linalg.eigvalsh(exact.T @ exact / len(exact))
    shares = shares[shares > np.finfo(np.float64).eps]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _cosines(rows: Vectors, columns: Vectors) -> Scores:
    cosines: Scores = np.round(rows @ columns.T, _DIGITS)
    return cosines


def _nearest(rows: Vectors, blocks: Sequence[Vectors], itself: int | None = None) -> tuple[Positions, Scores]:
    """The position of the nearest of all blocks, and the cosine with it; -1 and -2 where all are empty. `itself`: the
    position of the first row among them, as a text is not its own neighbour.
    """
    positions = np.full(len(rows), -1, dtype=np.int64)
    scores = np.full(len(rows), -2, dtype=np.float32)
    begin = 0
    for block in blocks:
        if not len(block):
            continue
        cosines = _cosines(rows, block)
        if itself is not None:
            own = np.arange(len(rows)) + itself - begin
            here = (own >= 0) & (own < len(block))
            cosines[here, own[here]] = -2
        first = cosines.argmax(axis=1)
        best = cosines[np.arange(len(rows)), first]
        nearer = best > scores
        positions[nearer], scores[nearer] = begin + first[nearer], best[nearer]
        begin += len(block)
    return positions, scores
