"""A server that streams at a known pace, and with every fault that we know. It uses none of the measured code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

Write = Callable[[bytes], Any]


def event(document: Any, *, end: bytes = b"\n\n") -> bytes:
    return b"data: " + orjson.dumps(document) + end


def text(piece: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}


ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = b"data: [DONE]\n\n"


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def paced(first_s: float, gap_s: float, pieces: int, tokens: int):
    """A role at once, the first text after `first_s`, then a text every `gap_s`; at the end the finish and the usage."""

    async def send(write: Write) -> None:
        await write(event(ROLE))
        await asyncio.sleep(first_s)
        for index in range(pieces):
            if index:
                await asyncio.sleep(gap_s)
            await write(event(text(f"t{index} ")))
        await write(event(FINISH))
        await asyncio.sleep(gap_s)
        await write(event(usage(10, tokens)) + DONE)

    return send


def raw(*parts: bytes, pause_s: float = 0.02):
    """These bytes, each part sent separately."""

    async def send(write: Write) -> None:
        for part in parts:
            await write(part)
            await asyncio.sleep(pause_s)

    return send


@asynccontextmanager
async def streaming(
    *scripts: Callable[[Write], Any], metrics: str | None = None, lists_models: bool = True
) -> AsyncIterator[str]:
    """Yields its URL. Requests get the scripts in turn, in a cycle."""
    asked = 0

    async def complete(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        body = orjson.loads(await request.read())
        assert body["stream"] is True
        assert body["stream_options"] == {"include_usage": True}
        send = scripts[asked % len(scripts)]
        asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await send(response.write)
        return response

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": "test"}]}, status=200 if lists_models else 500)

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=metrics) if metrics is not None else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", page)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
