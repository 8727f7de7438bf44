"""The pure part: groups and exact matches, against the obvious loops."""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import naive_rouge

from explore_async.curation.dedup import GroupedIndex
from rouge_kernels import IDENTICAL, Admission, DedupIndex

TEXTS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=6).map(" ".join), st.sampled_from("xy")), max_size=12
)
CUTS = st.lists(st.integers(0, 12), max_size=4)


def one_by_one(rows, decide):
    """(nearest kept row, counted over all groups, LCS, F) of each row; `decide(kept token lists, tokens)` judges."""
    kept, found = [], []
    for text, group in rows:
        tokens = text.split()
        mine = [ordinal for ordinal, (_, other) in enumerate(kept) if other == group]
        position, lcs, score = decide([kept[ordinal][0] for ordinal in mine], tokens)
        found.append((mine[position] if position >= 0 else -1, lcs, score))
        if position < 0:
            kept.append((tokens, group))
    return found


def in_batches(index, rows, cuts):
    """The same from an index, the rows cut into batches at these places."""
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    found = []
    for start, end in pairwise(edges):
        texts, groups = zip(*rows[start:end], strict=True)
        admission: Admission = index.admit(texts, groups)
        assert np.array_equal(admission.kept, admission.nearest < 0)
        found += zip(admission.nearest.tolist(), admission.lcs.tolist(), admission.score.tolist(), strict=True)
    return found


@settings(deadline=None, max_examples=50)
@given(TEXTS, CUTS, st.sampled_from([0.4, 0.7]))
def test_groups_know_nothing_of_each_other(rows, cuts, threshold):
    """Decisions and evidence equal a loop that looks at the kept rows of the same group only, however cut."""
    index = GroupedIndex(lambda: DedupIndex(threshold))
    expected = one_by_one(rows, lambda kept, tokens: naive_rouge.greedy(list(kept), [tokens], threshold)[0])
    assert repr(in_batches(index, rows, cuts)) == repr(expected)
    assert len(index) == sum(nearest < 0 for nearest, _, _ in expected)


@settings(deadline=None)
@given(TEXTS, CUTS)
def test_exact_drops_the_same_tokens_and_nothing_else(rows, cuts):
    """A text goes only if one of the same tokens is kept; one without tokens stays, as in the near-duplicate index."""
    index = GroupedIndex(lambda: DedupIndex(IDENTICAL))

    def decide(kept, tokens):
        return (kept.index(tokens), len(tokens), 1.0) if tokens and tokens in kept else (-1, -1, math.nan)

    assert repr(in_batches(index, rows, cuts)) == repr(one_by_one(rows, decide))


def test_what_makes_a_group_is_counted_over_all_of_them():
    """The position of a nearest row is its place among all kept rows, not among those of its group."""
    index = GroupedIndex(lambda: DedupIndex(0.7))
    admission = index.admit(["a b", "a b", "c d", "c d"], ["x", "y", "y", "y"])
    assert list(accumulate(admission.kept.tolist())) == [1, 2, 3, 3]
    assert admission.nearest.tolist() == [-1, -1, -1, 2]


@pytest.mark.parametrize("threshold", [0.5, 0.8, IDENTICAL])
@pytest.mark.parametrize("groups", [2, 40, 400])
def test_groups_decide_as_an_index_for_each(threshold, groups):
    """Verdicts, scores and nearest rows equal those of one index for each group, for small groups and large ones and
    texts without tokens, however the rows are cut into batches.
    """
    rng = random.Random(groups)
    rows = [(" ".join(rng.choices("abcde", k=rng.randint(0, 5))), str(rng.randrange(groups))) for _ in range(600)]
    indexes, ordinals, expected, kept = {}, {}, [], 0
    for text, group in rows:
        admission = indexes.setdefault(group, DedupIndex(threshold)).admit([text])
        of_group = ordinals.setdefault(group, [])
        nearest = -1 if admission.kept[0] else of_group[admission.nearest[0]]
        expected.append((nearest, admission.lcs.tolist()[0], admission.score.tolist()[0]))
        if nearest < 0:
            of_group.append(kept)
            kept += 1
    for cuts in ([], range(600), rng.sample(range(600), 20)):
        assert repr(in_batches(GroupedIndex(lambda: DedupIndex(threshold)), rows, cuts)) == repr(expected)


def test_a_group_of_one_text_has_no_index():
    """An index is made when a second text comes, and not kept before there are several, since it takes 10 kB."""
    made = []

    def new_index():
        made.append(DedupIndex(0.7))
        return made[-1]

    index = GroupedIndex(new_index)
    index.admit(["plant a tree"] * 100, [str(number) for number in range(100)])
    index.admit(["sing"], ["another"])
    assert not made
    assert index.admit(["plant a tree", "sing"], ["7", "8"]).nearest.tolist() == [7, -1]
    assert len(made) == 2
    for number in range(50):
        index.admit([f"one{number} two{number}"], ["large"])
    assert len(made) < 10
