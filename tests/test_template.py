"""Commands that are copies of a loaded process are processes like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import environment, explore, finished, launch
from support.template import Command
from support.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no templates")

SERVE = ("serve", "--engine", "simulated", "--port", "0")


async def serving() -> Command:
    """A command that goes on until a signal comes."""
    process = await launch(*SERVE)
    assert isinstance(process, Command)
    assert await process.stderr.readline()
    return process


@pytest.mark.parametrize("arguments", [("--version",), ("run", "no-such-preset"), ("run", "--wrong")])
async def test_it_ends_as_the_command_does(arguments: tuple[str, ...]) -> None:
    """Exit code, stdout and stderr are those of an interpreter that is started for the command."""
    copy = await explore(*arguments)
    real = subprocess.run(
        [sys.executable, "-m", "explore_async", *arguments], capture_output=True, text=True, env=environment(), check=False
    )  # fmt: skip
    assert (copy.code, copy.stdout, copy.stderr) == (real.returncode, real.stdout, real.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_reach_it(number: signal.Signals) -> None:
    """SIGINT and SIGTERM end a server as its users end it."""
    process = await serving()
    process.send_signal(number)
    assert (await finished(process)).code == 0


async def test_it_can_be_killed_alone() -> None:
    """Kill -9 ends one copy, with the signal as its code, and no other."""
    one, other = await serving(), await serving()
    one.kill()
    assert (await finished(one)).code == -signal.SIGKILL
    os.kill(other.pid, 0)
    assert other.returncode is None
    other.kill()
    await finished(other)


async def test_it_has_the_folder_of_its_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are relative to where the test is."""
    monkeypatch.chdir(tmp_path)
    assert (await explore("init", "--out", "here.yaml")).code in {0, 2}
    process = await serving()
    assert Path(f"/proc/{process.pid}/cwd").resolve() == tmp_path
    process.kill()
    await finished(process)


async def test_another_environment_is_never_that_of_the_template() -> None:
    """A variable that a test gives is in the process that it starts, the first time and later."""
    for _ in range(3):
        process = await launch(*SERVE, SOME_VARIABLE="here")
        assert await process.stderr.readline()
        assert b"SOME_VARIABLE=here" in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        process.kill()
        await finished(process)


async def test_what_it_says_can_be_read_meanwhile() -> None:
    """A line is there when it is written, and the return code only when it has ended."""
    process = await serving()
    await asyncio.sleep(0)
    assert process.returncode is None
    process.terminate()
    await until(lambda: process.returncode is not None)
    await finished(process)
