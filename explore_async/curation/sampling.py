"""Chooses the examples of a sample, and those that are held out for validation. Pure: knows no files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np

from rouge_kernels import Tokenizer, Vocabulary, lcs_matrix

Method: TypeAlias = Literal["proportional", "uniform", "diverse"]
METHODS: tuple[Method, ...] = ("proportional", "uniform", "diverse")
CAP = 500
"""Examples of a task above which its weight no longer grows, as in the published sampler."""


MOST_CANDIDATES = 50_000
"""diverse: of a task with more examples, this many are drawn at random, or its quota where that is larger. Time grows
with candidates times quota.
"""
_MOST_AT_ONCE = 2048
"""Up to this many texts, the LCS of all pairs is computed in one call."""


def quotas(counts: Mapping[str, int], size: int, method: Method, cap: int = CAP) -> dict[str, int]:
    """The number of examples of each task: `size` together, or all where there are fewer.

    proportional and diverse: in proportion to min(count, cap), as Explore-Instruct samples; uniform: the same
    number of each. What a task lacks, the others give by the same rule. Remainders go to the largest fractions, then to
    the first tasks.
    """
    quota_of = dict.fromkeys(counts, 0)
    left = min(size, sum(counts.values()))
    while left:
        open_tasks = [task for task, count in counts.items() if quota_of[task] < count]
        weights = {task: 1 if method == "uniform" else min(counts[task], cap) for task in open_tasks}
        total = sum(weights.values())
        shares = {task: Fraction(left * weight, total) for task, weight in weights.items()}
        if full := [task for task in open_tasks if shares[task] >= counts[task]]:
            for task in full:
                quota_of[task] = counts[task]
                left -= counts[task]
            continue  # what they lack is shared out among the others again
        quota_of.update({task: int(share) for task, share in shares.items()})
        left -= sum(int(share) for share in shares.values())
        for task in sorted(open_tasks, key=lambda task: int(shares[task]) - shares[task])[:left]:
            quota_of[task] += 1
        break
    return quota_of


def draw_sample(
    tasks_by_id: Iterable[tuple[str, str]],
    size: int,
    method: Method,
    seed: int,
    cap: int = CAP,
    *,
    pick: Callable[[Sequence[str], int], Sequence[str]] | None = None,
) -> set[str]:
    """The ids of a sample, from (id, task id) pairs. Equal seeds give equal samples, on any machine.

    Within a task the order of a keyed digest decides, so a larger sample of the same seed holds nearly all of a
    smaller one. With `pick` it decides: it gets the first MOST_CANDIDATES ids of a task in that order and the number
    that is wanted. Where as many or more are wanted, there is nothing to decide.
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example, task in tasks_by_id:
        members[task].append(example)
    wanted = quotas({task: len(ids) for task, ids in members.items()}, size, method, cap)
    chosen: set[str] = set()
    for task, ids in members.items():
        ids.sort(key=lambda example: _random_place(seed, example))
        if pick is None or wanted[task] >= MOST_CANDIDATES:
            chosen.update(ids[: wanted[task]])
        else:
            chosen.update(pick(ids[:MOST_CANDIDATES], wanted[task]))
    return chosen


def farthest_first(texts: Sequence[str], size: int, tokenizer: Tokenizer) -> list[int]:
    """Positions of `size` texts, each as unlike those before it as possible: its greatest ROUGE-L with any of them is
    the smallest of all texts (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"). Begins with
    the first text; of equal texts it takes the earliest.
    """
    encoded = Vocabulary(tokenizer).encode(texts)
    lengths = np.diff(encoded.starts)
    size = min(size, len(texts))
    together = len(texts) <= _MOST_AT_ONCE and size > 1
    every = lcs_matrix(encoded, encoded) if together else None
    nearest = np.zeros(len(texts))
    chosen: list[int] = []
    while len(chosen) < size:
        nearest[chosen[-1:]] = np.inf
        latest = int(np.argmin(nearest)) if chosen else 0
        chosen.append(latest)
        lcs = lcs_matrix(encoded.of(np.array([latest])), encoded)[0] if every is None else every[latest]
        np.maximum(nearest, 2 * lcs / np.maximum(lengths + lengths[latest], 1), out=nearest)
    return chosen


def hold_out(
    tasks_by_id: Iterable[tuple[str, str]], share: float, by: Literal["example", "task"], seed: int
) -> set[str]:
    """The ids of the validation part: this share of the examples, at random, or whole tasks until it is reached."""
    pairs = list(tasks_by_id)
    wanted = round(share * len(pairs))

    def place(name: str) -> bytes:
        return _random_place(seed, f"validation {name}")

    if by == "example":
        return set(sorted((example for example, _ in pairs), key=place)[:wanted])
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example, task in pairs:
        members[task].append(example)
    chosen: set[str] = set()
    for task in sorted(members, key=place):
        if len(chosen) + len(members[task]) / 2 <= wanted:
            chosen.update(members[task])
    return chosen


def _random_place(seed: int, name: str) -> bytes:
    """A place in an order that is random and always the same."""
    return hashlib.blake2b(name.encode(), digest_size=16, key=str(seed).encode()[:64]).digest()
