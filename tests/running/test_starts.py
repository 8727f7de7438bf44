"""The history of a run: what every start asked of whom, and when, whatever came after it."""

from __future__ import annotations

import platform
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import config, explore, finished, in_process, launch
from support.stored_run import serving
from support.waiting import until

from explore_async.running.endpoint_speeds import LatencyCounts
from explore_async.running.starts import EndpointRecord, History, Start
from explore_async.serving.simulated.server import VERSION, Latency, SimulatedServer

pytestmark = pytest.mark.timeout(180)


def document(path: Path) -> dict[str, Any]:
    return orjson.loads(path.read_bytes())


@pytest.fixture(autouse=True)
def commands_may_block(blockbuster) -> None:
    """A command opens and closes files on its loop, and nothing else runs there."""
    blockbuster.deactivate()


def test_a_replay_erases_nothing(tmp_path: Path) -> None:
    """Two starts that ask and a replay between them: the totals are those of both, with begin, end, host, engine and
    latencies of each endpoint; the replay leaves them as they were, though its own figures are empty.
    """

    def run(url: str, *more: str) -> dict[str, Any]:
        arguments = ("--endpoint", url, "--out", tmp_path / "run", "--quiet", "--json", *more)
        result = in_process("run", config(tmp_path), *arguments)
        assert result.code == 0, result.stderr
        return result.json

    with serving() as first, serving() as second:
        stats = run(first)
        of_one = stats["all_starts"]
        assert of_one["starts"] == 1
        assert of_one["hosts"] == [platform.node()]
        assert of_one["begin"] == stats["begin"]
        assert datetime.fromisoformat(stats["begin"]) <= datetime.fromisoformat(stats["end"])
        assert of_one["endpoints"][0]["answered"] == stats["endpoints"]["answered"] > 0
        assert of_one["endpoints"][0]["latency_s"] == stats["endpoints"]["endpoints"][0]["latency_s"]
        assert of_one["endpoints"][0]["engines"] == [f"vllm {VERSION}"]

        replayed = run("http://127.0.0.1:9")
        assert replayed["this_time"]["asked"] == 0
        assert "endpoints" not in replayed
        assert replayed["all_starts"] == of_one
        assert document(tmp_path / "run" / "stats.json")["all_starts"] == of_one

        both = run(second, "--adopt", "--max-examples", "150")["all_starts"]
    assert both["starts"] == 2
    assert [endpoint["url"] for endpoint in both["endpoints"]] == [first, second]
    assert both["endpoints"][0] == of_one["endpoints"][0]
    assert both["begin"] == of_one["begin"]
    assert both["asked"] > of_one["asked"]


async def test_a_kill_erases_little(tmp_path: Path) -> None:
    """A start that was killed is in the history as it was some seconds before, without an ending."""
    async with SimulatedServer(4, Latency(0.8)) as server:
        command = ("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run")
        process = await launch(*command)
        await until(lambda: (tmp_path / "run" / "starts.json").exists() or process.returncode is not None)
        process.send_signal(signal.SIGKILL)
        await finished(process)
        killed = document(tmp_path / "run" / "starts.json")["starts"]
        assert [start["ending"] for start in killed] == [None]
        assert killed[0]["asked"] > 0
        figures = await explore("stats", tmp_path / "run")
        assert "the last start was killed: these are its figures of " in figures.stderr
        assert orjson.loads(figures.stdout)["ending"] is None
        result = await explore(*command, "--json")
    assert result.code == 0
    assert [start["ending"] for start in document(tmp_path / "run" / "starts.json")["starts"]] == [None, "target"]
    assert result.json["all_starts"]["starts"] == 2


def start(asked: int = 3) -> Start:
    latencies = LatencyCounts()
    latencies.note(1.5)
    record = EndpointRecord("http://a/v1", ["vllm 1"], latencies=latencies)
    return Start(
        begin="2026-01-01T00:00:00Z", end="2026-01-01T00:01:00Z", seconds=60.0, host="here", ending="target",
        replayed=0, asked=asked, asked_twice=0, endpoints=[record],
    )  # fmt: skip


def test_thousands_of_starts_take_little_room(tmp_path: Path) -> None:
    """The totals count them all, and the list ends with the latest."""
    path = tmp_path / "starts.json"
    for number in range(40):
        History(path, stored=0).write(start(number))
    written = document(path)
    assert written["total"]["starts"] == 40
    assert written["total"]["asked"] == sum(range(40))
    assert written["total"]["endpoints"][0]["latency_s"]["mean"] == 1.5
    assert [entry["asked"] for entry in written["starts"]] == list(range(20, 40))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"total": 7}', b'{"total": {"starts": "x"}, "starts": []}', b"\xff"])
def test_a_history_that_cannot_be_read_begins_anew(tmp_path: Path, content: bytes) -> None:
    """It is a record and decides nothing; it then says how many completions were there before it."""
    path = tmp_path / "starts.json"
    path.write_bytes(content)
    History(path, stored=70).write(start())
    assert document(path)["total"]["starts"] == 1
    assert document(path)["total"]["stored_before"] == 70
