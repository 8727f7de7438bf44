"""Tests that every float of the scorer equals rouge_score's, bit for bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from rouge_kernels import RougeL

texts = st.text("abdeginrst ,K\u212a1é", max_size=60) | st.lists(st.sampled_from(["running", "runs", "a", "b"])).map(
    " ".join
)
REFERENCE = {stemming: RougeScorer(["rougeL"], use_stemmer=stemming) for stemming in (False, True)}


@given(st.lists(st.tuples(texts, texts), max_size=8), st.booleans())
def test_pairs_score_as_with_the_reference(pairs, stemming):
    """Precision, recall and F equal the reference, for single pairs and many, with stemming or not, also for empty texts."""
    expected = [tuple(REFERENCE[stemming].score(*pair)["rougeL"]) for pair in pairs]
    scorer = RougeL(stemming=stemming)
    assert [tuple(scorer.score(*pair)) for pair in pairs] == expected
    scores = scorer.score_pairs([target for target, _ in pairs], [prediction for _, prediction in pairs])
    assert list(zip(*(array.tolist() for array in scores), strict=True)) == expected


@given(st.lists(texts, min_size=1, max_size=6), texts)
def test_several_targets(targets, prediction):
    """Of several targets the target with the highest F counts, the first of equals."""
    expected = REFERENCE[False].score_multi(targets, prediction)["rougeL"]
    assert tuple(RougeL().score_multi(targets, prediction)) == tuple(expected)


def test_invalid_pairs_are_errors():
    """An empty list of targets, or lists of different lengths, raise ValueError."""
    with pytest.raises(ValueError, match="no targets"):
        RougeL().score_multi([], "a")
    with pytest.raises(ValueError, match="2 targets and 1 prediction"):
        RougeL().score_pairs(["a", "b"], ["a"])
