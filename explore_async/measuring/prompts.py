"""The prompts to measure with: those that a run of a recipe asks for, in the mix and with the prefixes of a real one.

An explorer is driven in this process with made-up answers. So sub-tasks, demonstrations and what has been explored
stand in the prompts as they would in a run, and a run's own numbers of explorations and generations.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import orjson

from explore_async.errors import ConfigError
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Request
from explore_async.serving.endpoints import wire
from explore_async.serving.simulated.answers import Answerer
from explore_async.settings.config import RecipeConfig

_JOURNEY = 600
"""Requests of a run to choose from: with the presets, the exploration and as much again and more of generation."""
_SLOTS = 4  # a narrow window explores early in the journey, so that most of it is as in the bulk of a run


@dataclass(frozen=True, slots=True)
class Question:
    kind: str
    request: ChatRequest

    def body(self, served_model: str) -> bytes:
        """The body that asks for a stream, with its usage at the end."""
        body = orjson.loads(wire.chat_body(self.request, served_model, None))
        return orjson.dumps({**body, "stream": True, "stream_options": {"include_usage": True}})


def limited(config: RecipeConfig, max_tokens: int) -> RecipeConfig:
    """With that limit for answers of every kind."""
    sampling = config.sampling
    limit = {"max_tokens": max_tokens}
    return config.model_copy(
        update={
            "sampling": sampling.model_copy(
                update={
                    "exploration": sampling.exploration.model_copy(update=limit),
                    "generation": sampling.generation.model_copy(update=limit),
                }
            )
        }
    )


def questions(config: RecipeConfig, number: int, *, seed: int) -> list[Question]:
    """So many, spread evenly over the first part of a run, in its order.

    Equal seeds give equal questions. Another seed gives other sub-tasks, demonstrations and explored trees, so that no
    prefix cache holds more of them than what is equal in all runs of the recipe: the system prompt, and what is asked
    of the tasks that the recipe itself names.
    """
    travelled: list[Question] = []
    journeys = 0
    while len(travelled) < number:
        travelled += _journey(config, seed + journeys)
        journeys += 1
    return [travelled[(2 * index + 1) * len(travelled) // (2 * number)] for index in range(number)]


def of_each_kind(config: RecipeConfig, *, seed: int) -> list[Question]:
    """The first question of each kind."""
    first: dict[str, Question] = {}
    for question in _journey(config, seed):
        first.setdefault(question.kind, question)
    return list(first.values())


def _journey(config: RecipeConfig, seed: int) -> list[Question]:
    """The first requests of a run, in the order of their commits."""
    config = config.model_copy(update={"seed": seed, "window": "auto", "lag": None})
    recipe = config.resolved(model="measured", slots=_SLOTS)
    book, answerer = PromptBook(recipe), Answerer(seed=seed, duplicate_share=0.0)
    travelled: list[Question] = []

    def answer(request: Request) -> Completion:
        chat_request = book.render(request)
        travelled.append(Question(request.kind, chat_request))
        body = orjson.loads(wire.chat_body(chat_request, recipe.model, None))
        text, finish_reason, tokens = answerer.answer(body, bytes.fromhex(chat_request.key))
        return Completion(text, finish_reason, 0, tokens)

    for _ in islice(play(Explorer(recipe), answer), _JOURNEY):
        pass
    if not travelled:
        raise ConfigError("the config's targets leave nothing to ask")
    return travelled
