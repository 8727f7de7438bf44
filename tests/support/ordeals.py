"""Whole runs before servers that misbehave, with the conditions that hold however such a run ends."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.cli import CONFIG, Finished, config, derived, explore, explore_watched, finished, launch
from support.misbehaving import Behaviour, MisbehavingServer
from support.server_faults import FAULTS, HANGS, REFUSALS, Disturbed
from support.waiting import until

MOST_MIB = 700
"""Eight answers at once of the most that is read, each with its copies, beside what any run holds."""
STOP_S = 5.0
SLACK_S = 200.0
"""For a machine that does other things as well. The states that a run is stopped in last for ever."""

_QUICK = (
    *("--set", "operation.retries.first_wait_s=0.02", "--set", "operation.retries.longest_wait_s=0.1"),
    *("--model", "m", "--concurrency", "8", "--json"),
)

ALWAYS: dict[str, tuple[Behaviour, str]] = {
    **{name: (behaviour, "") for name, behaviour in FAULTS.items()},
    "reset": (FAULTS["reset"], "ended the connection"),
    "TLS": (FAULTS["TLS"], "https://"),
    "error object": (FAULTS["error object"], "CUDA out of memory"),
    "tool calls": (FAULTS["tool calls"], "tool_calls"),
    "too large": (FAULTS["too large"], "more than 16 MiB"),
    **{name: (behaviour, "not answer") for name, behaviour in HANGS.items()},
    **REFUSALS,
}
"""Faults of a server that last forever, each with the text that the error has to contain beside the endpoint."""


def command(folder: Path, url: str, *more: str, out: str = "run", text: str = CONFIG) -> list[str | Path]:
    path = folder / "config.yaml" if (folder / "config.yaml").exists() else config(folder, text)
    return ["run", path, "--endpoint", url, "--out", folder / out, *_QUICK, *more]


async def undisturbed(folder: Path) -> dict[str, bytes]:
    """The files of an undisturbed run."""
    async with Disturbed(lambda *_: []) as server:
        assert (await explore(*command(folder, server.url))).code == 0
    return derived(folder / "run")


def check_quiet(result: Finished) -> None:
    """Checks that nothing leaked, that Python had no complaint, and that stderr is short."""
    for word in ("Warning", "Exception ignored", "never retrieved", "Traceback", "Unclosed"):
        assert word not in result.stderr, result.stderr
    assert len(result.stderr) < 20_000


async def run_to_end(folder: Path, url: str, *more: str, out: str = "run", seconds: float = 500.0) -> Finished:
    """Runs to the end, within its limits of time and memory."""
    async with asyncio.timeout(seconds):
        result, peak_mib = await explore_watched(*command(folder, url, *more, out=out))
    check_quiet(result)
    assert peak_mib < MOST_MIB
    return result


async def fails(folder: Path, name: str, good: int) -> Finished:
    """A run whose server falls ill for ever after so many good answers ends with code 6 and says where and why."""
    behaviour, says = ALWAYS[name]
    async with Disturbed(lambda *_: []) as server:
        server.fail_after(behaviour, after=good)
        result = await run_to_end(folder, server.url, "--set", "operation.stall_s=1.5")
        assert result.code == result.json["exit_code"] == 6, result.stderr
        assert server.url in result.json["error"]
        assert says in result.json["error"]
        assert len(result.json["error"]) < 1500
    return result


State = Callable[[], tuple[MisbehavingServer, Callable[[Any], bool]]]


def _ill(behaviour: Behaviour, good: int, more: int = 4) -> State:
    def made() -> tuple[MisbehavingServer, Callable[[Any], bool]]:
        server = Disturbed(lambda *_: [])
        server.fail_after(behaviour, after=good)
        return server, lambda server: len(server.bodies) > good + more

    return made


def _connecting() -> tuple[MisbehavingServer, Callable[[Any], bool]]:
    return MisbehavingServer(catalogue=lambda *_: HANGS["a byte a second"]), lambda server: len(server.heads) > 0


STATES: dict[str, State] = {
    "connecting": _connecting,
    "asked after": _ill(HANGS["says nothing"], 0, 0),
    "hanging": _ill(HANGS["says nothing"], 20),
    "headers for ever": _ill(HANGS["headers for ever"], 20),
    "429": _ill(FAULTS["429"], 20, 30),
    "429 for ten years": _ill(FAULTS["429 retry in ten years"], 20),
    "500": _ill(FAULTS["500"], 20, 30),
    "reset": _ill(FAULTS["reset"], 20, 30),
    "too large": _ill(FAULTS["too large"], 20),
}


async def interrupted(folder: Path, state: str, *, gone: bool = False) -> float:
    """Ctrl-C in that state, or with `gone` a while after its server is: code 130, nothing leaked; the seconds it took."""
    server, reached = STATES[state]()
    async with server:
        process = await launch(*command(folder, server.url))
        await until(lambda: reached(server) or process.returncode is not None)
        if gone:
            await server.__aexit__()
        await asyncio.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        result = await finished(process)
    seconds = time.monotonic() - began
    assert result.code == 130, result.stderr
    assert re.search("^.*  stopping: ", result.stderr, re.MULTILINE), result.stderr
    check_quiet(result)
    return seconds
