"""What is settled at the first start of a run and stays so: its model, its window and its lag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from explore_async.exploration.kinds import KINDS
from explore_async.exploration.values import ChatRequest
from explore_async.running.backend import Backend
from explore_async.settings.config import RunSettings
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import Recipe, ResolvedKnownTexts

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress


class BackendFactory:
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
    return settings.operation.server is None and any(not settings.model_of(kind) for kind in KINDS)


async def resolve(
    settings: RunSettings,
    previous: Recipe | None,
    new_backend: BackendFactory,
    *,
    against: tuple[ResolvedKnownTexts, ...],
    offline: bool,
) -> Recipe:
    """The recipe with its model, window and lag: as in the config, else as in the directory, else found out.

    `previous`: the recipe of the directory, None at a first start. `against`: the known texts with their digests.
    """
    if previous is not None:
        config = settings
        if config.window == "auto":
            lag = config.lag if config.lag is not None else previous.lag
            config = config.model_copy(update={"window": previous.window, "lag": lag})
        return config.resolved(model=previous.model, slots=1, against=against)
    model = await _model(settings, new_backend, offline=offline)
    return settings.resolved(model=model, slots=new_backend().slots, against=against)


async def _model(settings: RunSettings, new_backend: BackendFactory, *, offline: bool) -> str:
    """The logical model of a first start where the config names none; empty where nobody needs its name."""
    server = settings.operation.server
    if settings.model is not None:
        return settings.model
    if server is not None:
        model = server.model.rstrip("/")
        if model.endswith(".gguf") or Path(model).is_absolute():  # the folder it lies in says nothing about the model
            return Path(model).name.removesuffix(".gguf")
        return model
    if offline or not asks_for_model(settings):
        return ""
    return await new_backend.probe()
