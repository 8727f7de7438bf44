"""Looks up started requests in the store, in batches, before the driver needs them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import NoReturn, Protocol

from explore_async.exploration.values import ChatRequest, Completion, Outcome, Request
from explore_async.running.own_time import OwnTime, Turn

_BATCH = 500


class OutcomeReader(Protocol):
    """The part of `storage.completions.CompletionStore` that a look-up uses."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]: ...


@dataclass(frozen=True, slots=True)
class LookUp:
    """A request, its rendered form with its key, and the outcome stored under the key; None if there is none."""

    request: Request
    chat_request: ChatRequest
    key: str
    outcome: Outcome | None


class ReadAhead:
    """Owns the started requests that are not looked up yet. `report` receives each look-up, in the order of `add`."""

    def __init__(
        self,
        store: OutcomeReader,
        render: Callable[[Request], ChatRequest],
        report: Callable[[LookUp], None],
        own_time: OwnTime,
        *,
        stored: float = inf,
        render_otherwise: Callable[[Request], ChatRequest | None] | None = None,
    ) -> None:
        """`stored`: the most requests that may have an outcome. Once they are found, none is looked up any more.
        `render_otherwise`: another form of a request; a completion stored for that serves where there is none for it.
        """
        self._left = stored
        self._store = store
        self._render = render
        self._render_otherwise = render_otherwise
        self._report = report
        self._own_time = own_time
        self._waiting: deque[Request] = deque()
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Requests that are not looked up yet."""
        return len(self._waiting)

    def add(self, request: Request) -> None:
        self._waiting.append(request)
        self._arrived.set()

    def clear(self) -> None:
        """Forgets all requests that are not looked up yet."""
        self._waiting.clear()

    async def keep_reading(self) -> NoReturn:
        """Looks up every request that is added. Ends by being cancelled."""
        turn = Turn()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._read_batch(turn)

    async def _read_batch(self, turn: Turn) -> None:
        rendered: list[tuple[Request, ChatRequest, str]] = []
        while self._waiting and len(rendered) < _BATCH:
            request = self._waiting.popleft()
            with self._own_time.of("rendering"):
                chat_request = self._render(request)
                rendered.append((request, chat_request, chat_request.key))
            await turn.pass_on()
        outcomes = await self._store.get_many([key for _, _, key in rendered]) if self._left > 0 else {}
        self._left -= len(outcomes)
        missing = [request for request, _, key in rendered if key not in outcomes] if self._left > 0 else []
        others = await self._look_up_otherwise(missing)
        self._left -= len(others)
        for request, chat_request, key in rendered:
            look_up = LookUp(request, chat_request, key, outcomes.get(key))
            self._report(others.get(request.ordinal, look_up))

    async def _look_up_otherwise(self, requests: Sequence[Request]) -> dict[int, LookUp]:
        """Completions that are stored for the other form of these requests, by their ordinals."""
        if self._render_otherwise is None:
            return {}
        with self._own_time.of("rendering"):
            forms = [(request, self._render_otherwise(request)) for request in requests]
            rendered = [(request, chat, chat.key) for request, chat in forms if chat is not None]
        outcomes = await self._store.get_many([key for _, _, key in rendered]) if rendered else {}
        return {
            request.ordinal: LookUp(request, chat, key, outcomes[key])
            for request, chat, key in rendered
            if isinstance(outcomes.get(key), Completion)
        }
