"""Completions that are a function of the request, for playing and driving an explorer without a server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Self

import orjson

from explore_async.exploration.explore_instruct import ExploreInstruct
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.strategy import StrategyFactory
from explore_async.exploration.turns import TurnPolicy
from explore_async.exploration.values import ChatRequest, Completion, Event, Outcome, Request
from explore_async.running.driver import StoredOutcome, drive
from explore_async.running.own_time import OwnTime
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RecipeConfig

WORDS = [f"{a}{b}" for a in ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu") for b in ("rat", "len", "vos")]
WIDE_WORDS = [f"{word}{tail}" for word in WORDS for tail in ("", "a", "e", "i", "o", "u", "y", "ab", "ec", "id")]


def recipe(**changes: object) -> Recipe:
    """A small recipe, resolved."""
    return recipe_config(**changes).resolved(model="scripted")


def recipe_config(**changes: object) -> RecipeConfig:
    """The same as a user writes it."""
    document: dict[str, object] = {
        "model": "scripted",
        "domains": [
            {
                "name": "Look after a garden",
                "description": "plants and tools",
                "examples": [
                    {"instruction": "Say when to prune roses", "output": "In late winter."},
                    {"instruction": "Name three herbs for shade", "output": "Mint, parsley, chervil."},
                ],
                "topics": ["roses", "soil", "birds"],
                "styles": ["plain", "playful"],
            }
        ],
        "targets": {"examples": 60},
        "window": 16,
        "generation": {"per_request": 3},
    }
    return RecipeConfig.model_validate({**document, **changes})


def answer(chat_request: ChatRequest, request: Request, *, words: list[str] = WIDE_WORDS) -> Completion:
    """Random text, seeded by the key of the request: equal requests get equal completions."""
    rng = random.Random(chat_request.key)
    count = int(request.prompt.values["count"])

    def phrase(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    if request.kind == "generate":
        document = {"examples": [{"instruction": phrase(7), "input": "", "output": phrase(9)} for _ in range(count)]}
    elif request.kind == "facets":
        named = [{"criterion": phrase(2), "values": [phrase(1) for _ in range(6)]} for _ in range(count)]
        return Completion(orjson.dumps({"criteria": named}).decode(), "stop", 20, 10 * count)
    else:
        document = {"tasks": [{"name": phrase(4), "reason": phrase(4)} for _ in range(count)]}
        schema = {} if chat_request.answer_schema is None else chat_request.answer_schema.schema["properties"]
        if "criterion" in schema:
            document = {"criterion": phrase(2), **document}
    return Completion(orjson.dumps(document).decode(), "stop", 20 * count, 10 * count)


class Driven:
    """A run that is played or driven to its end with made-up outcomes; keeps what happened.

    It is the `Source` of its own run, so it sees what the explorer issues.
    """

    def __init__(
        self,
        recipe: Recipe,
        outcome: Callable[[ChatRequest, Request], Outcome] = answer,
        *,
        known: Sequence[tuple[str, str]] = (),
        strategy: StrategyFactory | None = None,
        turns: Callable[[], TurnPolicy] | None = None,
    ) -> None:
        self.recipe = recipe
        self.explorer = Explorer(recipe, known, strategy=strategy or ExploreInstruct, turns=turns() if turns else None)
        self.book = PromptBook(recipe)
        self.outcome = outcome
        self.events: list[Event] = []
        self.commits: list[Request] = []
        self.keys: list[str] = []
        self.issued: list[Request] = []
        self.explored_at: int | None = None

    @property
    def window(self) -> int:
        return self.explorer.window

    @property
    def stopped(self) -> str | None:
        return self.explorer.stopped

    @property
    def outstanding(self) -> list[Request]:
        return self.explorer.outstanding

    def next_request(self) -> Request | None:
        request = self.explorer.next_request()
        if request is not None:
            self.issued.append(request)
        return request

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        return self.explorer.commit(request, outcome)

    def perform(self, request: Request) -> StoredOutcome:
        chat_request = self.book.render(request)
        return StoredOutcome(chat_request.key, self.outcome(chat_request, request))

    def publish(self, request: Request, stored: StoredOutcome, events: list[Event]) -> None:
        self.commits.append(request)
        self.keys.append(stored.key)
        self.events += events
        if self.explorer.explored and self.explored_at is None:
            self.explored_at = len(self.commits)

    def run(self) -> Self:
        """Plays to the end."""
        latest: list[StoredOutcome] = []

        def outcome(request: Request) -> Outcome:
            latest[:] = [self.perform(request)]
            return latest[0].outcome

        for request, _, events in play(self, outcome):
            self.publish(request, latest[0], events)
        return self

    def drive(self, *, most_delay_s: float, concurrency: int, shuffle: int = 0) -> Self:
        """Drives to the end with random delays and limited slots."""

        async def go() -> None:
            slots = asyncio.Semaphore(concurrency)
            rng = random.Random(shuffle)
            started: dict[int, asyncio.Task[StoredOutcome]] = {}

            async def perform(request: Request) -> StoredOutcome:
                async with slots:
                    await asyncio.sleep(rng.random() * most_delay_s)
                    return self.perform(request)

            class Slots:
                def start(self, request: Request) -> None:
                    started[request.ordinal] = asyncio.create_task(perform(request))

                async def take(self, request: Request) -> StoredOutcome:
                    return await started.pop(request.ordinal)

            await drive(self, Slots(), self.publish, OwnTime())
            for coroutine in started.values():
                coroutine.cancel()
            await asyncio.gather(*started.values(), return_exceptions=True)

        asyncio.run(go())
        return self
