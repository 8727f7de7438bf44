"""Real models on the embedded server, from the command line."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from support.cli import check_counts, derived, explore


@pytest.mark.model
@pytest.mark.timeout(300)
async def test_a_small_model_makes_a_dataset_and_replays(tmp_path: Path) -> None:
    """The demo's config with the 135M model runs on the embedded server to the target, guided answers all parse, and
    running again replays it without starting a server.
    """
    command = (
        *("run", "quickstart", "--out", tmp_path / "run", "--json", "--max-examples", "2", "--window", "4"),
        *("--set", "operation.server.model=smollm2-135m", "--set", "exploration.breadth=[2]"),
        *("--set", "sampling.generation.max_tokens=64", "--set", "sampling.exploration.max_tokens=48"),
        *("--set", "generation.demonstrations=1", "--set", "targets.token_budget=12000"),
    )
    first = await explore(*command)
    assert first.code == 0, first.stderr
    assert first.json["ending"] in {"target", "token_budget"}
    assert first.json["model"] == "smollm2-135m"
    check_counts(first.json, tmp_path / "run")
    before = derived(tmp_path / "run")
    again = await explore(*command)
    assert again.code == 0, again.stderr
    assert again.json["this_time"]["asked"] == 0
    assert "starting the embedded server" not in again.stderr
    assert derived(tmp_path / "run") == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
async def test_the_demo(tmp_path: Path, seed: int) -> None:
    """The demo reaches its target with at least 20 examples from at least 5 tasks of a tree of at least 7, one of which
    the model has found.
    """
    result = await explore("demo", "--out", tmp_path / "run", "--json", "--seed", str(seed))
    assert result.code == 0, result.stderr
    check_counts(result.json, tmp_path / "run")
    assert result.json["examples"]["kept"] >= 20
    tasks = result.json["tasks"]
    assert tasks["total"] >= 7
    assert tasks["with_examples"] >= 5
    assert tasks.get("lookahead", 0) + tasks.get("backtrack", 0) >= 1
    tree = orjson.loads((tmp_path / "run" / "tree.json").read_bytes())
    assert max(len(path) for path in _paths(tree["trees"][0])) <= 3


def _paths(node: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    path = (*above, node["name"])
    return [path, *(below for child in node["children"] for below in _paths(child, path))]
