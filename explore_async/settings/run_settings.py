"""The content of a config file: a recipe that is not resolved yet, and the operation beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

from pydantic import model_validator

from explore_async.settings.base import misfit
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import MEANING, Recipe, RecipeFields, ResolvedKnownTexts, refuse_taken_aspects
from explore_async.settings.strategies import with_switches

AUTO_WINDOW: Final = 32_768
"""Enough for 4,096 requests in flight, whatever the endpoints are: the same config makes the same data with others. A
wider one than a run needs costs nothing, as each task has a limit of its own (`exploration.forecast.ByYield`).
"""
LONGEST_LAG = 16
REPLACE_ME: Final = "REPLACE ME"
"""The beginning of a text in the config that `init` prints, where the user's own has to stand."""


class RecipeConfig(RecipeFields):
    """The recipe as a user writes it. The model, the window, the lag and what its strategy sets may be left open."""

    @model_validator(mode="before")
    @classmethod
    def _switches(cls, data: Any) -> Any:
        return with_switches(data) if isinstance(data, Mapping) else data

    def resolved(
        self,
        *,
        model: str,
        against: tuple[ResolvedKnownTexts, ...] | None = None,
        meaning: int = MEANING,
    ) -> Recipe:
        """The recipe with the decisions of the first start: model, window, lag, digests of known texts.

        `model`: taken where the config names none. `against`: the known texts with their digests; None leaves the
        digests out, for a recipe that is not run. `meaning`: the version of the rules.
        """
        window = AUTO_WINDOW if self.window == "auto" else self.window
        fields = {name: getattr(self, name) for name in RecipeFields.model_fields}
        if against is None:
            against = tuple(ResolvedKnownTexts(path=known.path, field=known.field) for known in self.against)
        decided = {
            "model": self.model or model,
            "window": window,
            "lag": self.lag if self.lag is not None else max(1, min(LONGEST_LAG, math.ceil(window / 4))),
            "against": against,
            "meaning": meaning,
        }
        return Recipe.model_validate({**fields, **decided})


class RunSettings(RecipeConfig):
    """The content of a config file: the recipe at the top level, the operation under its own key."""

    operation: Operation = Operation()

    @model_validator(mode="after")
    def _asks_by_chat(self) -> Self:
        if any(text.startswith("[text]") for text in self.prompts.values()):
            raise misfit("prompts", "a template with a part [text] is for the command answer alone")
        return self

    @model_validator(mode="after")
    def _aspects_are_free(self) -> Self:
        refuse_taken_aspects(self.judge)
        return self

    def unused_systems(self) -> list[str]:
        """The system prompts of domains whose answers come with their instructions, by their dotted names."""
        if self.responses == "separate":
            return []
        return [f"domains.{number}.system" for number, domain in enumerate(self.domains) if domain.system]

    def places_to_fill(self) -> list[str]:
        """The settings that still hold a text of `init` in place of the user's own, by their dotted names."""
        return list(_placeholders(self.model_dump(include={"domains"}), ""))


def _placeholders(value: Any, where: str) -> Iterator[str]:
    match value:
        case str() if value.startswith(REPLACE_ME):
            yield where
        case dict() | list() | tuple():
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            for name, part in parts:
                yield from _placeholders(part, f"{where}.{name}" if where else str(name))
