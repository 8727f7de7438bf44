"""ROUGE-L's F in the very floats of `rouge_score`, and its threshold as an integer.

Near a threshold the algebraically equal 2·LCS/(m+n) rounds differently and decides differently, so the score is
computed in the reference's own order of operations. That form is symmetric even in floats (only sums and products
commute in it), so which text is the prediction changes no decision; here the earlier, kept text is the target and
the new text the prediction.
"""

import math

from rouge_kernels._jit import jit

IDENTICAL = math.nextafter(1.0, 0.0)
"""The threshold above which only texts of the very same tokens score: F is 1 with them, and with all others less."""


@jit
def fmeasure(lcs: int, prediction_length: int, target_length: int) -> float:
    """The F of precision `lcs / prediction_length` and recall `lcs / target_length`; 0 where nothing is common."""
    if lcs == 0:
        return 0.0
    precision = lcs / prediction_length
    recall = lcs / target_length
    return 2 * precision * recall / (precision + recall)


@jit
def least_duplicate_lcs(prediction_length: int, target_length: int, threshold: float) -> int:
    """The least LCS with which two texts of these lengths score strictly above the threshold.

    One more than the shorter length if even that much is not enough. From the result on every longer LCS is a
    duplicate too: F grows by a share of at least 1/length from one LCS to the next, far above rounding.
    """
    most = min(prediction_length, target_length)
    # the real-number answer is off by one at most; the floats of the reference settle it
    lcs = min(max(1, int(threshold * (prediction_length + target_length) / 2)), most + 1)
    while lcs <= most and fmeasure(lcs, prediction_length, target_length) <= threshold:
        lcs += 1
    while lcs > 1 and fmeasure(lcs - 1, prediction_length, target_length) > threshold:
        lcs -= 1
    return lcs
