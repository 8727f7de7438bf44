"""ROUGE-L's F, equal to the floats of `rouge_score`, and its threshold as an integer.

The score is computed in the order of operations of `rouge_score`: near a threshold the algebraically equal 2·LCS/(m+n)
rounds differently and decides differently. The formula is symmetric even in floats, because a swap of the texts swaps
only the operands of sums and products. So it does not matter which text is the prediction; here the text kept earlier
is the target and the new text is the prediction.
"""

import math

from rouge_kernels._jit import jit

IDENTICAL = math.nextafter(1.0, 0.0)
"""The threshold that only texts with exactly the same tokens exceed: their F is 1, and every other F is lower."""


@jit
def fmeasure(lcs: int, prediction_length: int, target_length: int) -> float:
    """The F of precision `lcs / prediction_length` and recall `lcs / target_length`; 0 if the LCS is 0."""
    if lcs == 0:
        return 0.0
    precision = lcs / prediction_length
    recall = lcs / target_length
    return 2 * precision * recall / (precision + recall)


@jit
def least_duplicate_lcs(prediction_length: int, target_length: int, threshold: float) -> int:
    """The least LCS with which two texts of these lengths score strictly above the threshold.

    It is one more than the shorter length if no LCS is enough. Every LCS from the result on makes a duplicate: from one
    LCS to the next, F grows by a factor of at least 1 + 1/length, far above rounding.
    """
    most = min(prediction_length, target_length)
    # the result in real numbers is wrong by at most one; the floats of the reference decide
    lcs = min(max(1, int(threshold * (prediction_length + target_length) / 2)), most + 1)
    while lcs <= most and fmeasure(lcs, prediction_length, target_length) <= threshold:
        lcs += 1
    while lcs > 1 and fmeasure(lcs - 1, prediction_length, target_length) > threshold:
        lcs -= 1
    return lcs
