"""Answers that are a function of the request, for driving an explorer without a server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import orjson

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Event, Outcome, Request
from explore_async.running.driver import Performed, drive
from explore_async.running.own_time import Pulse
from explore_async.settings.config import RecipeConfig
from explore_async.settings.recipe import Recipe

WORDS = [f"{a}{b}" for a in ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu") for b in ("rat", "len", "vos")]
WIDE_WORDS = [f"{word}{tail}" for word in WORDS for tail in ("", "a", "e", "i", "o", "u", "y", "ab", "ec", "id")]


def recipe(**changes: object) -> Recipe:
    """A small recipe, resolved."""
    return recipe_config(**changes).resolved(model="scripted", slots=1)


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


def answer(question: ChatRequest, request: Request, *, words: list[str] = WIDE_WORDS) -> Completion:
    """Random text seeded by the question's key: the same question, the same answer."""
    rng = random.Random(question.key)
    count = int(request.prompt.values["count"])

    def phrase(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    if request.kind == "generate":
        document = {"examples": [{"instruction": phrase(7), "input": "", "output": phrase(9)} for _ in range(count)]}
    else:
        document = {"tasks": [{"name": phrase(4), "reason": phrase(4)} for _ in range(count)]}
    return Completion(orjson.dumps(document).decode(), "stop", 20 * count, 10 * count)


class Driven:
    """A run driven to its end by a fake perform; keeps what happened."""

    def __init__(
        self,
        recipe: Recipe,
        outcome: Callable[[ChatRequest, Request], Outcome] = answer,
        *,
        known: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.recipe = recipe
        self.explorer = Explorer(recipe, known)
        self.book = PromptBook(recipe)
        self.outcome = outcome
        self.events: list[Event] = []
        self.commits: list[Request] = []
        self.keys: list[str] = []
        self.issued: list[Request] = []
        self.explored_at: int | None = None

    def perform(self, request: Request) -> Performed:
        question = self.book.render(request)
        return Performed(question.key, self.outcome(question, request))

    def publish(self, request: Request, performed: Performed, events: list[Event]) -> None:
        self.commits.append(request)
        self.keys.append(performed.key)
        self.events += events
        if self.explorer.explored and self.explored_at is None:
            self.explored_at = len(self.commits)

    def run(self, *, most_delay_s: float = 0.0, concurrency: int | None = None, shuffle: int = 0) -> Driven:
        """Drives to the end, with random delays and limited slots where asked for."""

        async def go() -> None:
            slots = asyncio.Semaphore(concurrency) if concurrency else None
            rng = random.Random(shuffle)

            async def perform(request: Request) -> Performed:
                if slots is None:
                    return self.perform(request)
                async with slots:
                    await asyncio.sleep(rng.random() * most_delay_s)
                    return self.perform(request)

            def start(request: Request) -> asyncio.Future[Performed]:
                self.issued.append(request)
                return asyncio.ensure_future(perform(request))

            await drive(self.explorer, start, self.publish, Pulse())
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for coroutine in others:
                coroutine.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run(go())
        return self
