"""Facets: criteria by which the exercises of a task differ, and the combination of values that each request gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from explore_async.exploration.choice import sample
from explore_async.exploration.items import ProposedFacet, Unreadable
from explore_async.exploration.values import Facet
from explore_async.settings.recipe import Recipe


def dealt(recipe: Recipe, task_id: str, facets: Sequence[Facet], turn: int) -> tuple[tuple[str, str], ...]:
    """A value of each criterion for a request for examples. `turn`: those that the task has had before.

    By digest, and of the least used: a criterion goes through its values in an order that is drawn anew each time it
    begins. So the orders of two criteria do not run along, and it depends on nothing but task and turn.
    """
    return tuple(
        (facet.criterion, _order(recipe, task_id, facet, turn // len(facet.values))[turn % len(facet.values)])
        for facet in facets
    )


def _order(recipe: Recipe, task_id: str, facet: Facet, rounds: int) -> tuple[str, ...]:
    return sample(facet.values, len(facet.values), recipe.seed, "facet", task_id, facet.criterion, rounds)


def taken(items: Iterable[object]) -> tuple[tuple[Facet, ...], tuple[tuple[str, str], ...]]:
    """The facets of a completion, and what could not be used, each with its reason."""
    facets, dropped = [], []
    for item in items:
        if isinstance(item, ProposedFacet):
            facets.append(Facet(item.criterion, item.values))
        elif isinstance(item, Unreadable):
            dropped.append((item.excerpt, item.reason))
    return tuple(facets), tuple(dropped)
