"""Which examples go into a sample of a given size, and which of them are held out. Pure: knows no files."""

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
"""The published sampler weighs no task by more than so many examples."""


MOST_CANDIDATES = 50_000
"""diverse: of a task with more examples, so many are drawn by lot first. Its time grows with candidates times quota."""
_MOST_AT_ONCE = 2048
"""Texts whose LCS with one another is taken in one go."""


def quotas(counts: Mapping[str, int], size: int, method: Method, cap: int = CAP) -> dict[str, int]:
    """How many of each task: `size` in all, or all there are where there are fewer.

    proportional and diverse: in proportion to min(count, cap), as Explore-Instruct samples; uniform: equally many of
    each. What a task cannot give, the others do by the same rule. Remainders go to the largest fractions, then to the
    first tasks.
    """
    given = dict.fromkeys(counts, 0)
    left = min(size, sum(counts.values()))
    while left:
        open_tasks = [task for task, count in counts.items() if given[task] < count]
        weights = {task: 1 if method == "uniform" else min(counts[task], cap) for task in open_tasks}
        total = sum(weights.values())
        shares = {task: Fraction(left * weight, total) for task, weight in weights.items()}
        if full := [task for task in open_tasks if shares[task] >= counts[task]]:
            for task in full:
                given[task] = counts[task]
                left -= counts[task]
            continue  # what they could not give is shared out among the others anew
        given.update({task: int(share) for task, share in shares.items()})
        left -= sum(int(share) for share in shares.values())
        for task in sorted(open_tasks, key=lambda task: int(shares[task]) - shares[task])[:left]:
            given[task] += 1
        break
    return given


def sampled(
    tasks_by_id: Iterable[tuple[str, str]],
    size: int,
    method: Method,
    seed: int,
    cap: int = CAP,
    *,
    pick: Callable[[Sequence[str], int], Sequence[str]] | None = None,
) -> set[str]:
    """The ids of a sample, from (id, task id) pairs. Equal seeds give equal samples, on any machine.

    Within a task the order of a keyed digest decides; so a larger sample of the same seed holds nearly all of a
    smaller one. Or else `pick`: from a task's ids in that order and how many are wanted, the chosen ones.
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example, task in tasks_by_id:
        members[task].append(example)
    wanted = quotas({task: len(ids) for task, ids in members.items()}, size, method, cap)
    chosen: set[str] = set()
    for task, ids in members.items():
        ids.sort(key=lambda one: lot(seed, one))
        chosen.update(ids[: wanted[task]] if pick is None else pick(ids[:MOST_CANDIDATES], wanted[task]))
    return chosen


def farthest_first(texts: Sequence[str], size: int, tokenizer: Tokenizer) -> list[int]:
    """Positions of `size` texts, each as unlike as can be from those before it: the greatest ROUGE-L with any of them
    is the least there is (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"). Begins with the
    first; the earliest of equals.
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


def held_out(
    tasks_by_id: Iterable[tuple[str, str]], share: float, by: Literal["example", "task"], seed: int
) -> set[str]:
    """The ids of the validation part: this share of the examples, by lot; or of whole tasks until it is reached."""
    pairs = list(tasks_by_id)
    wanted = round(share * len(pairs))
    if by == "example":
        return set(sorted((example for example, _ in pairs), key=lambda one: lot(seed, f"validation {one}"))[:wanted])
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example, task in pairs:
        members[task].append(example)
    chosen: set[str] = set()
    for task in sorted(members, key=lambda one: lot(seed, f"validation {one}")):
        if len(chosen) + len(members[task]) / 2 <= wanted:
            chosen.update(members[task])
    return chosen


def lot(seed: int, name: str) -> bytes:
    """A place in an order that is random and always the same."""
    return hashlib.blake2b(name.encode(), digest_size=16, key=str(seed).encode()[:64]).digest()
