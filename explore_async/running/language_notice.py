"""Notices early that examples come in another language than the recipe's, where nothing drops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from explore_async.exploration.language_check import language_check
from explore_async.exploration.languages import language_named
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.values import Event, ExampleKept
from explore_async.settings.recipe import Recipe

LOOKED_AT: Final = 50
"""Examples. So many tell it, and they are there long before the data is."""


class LanguageNotice:
    """Owns the counts of the first examples that a start keeps."""

    def __init__(self, recipe: Recipe) -> None:
        self._language = recipe.language
        is_told = not recipe.filters.language and language_named(recipe.language) is not None
        self._is_other = language_check(recipe.language) if is_told else None
        self._kept = self._others = 0

    def of(self, events: Sequence[Event]) -> str:
        """A line for the user when most of the first examples are in another language; else empty."""
        if self._is_other is None:
            return ""
        for event in events:
            if isinstance(event, ExampleKept):
                example = event.example
                self._kept += 1
                self._others += self._is_other(ExampleDraft(example.instruction, example.input, example.output))
                if self._kept == LOOKED_AT:
                    self._is_other = None
                    return self._told()
        return ""

    def _told(self) -> str:
        if 2 * self._others <= LOOKED_AT:
            return ""
        return (
            f"{self._others} of the first {LOOKED_AT} examples are in another language than {self._language}: "
            "does the model write it? filters.language: true drops such examples, now or later "
            "(`explore-async filter RUN --set language=true`)"
        )
