"""A fleet of modelled engines without sockets, with the clients that an endpoint pool uses."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from explore_async.exploration.values import ChatRequest, Completion
from explore_async.planning.expectation import TOKENS_PER_ANSWER, TOKENS_PER_EXAMPLE
from explore_async.serving.endpoints.engine_metrics import EngineMetrics
from explore_async.serving.endpoints.pool import OpenClient
from explore_async.serving.endpoints.wire import ServedModel, chat_fields
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.model import SimulatedModel, digest_of
from explore_async.serving.simulated.pacing import BatchedPace, EngineRequest
from explore_async.serving.simulated.tokens import count_tokens
from explore_async.settings.operation import EndpointSettings
from explore_async.settings.recipe import SIMULATED

MODEL = SIMULATED
SPREAD = 0.3
"""Standard deviation of the logarithm of a completion's length."""
ANSWER_SHARE = TOKENS_PER_ANSWER / TOKENS_PER_EXAMPLE
"""The part of an example's tokens that its output has."""
_OUTPUT = re.compile(r'"output":|^### Output:', re.MULTILINE)
_EXAMPLE = re.compile(r'"instruction":|^### Instruction:', re.MULTILINE)


class ModelledClient:
    """The client of one modelled engine. Equal requests get equal completions from every engine.

    A completion with examples takes `example_tokens` for each, on average, whatever its text is, unless it is cut; one
    with instructions or an answer alone the part of them that these have in an example.
    """

    def __init__(self, url: str, profile: Profile, model: SimulatedModel, example_tokens: int) -> None:
        self.url = url
        self._example_tokens = example_tokens
        self.pace = BatchedPace(profile)
        self._model = model

    async def catalogue(self) -> list[ServedModel]:
        return [ServedModel(MODEL, "simulator")]

    async def metrics(self) -> EngineMetrics:
        return self.pace.metrics()

    async def version(self, engine: str) -> str:
        del engine
        return ""

    async def ask(
        self, request: ChatRequest, *, served_model: str, timeout_s: float | None, priority: int | None = None
    ) -> Completion:
        began = asyncio.get_running_loop().time()
        fields: dict[str, Any] = chat_fields(request, served_model, None)
        prompt = " ".join(message["content"] for message in request.messages)
        question = digest_of(prompt, request.seed)
        text, finish_reason, tokens = self._model.complete(fields, question)
        if finish_reason != "length" and (examples := _examples_in(text)):
            rng = random.Random(question)  # noqa: S311 - reproducible lengths
            tokens = max(1, round(examples * self._example_tokens * rng.lognormvariate(-(SPREAD**2) / 2, SPREAD)))
        prompt_tokens = count_tokens(prompt)
        async with asyncio.timeout(timeout_s):
            served = await self.pace.serve(EngineRequest(question, prompt, prompt_tokens, tokens, priority or 0))
        latency_s = asyncio.get_running_loop().time() - began
        return Completion(text, finish_reason, prompt_tokens, tokens, served.cached_tokens, MODEL, self.url, latency_s)


def _examples_in(text: str) -> float:
    """The length of a completion in examples; 0 for one of exploration or of a judge."""
    items = len(_EXAMPLE.findall(text))
    if items:
        return items if _OUTPUT.search(text) else items * (1 - ANSWER_SHARE)
    return 0 if text.startswith(("{", "###")) else ANSWER_SHARE


class Fleet:
    """Owns the clients of its engines, one engine a profile. The pool opens them."""

    def __init__(
        self, profiles: Sequence[Profile], *, duplicate_share: float = 0.2, seed: int = 0, example_tokens: int = 100
    ) -> None:
        """`duplicate_share`: of the instructions that repeat. `example_tokens`: the mean length of an example."""
        self.clients: dict[str, ModelledClient] = {}
        self._profiles = {f"http://engine-{number}:8000/v1": profile for number, profile in enumerate(profiles)}
        self._example_tokens = example_tokens
        self._model = SimulatedModel(seed=seed, duplicate_share=duplicate_share, full_share=1.0)

    def endpoints(self, concurrency: int | None) -> list[EndpointSettings]:
        """All endpoints, each with this concurrency; None lets the pool find it out."""
        return [EndpointSettings(url=url, concurrency=concurrency or "auto") for url in self._profiles]

    async def open_clients(self, _owned: AsyncExitStack) -> OpenClient:
        return self._open_client

    async def _open_client(self, endpoint: EndpointSettings) -> ModelledClient:
        profile = self._profiles[endpoint.url]
        client = ModelledClient(endpoint.url, profile, self._model, self._example_tokens)
        self.clients[endpoint.url] = client
        return client
