"""Figures of the trees themselves: their depth, branching and balance, and how alike the names in them are.

Good siblings divide their parent without overlap, and a child says less than its parent: names that share many words in
the same order (ROUGE-L F) are a sign that they do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explore_async.curation.collections.collection import Node, below
from rouge_kernels import TOKENIZERS, Vocabulary, best, fmeasure, lcs_length, mean

NEAREST_SHOWN = 10


@dataclass(slots=True)
class _Alike:
    """ROUGE-L F of `count` pairs of names. `pairs`: the nearest ones among them, at least."""

    how: str
    count: int = 0
    total: float = 0.0
    pairs: list[tuple[float, Node, Node]] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "pairs": self.count,
            "mean": self.total / self.count if self.count else None,
            "greatest": max((score for score, _, _ in self.pairs), default=None),
        }

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"how": self.how, "score": score, "ids": [one["id"], other["id"]], "names": [one["name"], other["name"]]}
            for score, one, other in self.pairs
        ]


def tree_shape(trees: Sequence[Node], tokenizer: str) -> dict[str, Any] | None:
    """The figures of all trees together; None where no task has a task below it."""
    nodes = [node for root in trees for node in below(root)]
    inner = [node for node in nodes if node["children"]]
    if not inner:
        return None
    leaf_depths = [node["depth"] for node in nodes if not node["children"]]
    children = [len(node["children"]) for node in inner]
    siblings, parents = _siblings(nodes, inner, tokenizer), _parents(inner, tokenizer)
    nearest = sorted(siblings.rows() + parents.rows(), key=lambda row: -row["score"])
    return {
        "trees": len(trees),
        "tasks": len(nodes),
        "leaves": len(leaf_depths),
        "depth": max(leaf_depths),
        "mean_leaf_depth": float(np.mean(leaf_depths)),
        "children": {"mean": float(np.mean(children)), "most": max(children)},
        "balance": balance(trees),
        "siblings": siblings.figures(),
        "parent_child": parents.figures(),
        "nearest": nearest[:NEAREST_SHOWN],
    }


def balance(trees: Sequence[Node]) -> float:
    """The index J1 of Lemant et al. (2022, Systematic Biology 71), with leaves of equal size: 1 where each task divides
    its leaves evenly among its children, 0 where no task has two children.

    It is the mean over tasks with children, weighted by their leaves, of the entropy of the children's shares of the
    leaves, to the base of the number of children. Unlike older indices it compares trees of any size and branching.
    """
    even = weights = 0.0
    for root in trees:
        leaves: dict[str, int] = {}
        for node in reversed(list(below(root))):
            shares = [leaves[child["id"]] for child in node["children"]]
            own = leaves[node["id"]] = sum(shares) or 1
            if not shares:
                continue
            weights += own
            if len(shares) > 1:
                even -= sum(share * math.log(share / own, len(shares)) for share in shares)
    return even / weights if weights else 0.0


def _siblings(nodes: Sequence[Node], inner: Sequence[Node], tokenizer: str) -> _Alike:
    """All pairs of children of the same task; in `pairs` each child with its nearest."""
    alike = _Alike("siblings")
    names = Vocabulary(TOKENIZERS[tokenizer]).encode([node["name"] for node in nodes])
    place = {node["id"]: number for number, node in enumerate(nodes)}
    for node in inner:
        children = node["children"]
        others = len(children) - 1
        if not others:
            continue
        texts, each = names.of(np.array([place[child["id"]] for child in children])), np.arange(len(children))
        alike.count += len(children) * others // 2
        alike.total += float(np.nan_to_num(mean(texts, texts, excluding=each)).sum()) * others / 2
        nearest = best(texts, texts, excluding=each)
        scores = np.nan_to_num(nearest.score).tolist()
        found: dict[frozenset[int], float] = {}
        for at, other, score in zip(each.tolist(), nearest.position.tolist(), scores, strict=True):
            found[frozenset((at, other))] = score
        alike.pairs += [(score, *(children[at] for at in sorted(pair))) for pair, score in found.items()]
    return alike


def _parents(inner: Sequence[Node], tokenizer: str) -> _Alike:
    """Each task with each of its children."""
    alike, tokenize = _Alike("parent and child"), TOKENIZERS[tokenizer]
    for node in inner:
        own = tokenize(node["name"])
        for child in node["children"]:
            other = tokenize(child["name"])
            score = fmeasure(lcs_length(own, other), len(own), len(other))
            alike.count += 1
            alike.total += score
            alike.pairs.append((score, node, child))
    return alike
