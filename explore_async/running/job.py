"""The work that a run directory belongs to: to explore by a recipe, or to revise examples that exist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Form
from explore_async.running.backend import BackendFactory
from explore_async.running.checkpointing import StartingPoint
from explore_async.running.resolving import as_it_began, needs_served_model, resolve
from explore_async.running.result import RunResult
from explore_async.settings.recipe import Recipe, ResolvedKnownTexts
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.digested import DigestedDocument
from explore_async.storage.directory import RunDirectory


class Job(Protocol):
    """The work that a start begins or goes on with. Its document is the content of config.json."""

    document: type[Any]

    @property
    def needs_served_model(self) -> bool:
        """True when the endpoints have to be asked for their model, as some requests have none by name."""

    @property
    def compares_at_start(self) -> bool:
        """True when texts are compared before the first request."""

    async def resolved(
        self, previous: DigestedDocument | None, new_backend: BackendFactory, *, offline: bool
    ) -> DigestedDocument:
        """The document with the decisions of the first start. `previous`: that of the directory, None at a first
        start.
        """

    def as_it_began(self, document: DigestedDocument, directory: RunDirectory) -> DigestedDocument:
        """The document by the rules that a directory without one began with, as far as it tells them."""

    def recipe(self, document: DigestedDocument) -> Recipe:
        """The recipe that requests are made by."""

    def forms(self, prompts: PromptBook) -> tuple[Form, ...]:
        """The forms of its requests."""

    def starting_point(self, document: DigestedDocument) -> StartingPoint:
        """The state in which it begins."""

    def begin(self, directory: RunDirectory, document: DigestedDocument) -> None:
        """Called before its first request of a start."""

    def end(self, directory: RunDirectory, document: DigestedDocument, result: RunResult) -> None:
        """Called when a start has ended in order."""


class RunJob:
    """To explore by a recipe. `known`: the texts of `against`."""

    document: type[Any] = Recipe

    def __init__(
        self, settings: RunSettings, against: tuple[ResolvedKnownTexts, ...], known: Sequence[tuple[str, str]]
    ) -> None:
        self._settings = settings
        self._against = against
        self._known = known

    @property
    def needs_served_model(self) -> bool:
        return needs_served_model(self._settings)

    @property
    def compares_at_start(self) -> bool:
        return bool(self._known)

    async def resolved(self, previous: Any, new_backend: BackendFactory, *, offline: bool) -> Recipe:
        return await resolve(self._settings, previous, new_backend, against=self._against, offline=offline)

    def as_it_began(self, document: DigestedDocument, directory: RunDirectory) -> Recipe:
        return as_it_began(self.recipe(document), directory.tree)

    @staticmethod
    def recipe(document: DigestedDocument) -> Recipe:
        assert isinstance(document, Recipe)
        return document

    @staticmethod
    def forms(prompts: PromptBook) -> tuple[Form, ...]:
        return prompts.forms()

    def starting_point(self, document: DigestedDocument) -> StartingPoint:
        return StartingPoint.new(self.recipe(document), self._known)

    def begin(self, directory: RunDirectory, document: DigestedDocument) -> None:
        """Nothing is left to do."""

    def end(self, directory: RunDirectory, document: DigestedDocument, result: RunResult) -> None:
        """Nothing is left to do."""
