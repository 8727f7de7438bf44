"""The recipe of a comparison, in the form in which requests are made."""

from __future__ import annotations

from typing import Final

from explore_async.settings.recipe import Recipe

JUDGE_PREFIX: Final = "judge:"
"""The kind of a judge's requests is this and the name of its model."""


class ComparingRecipe(Recipe):
    """A recipe whose only requests ask judges to compare two answers."""

    judges: tuple[str, ...]
    asks_about_equal: bool = False
    """True where judges are asked about equal answers, too, as in comparisons by the earlier rules."""

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The kinds of its requests, one for each judge."""
        return tuple(f"{JUDGE_PREFIX}{model}" for model in self.judges)

    @property
    def steps_of_instruction(self) -> int:
        return 2 * len(self.judges)

    def model_of(self, kind: str) -> str:
        return kind.removeprefix(JUDGE_PREFIX)

    @property
    def wanted_models(self) -> tuple[str, ...]:
        return self.judges
