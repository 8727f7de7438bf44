"""A page of ours and its data over HTTP: what the view and the comparison have in common.

A page gets texts as JSON and puts them into text nodes. A request that names another host than this machine gets an
error, so that no web page elsewhere can read data through a host name that points here. Only the page itself can write.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from explore_async.errors import ConfigError, ExploreError, StorageError
from explore_async.web import LOOPBACK

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PARENT_CHECKED_EVERY_S = 1.0
_HOSTS = frozenset({"localhost", LOOPBACK, "::1"})
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_ADDRESS: web.AppKey[str] = web.AppKey("address", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadQuery(ExploreError):
    """A parameter of the query, or a document that is sent, has no valid value."""


class NotFromPage(ExploreError):
    """A page from elsewhere, or another program, asks to write."""


def page_application(page: str, *more: str, address: str = LOOPBACK) -> web.Application:
    """Serves the packaged file `page` as the page, and the others by their names. `address`: where it listens."""
    app = web.Application(middlewares=[_guarded])
    app[_ADDRESS] = address
    for path, name in {"/": page, **{f"/{name}": name for name in more}}.items():
        body, kind = (files("explore_async.web") / name).read_bytes(), _KINDS[name[name.rindex(".") :]]
        app.router.add_get(path, partial(_static, body=body, kind=kind))
    app.router.add_get("/favicon.ico", _no_content)
    return app


@contextlib.asynccontextmanager
async def serving_page(app: web.Application, port: int, listening: socket.socket | None = None) -> AsyncIterator[str]:
    """Serves while entered, and yields the URL: at this port, or at a socket that listens already. Raises ConfigError
    where the port is in use.
    """
    # handler_cancellation: a closed connection ends its stream of events
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        site: web.BaseSite = web.TCPSite(runner, app[_ADDRESS], port)
        if listening is not None:
            site = web.SockSite(runner, listening)
        try:
            await site.start()
        except OSError as error:
            at = "" if app[_ADDRESS] == LOOPBACK else f" at {app[_ADDRESS]}"
            raise ConfigError(f"--port {port}{at}: {error.strerror or error}") from error
        (address, *_) = runner.addresses
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield f"http://{host}:{address[1]}"
    finally:
        await runner.cleanup()


def stop_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


async def stopped(stop: asyncio.Event, *, parent: int | None = None) -> None:
    """Returns when the event is set, or when this process, which has started ours, has ended."""
    while not stop.is_set() and parent in {None, os.getppid()}:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_CHECKED_EVERY_S):
                await stop.wait()


def json_response(document: Any) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def document_from(request: web.Request) -> dict[str, Any]:
    """The JSON object that the page itself sends. Raises NotFromPage, BadQuery.

    A page from elsewhere cannot send one: browsers do not let it send JSON here, and name its origin.
    """
    origin = request.headers.get("Origin")
    if request.content_type != "application/json" or (origin and urlsplit(origin).netloc != request.host):
        raise NotFromPage("only the page itself can do this")
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise BadQuery(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadQuery("not a JSON object")
    return document


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _names_this_machine(request):
        return web.json_response({"error": "this page is for this machine only"}, status=403)
    try:
        response = await handler(request)
    except ExploreError as error:
        response = web.json_response({"error": str(error)}, status=_status(error))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        response = web.json_response({"error": f"the files cannot be read: {error!r}"}, status=404)
    if not response.prepared:
        response.headers.update({**HEADERS, **response.headers})
    return response


def _status(error: ExploreError) -> int:
    match error:
        case BadQuery():
            return 400
        case NotFromPage():
            return 403
        case StorageError():
            return 500
    return 404


def _names_this_machine(request: web.Request) -> bool:
    """Where the page is for other machines, too, any address passes: a page elsewhere can make a name point here, but
    no address.
    """
    try:
        name = urlsplit(f"//{request.host}").hostname or ""  # in small letters
    except ValueError:
        return False
    address = request.app[_ADDRESS]
    return name in _HOSTS or (address != LOOPBACK and (name == address.lower() or _is_address(name)))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _static(_request: web.Request, *, body: bytes, kind: str) -> web.Response:
    return web.Response(body=body, content_type=kind, charset="utf-8")


async def _no_content(_request: web.Request) -> web.Response:
    return web.Response(status=204)
