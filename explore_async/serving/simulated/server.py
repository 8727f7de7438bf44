"""An OpenAI-compatible server without a model, for tests, benchmarks and practice.

Its completion is a pure function of the request's body: the same request gets the same completion, at any load, in any
order, in every run. Only delays depend on its options: random, or those of a modelled engine with continuous batching,
priorities and a prefix cache. It shows vLLM's metrics by vLLM's names. `model` makes the texts, `pacing` the times.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

import orjson
from aiohttp import web

from explore_async.errors import ServerError
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.model import MODEL_LENGTH, SimulatedModel, count_tokens, digest_of
from explore_async.serving.simulated.pacing import BatchedPace, DrawnPace, EngineRequest, Latency, Pace, StreamProgress
from explore_async.settings.recipe import SIMULATED

__all__ = ["Latency", "SimulatedServer", "SimulatorStatistics", "serve_simulated"]

BACKLOG = 4096
STREAM_S = 0.01
"""Seconds between two looks at the progress of a streamed completion."""


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """What the server has received so far.

    `counts_by_digest`: how often each request came, by the digest of its body without the priority.
    """

    requests: int
    in_flight: int
    waiting: int
    peak_in_flight: int
    counts_by_digest: Mapping[str, int]


class SimulatedServer:
    """Owns the server inside `async with`. `url` is its base URL; `port` 0 takes a free port.

    With a `profile` it has the pace of that engine, and `slots` and `latency` are not used.
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
        self._simulated_model = SimulatedModel(seed=seed, duplicate_share=duplicate_share)
        self._address = (host, port)
        self._requests = 0
        self._counts: Counter[str] = Counter()
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._pace = BatchedPace(self._profile) if self._profile else DrawnPace(self._slots, self._latency)
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._complete)
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
        try:
            body = orjson.loads(await request.read())
            model, messages = str(body["model"]), body["messages"]
            prompt = " ".join(str(message.get("content") or "") for message in messages)
            digest = digest_of(self._seed, model, messages, body.get("seed"), body.get("response_format"))
            text, finish_reason, tokens = self._simulated_model.complete(body, digest)
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            return _error(400, f"The body is not a chat completions request: {type(error).__name__} {error}")
        if model != self._model:
            return _error(404, f"The model `{model}` does not exist.")
        self._requests += 1
        self._counts[digest_of({**body, "priority": None}).hex()] += 1
        prompt_tokens = count_tokens(prompt)
        priority = body.get("priority")
        engine_request = EngineRequest(
            digest, prompt, prompt_tokens, tokens, priority if isinstance(priority, int) else 0
        )
        if body.get("stream"):
            return await self._stream(request, model, text, finish_reason, engine_request)
        cached_tokens = await self._paced.serve(engine_request)
        document = {
            "id": f"chatcmpl-{digest.hex()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": SIMULATED,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": prompt_tokens + tokens,
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
            },
        }
        return web.Response(body=orjson.dumps(document), content_type="application/json")

    async def _stream(
        self, request: web.Request, model: str, text: str, finish_reason: str, engine_request: EngineRequest
    ) -> web.StreamResponse:
        """Sends the completion as server-sent events: each word when the engine has made it, and the usage last."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(choices: list[dict[str, object]], **more: object) -> None:
            chunk = {"object": "chat.completion.chunk", "model": model, "choices": choices, **more}
            await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")

        words, sent, progress = re.findall(r"\s*\S+", text), 0, StreamProgress()
        serving = asyncio.ensure_future(self._paced.serve(engine_request, progress))
        try:
            while sent < len(words):
                await asyncio.wait({serving}, timeout=STREAM_S)
                ready = len(words) if serving.done() else int(progress.share() * len(words))
                for word in words[sent:ready]:
                    await send([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
                sent = max(sent, ready)
            cached_tokens = await serving
        finally:
            serving.cancel()
        await send([{"index": 0, "delta": {}, "finish_reason": finish_reason}])
        usage = {
            "prompt_tokens": engine_request.prompt_tokens,
            "completion_tokens": engine_request.answer_tokens,
            "total_tokens": engine_request.prompt_tokens + engine_request.answer_tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        }
        await send([], usage=usage)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        entry = {"id": self._model, "object": "model", "owned_by": "simulator", "max_model_len": MODEL_LENGTH}
        return web.Response(body=orjson.dumps({"object": "list", "data": [entry]}), content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        metrics = self._paced.metrics()
        values = {
            "num_requests_running": metrics.running,
            "num_requests_waiting": metrics.waiting,
            "kv_cache_usage_perc": metrics.kv_usage,
            "num_preemptions_total": metrics.preemptions,
            "prompt_tokens_total": metrics.prompt_tokens,
            "generation_tokens_total": metrics.generation_tokens,
            "prefix_cache_queries_total": metrics.prefix_queries,
            "prefix_cache_hits_total": metrics.prefix_hits,
        }
        lines = [f'vllm:{name}{{model_name="{self._model}"}} {value}\n' for name, value in values.items()]
        return web.Response(text="".join(lines))


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


def _error(status: int, message: str) -> web.Response:
    kind = "BadRequestError" if status == 400 else "NotFoundError"  # noqa: PLR2004
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.Response(status=status, body=orjson.dumps({"error": error}), content_type="application/json")
