"""Advice about completions that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import config, explore

from explore_async.config.load import load
from explore_async.running.cures import Cures
from explore_async.serving.simulated.server import SimulatedServer


@pytest.mark.parametrize(
    ("requests", "cut", "setting"),
    [
        ({"generate": 40}, {"generate": 12}, "generation.max_tokens"),
        ({"generate": 40, "lookahead": 9, "backtrack": 9}, {"lookahead": 2, "backtrack": 2}, "exploration.max_tokens"),
        ({"generate": 40, "lookahead": 9}, {"generate": 9, "lookahead": 9}, "generation.max_tokens"),
        ({"generate": 1000}, {"generate": 50}, None),
        ({"generate": 2}, {"generate": 2}, None),
        ({}, {}, None),
    ],
)
def test_settings_that_cut_completions_are_named(
    requests: dict[str, int], cut: dict[str, int], setting: str | None
) -> None:
    """More than a twentieth, and more than two: the limit of that stage is named, and what to ask less of. The data
    comes first.
    """
    recipe = load("brainstorming").resolved(model="m")
    advice = Cures(recipe).of_cuts(requests, cut)
    assert bool(advice) is (setting is not None)
    if setting:
        assert f"cut at sampling.{setting}, or where the model's context ends: lower " in advice
        assert advice.startswith(
            f"{sum(cut.values()) if len(cut) == 1 or 'exploration' in setting else cut['generate']}"
        )


def test_the_limit_is_called_as_in_the_recipe() -> None:
    """`max_completion_tokens` is named where it is set. A simulated server cuts some on purpose, which needs no advice."""
    kinds = ["responses=separate", "judge={}"]
    settings = load("brainstorming", ["sampling.generation.max_completion_tokens=100", *kinds])
    cures = Cures(settings.resolved(model="m"))
    assert "sampling.generation.max_completion_tokens" in cures.of_cuts({"generate": 40}, {"generate": 12})
    assert "sampling.answers.max_tokens" in cures.of_cuts({"generate": 40, "answer": 40}, {"answer": 12})
    assert "sampling.judging.max_tokens" in cures.of_cuts({"generate": 40, "judge": 40}, {"judge": 12})
    assert cures.of_cuts({"generate": 60}, {"generate": 5})
    assert not cures.of_cuts({"generate": 60}, {"generate": 5}, simulated=True)
    assert cures.of_cuts({"generate": 60}, {"generate": 12}, simulated=True)


async def test_a_run_says_that_its_completions_are_cut(tmp_path: Path) -> None:
    """With room for half an example the summary names the setting, and stats.json counts what was cut."""
    limits = ("--set", "sampling.generation.max_tokens=30", "--set", "operation.failure_rate=1", "--max-examples", "10")
    async with SimulatedServer() as server:
        result = await explore(
            "run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", *limits, "--json"
        )
    requests = result.json["requests"]
    assert requests["cut_by_length"] > 2
    said = " ".join(result.stderr.split())
    assert f"{requests['cut_by_length']} of {requests['generate']} completions were cut at sampling.generation" in said
