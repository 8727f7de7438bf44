"""A strategy is a name for switches; each switch that a config sets stays as it says."""

from __future__ import annotations

import pytest

import explore_async as ea
from explore_async.settings.recipe import Exploration, Generation, Recipe
from explore_async.settings.run_settings import RecipeConfig, RunSettings

BASE = {"domains": [{"name": "Look after a garden"}], "targets": {"examples": 9}}


def resolved(**changes: object) -> Recipe:
    return RunSettings.model_validate({**BASE, **changes}).resolved(model="m")


def test_the_name_of_the_default_changes_nothing() -> None:
    """A recipe with the strategy of Explore-Instruct is the one from before there were names, with its digest."""
    plain = resolved()
    assert plain.digest == resolved(exploration={"strategy": "explore_instruct"}).digest
    document = plain.model_dump(mode="json")
    assert not {"strategy", "growth"} & set(document["exploration"])
    assert not {"policy", "covered_at", "demonstrations_from"} & set(document["generation"])


@pytest.mark.parametrize("name", ["self_instruct", "adaptive"])
def test_a_recipe_says_which_switches_it_has(name: str) -> None:
    """The resolved recipe holds them, so that another default of the name changes no run that is there; it reads back as
    it is. The parts may be dicts or settings.
    """
    made = resolved(exploration={"strategy": name})
    again = Recipe.model_validate(made.model_dump(mode="json"))
    assert (again, again.digest) == (made, made.digest)
    built = ea.RunSettings(
        domains=(ea.Domain(name="Look after a garden"),),
        targets=ea.Targets(examples=9),
        exploration=Exploration(strategy=name),  # type: ignore[arg-type]
    )
    assert built.resolved(model="m").digest == made.digest


def test_what_a_config_says_goes_first() -> None:
    """A part of a strategy is switched off by its own setting, also where that is the general default."""
    off = {"exploration": {"strategy": "adaptive", "lookahead": "names"}, "generation": {"policy": "uniform"}}
    made = resolved(**off)
    assert (made.exploration.lookahead, made.generation.policy) == ("names", "uniform")
    again = Recipe.model_validate(made.model_dump(mode="json"))
    assert again.generation.policy == "uniform"
    built = RecipeConfig.model_validate(
        {**BASE, "exploration": off["exploration"], "generation": Generation(policy="uniform")}
    )
    assert built.generation.policy == "uniform"


def test_self_instruct_has_no_tree() -> None:
    """Whatever the shape of the tree in a config is, and with the seeds that it names; its demonstrations are eight."""
    made = resolved(exploration={"strategy": "self_instruct", "depth": 3, "breadth": [5]})
    assert made.exploration.depth == 0
    assert (made.generation.demonstrations, made.generation.demonstrations_from) == (8, "pool")
