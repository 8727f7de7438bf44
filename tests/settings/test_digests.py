"""Recipes have the digests and the JSON that they had under earlier rules: directories of earlier versions go on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from explore_async.config import load as config
from explore_async.curation.known_texts import read_known
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RunSettings

OWN: dict[str, dict[str, Any]] = {
    "small": {"domains": [{"name": "a"}], "targets": {"examples": 5}},
    "window": {
        "domains": [{"name": "a"}], "targets": {"examples": 5}, "window": 7, "lag": 3, "model": "own", "seed": 9,
    },
    "full": {
        "name": "full",
        "description": "ü",
        "models": {"generate": "big", "lookahead": "small"},
        "domains": [
            {
                "name": "Look after a garden",
                "description": "plants",
                "tasks": [
                    {
                        "name": "t", "reason": "r", "examples": [{"instruction": "i", "output": "o"}],
                        "tasks": [{"name": "deeper"}],
                    }
                ],
                "examples": [{"instruction": "i", "input": "x", "output": "o"}],
                "topics": ["roses"],
                "styles": ["plain"],
            }
        ],
        "language": "Chinese",
        "answer_format": "text",
        "exploration": {"depth": 3, "breadth": 4, "step": 2, "attempts": 1, "order": "breadth_first"},
        "generation": {"per_request": 3, "demonstrations": 1, "inputs": False},
        "targets": {"per_task": [3, 0, 7], "token_budget": 9},
        "filters": {"threshold": 0.30000000000000004, "scope": "task", "banned_words": ["赌场", "é"]},
        "sampling": {"generation": {"stop": ["\n"]}},
        "extra_body": {"a": {"b": [1, 2.5, None, True]}},
        "prompts": {"generate": "[user]\n{{ task }}\n"},
        "operation": {"endpoints": ["http://x"], "retries": {"attempts": 2}},
    },
}  # fmt: skip
FROZEN_OWN = {
    "small": ("98ce7b6699ce9d682773962645409ece", "bc3a2155cb91a87d"),
    "window": ("45178c0c8467aec1031ed420292c79c7", "2388f0ef368666d2"),
    "full": ("396c7bba1d98a06921ab751316421dbd", "2f1baa15d9f3bfea"),
}
FROZEN_PRESETS = {
    "brainstorming": ("4ae62f9cd828352af053db5bfffc6790", "a891d47cd750d516"),
    "mathematics": ("409b26110ca9f9b66db8db1d3c224632", "001ad0906d2eae51"),
    "quickstart": ("4798939eda39e1ef71aca88d3246f5ef", "64028bc551696c1d"),
    "rewriting": ("bbdddeaccbf01508c9dfcbc19c720543", "366a6a0ded920751"),
}
"""Digest of the recipe, and of its JSON to the byte."""


def resolved(settings: RunSettings, **more: Any) -> Recipe:
    """As the version of these rules resolved it before an endpoint with 4 slots."""
    window = {"window": 48} if settings.window == "auto" else {}
    return settings.model_copy(update=window).resolved(model="m", meaning=2, **more)


def digests(recipe: Recipe) -> tuple[str, str]:
    body = orjson.dumps(recipe.model_dump(mode="json"))
    return recipe.digest, hashlib.blake2b(body, digest_size=8).hexdigest()


@pytest.mark.parametrize("name", sorted({*config.presets()} - {config.TEMPLATE}))
def test_a_preset_keeps_its_digest(name: str) -> None:
    """A run that began with a preset goes on with it."""
    assert digests(resolved(config.load(name))) == FROZEN_PRESETS[name]


@pytest.mark.parametrize("name", OWN)
def test_a_config_keeps_its_digest(name: str) -> None:
    """From the shortest config to one that sets nearly everything; a recipe that was written down loads as it was."""
    recipe = resolved(RunSettings.model_validate(OWN[name]))
    assert digests(recipe) == FROZEN_OWN[name]
    assert Recipe.model_validate(orjson.loads(orjson.dumps(recipe.model_dump(mode="json")))) == recipe


def test_known_texts_keep_their_digest(tmp_path: Path) -> None:
    """A recipe with known texts is known by what they hold, not by where they lie."""
    (tmp_path / "a.jsonl").write_text('{"instruction": "one"}\n{"instruction": "two"}\n')
    path = tmp_path / "c.yaml"
    known = ["a.jsonl", {"path": "a.jsonl", "field": "instruction"}]
    path.write_text(yaml.safe_dump({**OWN["small"], "against": known}))
    settings = config.load(str(path))
    against, _ = read_known(settings.against)
    assert resolved(settings, against=against).digest == "40bcc506aedfa660d4b0350d870c4e57"
