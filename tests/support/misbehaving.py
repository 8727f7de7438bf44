"""An HTTP server that misbehaves by a script. It is raw asyncio, because no HTTP library sends such faults.

A script is an iterable of behaviours, or a callable from (body, ordinal) to a behaviour. After its end all requests get
a good response.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson


@dataclass(frozen=True)
class Behaviour:
    """`cut`: the point at which the connection is closed: at once, after the headers, or in mid-body. Status 0: only the
    body is sent, as it is, and the connection is closed.

    `endless` is sent repeatedly after the rest, every `pause_s`, until the client closes the connection.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: Literal["before", "headers", "half"] | None = None
    delay_s: float = 0.0
    endless: bytes = b""
    pause_s: float = 0.0


def answer(content: object = "fine", *, tokens: int = 3, **changes: Any) -> bytes:
    whole = {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 2}},
    }
    whole.update(changes)
    return orjson.dumps({key: value for key, value in whole.items() if value is not None})


def error(status: int, message: str = "no", headers: Mapping[str, str] | None = None, **more: Any) -> Behaviour:
    body = orjson.dumps({"error": {"message": message, "type": "some_error", "code": status, **more}})
    return Behaviour(status, body, headers or {})


OK = Behaviour(body=answer())
RATE_LIMITED = error(429, "slow down")
INTERNAL = error(500, "boom")
UNAVAILABLE = error(503, "busy")
CLOSED_AT_ONCE = Behaviour(cut="before")
CLOSED_AFTER_HEADERS = Behaviour(body=answer(), cut="headers")
HALF_BODY = Behaviour(body=answer("x" * 1000), cut="half")
INVALID_JSON = Behaviour(body=b"<html>It works!</html>", headers={"Content-Type": "text/html"})
INVALID_UTF8 = Behaviour(body=answer("caf?").replace(b"?", b"\xff"))
WRONG_CONTENT_TYPE = Behaviour(body=answer(), headers={"Content-Type": "text/plain"})
EMPTY_CHOICES = Behaviour(body=answer(choices=[]))
NO_CHOICES = Behaviour(body=b'{"object": "error"}')
NULL_CONTENT = Behaviour(body=answer(None))
NO_USAGE = Behaviour(body=answer(usage=None))
NOT_HTTP = Behaviour(status=0, body=b"SSH-2.0-OpenSSH_9.6\r\n")
GZIP_GARBAGE = Behaviour(body=b"this is not gzip", headers={"Content-Encoding": "gzip"})
OVERFLOW = error(400, "This model's maximum context length is 4096 tokens. However, you requested 5000.")
OVERFLOW_OPENAI = error(400, "too long", code="context_length_exceeded")
OVERFLOW_LLAMA = error(400, "too long", type="exceed_context_size_error")
BAD_REQUEST = error(400, "temperature must be non-negative")
KEY_REFUSED = error(401, "bad key")
UNKNOWN_MODEL = error(404, "The model `m` does not exist.")


def slow(seconds: float) -> Behaviour:
    return Behaviour(body=answer(), delay_s=seconds)


def gzip_bomb(size: int) -> Behaviour:
    return Behaviour(body=gzip.compress(bytes(size), compresslevel=1), headers={"Content-Encoding": "gzip"})


def models(*names: str, owner: str = "vllm") -> Behaviour:
    return Behaviour(body=orjson.dumps({"data": [{"id": name, "owned_by": owner} for name in names]}))


def sensible(body: dict[str, Any]) -> str:
    """The completion of a good model: sub-tasks or examples with words drawn by the seed."""
    rng = random.Random(body["seed"])
    words = [f"{a}{b}" for a in ("lo", "mar", "ti", "ven", "su") for b in ("ka", "pel", "rit", "dor", "nim", "sa")]

    def phrase(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    if body["response_format"]["json_schema"]["name"] == "tasks":
        content = {"tasks": [{"name": phrase(5), "reason": phrase(3)} for _ in range(2)]}
    else:
        content = {"examples": [{"instruction": phrase(8), "input": "", "output": phrase(6)} for _ in range(3)]}
    return orjson.dumps(content).decode()


Script = Iterable[Behaviour] | Callable[[dict[str, Any], int], Behaviour]


class MisbehavingServer:
    """`bodies` and `heads` are those of the requests, `peak` the most chat requests at once; `port` lets it come back."""

    def __init__(
        self,
        script: Script = (),
        *,
        catalogue: Script | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._next_answer = _player(script, OK)
        self._next_catalogue = _player(() if catalogue is None else catalogue, models("m"))
        self.port = port
        self._host = host
        self._tls = tls
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.catalogue_requests = 0
        self.in_flight = self.peak = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}/v1"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, self._host, self.port, backlog=1024, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        current = asyncio.current_task()
        assert current is not None
        self._connections.add(current)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(current)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _exchange(self, reader, writer) -> bool:
        """Serves one request. Returns True when the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            (int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0
        )
        raw = await reader.readexactly(length)
        self.heads.append(head)
        if head.startswith("GET"):
            self.catalogue_requests += head.split(" ", 2)[1].endswith("/models")
            return await self._behave(self._next_catalogue({}, max(self.catalogue_requests - 1, 0)), writer)
        self.bodies.append(orjson.loads(raw))
        behaviour = self._next_answer(self.bodies[-1], len(self.bodies) - 1)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(behaviour.delay_s)
        finally:
            self.in_flight -= 1
        return await self._behave(behaviour, writer)

    async def _behave(self, behaviour: Behaviour, writer) -> bool:
        if behaviour.cut == "before":
            return False
        if behaviour.status == 0:
            writer.write(behaviour.body)
            await self._go_on(behaviour, writer)
            return False
        headers = {"Content-Type": "application/json", "Content-Length": str(len(behaviour.body)), **behaviour.headers}
        lines = [f"HTTP/1.1 {behaviour.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if behaviour.cut == "half":
            writer.write(behaviour.body[: len(behaviour.body) // 2])
        elif behaviour.cut is None:
            writer.write(behaviour.body)
        await self._go_on(behaviour, writer)
        return behaviour.cut is None

    @staticmethod
    async def _go_on(behaviour: Behaviour, writer) -> None:
        await writer.drain()
        while behaviour.endless:
            writer.write(behaviour.endless)
            await writer.drain()
            await asyncio.sleep(behaviour.pause_s)


def _player(script: Script, default: Behaviour) -> Callable[[dict[str, Any], int], Behaviour]:
    if callable(script):
        return script
    behaviours = iter(script)
    return lambda _body, _ordinal: next(behaviours, default)
