"""Rehearsals on a virtual clock, and the plans made from them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from explore_async.errors import EndpointError
from explore_async.planning.clock import run_virtually
from explore_async.planning.fleet import Fleet
from explore_async.planning.plan import Progress, plan
from explore_async.planning.rehearsal import rehearse
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.profiles import PROFILES
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RecipeConfig

SMALL = Profile(slots=16, step_s=0.01, request_s=0.0005, prefill_s=0.00003, kv_tokens=500_000)


def recipe(**changes: Any) -> Recipe:
    return recipe_config(**changes).resolved(model="simulated")


def recipe_config(**changes: Any) -> RecipeConfig:
    document = {
        "domains": [{"name": "Look after a garden"}, {"name": "Cook for friends"}],
        "exploration": {"depth": 2, "breadth": [4, 3]},
        "targets": {"per_task": 20},
        "window": 192,
        **changes,
    }
    return RecipeConfig.model_validate(document)


def test_an_hour_passes_in_no_time() -> None:
    """Timers fire in order at their times, and no real time passes."""

    async def main() -> list[tuple[float, str]]:
        now, seen = asyncio.get_running_loop().time, []

        async def later(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append((now(), name))

        await asyncio.gather(later(3600, "hour"), later(0.5, "half"), later(60, "minute"))
        return seen

    began = time.monotonic()
    seen = run_virtually(main())
    assert [name for _, name in seen] == ["half", "minute", "hour"]
    assert [at for at, _ in seen] == pytest.approx([0.5, 60, 3600])
    assert time.monotonic() - began < 1800


def test_waiting_for_nothing_is_told() -> None:
    """A future that is never set would hang a real loop; on a virtual clock it is an error."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="none of them for a timer"):
        run_virtually(main())


def test_a_rehearsal_is_a_function_of_the_recipe() -> None:
    """Twice the same gives the same to the last digit; another number of engines changes the times and neither the
    examples nor the order of commits."""
    one = rehearse(recipe(), Fleet([SMALL] * 2))
    assert rehearse(recipe(), Fleet([SMALL] * 2)) == one
    other = rehearse(recipe(), Fleet([SMALL] * 3))
    assert [step.ordinal for step in other.steps] == [step.ordinal for step in one.steps]
    assert [step.kept for step in other.steps] == [step.kept for step in one.steps]
    assert other.seconds < one.seconds
    assert one.complete
    assert one.explored
    assert one.tasks == 2 * (1 + 4 + 12)
    assert one.kept == 20 * one.tasks


def test_time_is_what_the_engine_needs() -> None:
    """No rehearsal is faster than the engine's best, and one with many requests at once comes near it."""
    made = rehearse(recipe(targets={"per_task": 200}), Fleet([SMALL]))
    tokens = sum(step.answer_tokens for step in made.steps)
    best_s = tokens / SMALL.tokens_per_s(16)
    assert best_s < made.seconds < 1.25 * best_s
    assert all(first.at < second.at for first, second in pairwise(made.samples))
    assert max(sample.running for sample in made.samples) == 16


def test_no_tree_waits_for_examples() -> None:
    """The tree is complete before its own requests would be, one after another on a full engine, though an opening takes
    ten times as long as one of them and generation fills the engine meanwhile.
    """
    made = rehearse(recipe(domains=[{"name": "Look after a garden"}], window=1024), Fleet([replace(SMALL, slots=64)]))
    of_tree = [step.answer_tokens for step in made.steps if step.kind != "generate"]
    assert made.explored_at < sum(of_tree) * (SMALL.step_s + 64 * SMALL.request_s)
    assert made.explored_at < made.seconds / 5


def test_extrapolation() -> None:
    """The first third of a run predicts the whole: time, requests and tokens within a sixth."""
    from explore_async.planning import plan as module

    wanted = recipe_config(targets={"per_task": 150})
    whole = plan(wanted, SMALL, 1, example_tokens=80)
    assert whole.rehearsed == whole.requests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ENOUGH_REQUESTS", whole.requests // 3)
        part = plan(wanted, SMALL, 1, example_tokens=80)
    assert part.rehearsed == whole.requests // 3
    assert part.examples == whole.examples
    for name in ("requests", "seconds", "answer_tokens", "prompt_tokens"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), rel=1 / 6), name


@pytest.mark.parametrize("targets", [{"token_budget": 100_000}, {"per_task": 150, "token_budget": 100_000}])
def test_the_rest_of_a_run_ends_with_its_tokens(targets: dict[str, int]) -> None:
    """A run whose budget ends it before its other targets are reached is expected to spend the budget, and no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explore_async.planning.plan.ENOUGH_REQUESTS", 50)
        part = plan(recipe_config(targets=targets), SMALL, 1, example_tokens=80)
    assert part.rehearsed == 50 < part.requests
    assert part.prompt_tokens + part.answer_tokens == pytest.approx(100_000, rel=0.01)


def test_the_sub_tasks_of_a_config_are_tasks() -> None:
    """A plan counts the sub-tasks that the config names as those that a model names."""
    domain = {"name": "Look after a garden", "tasks": [{"name": "Water the plants"}, {"name": "Cut the hedge"}]}
    made = rehearse(recipe(domains=[domain], exploration={"depth": 1}, targets={"per_task": 1}), Fleet([SMALL]))
    assert made.tasks == len({step.task_id for step in made.steps})


def test_what_does_not_fit_is_told() -> None:
    """A fleet that one small domain cannot fill gets a warning, and so does a run of more texts than an index holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rouge_kernels.prefixes.MOST_TEXTS", 5)
        warnings = plan(recipe_config(), SMALL, 16, example_tokens=50).warnings
    assert any("domains" in warning for warning in warnings)
    assert any("an index holds at most 5 texts" in warning for warning in warnings)


def test_the_command() -> None:
    """`plan` of a preset prints a table that says it is an estimate, and one JSON object last; an unknown profile is
    refused with the names there are."""
    command = [sys.executable, "-m", "explore_async", "plan", "brainstorming", "--max-examples", "2000", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *table, last = done.stdout.splitlines()
    assert "no model was asked" in table[0]
    document = json.loads(last)
    assert document["simulated"] is True
    assert document["examples"] == 2000
    assert document["gpu_hours"] == pytest.approx(document["seconds"] / 3600)
    refused = subprocess.run([*command, "--profile", "abacus"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert next(iter(PROFILES)) in refused.stderr


def test_a_plan_tells_how_far_it_is() -> None:
    """Requests and the run's own time grow, and the share ends at 1 where all examples are kept."""
    seen: list[Progress] = []
    made = plan(recipe_config(), SMALL, 1, example_tokens=50, report=seen.append)
    assert [at.requests for at in seen] == list(range(1, made.rehearsed + 1))
    assert all(before.seconds <= after.seconds and before.share <= after.share for before, after in pairwise(seen))
    assert seen[-1].share == 1.0


def test_an_answer_that_no_run_would_wait_for_is_told() -> None:
    """Examples so long that a run would end without a completion end the plan with that run's error."""
    recipe = RecipeConfig.model_validate({"domains": [{"name": "a"}], "targets": {"examples": 5}})
    with pytest.raises(EndpointError, match="none was answered"):
        plan(recipe, PROFILES[min(PROFILES)], 1, example_tokens=10**12)


def test_the_whole_window_may_be_in_flight() -> None:
    """Where the concurrency is found out, a window of 64 is not held at a part of it: all 64 requests are out at once."""
    made = rehearse(recipe(targets={"per_task": 60}, window=64), Fleet([replace(SMALL, slots=256)]))
    assert max(sample.running for sample in made.samples) > 48


def test_no_check_of_the_user_runs_in_a_rehearsal() -> None:
    """Each passes at once: the run asks and keeps what it would without, and the plan counts no request for it."""
    plain = rehearse(recipe(), Fleet([SMALL]))
    checked = rehearse(recipe(checks=[{"name": "never", "command": ["/nowhere/at/all"]}]), Fleet([SMALL]))
    assert checked.kept == plain.kept > 0
    assert checked.complete
    assert "check" not in {step.kind for step in checked.steps}
