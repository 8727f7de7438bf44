"""What is settled at the first start of a run and stays so: its model, its window and its lag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from explore_async.exploration.values import ChatRequest, Kind
from explore_async.running.backend import Backend
from explore_async.settings.recipe import Operation, Recipe, RunSettings

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress


class BackendOf:
    """Makes backends for one operation; what the endpoints call their model is asked at most once."""

    def __init__(
        self,
        operation: Operation,
        server_log: Path,
        report: Callable[[str], None],
        report_fetch: Callable[[Progress], None],
    ) -> None:
        self._operation = operation
        self._server_log = server_log
        self._report = report
        self._report_fetch = report_fetch
        self._found: str | None = None

    def __call__(
        self, models: Sequence[str] = (), forms: Sequence[ChatRequest] = (), window: int | None = None
    ) -> Backend:
        return Backend(
            self._operation,
            models=models,
            forms=forms,
            window=window,
            server_log=self._server_log,
            report=self._report,
            report_fetch=self._report_fetch,
        )

    async def probe(self) -> str:
        if self._found is None:
            async with self() as backend:
                self._found = (await backend.connect())[0]
        return self._found


def asks_for_model(settings: RunSettings) -> bool:
    """Whether the endpoints have to say what they serve, since some requests have no model by name."""
    recipe = settings.recipe
    return settings.operation.server is None and any(not recipe.model_of(kind) for kind in get_args(Kind))


async def settled(settings: RunSettings, previous: Recipe | None, backend_of: BackendOf, *, offline: bool) -> Recipe:
    """The recipe with its model, window and lag: as configured, else as the directory has them, else found out."""
    recipe, server = settings.recipe, settings.operation.server
    if previous is not None:
        assert isinstance(previous.window, int)
        if recipe.window == "auto":
            recipe = recipe.model_copy(update={"window": previous.window, "lag": recipe.lag or previous.lag})
        return recipe.resolved(model=recipe.model or previous.model or "", slots=1)
    if not asks_for_model(settings) and server is None:
        model = recipe.model or ""
    elif recipe.model is not None:
        model = recipe.model
    elif server is not None:
        model = server.model.rstrip("/")
        if model.endswith(".gguf") or Path(model).is_absolute():  # where it lies here says nothing of what it is
            model = Path(model).name.removesuffix(".gguf")
    else:
        model = "" if offline else await backend_of.probe()
    return recipe.resolved(model=model, slots=backend_of().slots)
