"""Slow, obvious oracles for the kernels: the table for the LCS, the formula for F, and the loop over kept texts."""

from __future__ import annotations

import math


def lcs_length(first, second):
    """The LCS from the table of all pairs of prefixes."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first, start=1):
        for j, b in enumerate(second, start=1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def fmeasure(lcs, prediction_length, target_length):
    """F in the order of operations of `rouge_score`."""
    if not lcs:
        return 0.0
    precision, recall = lcs / prediction_length, lcs / target_length
    return 2 * precision * recall / (precision + recall)


def greedy(kept, texts, threshold):
    """The decision on each text: (position, LCS, F) of the nearest kept text, or (-1, -1, nan), and it joins `kept`.

    Texts are lists of tokens.
    """
    decisions = []
    for text in texts:
        scores = [(lcs, fmeasure(lcs, len(text), len(other))) for other in kept for lcs in [lcs_length(text, other)]]
        highest = max((score for _, score in scores), default=0.0)
        if highest > threshold:
            position = [score for _, score in scores].index(highest)
            decisions.append((position, *scores[position]))
        else:
            decisions.append((-1, -1, math.nan))
            kept.append(text)
    return decisions
