"""An OpenAI-compatible server without a model, for tests, benchmarks and practice.

Its answer is a pure function of the request's body: the same question gets the same answer, at any load, in any order,
in every run. Only delays depend on how it was set up. It queues like vLLM (a fixed number of slots, the rest wait
first come first served) and shows the same metrics by the same names. It understands no prompt: answers fit the
schema or the markers that they were asked for, and are made of words.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

import orjson
from aiohttp import web

from explore_async.errors import ServerError

LARGEST_DELAY = 8.0
"""Delays are cut at so many means: answers have a max_tokens, too."""
TRUNCATED_SHARE = 0.03
TOKENS_PER_WORD = 1.3
MODEL_LENGTH = 32_768
BACKLOG = 4096
PHRASE_POOL = 24
"""Distinct texts that `duplicate_share` of all strings of one kind are drawn from."""

_MARKER = re.compile(r"^###\s*([A-Za-z ]+):", re.MULTILINE)


def _words(text: str) -> list[str]:
    return text.split()


_VERBS = _words(
    "write describe explain list compare create design suggest plan draft rewrite summarize translate classify outline "
    "invent propose compose analyze improve shorten expand solve calculate prove estimate name find choose rank group "
    "review correct edit prepare organize imagine develop predict discuss identify define illustrate justify simplify "
    "convert combine arrange build sketch narrate debate question answer evaluate measure count verify revise"
)
_NOUNS = _words(
    "story letter recipe poem garden budget lesson speech report menu journey village market river mountain school "
    "teacher student doctor farmer artist engineer machine robot planet season winter summer weather festival holiday "
    "song melody painting museum library book chapter sentence paragraph essay headline slogan product customer "
    "business meeting project schedule deadline strategy goal habit exercise diet breakfast dinner kitchen bread soup "
    "fruit vegetable forest ocean island harbor bridge street city country border history culture language grammar "
    "riddle puzzle game sport team match equation fraction triangle circle angle number sequence function probability "
    "theorem proof measurement distance speed energy light sound color pattern texture fabric costume theater actor "
    "director film camera photograph picture mirror window door house tower castle bicycle train airplane ship engine "
    "battery computer network message password question argument opinion advice promise friendship family neighbor "
    "childhood memory dream fear courage patience honesty justice freedom election law contract insurance salary bank "
    "loan tax profit price discount delivery package warehouse factory tool hammer ladder paint brush paper pencil"
)
_ADJECTIVES = _words(
    "short long formal informal funny sad simple detailed creative clear vivid polite persuasive brief careful modern "
    "ancient famous hidden quiet busy rural urban foreign local cheap expensive healthy fresh warm cold bright dark "
    "gentle brave curious clever honest patient lonely crowded empty broken useful unusual common rare daily weekly "
    "annual public private early late quick slow heavy light smooth rough round square narrow wide shallow deep young "
    "old new wooden golden silver digital practical seasonal regional personal professional historical scientific"
)
_LINKS = ("about", "for", "with", "from", "without", "before", "after", "near", "inside", "beyond", "against", "beside")
_FIRST_WORDS = {"instruction", "name"}
_SIZES: Mapping[str, tuple[int, int]] = {
    "name": (3, 7),
    "reason": (4, 8),
    "instruction": (8, 20),
    "input": (0, 12),
    "output": (10, 40),
}
_OTHER_SIZES = (3, 12)
_EMPTY_INPUTS = 0.4


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
            rng = random.Random(_digest(digest, self.shuffle))  # noqa: S311 - reproducible delays
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


class Answerer:
    """Writes the answer to a chat completions body. Pure: no clock, no state that an answer could depend on."""

    def __init__(self, *, seed: int, duplicate_share: float) -> None:
        self._seed = seed
        self._duplicate_share = duplicate_share

    def answer(self, body: Mapping[str, Any], digest: bytes) -> tuple[str, str, int]:
        """Text, finish reason, and tokens."""
        rng = random.Random(digest)  # noqa: S311 - reproducible answers
        response_format = body.get("response_format") or {}
        if response_format.get("type") == "json_schema":
            schema = response_format["json_schema"]["schema"]
            text = orjson.dumps(self._instance(rng, schema, schema, "")).decode()
        else:
            text = self._plain(rng, str(body["messages"][-1].get("content") or ""))
        tokens = _tokens(text)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or MODEL_LENGTH
        if rng.random() < TRUNCATED_SHARE:
            limit = min(limit, int(tokens * (0.3 + 0.6 * rng.random())))
        if tokens > limit:
            return text[: int(len(text) * limit / tokens)], "length", limit
        return text, "stop", tokens

    def _instance(self, rng: random.Random, schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Any:
        """A random value that satisfies the schema; formats and patterns of strings are not looked at."""
        while "$ref" in schema:
            target: Any = root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            schema = target
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        if variants := schema.get("anyOf") or schema.get("oneOf"):
            return self._instance(rng, rng.choice(variants), root, name)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        match rng.choice(kind) if isinstance(kind, list) else kind:
            case "object":
                properties = schema.get("properties", {})
                return {key: self._instance(rng, part, root, key) for key, part in properties.items()}
            case "array":
                least = schema.get("minItems", 1)
                size = rng.randint(least, schema.get("maxItems", least + 3))
                return [self._instance(rng, schema.get("items", {}), root, name) for _ in range(size)]
            case "integer":
                least = schema.get("minimum", 0)
                return rng.randint(least, schema.get("maximum", least + 100))
            case "number":
                least = schema.get("minimum", 0)
                return least + rng.random() * (schema.get("maximum", least + 1) - least)
            case "boolean":
                return rng.random() < 0.5  # noqa: PLR2004
            case "null":
                return None
        text = self._string(rng, name)
        while len(text) < schema.get("minLength", 0):
            text = f"{text} {self._string(rng, 'output')}".strip()
        return text[: schema.get("maxLength")]

    def _plain(self, rng: random.Random, prompt: str) -> str:
        names = list(dict.fromkeys(found.strip() for found in _MARKER.findall(prompt)))
        names = [name for name in names if name and name.lower() != "end"]
        if not names:
            return self._string(rng, "output")
        blocks = [
            f"### {name}: {self._string(rng, name.lower().split()[-1])}"
            for _ in range(rng.randint(1, 4))
            for name in names
        ]
        return "\n".join([*blocks, "### End"])

    def _string(self, rng: random.Random, name: str) -> str:
        if rng.random() < self._duplicate_share:
            rng = random.Random(f"{self._seed} {name} {rng.randrange(PHRASE_POOL)}")  # noqa: S311
        if name == "input" and rng.random() < _EMPTY_INPUTS:
            return ""
        size = rng.randint(*_SIZES.get(name, _OTHER_SIZES))
        words = [rng.choice(_VERBS)] if name in _FIRST_WORDS else []
        while size:
            adjective = rng.choice(_ADJECTIVES)
            words += "an" if adjective[0] in "aeiou" else "a", adjective, rng.choice(_NOUNS)
            if len(words) >= size - 2:
                break
            words.append(rng.choice(_LINKS))
        text = " ".join(words).capitalize()
        return text if name in {"name", "input"} else f"{text}."


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

    async def _complete(self, request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read())
            model, messages = str(body["model"]), body["messages"]
            prompt = " ".join(str(message.get("content") or "") for message in messages)
            question = _digest(self._seed, model, messages, body.get("seed"), body.get("response_format"))
            text, finish_reason, tokens = self._answerer.answer(body, question)
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            return _error(400, f"The body is no chat completions request: {type(error).__name__} {error}")
        if model != self._model:
            return _error(404, f"The model `{model}` does not exist.")
        self._requests += 1
        self._asked[_digest({**body, "priority": None}).hex()] += 1
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._in_flight += 1
        self._peak = max(self._peak, self._in_flight)
        try:
            if (delay_s := self._latency.draw_s(question, tokens)) > 0:
                await asyncio.sleep(delay_s)
        finally:
            self._in_flight -= 1
            self._slots.release()
        prompt_tokens = _tokens(prompt)
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


def _digest(*parts: Any) -> bytes:
    plain = [part.hex() if isinstance(part, bytes) else part for part in parts]
    return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def _tokens(text: str) -> int:
    return math.ceil(len(text.split()) * TOKENS_PER_WORD)


def _error(status: int, message: str) -> web.Response:
    kind = "BadRequestError" if status == 400 else "NotFoundError"  # noqa: PLR2004
    error = {"message": message, "type": kind, "param": None, "code": status}
    return web.Response(status=status, body=orjson.dumps({"error": error}), content_type="application/json")
