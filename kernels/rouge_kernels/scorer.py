"""ROUGE-L of pairs of texts, equal to the scores of `rouge_score` to the last bit."""

# ruff: noqa: PLR0917  (compiled calls are positional)

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rouge_kernels._jit import jit
from rouge_kernels.lcs import lcs_of_ids, wrapping
from rouge_kernels.scoring import fmeasure
from rouge_kernels.tokenizer import RougeTokenizer
from rouge_kernels.vocabulary import Vocabulary


class Score(NamedTuple):
    """Fractions from 0 to 1; all are 0 if either text has no tokens."""

    precision: float
    """LCS / tokens of the prediction."""
    recall: float
    """LCS / tokens of the target."""
    fmeasure: float


class Scores(NamedTuple):
    """The scores of all pairs, as three arrays with an entry for each pair."""

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    fmeasure: npt.NDArray[np.float64]


class RougeL:
    """Scores predictions against targets, as `RougeScorer(["rougeL"], use_stemmer=stemming)` does.

    It remembers the ids of tokens, so one scorer for many calls is faster than a new scorer for each call. Two threads
    must not use a scorer at the same time.
    """

    def __init__(self, *, stemming: bool = False) -> None:
        self._vocabulary = Vocabulary(RougeTokenizer(stemming=stemming))

    def score(self, target: str, prediction: str) -> Score:
        scores = self.score_pairs([target], [prediction])
        return Score(float(scores.precision[0]), float(scores.recall[0]), float(scores.fmeasure[0]))

    def score_multi(self, targets: Sequence[str], prediction: str) -> Score:
        """The score with the target of the highest F, the first of equals. Raises ValueError without targets."""
        if not targets:
            raise ValueError("no targets: give at least one to score against")
        scores = self.score_pairs(targets, [prediction] * len(targets))
        best = int(np.argmax(scores.fmeasure))
        return Score(float(scores.precision[best]), float(scores.recall[best]), float(scores.fmeasure[best]))

    def score_pairs(self, targets: Sequence[str], predictions: Sequence[str]) -> Scores:
        """The score of each target with the prediction at its position. Raises ValueError if the numbers differ."""
        if len(targets) != len(predictions):
            raise ValueError(f"{len(targets)} targets and {len(predictions)} predictions do not make pairs")
        target, prediction = self._vocabulary.encode(targets), self._vocabulary.encode(predictions)
        rows = np.zeros(max(1, len(self._vocabulary)), dtype=np.int32)
        scores = Scores(np.zeros(len(targets)), np.zeros(len(targets)), np.zeros(len(targets)))
        with wrapping():
            _score_pairs(target.ids, target.starts, prediction.ids, prediction.starts, rows, scores)
        return scores


@jit
def _score_pairs(
    target_ids: npt.NDArray[np.int32],
    target_starts: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    scores: Scores,
) -> None:
    for pair in range(len(starts) - 1):
        target = target_ids[target_starts[pair] : target_starts[pair + 1]]
        prediction = ids[starts[pair] : starts[pair + 1]]
        if len(target) == 0 or len(prediction) == 0:
            continue
        lcs = lcs_of_ids(target, prediction, rows)
        scores.precision[pair] = lcs / len(prediction)
        scores.recall[pair] = lcs / len(target)
        scores.fmeasure[pair] = fmeasure(lcs, len(prediction), len(target))
