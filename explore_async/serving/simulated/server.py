"""An OpenAI-compatible server without a model, for tests, benchmarks and practice.

Its completion is a pure function of the request's body: the same request gets the same completion, at any load, in any
order, in every run. Only delays depend on its options: random, or those of a modelled engine with continuous batching,
priorities and a prefix cache. It shows vLLM's metrics by vLLM's names. `model` makes the texts, `pacing` the times.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from explore_async.errors import ServerError
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.fields import (
    ChatFields,
    CompletionFields,
    DetokenizeFields,
    InvalidRequest,
    TokenizeFields,
    read_body,
    read_fields,
)
from explore_async.serving.simulated.metrics import CONTENT_TYPE, ServerMetrics
from explore_async.serving.simulated.model import MODEL_LENGTH, SimulatedModel, digest_of
from explore_async.serving.simulated.orders import Order, order_chat, order_completion, prompt_of
from explore_async.serving.simulated.pacing import (
    BatchedPace,
    DrawnPace,
    EngineRequest,
    Latency,
    Pace,
    Served,
    StreamProgress,
)
from explore_async.serving.simulated.replies import (
    ChatReply,
    Choice,
    CompletionReply,
    Reply,
    TokenStream,
    usage_of,
    write_choices,
)
from explore_async.serving.simulated.tokens import TokenMemory, count_tokens, split_tokens
from explore_async.serving.simulated.universe import Universe
from explore_async.settings.recipe import SIMULATED

__all__ = ["Latency", "SimulatedServer", "SimulatorStatistics", "serve_simulated"]

BACKLOG = 4096
_NOT_IN_THE_REST: Final = {"messages", "response_format", "priority"}
"""Fields that a request's digest covers, and the priority, which no completion depends on."""
VERSION: Final = "0.32.0+simulated"
"""The version of vLLM whose surface this is."""


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """The requests that the server has received so far.

    `counts_by_digest`: how often each request came, by the digest of its body without the priority.
    """

    requests: int
    in_flight: int
    waiting: int
    peak_in_flight: int
    counts_by_digest: Mapping[str, int]


class SimulatedServer:
    """Owns the server inside `async with`. `url` is its base URL; `port` 0 takes a free port.

    With a `profile` it has the pace of that engine, and `slots` and `latency` are not used. `duplicate_share` and
    `full_share` and `universe` are those of its SimulatedModel.
    """

    def __init__(
        self,
        slots: int = 256,
        latency: Latency | None = None,
        *,
        profile: Profile | None = None,
        model: str = SIMULATED,
        seed: int = 0,
        duplicate_share: float = 0.2,
        full_share: float = 0.0,
        universe: Universe | None = None,
        context_tokens: int = MODEL_LENGTH,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.url = ""
        self._profile = profile
        self._latency = latency or Latency()
        self._slots = slots
        self._pace: Pace | None = None
        self._model = model
        self._seed = seed
        self._simulated_model = SimulatedModel(
            seed=seed, duplicate_share=duplicate_share, full_share=full_share, universe=universe
        )
        self._length = context_tokens
        self._tokens = TokenMemory()
        self._metrics = ServerMetrics(model, context_tokens)
        self._began = int(time.time())
        self._address = (host, port)
        self._requests = 0
        self._counts: Counter[str] = Counter()
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._pace = BatchedPace(self._profile) if self._profile else DrawnPace(self._slots, self._latency)
        app = web.Application(client_max_size=64 * 2**20, middlewares=[_refusals])
        app.router.add_get("/health", self._health)
        app.router.add_route("*", "/ping", self._health)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{name:.+}", self._model_card)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._complete_text)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/detokenize", self._detokenize)
        # A client that is gone frees its slot, as in vLLM.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0, keepalive_timeout=3600.0
        )
        await runner.setup()
        self._owned.push_async_callback(runner.cleanup)
        host, port = self._address
        try:
            await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
        except OSError as error:
            await self._owned.aclose()
            raise ServerError(f"The simulated server cannot listen on {host}:{port}: {error}") from error
        self.url = f"http://{host}:{runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    def statistics(self) -> SimulatorStatistics:
        metrics = self._paced.metrics()
        return SimulatorStatistics(
            requests=self._requests,
            in_flight=int(metrics.running),
            waiting=int(metrics.waiting),
            peak_in_flight=self._paced.peak,
            counts_by_digest=dict(self._counts),
        )

    @property
    def _paced(self) -> Pace:
        assert self._pace is not None, "the server is not running"
        return self._pace

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        fields = read_fields(ChatFields, body)
        self._check_model(fields.model)
        order = order_chat(fields, length=self._length)
        # The text depends on what was always part of it: other fields change its form and its end.
        digest = digest_of(self._seed, self._model, body["messages"], body.get("seed"), body.get("response_format"))
        return await self._answer(request, body, order, ChatReply, digest)

    async def _complete_text(self, request: web.Request) -> web.StreamResponse:
        body = await self._read(request)
        fields = read_fields(CompletionFields, body)
        self._check_model(fields.model)
        order = order_completion(fields, length=self._length)
        digest = digest_of(self._seed, self._model, body["prompt"], body.get("seed"), body.get("response_format"))
        return await self._answer(request, body, order, CompletionReply, digest)

    async def _answer(
        self, request: web.Request, body: dict[str, Any], order: Order, kind: type[Reply], digest: bytes
    ) -> web.StreamResponse:
        choices = write_choices(self._simulated_model, order, digest)
        self._requests += 1
        rest = {name: value for name, value in body.items() if name not in _NOT_IN_THE_REST}
        self._counts[digest_of(digest, rest).hex()] += 1
        reply = kind(self._model, order, order.fields.request_id or request.headers.get("X-Request-Id"))
        if order.fields.stream:
            return await self._stream(request, order, reply, choices)
        if len(choices) == 1:
            served = [await self._serve(order, choices[0])]
        else:
            served = await asyncio.gather(*(self._serve(order, choice) for choice in choices))
        return _json(reply.document(choices, _usage(order, choices, served)))

    async def _serve(self, order: Order, choice: Choice, progress: StreamProgress | None = None) -> Served:
        prompt, text = choice.prompt, choice.text
        served = await self._paced.serve(
            EngineRequest(choice.digest, prompt.text, prompt.tokens, text.tokens, order.fields.priority), progress
        )
        self._metrics.add(
            served,
            prompt_tokens=prompt.tokens,
            tokens=text.tokens,
            max_tokens=order.wanted_tokens,
            number=order.number,
            reason=text.finish_reason,
        )
        return served

    async def _stream(
        self, request: web.Request, order: Order, reply: Reply, choices: list[Choice]
    ) -> web.StreamResponse:
        """Sends the texts as server-sent events: each token when the engine has made it."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        more = asyncio.Event()
        streams = [TokenStream(reply, choice, StreamProgress(more)) for choice in choices]
        serving = [asyncio.ensure_future(self._serve(order, stream.choice, stream.progress)) for stream in streams]
        for future, stream in zip(serving, streams, strict=True):
            future.add_done_callback(stream.finish)
        try:
            while not all(stream.ended for stream in streams):
                await more.wait()
                more.clear()
                if events := b"".join(stream.take() for stream in streams):
                    await response.write(events)
            served = await asyncio.gather(*serving)
        finally:
            for future in serving:
                future.cancel()
        await response.write(reply.closing(_usage(order, choices, served)))
        await response.write_eof()
        return response

    async def _read(self, request: web.Request) -> dict[str, Any]:
        return read_body(await request.read(), request.content_type)

    def _check_model(self, name: str | None) -> None:
        if name and name != self._model:
            message = f"The model `{name}` does not exist. Valid aliases: {self._model}."
            raise InvalidRequest(message, "model", kind="NotFoundError", code=404)

    async def _tokenize(self, request: web.Request) -> web.Response:
        fields = read_fields(TokenizeFields, await self._read(request))
        self._check_model(fields.model)
        if fields.prompt is None and fields.messages is None:
            raise InvalidRequest("Either prompt or messages must be provided.", "prompt")
        text = fields.prompt if fields.prompt is not None else prompt_of(fields.messages or [])
        tokens = split_tokens(text, count_tokens(text))
        return _json(
            {
                "count": len(tokens),
                "max_model_len": self._length,
                "tokens": self._tokens.ids_of(tokens),
                "token_strs": tokens if fields.return_token_strs else None,
            }
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        fields = read_fields(DetokenizeFields, await self._read(request))
        self._check_model(fields.model)
        try:
            return _json({"prompt": self._tokens.text_of(fields.tokens)})
        except KeyError as error:
            message = f"The simulated server has no vocabulary: it knows the ids that /tokenize gave, and not {error}."
            raise InvalidRequest(message, "tokens") from None

    async def _models(self, _: web.Request) -> web.Response:
        return _json({"object": "list", "data": [self._card()]})

    async def _model_card(self, request: web.Request) -> web.Response:
        self._check_model(request.match_info["name"])
        return _json(self._card())

    def _card(self) -> dict[str, Any]:
        return {
            "id": self._model,
            "object": "model",
            "created": self._began,
            "owned_by": "vllm",
            "root": self._model,
            "parent": None,
            "max_model_len": self._length,
            "permission": [],
        }

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": VERSION})

    async def _metrics_page(self, _: web.Request) -> web.Response:
        page = self._metrics.page(self._paced.metrics())
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})


async def serve_simulated(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    slots: int = 256,
    latency: Latency | None = None,
    profile: Profile | None = None,
    model: str = SIMULATED,
    seed: int = 0,
    duplicate_share: float = 0.2,
    on_ready: Callable[[str], None] = lambda _: None,
) -> NoReturn:
    """Serves until cancelled; `on_ready` gets the URL."""
    server = SimulatedServer(
        slots, latency, profile=profile, model=model, seed=seed, duplicate_share=duplicate_share, host=host, port=port
    )
    async with server:
        on_ready(server.url)
        while True:
            await asyncio.Event().wait()


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as vLLM sends them, those of unknown paths included."""
    try:
        return await handler(request)
    except InvalidRequest as error:
        return _json(error.document, error.code)
    except web.HTTPClientError as error:
        return _json(InvalidRequest(error.reason, kind=error.reason, code=error.status).document, error.status)


def _usage(order: Order, choices: Sequence[Choice], served: Sequence[Served]) -> dict[str, Any]:
    return usage_of(order.prompts, sum(choice.text.tokens for choice in choices), served[0].cached_tokens)


def _json(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")
