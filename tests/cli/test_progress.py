"""What a user sees of a run: at a terminal, in a pipe, and in run.log."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import orjson
import pytest
from support.cli import config, environment, explore

from explore_async.serving.simulated.server import Latency, SimulatedServer

pytestmark = pytest.mark.timeout(180)

NOWHERE = "http://127.0.0.1:9/v1"
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


async def at_a_terminal(*arguments: str | Path, columns: int = 110, lines: int = 40) -> tuple[int, str]:
    """The exit code and all that a command writes to a terminal of this size, without the codes of colours."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "explore_async", *map(str, arguments)),
        stdin=follower, stdout=follower, stderr=follower, env=environment(TERM="xterm-256color", COLUMNS="", LINES=""),
    )  # fmt: skip
    os.close(follower)

    def read() -> bytes:
        parts = []
        with contextlib.suppress(OSError):  # the last process has closed its end
            while part := os.read(leader, 65536):
                parts.append(part)
        return b"".join(parts)

    written = (await asyncio.to_thread(read)).decode(errors="replace")
    os.close(leader)
    return await process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)


async def test_a_fleet_in_trouble(tmp_path: Path) -> None:
    """Of three endpoints one is slow and one does not answer. A terminal shows where the run writes, its phases with
    bars, a row for each endpoint, and both troubles; a pipe and run.log get each step as one line with its time, and
    nothing is cut.
    """
    place = tmp_path / ("a-directory-whose-name-is-longer-than-a-terminal-is-wide-" * 2)
    path = config(tmp_path)
    async with SimulatedServer(8, Latency(0.05, 0.2)) as quick, SimulatedServer(8, Latency(0.8, 0.2)) as slow:
        urls = [part for url in (quick.url, slow.url, NOWHERE) for part in ("--endpoint", url)]
        command = ("run", path, *urls, "--concurrency", "4", "--max-examples", "500", "--window", "96")
        (code, screen), piped = await asyncio.gather(
            at_a_terminal(*command, "--out", tmp_path / "run"), explore(*command, "--out", place)
        )
    assert code == piped.code == 0, piped.stderr

    assert f"writing to {tmp_path}/run" in screen
    for shown in ("exploring", "generating", "━", "examples kept", "completions/s", f"{quick.url}", "left"):
        assert shown in screen, shown
    assert re.search(r"\d tasks? so far", screen)
    assert re.search(rf"{slow.url} +\d+\.\d× slower", screen)
    assert re.search(rf"{NOWHERE} +out ", screen)

    steps = piped.stderr.partition("\n\n")[0].splitlines()
    assert all(re.match(rf"{TIME}  \S", line) for line in steps), steps
    for said in (f"writing to {place}", f"{NOWHERE} is out", f"{slow.url} is slow", "the trees are complete: "):
        assert sum(bool(re.match(f"{TIME}  {re.escape(said)}", line)) for line in steps) == 1, (said, steps)
    assert any(line.startswith(f"  {place}/stats.json  ") for line in piped.stderr.splitlines())
    assert re.search(rf"{slow.url}: \d+ completions, half of them within \d\.\d+ s, ", piped.stderr)

    log = (place / "run.log").read_text().splitlines()
    assert all(re.match(rf"{TIME}[+-]\d\d:\d\d  \S", line) for line in log)
    for said in (f"{NOWHERE} is out", f"{slow.url} is slow", "the trees are complete: ", "ended after "):
        assert sum(line.split("  ", 1)[1].startswith(said) for line in log) == 1, (said, log)
    latencies = {
        endpoint["url"]: endpoint["latency_s"]
        for endpoint in orjson.loads((place / "stats.json").read_bytes())["endpoints"]["endpoints"]
    }
    assert latencies[slow.url]["p50"] > 4 * latencies[quick.url]["p50"]
    assert latencies[NOWHERE] is None


async def test_the_log_says_why_a_run_ended(tmp_path: Path) -> None:
    """A run that was stopped by an error has it in its log, below the lines of the start before."""
    async with SimulatedServer(8, Latency(0.01)) as server:
        path = config(tmp_path)
        assert (await explore("run", path, "--endpoint", server.url, "--out", tmp_path / "run", "--quiet")).code == 0
        before = (tmp_path / "run" / "run.log").read_text()
        with (tmp_path / "run" / "dataset.jsonl").open("r+b") as file:
            file.write(b"X")
        broken = await explore("run", path, "--endpoint", server.url, "--out", tmp_path / "run", "--quiet")
    assert broken.code == 4
    log = (tmp_path / "run" / "run.log").read_text()
    assert log.startswith(before)
    assert "error: " in log.removeprefix(before).splitlines()[-1]


async def test_what_a_log_cannot_take_stops_no_run(tmp_path: Path) -> None:
    """A pipe that nobody reads, in its place, is left alone."""
    (tmp_path / "run").mkdir()
    os.mkfifo(tmp_path / "run" / "run.log")
    async with SimulatedServer(8) as server:
        result = await explore("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--quiet")
    assert result.code == 0, result.stderr
