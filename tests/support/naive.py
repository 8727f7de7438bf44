"""Slow, obvious oracles for the explorer."""

from __future__ import annotations

from collections.abc import Callable


def depth_first(
    breadths: list[int], *, step: int, attempts: int, brought: Callable[[str, str, int], int]
) -> list[tuple[str, str]]:
    """The sequence of (kind, task id) that a recursive depth-first search asks.

    `brought(kind, task_id, asked_for)` says how many new sub-tasks an ask brings. `breadths[d]` is the most children
    of a task at depth d; a task at depth len(breadths) has none.
    """
    sequence: list[tuple[str, str]] = []

    def visit(task: str, depth: int) -> None:
        if depth == len(breadths):
            return
        breadth, children, barren = breadths[depth], 0, 0

        def ask(kind: str) -> None:
            nonlocal children, barren
            sequence.append((kind, task))
            new = brought(kind, task, min(step, breadth - children))
            children += new
            barren = 0 if new else barren + 1

        while children == 0 and barren < attempts:
            ask("lookahead")
        visited = 0
        while visited < children:
            visit(f"{task}.{visited}", depth + 1)
            visited += 1
            if children < breadth and barren < attempts:
                ask("backtrack")
            while visited == children and children < breadth and barren < attempts:
                ask("backtrack")

    visit("0", 0)
    return sequence
