"""What the system around a run may be like: few open files, no stdin, stdout or stderr, a process that is made to stand still."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import CONFIG, config, derived, environment, explore, finished, launch

from explore_async.serving.simulated.server import Latency, SimulatedServer

NO_THREADS = """
import threading
def start(self): raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""
NO_MEMORY = """
from explore_async.exploration.explorer import Explorer
commit, left = Explorer.commit, list(range(20))
def none_left(self, *given):
    if not left: raise MemoryError
    left.pop()
    return commit(self, *given)
Explorer.commit = none_left
"""
SMALL = ("--window", "96", "--max-examples", "120")


async def with_files(most: int, folder: Path, url: str, *more: str) -> tuple[int, str]:
    """A run that may have so many files open, and cannot have that raised; its code and what it said."""
    command = ["run", config(folder), "--endpoint", url, "--out", folder / "run", *more]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "explore_async", *map(str, command)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_more_at_once_than_the_process_may_open_is_refused(tmp_path: Path) -> None:
    """Asked for 300 requests at once where 136 sockets may be open, a run ends before it asks anything, with code 2, and
    says how many it could have.
    """
    async with SimulatedServer() as server:
        code, said = await with_files(200, tmp_path, server.url, "--concurrency", "300")
    assert code == 2
    assert "may open 136" in said
    assert not (tmp_path / "run" / "dataset.jsonl").exists() or not (tmp_path / "run" / "dataset.jsonl").stat().st_size


async def test_what_is_found_out_stays_within_what_may_be_open(tmp_path: Path) -> None:
    """A run that finds out its concurrency goes as far as its sockets reach, and not into errors."""
    async with SimulatedServer(256, Latency(0.3)) as server:
        code, said = await with_files(84, tmp_path, server.url, "--window", "1200", "--max-examples", "900")
        assert code == 0, said
        assert 10 <= server.statistics().peak_in_flight <= 20


async def test_without_the_standard_places(tmp_path: Path) -> None:
    """Started with these closed, a run makes the same files as with them, and nothing it says gets into one of them."""
    async with SimulatedServer(256, Latency(0.01)) as server:
        command = ["run", str(config(tmp_path)), "--endpoint", server.url, *SMALL, "--out"]
        usual = await explore(*command, tmp_path / "usual")
        assert usual.code == 0, usual.stderr
        for name, redirections in (("all", "<&- >&- 2>&-"), ("stderr", "2>&-"), ("stdout", ">&-")):
            shell = f'exec "$@" {redirections}'
            words = [sys.executable, "-m", "explore_async", *command, str(tmp_path / name)]
            process = await asyncio.create_subprocess_exec("sh", "-c", shell, "sh", *words, env=environment())
            assert await process.wait() == 0, name
            assert derived(tmp_path / name) == derived(tmp_path / "usual"), name
            checked = await explore("doctor", tmp_path / name)
            assert checked.code == 0, (name, checked.stdout)


async def test_a_run_that_is_made_to_stand_still_goes_on(tmp_path: Path) -> None:
    """Stopped for longer than a run may be without an answer, as by SIGSTOP or a paused machine: nobody could answer it
    meanwhile, so it is no hopeless run.
    """
    async with SimulatedServer(64, Latency(0.2)) as server:
        process = await launch(
            *("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", *SMALL),
            *("--concurrency", "4", "--set", "operation.stall_s=4"),
        )
        while server.statistics().requests < 10:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(7)
        process.send_signal(signal.SIGCONT)
        result = await finished(process)
    assert result.code == 0, result.stderr


async def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path: Path) -> None:
    """Started with SIGHUP ignored, as by nohup, a run goes on when it comes; SIGTERM still ends it."""
    async with SimulatedServer(64, Latency(0.2)) as server:
        words = ["run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--concurrency", "4"]
        process = await asyncio.create_subprocess_exec(
            *("nohup", sys.executable, "-m", "explore_async", *map(str, words)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        for number, asked in ((signal.SIGHUP, 10), (signal.SIGTERM, server.statistics().requests + 40)):
            while server.statistics().requests < asked:
                await asyncio.sleep(0.02)
            process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 143, said


async def test_a_run_asks_and_stops_while_its_kernels_are_compiled(tmp_path: Path) -> None:
    """On a machine without compiled kernels, a run asks for completions while it compiles them. Ctrl-C does not wait for
    the compiler: nothing is committed yet, and what is stored is not lost.
    """
    compiled = tmp_path / "cache"
    async with SimulatedServer(64, Latency(0.01)) as server:
        command = ("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", *SMALL)
        process = await launch(*command, NUMBA_CACHE_DIR=str(compiled))
        while server.statistics().requests < 5:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stopped = await finished(process)
    assert stopped.code == 130, stopped.stderr
    assert "0 kept" in stopped.stderr
    again = await explore(*command, "--offline", "--json")
    assert again.json["requests"]["total"] > 0


async def test_a_working_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    """Started where no directory is any more, a command that needs one says so; one with whole paths works."""
    async with SimulatedServer(64, Latency(0.01)) as server:
        command = ("run", config(tmp_path), "--endpoint", server.url, *SMALL)
        assert (await explore(*command, "--out", tmp_path / "run")).code == 0
        for words, code in ((command, 4), (("stats", tmp_path / "run"), 0)):
            (tmp_path / "gone").mkdir()
            shell = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", shell, "sh", tmp_path / "gone", sys.executable, "-m", "explore_async", *words),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            _, said = await process.communicate()
            assert process.returncode == code, said
            assert (code == 0) == (b"has been removed" not in said)


@pytest.mark.parametrize(("lacking", "says"), [(NO_THREADS, "no more threads"), (NO_MEMORY, "no more memory")])
async def test_what_the_system_gives_no_more_of_is_told(tmp_path: Path, lacking: str, says: str) -> None:
    """Where a thread cannot be started, or memory ends in the middle, a run ends with code 4 and says why; the same
    command makes the same bytes afterwards.
    """
    async with SimulatedServer(64, Latency(0.01)) as server:
        words = ["run", config(tmp_path), "--endpoint", server.url, *SMALL, "--out"]
        start = f"{lacking}from explore_async.__main__ import main\nmain()\n"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", start, *words, tmp_path / "run"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        _, said = await process.communicate()
        assert process.returncode == 4, said
        assert says in said.decode()
        assert b"Traceback" not in said
        for name in ("run", "usual"):
            assert (await explore(*words, tmp_path / name)).code == 0
    assert (tmp_path / "run" / "dataset.jsonl").read_bytes() == (tmp_path / "usual" / "dataset.jsonl").read_bytes()


async def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """Whatever prints into a pipe that nobody reads any more ends with 0, whenever the reader went."""
    read, write = os.pipe()
    os.close(read)
    async with SimulatedServer(64, Latency(0.01)) as server:
        run = tmp_path / "run"
        command = ("run", config(tmp_path), "--endpoint", server.url, "--out", run, *SMALL)
        assert (await explore(*command)).code == 0
        for words in (
            ("tree", run),
            ("stats", run),
            ("doctor", run),
            ("doctor", run, "--json"),
            (*command, "--dry-run"),
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "explore_async", *map(str, words)),
                stdout=write,
                stderr=subprocess.PIPE,
                env=environment(),
            )
            _, said = await process.communicate()
            assert (process.returncode, b"Traceback" in said) == (0, False), (words, said)
    os.close(write)


async def test_a_config_comes_by_a_pipe(tmp_path: Path) -> None:
    """As `<(...)` and /dev/stdin give it; a pipe with a name, which might never have a writer, is told as one."""
    shell = 'cat "$1" | "$2" -m explore_async run /dev/stdin --dry-run --endpoint http://127.0.0.1:9 --model m'
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", shell, "sh", config(tmp_path), sys.executable),
        stdout=subprocess.PIPE,
        env=environment(),
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Look after a garden" in said
    os.mkfifo(tmp_path / "pipe")
    refused = await explore("run", tmp_path / "pipe", "--dry-run")
    assert refused.code == 2
    assert "regular file" in refused.stderr


async def test_letters_that_the_terminal_does_not_know_are_spelled_out(tmp_path: Path) -> None:
    """Chinese names of tasks on an ASCII terminal, from a run and from what looks at it: no error, no traceback."""
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    text = CONFIG.replace("Look after a garden", "照料花园 🌱")
    async with SimulatedServer(64, Latency(0.01)) as server:
        command = ("run", config(tmp_path, text), "--endpoint", server.url, "--out", tmp_path / "run", *SMALL)
        assert (await explore(*command, **plain)).code == 0
    for command in (("tree", tmp_path / "run"), ("show", tmp_path / "run", "0"), ("doctor", tmp_path / "run")):
        result = await explore(*command, **plain)
        assert result.code == 0, result.stderr
        assert result.stdout.isascii()
    assert "\\u7167" in (await explore("tree", tmp_path / "run", **plain)).stdout
