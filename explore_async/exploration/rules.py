"""The rules of exploring, by the version that a run began with (`settings.recipe.MEANING`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Final, Literal, TypeAlias

from explore_async.exploration.earlier_strategy import EarlierExploreInstruct
from explore_async.exploration.explore_instruct import ExploreInstruct
from explore_async.exploration.forecast import AsAsked, ByYield, Forecast
from explore_async.exploration.strategy import StrategyFactory
from explore_async.settings.recipe import Recipe

_BESIDE_THE_TREE: Final = 4
"""The version of the rules by which a tree does not need openings, requests are forecast by their yield, and few
examples do not exhaust a task."""

Lane: TypeAlias = Literal["tree", "opening", "generate", "finish"]
"""The requests that a tree waits for; first requests for examples of each task; all others for examples; those about
kept instructions.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """`places[lane]`: the most requests that are outstanding there. Generation has the rest of the window, together
    with the requests about what it brings.

    `lags[lane]`: a request is due this much later than it is issued; where `ahead` is not 0, a request of a tree and an
    opening this much later than the latest committed request was, or, if that is later, than the request was that was
    issued `ahead` requests before. So these are in the order of the time that they take, however many others a commit
    lets out: an opening may take as long as some requests of a tree, one after another, before the tree waits for it.
    """

    strategy: StrategyFactory
    forecast: Forecast
    opens_beside_tree: bool
    """False: the strategy issues openings itself, in the lane of the tree."""
    places: Mapping[Lane, int]
    lags: Mapping[Lane, int]
    most_generating: int
    """Requests for more examples of open tasks that may be outstanding."""
    ahead: int = 0
    fewest_barren: int = 0
    """A task is not exhausted by requests for fewer examples than this."""
    ends_when_full: bool = False
    """The run is over when each task has its quota or is exhausted; else not before all requests are committed."""

    @property
    def reserved(self) -> int:
        """The places that generation leaves free while the trees grow."""
        return self.places["tree"] + self.places["opening"]


def rules_of(recipe: Recipe) -> Rules:
    """The rules of a run, with a forecast of its own."""
    window = recipe.window
    lag_of_steps = _lag_of_steps(recipe)
    most_generating = max(1, window // (1 + recipe.generation.per_request * recipe.steps_of_instruction))
    if recipe.meaning < _BESIDE_THE_TREE:
        opens = tuple(recipe.targets.cap_at(depth) != 0 for depth in range(recipe.exploration.depth + 1))
        return Rules(
            strategy=partial(EarlierExploreInstruct, opens=opens),
            forecast=AsAsked(recipe.generation),
            opens_beside_tree=False,
            places={"tree": max(1, window // 4), "opening": 0},
            lags={"tree": recipe.lag, "opening": window, "generate": window, "finish": lag_of_steps},
            most_generating=most_generating,
        )
    return Rules(
        strategy=ExploreInstruct,
        forecast=ByYield(sum(recipe.most_tasks)),
        opens_beside_tree=True,
        places={"tree": max(1, window // 8), "opening": max(1, window // 8)},
        lags={"tree": 1, "opening": max(1, recipe.lag // 5), "generate": window, "finish": lag_of_steps},
        most_generating=most_generating,
        ahead=max(1, window // 8),
        ends_when_full=True,
        fewest_barren=_fewest_barren(recipe.generation.exhausted_below),
    )


def _lag_of_steps(recipe: Recipe) -> int:
    """By how much requests about an instruction are due later than it: so many others may take their time meanwhile.
    An eighth of the window, and not more than an eighth of a small run: else its first example would come at the end.
    """
    longest, examples = recipe.window // 8, recipe.targets.examples
    asks_models = bool({"answer", "judge"} & {*recipe.kinds})  # else they are checks, which take no time of a server
    least = recipe.lag if asks_models else 1
    return longest if examples is None else min(longest, max(least, examples // 8))


def _fewest_barren(exhausted_below: float) -> int:
    """The fewest examples by which a share below `exhausted_below` can be told from it: one in so many is kept."""
    return ceil(1 / exhausted_below) if exhausted_below else 0
