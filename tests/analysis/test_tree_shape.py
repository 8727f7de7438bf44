"""The form of trees by the obvious loops, and their balance by worked examples and by a theorem."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from explore_async.analysis.tree_shape import balance, tree_shape
from explore_async.curation.collections.collection import below, new_node

SCORER = RougeScorer(["rougeL"])
FORMS = st.recursive(st.just([]), lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=12)
BINARY = st.recursive(st.just([]), lambda inner: st.lists(inner, min_size=2, max_size=2), max_leaves=16)
WORDS = ["plan", "a", "garden", "write", "poems", "on", "winter", "the", "!"]


def tree(form: list, task_id: str = "0") -> dict:
    """A tree of this form: a list for each task, with the lists of its children. Names repeat some of the words."""
    number = sum(int(part) * 7**place for place, part in enumerate(task_id.split("."), start=1))
    name = " ".join(WORDS[(number + step) % len(WORDS)] for step in range(number % 5))
    children = [tree(inner, f"{task_id}.{at}") for at, inner in enumerate(form)]
    return {**new_node(task_id, name), "children": children}


def test_balance_of_worked_examples():
    """Even divisions are 1 whatever the branching, chains are 0; 1:2 is the entropy of a third, weighted with the even one
    below it; two trees are weighed by their leaves.
    """
    even, chain, uneven = [[[], [], []]] * 3, [[[]]], [[], [[], []]]
    assert balance([tree(even)]) == pytest.approx(1)
    assert balance([tree(chain)]) == 0
    third = -(math.log2(1 / 3) / 3 + math.log2(2 / 3) * 2 / 3)
    assert balance([tree(uneven)]) == pytest.approx((3 * third + 2) / 5)
    assert balance([tree([[], []]), tree(chain, "1")]) == pytest.approx(2 / 4)
    assert balance([tree([])]) == 0


@given(BINARY.filter(bool))
@settings(max_examples=30, deadline=None)
def test_balance_of_binary_trees_is_a_ratio_to_sackin(form: list):
    """Of n leaves whose depths have the sum S, Sackin's index, it is n log2 n / S: proven by Lemant et al."""
    root = tree(form)
    depths = [node["depth"] for node in below(root) if not node["children"]]
    assert balance([root]) == pytest.approx(len(depths) * math.log2(len(depths)) / sum(depths))


@given(st.lists(FORMS, min_size=1, max_size=2))
@settings(max_examples=30, deadline=None)
def test_the_form_and_the_names(forms: list):
    """Depths, leaves and children as loops count them; the mean and the greatest F of names are those of rouge_score over
    all pairs, and the nearest names are those with the greatest; balance lies between 0 and 1.
    """
    trees = [tree(form, str(number)) for number, form in enumerate(forms)]
    nodes = [node for root in trees for node in below(root)]
    inner = [node for node in nodes if node["children"]]
    found = tree_shape(trees, "rouge")
    if not inner:
        assert found is None
        return
    assert found is not None
    leaves = [node["depth"] for node in nodes if not node["children"]]
    assert (found["tasks"], found["leaves"], found["depth"]) == (len(nodes), len(leaves), max(leaves))
    assert found["mean_leaf_depth"] == pytest.approx(sum(leaves) / len(leaves))
    assert found["children"]["mean"] == pytest.approx((len(nodes) - len(trees)) / len(inner))
    assert 0 <= found["balance"] <= 1 + 1e-9
    siblings = [pair for node in inner for pair in itertools.combinations(node["children"], 2)]
    parents = [(node, child) for node in inner for child in node["children"]]
    every = []
    for how, pairs in (("siblings", siblings), ("parent_child", parents)):
        scores = [SCORER.score(one["name"], other["name"])["rougeL"].fmeasure for one, other in pairs]
        every += scores
        assert found[how]["pairs"] == len(pairs)
        if pairs:
            assert found[how]["mean"] == pytest.approx(sum(scores) / len(scores))
            assert found[how]["greatest"] == pytest.approx(max(scores))
    for row in found["nearest"]:
        assert row["score"] == pytest.approx(SCORER.score(*row["names"])["rougeL"].fmeasure)
    assert found["nearest"][0]["score"] == pytest.approx(max(every))
