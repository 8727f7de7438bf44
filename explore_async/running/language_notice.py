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

    def look(self, events: Sequence[Event]) -> None:
        """Takes in what a commit has led to."""
        for event in events:
            if self._is_other is not None and isinstance(event, ExampleKept):
                example = event.example
                self._kept += 1
                self._others += self._is_other(ExampleDraft(example.instruction, example.input, example.output))
                if self._kept == LOOKED_AT:
                    self._is_other = None

    def words(self, *, simulated: bool) -> str:
        """A sentence for the user, once so many examples are there; empty where most are in the language.

        `simulated`: a simulated server made them, so that no setting mends it.
        """
        if self._kept < LOOKED_AT or 2 * self._others <= LOOKED_AT:
            return ""
        found = f"{self._others} of the first {LOOKED_AT} examples are in another language than {self._language}"
        if simulated:
            return f"{found}: a simulated server writes English words"
        return (
            f"{found}: does the model write it? `filters.language: true` drops such examples, and `explore-async "
            "filter RUN --set language=true --out DIR` those that are there"
        )
