"""`explore-async view`: serves the page and what it asks for, on loopback, to read only.

The page gets texts as JSON and puts them into text nodes. A request that names another host than this machine is
refused, so that no web page elsewhere can read runs through a name that points here.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from explore_async.curation.collections.open import runs_inside
from explore_async.curation.collections.run_data import RunData, is_run_data
from explore_async.errors import ConfigError, DataError, ExploreError
from explore_async.web import reading

_BETWEEN_LOOKS_S = 1.0
_PING_EVERY = 15
_LONGEST_NUMBER = 15
_HOSTS = {"localhost", "127.0.0.1", "::1"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FILES = {
    "/": ("view.html", "text/html"),
    "/view.js": ("view.js", "text/javascript"),
    "/view.css": ("view.css", "text/css"),
}
_LISTS: dict[str, reading.What] = {"kept": "kept", "dropped": "dropped", "failed": "failed"}
_GIVEN: web.AppKey[list[Path]] = web.AppKey("given", list)
_RUNS: web.AppKey[list[Path]] = web.AppKey("runs", list)


class _BadQuery(ExploreError):
    """What was asked for cannot be meant."""


def application(given: Sequence[Path]) -> web.Application:
    """For these run directories, and those that are or come to be in these folders. Raises DataError."""
    app = web.Application(middlewares=[_guarded])
    app[_GIVEN], app[_RUNS] = list(given), runs_in(given)
    for path, (name, kind) in _FILES.items():
        body = (files("explore_async.web") / name).read_bytes()
        app.router.add_get(path, partial(_static, body=body, kind=kind))
    app.router.add_get("/favicon.ico", _nothing)
    app.router.add_get("/api/runs", _runs)
    app.router.add_get("/api/runs/{number}/state", _state)
    app.router.add_get("/api/runs/{number}/events", _events)
    app.router.add_get("/api/runs/{number}/examples", _examples)
    app.router.add_get("/api/runs/{number}/evidence", _evidence)
    return app


@contextlib.asynccontextmanager
async def serving(given: Sequence[Path], port: int) -> Any:
    """Serves while entered; gives the URL. Raises ConfigError where the port is taken."""
    app = await asyncio.to_thread(application, given)
    # a reader of events who goes away ends them
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror or error}") from error
        assert site._server is not None  # noqa: SLF001 - aiohttp tells a port of its own choice nowhere else
        (address, *_) = runner.addresses
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()


async def view(given: Sequence[Path], *, port: int, announce: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM. `announce` gets the URL."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serving(given, port) as url:
        announce(url)
        await stop.wait()


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """The directories that are meant: these, or those in a folder of runs. Raises DataError where there is none."""
    found: list[Path] = []
    for path in paths:
        inside = runs_inside(path)
        if not inside and not is_run_data(path):
            RunData.read(path)  # says why it is none
        found += inside or [path]
    return found


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _hostname(request) not in _HOSTS:
        return web.json_response({"error": "this view is for this machine only"}, status=403)
    try:
        response = await handler(request)
    except ExploreError as error:
        response = web.json_response({"error": str(error)}, status=400 if isinstance(error, _BadQuery) else 404)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        response = web.json_response({"error": f"this is not what a run writes: {error!r}"}, status=404)
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response


def _hostname(request: web.Request) -> str | None:
    try:
        return urlsplit(f"//{request.host}").hostname
    except ValueError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER else None


async def _static(_request: web.Request, *, body: bytes, kind: str) -> web.Response:
    return web.Response(body=body, content_type=kind, charset="utf-8")


async def _nothing(_request: web.Request) -> web.Response:
    return web.Response(status=204)


def _run_of(request: web.Request) -> Path:
    runs = request.app[_RUNS]
    number = _number(request.match_info["number"])
    if number is None or number >= len(runs):
        raise DataError("there is no such run")
    return runs[number]


def _json(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def _runs(request: web.Request) -> web.Response:
    """All of them, also those that cannot be read; new ones in the folders come last, so that numbers stay."""

    def read() -> list[dict[str, str]]:
        known = request.app[_RUNS]
        known += [path for folder in request.app[_GIVEN] for path in runs_inside(folder) if path not in known]
        return [_named(path) for path in known]

    return _json(await asyncio.to_thread(read))


def _named(path: Path) -> dict[str, str]:
    try:
        return {"name": RunData.read(path).name, "path": str(path)}
    except DataError as error:
        return {"name": path.name, "path": str(path), "error": str(error)}


async def _state(request: web.Request) -> web.Response:
    return _json(await asyncio.to_thread(reading.state, _run_of(request)))


async def _examples(request: web.Request) -> web.Response:
    asked = request.query
    offset, what = _number(asked.get("offset", "0")), asked.get("what", "kept")
    if offset is None:
        raise _BadQuery("offset is no number of bytes")
    if what not in _LISTS:
        raise _BadQuery(f"what is one of {', '.join(_LISTS)}")
    found = await asyncio.to_thread(
        reading.listed,
        _run_of(request),
        _LISTS[what],
        task=asked.get("task", ""),
        query=asked.get("query", ""),
        offset=offset,
    )
    return _json(found)


async def _evidence(request: web.Request) -> web.Response:
    run, asked = _run_of(request), request.query
    if "request" in asked:
        return _json(await asyncio.to_thread(reading.exchange, run, asked["request"]))
    return _json(await asyncio.to_thread(reading.evidence, run, asked.get("id", "")))


def _state_or_error(run: Path) -> bytes:
    try:
        return orjson.dumps(reading.state(run))
    except ExploreError as error:  # gone, or damaged: it may come back
        return orjson.dumps({"error": str(error)})


async def _events(request: web.Request) -> web.StreamResponse:
    """The state whenever it has changed, as server-sent events."""
    run = _run_of(request)
    response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    seen = None
    quiet = 0
    with contextlib.suppress(ConnectionResetError):
        while True:
            now = await asyncio.to_thread(reading.version, run)
            if now != seen:
                seen, quiet = now, 0
                body = await asyncio.to_thread(_state_or_error, run)
                await response.write(b"data: " + body + b"\n\n")
            elif (quiet := quiet + 1) % _PING_EVERY == 0:
                await response.write(b": still here\n\n")
            await asyncio.sleep(_BETWEEN_LOOKS_S)
    return response
