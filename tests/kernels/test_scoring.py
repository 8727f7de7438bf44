from fractions import Fraction

import pytest
from rouge_score import scoring

from rouge_kernels import fmeasure, least_duplicate_lcs

THRESHOLDS = [0.5, 0.6, 0.7, 0.8]


def reference(lcs, prediction_length, target_length):
    """The F of rouge_score, from its own function."""
    return scoring.fmeasure(lcs / prediction_length, lcs / target_length)


def lengths(longest):
    return ((m, n) for m in range(1, longest + 1) for n in range(1, longest + 1))


def test_scores_equal_rouge_score_to_the_last_bit():
    """Every score of two texts of up to 40 tokens is the float of rouge_score, with either text as the prediction."""
    for m, n in lengths(40):
        for lcs in range(min(m, n) + 1):
            assert fmeasure(lcs, m, n) == fmeasure(lcs, n, m) == reference(lcs, m, n)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_integer_decisions_equal_rouge_score(threshold):
    """For all (m, n, LCS) up to 80 tokens, the integer gives the same decision as the float."""
    for m, n in lengths(80):
        least = least_duplicate_lcs(m, n, threshold)
        assert 1 <= least <= min(m, n) + 1
        assert least == min(m, n) + 1 or reference(least, m, n) > threshold
        assert least == 1 or reference(least - 1, m, n) <= threshold
        # these two decide all others, because the float grows with the LCS
        assert all(reference(lcs, m, n) > threshold for lcs in range(least, min(m, n) + 1))
        assert all(reference(lcs, m, n) <= threshold for lcs in range(least))


@pytest.mark.parametrize(("numerator", "above", "pairs"), [(5, 72, 1106), (6, 66, 380), (7, 86, 154), (8, 46, 458)])
def test_scores_equal_to_the_threshold_follow_the_float(numerator, above, pairs):
    """If F equals the threshold exactly, rouge_score's float is often above it; then the pair is a duplicate here, too.

    The counts, over all (m, n, LCS) up to 80 tokens, show that the test covers such pairs.
    """
    threshold = numerator / 10
    exact = [
        (lcs, m, n)
        for m, n in lengths(80)
        for lcs in range(1, min(m, n) + 1)
        if Fraction(2 * lcs, m + n) == Fraction(numerator, 10)
    ]
    dropped = [pair for pair in exact if pair[0] >= least_duplicate_lcs(*pair[1:], threshold)]
    assert (len(dropped), len(exact)) == (above, pairs)
    assert dropped == [pair for pair in exact if reference(*pair) > threshold]


def test_no_duplicates_at_threshold_one_or_without_tokens():
    """At threshold 1 even equal texts are no duplicates, and with an empty text no LCS is enough at any threshold."""
    for n in range(1, 200):
        assert least_duplicate_lcs(n, n, 1.0) == n + 1
        assert least_duplicate_lcs(0, n, 0.01) == least_duplicate_lcs(n, 0, 0.01) == 1
    assert least_duplicate_lcs(0, 0, 0.5) == 1
    assert fmeasure(0, 0, 0) == fmeasure(0, 3, 0) == 0.0
