"""Faults of the place that a run is in, with the real command: it stops with what happened, and goes on to the same end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import DERIVED, config, derived, environment, explore, finished, launch
from support.stored_run import copied, doctor, go_on, serving
from support.unprivileged import drop_override

from explore_async.errors import StorageError
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.storage.directory import RunDirectory


async def started(
    server: SimulatedServer, path: Path, before: Callable[[], None] | None = None
) -> asyncio.subprocess.Process:
    """A run in a process of its own, which calls `before` first."""
    command = ("run", config(path.parent), "--endpoint", server.url, "--out", path, "--quiet", "--concurrency", "4")
    if before is None:
        return await launch(*command)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "explore_async", *map(str, command)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        preexec_fn=before,
    )


async def under_way(server: SimulatedServer, process: asyncio.subprocess.Process) -> None:
    """Waits until some answers are in."""
    before = server.statistics().requests
    while server.statistics().requests < before + 25 and process.returncode is None:
        await asyncio.sleep(0.01)
    assert process.returncode is None


async def ends_as_undisturbed(server: SimulatedServer, path: Path, undisturbed: Path) -> None:
    again = await explore("run", path.parent / "config.yaml", "--endpoint", server.url, "--out", path, "--quiet")
    assert again.code == 0, again.stderr
    assert derived(path) == derived(undisturbed)


@pytest.mark.parametrize("most_bytes", [0, 30_000, 120_000])
async def test_a_full_disk(tmp_path: Path, finished_run: Path, most_bytes: int) -> None:
    """A run whose files can grow no more ends with code 4, says which file, and leaves none that is for a run in progress;
    with room again the same command ends in the files of an undisturbed run.
    """
    path = tmp_path / "run"
    async with SimulatedServer(16) as server:
        full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))  # noqa: E731
        result = await finished(await started(server, path, full))
        assert result.code == 4, result.stderr
        assert str(path) in result.stderr
        assert "Traceback" not in result.stderr
        assert not (path / "live.json").exists()
        await ends_as_undisturbed(server, path, finished_run)


async def test_a_directory_turned_read_only(tmp_path: Path, finished_run: Path) -> None:
    """When nothing can be written into the directory any more, the run ends with code 4 and names it; writable again, it
    goes on to the same end.
    """
    path = tmp_path / "run"
    async with SimulatedServer(16, Latency(0.2, 0.1)) as server:
        process = await started(server, path, drop_override)
        await under_way(server, process)
        path.chmod(0o555)
        result = await finished(process)
        path.chmod(0o755)
        assert result.code == 4, result.stderr
        assert f"{path}/" in result.stderr
        assert "Permission denied" in result.stderr
        await ends_as_undisturbed(server, path, finished_run)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_directory_moved_away(tmp_path: Path, finished_run: Path, *, replaced: bool) -> None:
    """A run notices when its directory is moved, whether or not another takes its place, and writes nothing into that
    one; moved back, it goes on and asks only for what was not stored.
    """
    path, away = tmp_path / "run", tmp_path / "away"
    async with SimulatedServer(16, Latency(0.2, 0.1)) as server:
        process = await started(server, path)
        await under_way(server, process)
        path.rename(away)
        if replaced:
            path.mkdir()
        result = await finished(process)
        assert result.code == 4, result.stderr
        assert "removed, moved or replaced" in result.stderr or "No such file" in result.stderr
        assert not path.exists() or not {one.name for one in path.iterdir()} & set(DERIVED)
        shutil.rmtree(path, ignore_errors=True)
        away.rename(path)
        before = server.statistics().requests
        await ends_as_undisturbed(server, path, finished_run)
        assert before > 25
        assert server.statistics().requests < before + 73


@pytest.mark.parametrize("fault", ["log gone", "log cut", "log flipped", "index of the log garbage"])
async def test_what_sqlite_keeps_beside_the_store(tmp_path: Path, finished_run: Path, fault: str) -> None:
    """After kill -9, with the write-ahead log cut or flipped, or its index overwritten: the run goes on to the same end,
    since what was lost is asked again. With the log, and so all answers, deleted it says that they are gone.
    """
    path = tmp_path / "run"
    async with SimulatedServer(16, Latency(0.1, 0.1)) as server:
        process = await started(server, path)
        await under_way(server, process)
        while not (path / "dataset.jsonl").stat().st_size:  # trees come first
            await asyncio.sleep(0.01)
        process.kill()
        await process.communicate()
        log, index = path / "completions.sqlite-wal", path / "completions.sqlite-shm"
        body = log.read_bytes()
        if fault == "log gone":
            log.unlink()
            gone = await explore("run", tmp_path / "config.yaml", "--endpoint", server.url, "--out", path, "--quiet")
            assert gone.code == 4
            assert "completions.sqlite: the completions that this run was derived from are gone" in gone.stderr
            path.rename(tmp_path / "aside")
        elif fault == "log cut":
            log.write_bytes(body[: 2 * len(body) // 3])
        elif fault == "log flipped":
            log.write_bytes(body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 4]) + body[len(body) // 2 + 1 :])
        else:
            index.write_bytes(b"\xa5" * index.stat().st_size)
        await ends_as_undisturbed(server, path, finished_run)


def test_a_log_lost_before_another_model(tmp_path: Path, finished_run: Path, in_this_process: None) -> None:
    """Where answers were lost that lines of the dataset came from, and are answered otherwise now, the run says so and
    mixes nothing; after --repair it makes what these answers lead to, and the lines of before are kept.
    """
    path = copied(finished_run, tmp_path)
    (path / "stats.json").unlink()
    (path / "completions.sqlite").unlink()
    before = (path / "dataset.jsonl").read_bytes()
    with serving() as url:
        small = go_on(tmp_path / "small", url, "--max-examples", "20")
        assert small.code == 0
    shutil.copy(tmp_path / "small" / "completions.sqlite", path)
    with serving(seed=5) as other:
        refused = go_on(path, other)
        assert refused.code == 4
        assert f"`explore-async doctor {path} --repair`" in refused.stderr
        assert (path / "dataset.jsonl").read_bytes() == before
        assert doctor(path, "--repair").code == 0
        assert go_on(path, other).code == 0
    assert doctor(path).code == 0
    assert before in {one.read_bytes() for one in path.glob("dataset.jsonl.damaged.*")}


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """It is refused as what it is, not as somebody else's run. (No such file system is at hand: flock is replaced.)"""

    def flock(*_: object) -> None:
        raise OSError(code, "not here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match="cannot lock files") as caught, RunDirectory(tmp_path / "run"):
        pass
    assert "another process" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, how) for name in ("dataset.jsonl", "decisions.jsonl") for how in ("removed", "cut", "overwritten")),
        *(("completions.sqlite", how) for how in ("removed", "cut")),
    ],
)
async def test_a_file_taken_away_under_a_run(tmp_path: Path, finished_run: Path, name: str, how: str) -> None:
    """A file that is removed, or written to by somebody else, while a run writes it: the run ends with code 4 and names it,
    and never says that all is well with a file that holds half of it. A derived one is there again after a repair.
    """
    path = tmp_path / "run"
    async with SimulatedServer(16, Latency(0.2, 0.1)) as server:
        process = await started(server, path)
        await under_way(server, process)
        if how == "removed":
            (path / name).unlink()
        elif how == "cut":
            os.truncate(path / name, 0)
        else:
            with (path / name).open("r+b") as file:
                file.write(b"mine")
        result = await finished(process)
        assert result.code == 4, result.stderr
        assert f"{path / name}" in result.stderr
        assert "Traceback" not in result.stderr
        if name != "completions.sqlite":
            assert (await explore("doctor", path, "--repair")).code == 0
            await ends_as_undisturbed(server, path, finished_run)


@pytest.mark.parametrize("name", ["config.json", "checkpoint.json", "dataset.jsonl", "live.json", ".lock"])
async def test_what_is_no_file_is_named(tmp_path: Path, finished_run: Path, name: str) -> None:
    """A pipe where a file should be: nobody waits for what will never come out of it; code 4, with its name."""
    path = copied(finished_run, tmp_path / "run")
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    command = ("run", finished_run.parent / "config.yaml", "--endpoint", "http://127.0.0.1:9/v1", "--out", path)
    for result in (await explore(*command), await explore("doctor", path)):
        assert result.code == 4
        assert name in result.stderr + result.stdout
        assert "regular file" in result.stderr + result.stdout
