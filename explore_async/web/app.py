"""`explore-async view`: runs in the browser. It writes nothing but marks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from explore_async.curation.collections.collection import MarkName
from explore_async.curation.collections.open import runs_inside
from explore_async.curation.collections.run_data import RunData, is_run_data
from explore_async.errors import DataError, ExploreError
from explore_async.web import reading
from explore_async.web.page import (
    HEADERS,
    BadQuery,
    document_from,
    json_response,
    page_application,
    serving_page,
    stop_signal,
    stopped,
)

_POLL_INTERVAL_S = 1.0
_PING_EVERY = 15
_LONGEST_NUMBER = 15
_LONGEST_NOTE = 2_000
_REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report has scripts, and its directory may come from elsewhere: its origin is none, and it can read nothing here."""
_LISTS: dict[str, reading.ListName] = {"kept": "kept", "dropped": "dropped", "failed": "failed"}
_MARKS: tuple[MarkName | None, ...] = ("good", "bad", None)
_PATHS: web.AppKey[list[Path]] = web.AppKey("paths", list)
_RUNS: web.AppKey[dict[str, Path]] = web.AppKey("runs", dict)
"""By the names that they have in URLs."""


def application(paths: Sequence[Path]) -> web.Application:
    """Serves these run directories, and all that are in these folders now or later. Raises DataError."""
    app = page_application("view.html", "page.js", "view.js", "page.css", "view.css")
    app[_PATHS], app[_RUNS] = list(paths), _by_name(runs_in(paths))
    app.router.add_get("/api/runs", _runs)
    app.router.add_get("/api/runs/{run}/state", _state)
    app.router.add_get("/api/runs/{run}/events", _events)
    app.router.add_get("/api/runs/{run}/examples", _examples)
    app.router.add_get("/api/runs/{run}/evidence", _evidence)
    app.router.add_get("/api/runs/{run}/report", _report)
    app.router.add_post("/api/runs/{run}/marks", _mark)
    return app


@contextlib.asynccontextmanager
async def serving(paths: Sequence[Path], port: int, listening: socket.socket | None = None) -> AsyncIterator[str]:
    """Serves while entered, and yields the URL: at this port, or at a socket that listens already. Raises ConfigError
    where the port is in use.
    """
    async with serving_page(await asyncio.to_thread(application, paths), port, listening) as url:
        yield url


async def view(
    paths: Sequence[Path],
    *,
    port: int,
    announce: Callable[[str], None],
    inherited: int | None = None,
    parent: int | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM. `announce` gets the URL.

    `inherited`: the number of a listening socket that the parent process has opened. The view ends with `parent`, its
    process id.
    """
    stop = stop_signal()
    listening = None if inherited is None else socket.socket(fileno=inherited)
    async with serving(paths, port, listening) as url:
        announce(url)
        await stopped(stop, parent=parent)


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Run directories among these paths and in these folders. Raises DataError for a path that holds none."""
    runs: list[Path] = []
    for path in paths:
        inside = runs_inside(path)
        if not inside and not is_run_data(path):
            RunData.read(path)  # raises the reason
        runs += inside or [path]
    return runs


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER else None


def _by_name(runs: Iterable[Path]) -> dict[str, Path]:
    """The runs by digests of their paths: a page may stay open while the view ends and starts again, perhaps with
    other runs. Then it asks for the same run as before.
    """
    return {hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest(): path for path in runs}


def _run_of(request: web.Request) -> Path:
    run = request.app[_RUNS].get(request.match_info["run"])
    if run is None:
        raise DataError("the view does not show this run any more; choose another")
    return run


async def _runs(request: web.Request) -> web.Response:
    """All runs, also those that cannot be read. New ones come last."""
    known = request.app[_RUNS]
    known |= await asyncio.to_thread(_inside, request.app[_PATHS])
    return json_response(await asyncio.to_thread(_named, known.copy()))


def _inside(folders: list[Path]) -> dict[str, Path]:
    return _by_name(run for folder in folders for run in runs_inside(folder))


def _named(runs: Mapping[str, Path]) -> list[dict[str, str]]:
    listed = []
    for run, path in runs.items():
        try:
            about = {"name": RunData.read(path).name}
        except DataError as error:
            about = {"name": path.name, "error": str(error)}
        listed.append({"run": run, "path": str(path), **about})
    return listed


async def _state(request: web.Request) -> web.Response:
    return json_response(await asyncio.to_thread(reading.state, _run_of(request)))


async def _examples(request: web.Request) -> web.Response:
    query = request.query
    offset, what = _number(query.get("offset", "0")), query.get("what", "kept")
    if offset is None:
        raise BadQuery("offset is not a number of bytes")
    if what not in {*_LISTS, "marked"}:
        raise BadQuery(f"what has to be one of {', '.join(_LISTS)}, marked")
    read: Callable[..., dict[str, Any]] = reading.list_marked
    if what != "marked":
        read = partial(reading.list_rows, what=_LISTS[what])
    task, words = query.get("task", ""), query.get("query", "")
    return json_response(await asyncio.to_thread(read, _run_of(request), task=task, query=words, offset=offset))


async def _evidence(request: web.Request) -> web.Response:
    run, query = _run_of(request), request.query
    if "request" in query:
        return json_response(await asyncio.to_thread(reading.exchange, run, query["request"]))
    return json_response(await asyncio.to_thread(reading.evidence, run, query.get("id", "")))


async def _report(request: web.Request) -> web.StreamResponse:
    """The page about the coverage of the run."""
    file = _run_of(request) / reading.REPORT_FILE
    if not await asyncio.to_thread(file.is_file):
        raise DataError("this run has no report")
    return web.FileResponse(file, headers={**HEADERS, "Content-Security-Policy": _REPORT_POLICY})


async def _mark(request: web.Request) -> web.Response:
    document = await document_from(request)
    try:
        example_id, name, note = document["id"], document["mark"], document["note"]
    except KeyError as error:
        raise BadQuery(f"a mark has id, mark and note: {error}") from error
    if not (isinstance(example_id, str) and isinstance(note, str) and len(note) <= _LONGEST_NOTE and name in _MARKS):
        raise BadQuery(f"mark has to be good, bad or null, and note a text of at most {_LONGEST_NOTE} characters")
    return json_response(await asyncio.to_thread(reading.mark, _run_of(request), example_id, name, note))


def _state_or_error(run: Path) -> bytes:
    try:
        return orjson.dumps(reading.state(run))
    except ExploreError as error:  # the run may be moved away or unfinished, and come back
        return orjson.dumps({"error": str(error)})


async def _events(request: web.Request) -> web.StreamResponse:
    """Sends the state as a server-sent event whenever it has changed."""
    run = _run_of(request)
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
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
