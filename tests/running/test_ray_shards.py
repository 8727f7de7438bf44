"""Shards of a run on Ray: the actor by itself, and `run --engine ray` on a cluster of two nodes on this machine."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import Finished, config, in_process, launch
from support.stored_run import serving, simulating

from explore_async.errors import ConfigError
from explore_async.exploration.values import Event, ExampleKept
from explore_async.running.observer import RunInProgress, SilentObserver
from explore_async.running.ray_shard import Failed, ShardActor, ShardWork
from explore_async.running.result import RunResult
from explore_async.running.shard_states import ended_state
from explore_async.running.shards_on_ray import name_of, prepare, works_for
from explore_async.running.start import run
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.operation import EndpointSettings
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.directory import RunDirectory

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("in_this_process")]

HAS_RAY = importlib.util.find_spec("ray") is not None
CONFIG = """
name: garden
domains: [{name: Look after a garden, description: plants and tools}]
exploration: {depth: 2, breadth: [4, 2], step: 2}
generation: {per_request: 3, demonstrations: 1}
targets: {examples: 160}
window: 64
operation: {report: false}
"""
SHARDS = 4
DERIVED = ("dataset.jsonl", "tree.json", "decisions.jsonl")
SLOW = Latency(0.1, 0.8, shuffle=3)


def derived(folder: Path) -> dict[str, bytes]:
    """The derived files of all shards in a folder, and the data that is joined from them."""
    places = [*(f"shard-{index}-of-{SHARDS}" for index in range(1, SHARDS + 1)), "merged"]
    return {f"{place}/{name}": (folder / place / name).read_bytes() for place in places for name in DERIVED}


def settings(url: str, **operation: Any) -> RunSettings:
    small = {"shard": f"1/{SHARDS}", "targets": {"examples": 40}, "window": 32}
    return RunSettings.model_validate(
        {**yaml.safe_load(CONFIG), **small, "operation": {"endpoints": [{"url": url}], "report": False, **operation}}
    )


async def work_for(settings: RunSettings, folder: Path, at: int) -> ShardWork:
    works = await asyncio.to_thread(works_for, settings, folder, SHARDS, "resume")
    await asyncio.to_thread(prepare, works, fresh=False)
    return works[at]


# The actor is a class like any other: what Ray does not do is tried without it.


async def test_an_actor_makes_its_shard_and_another_one_goes_on(tmp_path: Path) -> None:
    """An actor is stopped in the middle, in order; one in another place of the same shard waits until the directory is
    free, and ends with the bytes of a shard that was made at once. A third call changes nothing.
    """
    async with SimulatedServer(64, Latency(0.02, 0.1, shuffle=1)) as server:
        whole = await work_for(settings(server.url), tmp_path / "whole", 1)
        expected = await ShardActor(whole).make()
        assert isinstance(expected, RunResult)
        work = await work_for(settings(server.url, shared_by=2), tmp_path / "parts", 1)
        first, stopping = ShardActor(work), []

        def stop_at_the_first_example(events: Sequence[Event]) -> None:
            if any(isinstance(event, ExampleKept) for event in events):
                stopping.extend(asyncio.create_task(first.stop("interrupted")) for _ in range(2))

        first._watch.committed = stop_at_the_first_example
        making = asyncio.create_task(first.make())
        while first._watch.run is None:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(ShardActor(work).make())  # as after a machine was lost that goes on by itself
        stopped = await making
        assert isinstance(stopped, RunResult)
        assert stopped.ending == "interrupted"
        ended = await second
        assert isinstance(ended, RunResult)
        assert ended.kept == expected.kept > stopped.kept
        again = await ShardActor(work).make()
        assert isinstance(again, RunResult)
        assert again.stats.this_time is not None
        assert again.stats.this_time.asked == 0
        assert again.stats.all_starts is not None
        shown = ended_state(2, again)
        assert (shown.kept, shown.phase, shown.where) == (again.kept, "target", socket.gethostname())
        nothing_asked = replace(again.stats, all_starts=replace(again.stats.all_starts, hosts=[]))
        assert ended_state(2, replace(again, stats=nothing_asked)).where == ""
    for name in DERIVED:
        assert (work.directory / name).read_bytes() == (whole.directory / name).read_bytes()


async def test_an_actor_is_stopped_before_its_first_request(tmp_path: Path) -> None:
    """It ends without a result, and leaves no run directory."""
    async with SimulatedServer(64, Latency(5, 5)) as server:
        work = await work_for(settings(server.url), tmp_path / "out", 0)
        actor = ShardActor(work)
        making = asyncio.create_task(actor.make())
        await asyncio.sleep(0.01)
        await actor.stop("interrupted")
        assert await making is None


async def test_an_actor_needs_the_folder_of_the_run(tmp_path: Path) -> None:
    """Where the machine has another folder of that name, or none, nothing is written there: the error says so."""
    work = await work_for(settings("http://127.0.0.1:1/v1"), tmp_path / "out", 0)
    (tmp_path / "out" / ".shared").write_text("of another machine")
    for _ in range(2):
        failed = await ShardActor(work).make()
        assert isinstance(failed, Failed)
        assert failed.exit_code == 4
        assert "all machines of the cluster share" in failed.message
        assert not work.directory.exists()
        (tmp_path / "out" / ".shared").unlink(missing_ok=True)


async def test_an_error_of_a_run_is_the_end_of_its_shard(tmp_path: Path) -> None:
    """An endpoint that is not there: the end of the shard is the error with its exit code, which travels as it is."""
    work = await work_for(settings("http://127.0.0.1:1/v1"), tmp_path / "out", 0)
    failed = await ShardActor(work).make()
    assert isinstance(failed, Failed)
    assert failed.exit_code == 6


def test_each_shard_has_its_part_of_the_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrency and rates are divided, and auto stays; keys go along by name; files are named so that another working
    directory does not matter. A server of its own, and a directory where a process works, are refused.
    """
    endpoint = EndpointSettings(
        url="http://x/v1", concurrency=7, requests_per_minute=10, tokens_per_minute=5, api_key_env="KEY_OF_X"
    )
    part = endpoint.part_of(4)
    assert (part.concurrency, part.requests_per_minute, part.tokens_per_minute) == (1, 2.5, 1.25)
    assert EndpointSettings(url="http://x/v1", concurrency=3).part_of(4).concurrency == 1
    assert EndpointSettings(url="http://x/v1").part_of(4).concurrency == "auto"
    assert endpoint.part_of(1) == endpoint
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY_OF_X", "secret")
    Path("list.yaml").write_text("- {url: http://x/v1, api_key_env: KEY_OF_X}\n")
    listed = settings("http://x/v1", endpoints=(), endpoints_file="list.yaml", wall_time_s=5)
    works = works_for(listed, Path("out"), SHARDS, "resume")
    assert {work.settings.operation.endpoints_file for work in works} == {str(tmp_path / "list.yaml")}
    assert {work.settings.operation.shared_by for work in works} == {SHARDS}
    assert {work.settings.operation.wall_time_s for work in works} == {None}
    assert {*map(str, (dict(work.keys) for work in works))} == {"{'KEY_OF_X': 'secret'}"}
    assert [work.settings.shard for work in works] == ["1/4", "2/4", "3/4", "4/4"]
    assert len({name_of(work) for work in works}) == SHARDS
    with pytest.raises(ConfigError, match="each shard would start a server"):
        works_for(settings("http://x/v1", server={}), Path("out"), SHARDS, "resume")
    prepare(works, fresh=False)
    with RunDirectory(works[2].directory), pytest.raises(Exception, match="another process is running"):
        works_for(listed, Path("out"), SHARDS, "fresh")


def test_what_begins_afresh_sets_all_aside(tmp_path: Path) -> None:
    """Earlier shards, and what they have agreed on, get other names; without them nothing is missed."""
    works = works_for(settings("http://x/v1"), tmp_path / "out", 2, "fresh")
    assert {work.mode for work in works} == {"resume"}
    prepare(works, fresh=True)
    works[0].directory.mkdir()
    (works[0].directory / "config.json").touch()
    (tmp_path / "out" / "top-of-2").mkdir()
    prepare(works, fresh=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".shared", "shard-1-of-2", "shard-1-of-2.1", "top-of-2.1"]


def test_a_run_that_shares_its_endpoints_takes_its_part(tmp_path: Path) -> None:
    """operation.shared_by: a fourth of --concurrency 8 is in flight at most."""
    with simulating(latency=Latency(0.01, 0.01)) as server:
        done = in_process(
            *("run", config(tmp_path, CONFIG), "--out", tmp_path / "out", "--endpoint", server.url, "--quiet"),
            *("--concurrency", "8", "--set", "operation.shared_by=4", "--max-examples", "12"),
        )
        assert done.code == 0, done.stderr
        assert server.statistics().peak_in_flight == 2


async def test_an_observer_stops_a_run_in_order(tmp_path: Path) -> None:
    """RunInProgress.stop ends the run like Ctrl-C, whenever it is called and however often; the run goes on to the
    bytes of one that was not stopped.
    """

    class Stopper(SilentObserver):
        run: RunInProgress

        def began(self, _recipe: object, run: RunInProgress) -> None:
            self.run = run

        def committed(self, _events: object) -> None:
            if self.run.snapshot().tally.kept >= 6:
                self.run.stop()
                self.run.stop()

    async with SimulatedServer(64, Latency(0.01, 0.05, shuffle=2)) as server:
        own = settings(server.url)
        result = await run(own, tmp_path / "stopped", observer=Stopper())
        assert (result.ending, result.exit_code) == ("interrupted", 130)
        whole = await run(own, tmp_path / "whole")
        assert 6 <= result.kept < whole.kept
        assert (await run(own, tmp_path / "stopped")).ending == "target"
    for name in DERIVED:
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.skipif(HAS_RAY, reason="Ray is here")
def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """--engine ray without Ray names the extra, with exit code 2, and makes no directory."""
    path = config(tmp_path, CONFIG)
    done = in_process("run", path, "--out", tmp_path / "out", "--endpoint", "http://127.0.0.1:1/v1", "--engine", "ray")
    assert done.code == 2
    assert "pip install 'explore-async[ray]'" in done.stderr
    assert not (tmp_path / "out").exists()


# On a cluster. A node is a set of processes of its own on this machine, so losing one is killing them all.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes, each with two places, and this process as the driver."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": SHARDS, "include_dashboard": False})
    ray.init(address=nodes.address, log_to_driver=False, logging_level="error", include_dashboard=False)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the shards made one after another by --shard, in this process, and joined by merge."""
    folder = tmp_path_factory.mktemp("expected")
    path = config(folder, CONFIG)
    with serving() as url:
        for index in range(1, SHARDS + 1):
            done = in_process(
                *("run", path, "--shard", f"{index}/{SHARDS}", "--out", folder / "runs", "--endpoint", url, "--quiet")
            )
            assert done.code == 0, done.stderr
    done = in_process("merge", folder / "runs", "--out", folder / "runs" / "merged")
    assert done.code == 0, done.stderr
    return derived(folder / "runs")


def arguments(folder: Path, url: str, *more: str) -> tuple[str | Path, ...]:
    return (
        *("run", config(folder, CONFIG), "--out", folder / "runs", "--endpoint", url, "--engine", "ray", "--quiet"),
        *("--shards", str(SHARDS), "--concurrency", str(2 * SHARDS), "--json", *more),
    )


def stored(folder: Path, index: int) -> int:
    """The completions that a shard has stored."""
    store = folder / "runs" / f"shard-{index}-of-{SHARDS}" / "completions.sqlite"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM outcomes").fetchone()[0])
    return 0  # not made yet


def process_of(folder: Path, index: int) -> int | None:
    """The process that has the store of a shard open; None where none has."""
    store = folder / "runs" / f"shard-{index}-of-{SHARDS}" / "completions.sqlite"
    for links in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if int(links.parent.name) != os.getpid() and any(one.readlink() == store for one in links.iterdir()):
                return int(links.parent.name)
    return None


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Acts in a thread beside the block. An error in it is raised at the end of the block."""
    errors: list[BaseException] = []

    def carry_out() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            errors.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 200
    while not holds():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def checked(done: Finished, folder: Path, expected: dict[str, bytes]) -> None:
    assert done.code == 0, done.stderr
    assert derived(folder / "runs") == expected
    assert done.json["kept"] == expected["merged/dataset.jsonl"].count(b"\n")
    assert len(done.json["shards"]) == SHARDS


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("cluster")
def test_shards_on_ray_are_those_made_one_after_another(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """An actor is ended by Ray, and the process of another is killed, both in the middle: Ray starts them again, and the
    files of all shards and of the merged data are byte for byte those of shards made one after another. The same
    command again asks nothing.
    """
    import ray

    def end_two() -> None:
        wait_until(lambda: stored(tmp_path, 2) >= 4)
        killed = process_of(tmp_path, 2)
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: stored(tmp_path, 3) >= 4)
        ended = process_of(tmp_path, 3)
        assert ended is not None
        token = (tmp_path / "runs" / ".shared").read_text()
        ray.kill(ray.get_actor(f"shard-3-of-{SHARDS}-{token}"), no_restart=False)
        wait_until(lambda: process_of(tmp_path, 2) not in {None, killed})
        wait_until(lambda: process_of(tmp_path, 3) not in {None, ended})

    with simulating(latency=SLOW) as server:
        with meanwhile(end_two):
            done = in_process(*arguments(tmp_path, server.url))
        checked(done, tmp_path, expected)
        asked = server.statistics().requests
        again = in_process(*arguments(tmp_path, server.url))
        checked(again, tmp_path, expected)
        assert server.statistics().requests == asked


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
def test_a_node_is_lost(tmp_path: Path, expected: dict[str, bytes], cluster: Any) -> None:
    """All processes of a node are killed while shards work there: Ray starts these on the other node, and the files are
    the same.
    """
    node = cluster.add_node(num_cpus=SHARDS, include_dashboard=False)
    (raylet,) = (one.process.pid for one in node.all_processes["raylet"])

    def there() -> list[tuple[int, int]]:
        """Shards that are in the middle on this node, and their processes."""
        busy = [(index, process_of(tmp_path, index)) for index in range(1, SHARDS + 1) if stored(tmp_path, index) >= 3]
        return [(index, pid) for index, pid in busy if pid is not None and started_by(pid) == raylet]

    def lose() -> None:
        wait_until(lambda: bool(found.extend(there()) or found))
        index, lost = found[0]
        cluster.remove_node(node, allow_graceful=False)
        wait_until(lambda: process_of(tmp_path, index) not in {None, lost})

    found: list[tuple[int, int]] = []
    with simulating(latency=SLOW) as server, meanwhile(lose):
        done = in_process(*arguments(tmp_path, server.url))
    checked(done, tmp_path, expected)


def started_by(pid: int) -> int:
    """The process that has started it, for a worker of Ray that of its node; 0 where it is no more."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


@pytest.mark.ray
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore")
async def test_ctrl_c_stops_all_shards_in_order(tmp_path: Path, expected: dict[str, bytes], cluster: Any) -> None:
    """SIGINT to the command: all shards end in order, the exit code is 130, and nothing is joined. The same command
    goes on to the same files, and what was stored is not asked again.
    """
    async with SimulatedServer(256, SLOW) as server:
        process = await launch(*arguments(tmp_path, server.url), RAY_ADDRESS=cluster.address)
        while process.returncode is None and not all(stored(tmp_path, index) >= 3 for index in range(1, SHARDS + 1)):
            await asyncio.sleep(0.05)
        assert process.returncode is None, (await process.communicate())[1].decode()
        process.send_signal(signal.SIGINT)
        _, stderr = await process.communicate()
        assert process.returncode == 130, stderr.decode()
        assert not (tmp_path / "runs" / "merged").exists()
        process = await launch(*arguments(tmp_path, server.url), RAY_ADDRESS=cluster.address)
        stdout, stderr = await process.communicate()
        checked(Finished(process.returncode or 0, stdout.decode(), stderr.decode()), tmp_path, expected)
        twice = [digest for digest, count in server.statistics().counts_by_digest.items() if count > 1]
        assert len(twice) <= SHARDS  # the small requests with which endpoints are tried
