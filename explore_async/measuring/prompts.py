"""Makes the prompts of a measurement: those of a run of the recipe, in the same mix and with the same prefixes.

An explorer is played with simulated completions. So the prompts hold sub-tasks, demonstrations and explored trees as in
a run, and exploration and generation have the shares of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import orjson

from explore_async.errors import ConfigError
from explore_async.exploration import checks
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Request
from explore_async.serving.endpoints import wire
from explore_async.serving.simulated.model import SimulatedModel
from explore_async.settings.run_settings import RecipeConfig

_MOST_REQUESTS = 600
"""Requests of a run to choose from. With the presets, this is all of exploration and more than as much generation."""
_WINDOW = 48  # a narrow window explores early, so that most of the requests are like those of a whole run


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """A request of a run, and its kind."""

    kind: str
    chat_request: ChatRequest

    def body(self, served_model: str) -> bytes:
        """The body of the HTTP request, for a stream with its usage at the end."""
        body = orjson.loads(wire.chat_body(self.chat_request, served_model, None))
        return orjson.dumps({**body, "stream": True, "stream_options": {"include_usage": True}})


def limited(config: RecipeConfig, max_tokens: int) -> RecipeConfig:
    """The recipe with this limit for completions of every kind."""
    sampling = config.sampling
    limits = {
        "exploration": sampling.exploration.limited(max_tokens),
        "generation": sampling.generation.limited(max_tokens),
    }
    return config.model_copy(update={"sampling": sampling.model_copy(update=limits)})


def bench_requests(config: RecipeConfig, number: int, *, seed: int) -> list[BenchRequest]:
    """`number` requests, spread evenly over the first part of a run, in its order.

    Equal seeds give equal requests. Another seed gives other sub-tasks, demonstrations and explored trees. So a prefix
    cache that has served one seed holds of another only what is equal in all runs of the recipe: the system prompts,
    and the requests about tasks that the recipe itself names.
    """
    requests: list[BenchRequest] = []
    runs = 0
    while len(requests) < number:
        requests += _first_requests(config, seed + runs)
        runs += 1
    return [requests[(2 * index + 1) * len(requests) // (2 * number)] for index in range(number)]


def of_each_kind(config: RecipeConfig, *, seed: int) -> list[BenchRequest]:
    """The first request of each kind."""
    first: dict[str, BenchRequest] = {}
    for request in _first_requests(config, seed):
        first.setdefault(request.kind, request)
    return list(first.values())


def _first_requests(config: RecipeConfig, seed: int) -> list[BenchRequest]:
    """The first requests of a run, in the order of their commits."""
    sends_seed = config.seed is not None
    config = config.model_copy(update={"seed": seed, "window": _WINDOW, "lag": None})
    recipe = config.resolved(model="measured")
    book, model = PromptBook(recipe), SimulatedModel(seed=seed, duplicate_share=0.0)
    requests: list[BenchRequest] = []

    def answer(request: Request) -> Completion:
        if request.kind == checks.KIND:  # a program on the user's machine answers it, and no endpoint
            return checks.PASSED
        chat_request = replace(book.render(request), sends_seed=sends_seed)
        requests.append(BenchRequest(request.kind, chat_request))
        body = orjson.loads(wire.chat_body(chat_request, recipe.model, None))
        text, finish_reason, tokens = model.complete(body, bytes.fromhex(chat_request.key))
        return Completion(text, finish_reason, 0, tokens)

    for _ in islice(play(Explorer(recipe), answer), _MOST_REQUESTS):
        pass
    if not requests:
        raise ConfigError("the config's targets leave nothing to ask")
    return requests
