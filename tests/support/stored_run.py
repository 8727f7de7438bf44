"""A small finished run to damage, and servers in threads of their own for whatever goes on with it in this process."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from explore_async.serving.simulated.server import SimulatedServer
from support.cli import Finished, config, in_process


@contextmanager
def serving(*, seed: int = 0) -> Iterator[str]:
    """The URL of a simulated server; another seed, other answers."""
    with simulating(seed=seed) as server:
        yield server.url


@contextmanager
def simulating(**settings: Any) -> Iterator[SimulatedServer]:
    """A simulated server."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = SimulatedServer(256, **settings)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def go_on(path: Path, url: str, *more: str | Path) -> Finished:
    """`run` with the config that lies beside the run directory."""
    recipe = path.parent / "config.yaml"
    return in_process(
        "run", recipe if recipe.exists() else config(path.parent), "--endpoint", url, "--out", path, "--quiet", *more
    )


def doctor(path: Path, *more: str) -> Finished:
    return in_process("doctor", path, "--json", *more)


def copied(run: Path, folder: Path) -> Path:
    """The finished run, and its config beside it, in a folder of its own, without what readers leave beside a store."""
    folder.mkdir(exist_ok=True)
    shutil.copy(run.parent / "config.yaml", folder)
    return Path(shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns("*-shm", "*-wal")))


def everything(folder: Path) -> dict[str, bytes]:
    """All files by their names, with what is in them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def as_format_1(database: Path) -> None:
    """Makes of a store what the version before checksums wrote."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("ALTER TABLE outcomes DROP COLUMN checksum")
        connection.execute("PRAGMA user_version=1")
        connection.execute("PRAGMA journal_mode=WAL")
