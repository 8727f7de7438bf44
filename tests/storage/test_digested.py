"""A run directory belongs to any document with a digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest
from pydantic import BaseModel

from explore_async.errors import ConfigError, StorageError
from explore_async.settings.recipe import Recipe
from explore_async.storage.digested import differences, refuse_other
from explore_async.storage.directory import RunDirectory


class JudgeRecipe(BaseModel):
    """The settings of a judge that compares pairs of outputs: no relation to the recipe of a run."""

    seed: int = 0
    judge: str
    criteria: tuple[str, ...] = ("helpful", "correct")

    @property
    def digest(self) -> str:
        return hashlib.sha256(orjson.dumps(self.model_dump(mode="json"))).hexdigest()


def test_another_model_of_recipe_resumes_is_refused_and_adopted(tmp_path: Path) -> None:
    """The recipe of a judge comes back at the next start; another is refused with the differences; taken over, it is the
    new recipe, and what the old one led to is gone while the completions stay.
    """
    old, new = JudgeRecipe(judge="large"), JudgeRecipe(judge="large", criteria=("safe",), seed=3)
    with RunDirectory(tmp_path / "judged") as directory:
        assert directory.recipe(JudgeRecipe) is None
        directory.write_recipe(old, operation={"endpoints": []})
        directory.completions.write_bytes(b"stored")
        directory.dataset.write_bytes(b"{}\n")
    with RunDirectory(tmp_path / "judged") as directory:
        resumed = directory.recipe(JudgeRecipe)
        assert resumed == old
        refuse_other(resumed, JudgeRecipe(judge="large"), directory.path)
        with pytest.raises(ConfigError, match=r'criteria: \["helpful","correct"\] → \["safe"\]\n  seed: 0 → 3'):
            refuse_other(resumed, new, directory.path)
        directory.write_recipe(new, operation={})
        assert directory.recipe(JudgeRecipe) == new
        assert (directory.dataset.exists(), directory.completions.exists()) == (False, True)
        assert differences(new, new) == []


def test_the_directory_of_another_model_is_no_run(tmp_path: Path) -> None:
    """A directory of judgements is not taken for a run's, nor the other way round: the message says how to go on."""
    with RunDirectory(tmp_path) as directory:
        directory.write_recipe(JudgeRecipe(judge="large"), operation={})
        with pytest.raises(StorageError, match="not a recipe"):
            directory.recipe(Recipe)


def test_settings_of_earlier_versions_do_not_matter(tmp_path: Path) -> None:
    """A config.json whose operation has a key that is no longer a setting opens as before: only the recipe counts."""
    recipe = JudgeRecipe(judge="large")
    with RunDirectory(tmp_path) as directory:
        directory.write_recipe(recipe, operation={"checkpoint_every": 40, "retries": {"attempts": 3}})
        assert directory.recipe(JudgeRecipe) == recipe
