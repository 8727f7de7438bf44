"""`explore-async view`: a web server on loopback, for the page and its data. It writes nothing but marks.

The page gets texts as JSON and puts them into text nodes. A request that names another host than this machine gets an
error, so that no web page elsewhere can read runs through a host name that points here. Only the page itself can mark.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from explore_async.curation.collections.collection import MarkName
from explore_async.curation.collections.open import runs_inside
from explore_async.curation.collections.run_data import RunData, is_run_data
from explore_async.errors import ConfigError, DataError, ExploreError
from explore_async.web import reading

_POLL_INTERVAL_S = 1.0
_PARENT_CHECKED_EVERY_S = 1.0
_PING_EVERY = 15
_LONGEST_NUMBER = 15
_LONGEST_NOTE = 2_000
_HOSTS = {"localhost", "127.0.0.1", "::1"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report has scripts, and its directory may come from elsewhere: its origin is none, and it can read nothing here."""
_FILES = {
    "/": ("view.html", "text/html"),
    "/view.js": ("view.js", "text/javascript"),
    "/view.css": ("view.css", "text/css"),
}
_LISTS: dict[str, reading.ListName] = {"kept": "kept", "dropped": "dropped", "failed": "failed"}
_MARKS: tuple[MarkName | None, ...] = ("good", "bad", None)
_PATHS: web.AppKey[list[Path]] = web.AppKey("paths", list)
_RUNS: web.AppKey[list[Path]] = web.AppKey("runs", list)


class _BadQuery(ExploreError):
    """A parameter of the query has no valid value."""


def application(paths: Sequence[Path]) -> web.Application:
    """Serves these run directories, and all that are in these folders now or later. Raises DataError."""
    app = web.Application(middlewares=[_guarded])
    app[_PATHS], app[_RUNS] = list(paths), runs_in(paths)
    for path, (name, kind) in _FILES.items():
        body = (files("explore_async.web") / name).read_bytes()
        app.router.add_get(path, partial(_static, body=body, kind=kind))
    app.router.add_get("/favicon.ico", _no_content)
    app.router.add_get("/api/runs", _runs)
    app.router.add_get("/api/runs/{number}/state", _state)
    app.router.add_get("/api/runs/{number}/events", _events)
    app.router.add_get("/api/runs/{number}/examples", _examples)
    app.router.add_get("/api/runs/{number}/evidence", _evidence)
    app.router.add_get("/api/runs/{number}/report", _report)
    app.router.add_post("/api/runs/{number}/marks", _mark)
    return app


@contextlib.asynccontextmanager
async def serving(paths: Sequence[Path], port: int, listening: socket.socket | None = None) -> Any:
    """Serves while entered, and yields the URL: at this port, or at a socket that listens already. Raises ConfigError
    where the port is in use.
    """
    app = await asyncio.to_thread(application, paths)
    # handler_cancellation: a closed connection ends its stream of events
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        site: web.BaseSite = web.TCPSite(runner, "127.0.0.1", port)
        if listening is not None:
            site = web.SockSite(runner, listening)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror or error}") from error
        (address, *_) = runner.addresses
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()


async def view(
    paths: Sequence[Path], *, port: int, announce: Callable[[str], None], inherited: int | None = None
) -> None:
    """Serves until SIGINT or SIGTERM. `announce` gets the URL.

    `inherited`: the number of a listening socket that the parent process has opened. The view then ends with it.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listening = None if inherited is None else socket.socket(fileno=inherited)
    async with serving(paths, port, listening) as url:
        announce(url)
        parent = os.getppid()
        while not stop.is_set() and (listening is None or os.getppid() == parent):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _PARENT_CHECKED_EVERY_S)


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Run directories among these paths and in these folders. Raises DataError for a path that holds none."""
    runs: list[Path] = []
    for path in paths:
        inside = runs_inside(path)
        if not inside and not is_run_data(path):
            RunData.read(path)  # raises the reason
        runs += inside or [path]
    return runs


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _hostname(request) not in _HOSTS:
        return web.json_response({"error": "this view serves this machine only"}, status=403)
    try:
        response = await handler(request)
    except ExploreError as error:
        response = web.json_response({"error": str(error)}, status=400 if isinstance(error, _BadQuery) else 404)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        response = web.json_response({"error": f"the files of this run cannot be read: {error!r}"}, status=404)
    if not response.prepared:
        response.headers.update({**_HEADERS, **response.headers})
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


async def _no_content(_request: web.Request) -> web.Response:
    return web.Response(status=204)


def _run_of(request: web.Request) -> Path:
    runs = request.app[_RUNS]
    number = _number(request.match_info["number"])
    if number is None or number >= len(runs):
        raise DataError("no such run")
    return runs[number]


def _json(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def _runs(request: web.Request) -> web.Response:
    """All runs, also those that cannot be read. New ones come last, so that the numbers of the others stay."""

    def read() -> list[dict[str, str]]:
        known = request.app[_RUNS]
        known += [path for folder in request.app[_PATHS] for path in runs_inside(folder) if path not in known]
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
    query = request.query
    offset, what = _number(query.get("offset", "0")), query.get("what", "kept")
    if offset is None:
        raise _BadQuery("offset is not a number of bytes")
    if what not in {*_LISTS, "marked"}:
        raise _BadQuery(f"what has to be one of {', '.join(_LISTS)}, marked")
    read: Callable[..., dict[str, Any]] = reading.list_marked
    if what != "marked":
        read = partial(reading.list_rows, what=_LISTS[what])
    task, words = query.get("task", ""), query.get("query", "")
    return _json(await asyncio.to_thread(read, _run_of(request), task=task, query=words, offset=offset))


async def _evidence(request: web.Request) -> web.Response:
    run, query = _run_of(request), request.query
    if "request" in query:
        return _json(await asyncio.to_thread(reading.exchange, run, query["request"]))
    return _json(await asyncio.to_thread(reading.evidence, run, query.get("id", "")))


async def _report(request: web.Request) -> web.StreamResponse:
    """The page about the coverage of the run."""
    file = _run_of(request) / reading.REPORT_FILE
    if not await asyncio.to_thread(file.is_file):
        raise DataError("this run has no report")
    return web.FileResponse(file, headers={**_HEADERS, "Content-Security-Policy": _REPORT_POLICY})


async def _mark(request: web.Request) -> web.Response:
    """Marks an example. A page from elsewhere cannot: browsers do not let it send JSON here, and name its origin."""
    origin = request.headers.get("Origin")
    if request.content_type != "application/json" or (origin and urlsplit(origin).netloc != request.host):
        return web.json_response({"error": "only the page of this view can mark"}, status=403)
    try:
        document = orjson.loads(await request.read())
        example_id, name, note = document["id"], document["mark"], document["note"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _BadQuery(f"a mark has id, mark and note: {error}") from error
    if not (isinstance(example_id, str) and isinstance(note, str) and len(note) <= _LONGEST_NOTE and name in _MARKS):
        raise _BadQuery(f"mark has to be good, bad or null, and note a text of at most {_LONGEST_NOTE} characters")
    return _json(await asyncio.to_thread(reading.mark, _run_of(request), example_id, name, note))


def _state_or_error(run: Path) -> bytes:
    try:
        return orjson.dumps(reading.state(run))
    except ExploreError as error:  # the run may be moved away or unfinished, and come back
        return orjson.dumps({"error": str(error)})


async def _events(request: web.Request) -> web.StreamResponse:
    """Sends the state as a server-sent event whenever it has changed."""
    run = _run_of(request)
    response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    sent = None
    polls = 0
    with contextlib.suppress(ConnectionResetError):
        while True:
            now = await asyncio.to_thread(reading.version, run)
            if now != sent:
                sent, polls = now, 0
                body = await asyncio.to_thread(_state_or_error, run)
                await response.write(b"data: " + body + b"\n\n")
            elif (polls := polls + 1) % _PING_EVERY == 0:
                await response.write(b": still here\n\n")
            await asyncio.sleep(_POLL_INTERVAL_S)
    return response
