"""What the shards of a run share: the completions about the top of the trees, which all of them explore.

A model need not answer the same request twice in the same way. So the first completion to a request of the top decides
it for all shards: it is a file beside their directories. Nobody waits for another, and a shard that comes later asks
nothing that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from explore_async.exploration.sharding import Sharding, is_shared
from explore_async.exploration.values import ChatRequest, Outcome, Request
from explore_async.running.asking import Backend
from explore_async.serving.endpoints.choice import Rivals
from explore_async.settings.recipe import Recipe
from explore_async.storage.directory import place_aside
from explore_async.storage.shared_outcomes import SharedOutcomes
from explore_async.storage.whole_files import storage_errors


def shared_folder(recipe: Recipe, directory: Path) -> Path | None:
    """The folder of what the shard in this directory shares with those beside it; None where they share nothing."""
    if not recipe.shard or not Sharding(recipe).level:
        return None
    return _shared_by(recipe.shard_numbers[1], directory.absolute().parent)


def set_shared_aside(folder: Path, shards: int) -> None:
    """Renames what earlier shards in the folder have shared, so that all of them may begin afresh."""
    path = _shared_by(shards, folder)
    with storage_errors(path):
        if path.exists():
            path.rename(place_aside(path))


def _shared_by(shards: int, folder: Path) -> Path:
    return folder / f"top-of-{shards}"


class SharingBackend:
    """Asks the endpoints for what no shard has asked before; see `asking.Backend`.

    `render` makes the form that an endpoint sees; it has to be called for each request before that is asked.
    """

    def __init__(
        self, backend: Backend, recipe: Recipe, folder: Path, render: Callable[[Request], ChatRequest]
    ) -> None:
        self._backend = backend
        self._recipe = recipe
        self._render = render
        self._outcomes = SharedOutcomes(folder)
        self._shared: set[str] = set()
        """The keys of requests that are shared."""

    def render(self, request: Request) -> ChatRequest:
        chat_request = self._render(request)
        if is_shared(self._recipe, request):
            self._shared.add(chat_request.key)
        return chat_request

    @property
    def capacity(self) -> int:
        return self._backend.capacity

    async def connect(self) -> object:
        return await self._backend.connect()

    def stop(self) -> None:
        self._backend.stop()

    def rivals(self, model: str) -> Rivals:
        return self._backend.rivals(model)

    async def ask(
        self,
        request: ChatRequest,
        *,
        priority: int,
        affinity: str,
        on_sent: Callable[[str], None],
        avoid: str | None = None,
    ) -> Outcome:
        key = request.key if self._shared else ""
        if key not in self._shared:
            return await self._backend.ask(request, priority=priority, affinity=affinity, on_sent=on_sent, avoid=avoid)
        if (known := await asyncio.to_thread(self._outcomes.read, key)) is not None:
            return known
        outcome = await self._backend.ask(request, priority=priority, affinity=affinity, on_sent=on_sent, avoid=avoid)
        return await asyncio.to_thread(self._outcomes.settle, key, outcome)
