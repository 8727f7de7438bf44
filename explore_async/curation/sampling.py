"""Which examples go into a sample of a given size. Pure: knows ids and tasks, no texts and no files."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["proportional", "uniform"]
METHODS: tuple[Method, ...] = ("proportional", "uniform")
CAP = 500
"""The published sampler weighs no task by more than so many examples."""


def quotas(counts: Mapping[str, int], size: int, method: Method, cap: int = CAP) -> dict[str, int]:
    """How many of each task: `size` in all, or all there are where there are fewer.

    proportional: in proportion to min(count, cap), as Explore-Instruct samples; uniform: equally many of each. What a
    task cannot give, the others do by the same rule. Remainders go to the largest fractions, then to the first tasks.
    """
    given = dict.fromkeys(counts, 0)
    left = min(size, sum(counts.values()))
    while left:
        open_tasks = [task for task, count in counts.items() if given[task] < count]
        weights = {task: min(counts[task], cap) if method == "proportional" else 1 for task in open_tasks}
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


def sampled(tasks_by_id: Iterable[tuple[str, str]], size: int, method: Method, seed: int, cap: int = CAP) -> set[str]:
    """The ids of a sample, from (id, task id) pairs. Equal seeds give equal samples, on any machine.

    Within a task the order of a keyed digest decides; so a larger sample of the same seed holds nearly all of a
    smaller one.
    """
    members: defaultdict[str, list[str]] = defaultdict(list)
    for example, task in tasks_by_id:
        members[task].append(example)
    wanted = quotas({task: len(ids) for task, ids in members.items()}, size, method, cap)
    chosen: set[str] = set()
    for task, ids in members.items():
        chosen.update(sorted(ids, key=lambda one: _lot(seed, one))[: wanted[task]])
    return chosen


def _lot(seed: int, example: str) -> bytes:
    return hashlib.blake2b(example.encode(), digest_size=16, key=str(seed).encode()[:64]).digest()
