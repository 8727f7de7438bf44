"""An OpenAI-compatible server without a model, for tests, benchmarks and practice.

Its answer is a pure function of the request's body: the same question gets the same answer, at any load, in any order,
in every run. Only delays depend on how it was set up. It queues like vLLM (a fixed number of slots, the rest wait
first come first served) and shows the same metrics by the same names. What it answers is written in `answers`.
"""

from __future__ import annotations

import asyncio
import math
import random
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
from explore_async.serving.answers import MODEL_LENGTH, Answerer, count_tokens, digest_of

__all__ = ["Latency", "SimulatedServer", "SimulatorStatistics", "serve_simulated"]

LARGEST_DELAY = 8.0
"""Delays are cut at so many means: answers have a max_tokens, too."""
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes: lognormal around `mean_s`, plus its tokens at `tokens_per_s` where that is given.

    A request's delay is drawn from its digest; another `shuffle` draws all delays anew and leaves the answers alone.
    """

    mean_s: float = 0.0
    sigma: float = 0.0
    tokens_per_s: float | None = None
    shuffle: int = 0

    def draw_s(self, digest: bytes, tokens: int) -> float:
        delay_s = 0.0 if self.tokens_per_s is None else tokens / self.tokens_per_s
        if self.mean_s > 0:
            rng = random.Random(digest_of(digest, self.shuffle))  # noqa: S311 - reproducible delays
            drawn = rng.lognormvariate(math.log(self.mean_s) - self.sigma**2 / 2, self.sigma)
            delay_s += min(drawn, LARGEST_DELAY * self.mean_s)
        return delay_s


@dataclass(frozen=True, slots=True)
class SimulatorStatistics:
    """`asked` counts how often each question came, by digest of its body without the priority."""

    requests: int
    in_flight: int
    waiting: int
    peak_in_flight: int
    asked: Mapping[str, int]


class SimulatedServer:
    """The server, running between `async with`; `url` is its base URL, `port` 0 takes any free one."""

    def __init__(
        self,
        slots: int = 256,
        latency: Latency | None = None,
        *,
        model: str = "simulated",
        seed: int = 0,
        duplicate_share: float = 0.2,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.url = ""
        self._latency = latency or Latency()
        self._model = model
        self._seed = seed
        self._answerer = Answerer(seed=seed, duplicate_share=duplicate_share)
        self._address = (host, port)
        self._slots = asyncio.Semaphore(slots)
        self._requests = self._in_flight = self._waiting = self._peak = 0
        self._prompt_tokens = self._generation_tokens = 0
        self._asked: Counter[str] = Counter()
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
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
        return SimulatorStatistics(
            requests=self._requests,
            in_flight=self._in_flight,
            waiting=self._waiting,
            peak_in_flight=self._peak,
            asked=dict(self._asked),
        )

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = orjson.loads(await request.read())
            model, messages = str(body["model"]), body["messages"]
            prompt = " ".join(str(message.get("content") or "") for message in messages)
            question = digest_of(self._seed, model, messages, body.get("seed"), body.get("response_format"))
            text, finish_reason, tokens = self._answerer.answer(body, question)
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            return _error(400, f"The body is no chat completions request: {type(error).__name__} {error}")
        if model != self._model:
            return _error(404, f"The model `{model}` does not exist.")
        self._requests += 1
        self._asked[digest_of({**body, "priority": None}).hex()] += 1
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        try:
            delay_s = self._latency.draw_s(question, tokens)
            if body.get("stream"):
                return await self._stream(request, model, text, finish_reason, tokens, count_tokens(prompt), delay_s)
            if delay_s > 0:
                await asyncio.sleep(delay_s)
        finally:
            self._in_flight -= 1
            self._slots.release()
        prompt_tokens = count_tokens(prompt)
        self._prompt_tokens += prompt_tokens
        self._generation_tokens += tokens
        answer = {
            "id": f"chatcmpl-{question.hex()}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
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
                "prompt_tokens_details": {"cached_tokens": prompt_tokens // 16 * 8},
            },
        }
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    async def _stream(  # noqa: PLR0917 - the parts of one answer
        self,
        request: web.Request,
        model: str,
        text: str,
        finish_reason: str,
        tokens: int,
        prompt_tokens: int,
        delay_s: float,
    ) -> web.StreamResponse:
        """The answer as server-sent events: a word each, spread over the delay, and the usage last."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def send(choices: list[dict[str, object]], **more: object) -> None:
            chunk = {"object": "chat.completion.chunk", "model": model, "choices": choices, **more}
            await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")

        words = re.findall(r"\s*\S+", text)
        for word in words:
            if delay_s > 0:
                await asyncio.sleep(delay_s / len(words))
            await send([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        await send([{"index": 0, "delta": {}, "finish_reason": finish_reason}])
        self._prompt_tokens += prompt_tokens
        self._generation_tokens += tokens
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
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
        gauges = {
            "vllm:num_requests_running": self._in_flight,
            "vllm:num_requests_waiting": self._waiting,
            "vllm:kv_cache_usage_perc": 0,
            "vllm:prompt_tokens_total": self._prompt_tokens,
            "vllm:generation_tokens_total": self._generation_tokens,
        }
        lines = [f'{name}{{model_name="{self._model}"}} {value}\n' for name, value in gauges.items()]
        return web.Response(text="".join(lines))


async def serve_simulated(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    slots: int = 256,
    latency: Latency | None = None,
    model: str = "simulated",
    seed: int = 0,
    duplicate_share: float = 0.2,
    on_ready: Callable[[str], None] = lambda _: None,
) -> NoReturn:
    """Serve until cancelled; `on_ready` is told the URL."""
    server = SimulatedServer(
        slots, latency, model=model, seed=seed, duplicate_share=duplicate_share, host=host, port=port
    )
    async with server:
        on_ready(server.url)
        while True:
            await asyncio.Event().wait()


def _error(status: int, message: str) -> web.Response:
    kind = "BadRequestError" if status == 400 else "NotFoundError"  # noqa: PLR2004
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.Response(status=status, body=orjson.dumps({"error": error}), content_type="application/json")
