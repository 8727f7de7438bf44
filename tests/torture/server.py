"""The simulated server in a process of its own, which notes each request before it answers and after.

`python -m torture.server PORT JOURNAL LATENCY_S` prints its URL and serves until its stdin is closed. A line of the journal is
`+SEED` (a request came) or `-SEED` (it is answered, or whoever asked is gone); requests that only try the endpoint out
have the seed 0. `=0` is a new start: nothing is in flight.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import orjson
from aiohttp import web

from explore_async.serving.simulated.server import Latency, SimulatedServer

_TRYING_OUT = "Say yes."


class NotingServer(SimulatedServer):
    def __init__(self, journal: Path, *, port: int, latency_s: float) -> None:
        super().__init__(256, Latency(latency_s, 0.8 if latency_s else 0.0), port=port)
        self._journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(self._journal, b"=0\n")

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        seed = 0 if body["messages"][-1]["content"] == _TRYING_OUT else body["seed"]
        os.write(self._journal, b"+%d\n" % seed)
        try:
            return await super()._complete(request)
        finally:
            os.write(self._journal, b"-%d\n" % seed)


async def serve(port: int, journal: Path, latency_s: float) -> None:
    async with NotingServer(journal, port=port, latency_s=latency_s) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
