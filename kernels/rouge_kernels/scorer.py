"""ROUGE-L of pairs of texts, equal to that of `rouge_score` to the last bit."""

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
    """Shares of 1; all 0 where either text has no tokens."""

    precision: float
    """The LCS's share of the prediction's tokens."""
    recall: float
    """The LCS's share of the target's tokens."""
    fmeasure: float


class Scores(NamedTuple):
    """A score for each pair, as three arrays."""

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    fmeasure: npt.NDArray[np.float64]


class RougeL:
    """Scores predictions against targets, as `RougeScorer(["rougeL"], use_stemmer=stemming)` does.

    It keeps the tokens it has met, so one scorer for many calls is faster than many. Not for two threads at once.
    """

    def __init__(self, *, stemming: bool = False) -> None:
        self._vocabulary = Vocabulary(RougeTokenizer(stemming=stemming))

    def score(self, target: str, prediction: str) -> Score:
        scores = self.score_pairs([target], [prediction])
        return Score(float(scores.precision[0]), float(scores.recall[0]), float(scores.fmeasure[0]))

    def score_multi(self, targets: Sequence[str], prediction: str) -> Score:
        """The score with the target that gives the highest F, the first of equals. ValueError without targets."""
        if not targets:
            raise ValueError("no targets to score against")
        scores = self.score_pairs(targets, [prediction] * len(targets))
        best = int(np.argmax(scores.fmeasure))
        return Score(float(scores.precision[best]), float(scores.recall[best]), float(scores.fmeasure[best]))

    def score_pairs(self, targets: Sequence[str], predictions: Sequence[str]) -> Scores:
        """The score of each target with the prediction of the same position. ValueError if they are not as many."""
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
