"""A run from end to end: the real command line against real servers on loopback."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from pathlib import Path

import orjson
import pytest
from support.cli import DERIVED, check_counts, config, derived, explore, filled, finished, launch
from support.misbehaving import (
    CLOSED_AFTER_HEADERS,
    CLOSED_AT_ONCE,
    EMPTY_CHOICES,
    HALF_BODY,
    INTERNAL,
    INVALID_JSON,
    NULL_CONTENT,
    OVERFLOW,
    Behaviour,
    MisbehavingServer,
    answer,
    error,
    sensible,
    slow,
)

from explore_async.config.load import load
from explore_async.running import run as run_module
from explore_async.running.start import run as run_to_end
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.storage.whole_files import write_state

pytestmark = pytest.mark.timeout(180)

FORMS = 2
"""Requests by which each start finds out whether an endpoint can serve the recipe; they are no part of the run."""


async def run(folder: Path, url: str, *more: str | Path, out: str = "run", **env: str):
    return await explore(
        *("run", config(folder) if not (folder / "config.yaml").exists() else folder / "config.yaml"),
        *("--endpoint", url, "--out", folder / out, "--json", *more),
        **env,
    )


async def test_the_same_bytes_at_any_concurrency(tmp_path: Path) -> None:
    """dataset, tree and evidence are byte-identical at concurrency 1, 16 and 64, with shuffled delays, under other
    hash seeds; the server's own peak shows that requests overlapped.
    """
    made: list[dict[str, bytes]] = []
    for concurrency, env in ((1, {}), (16, {"PYTHONHASHSEED": "1"}), (64, {"PYTHONHASHSEED": "7"})):
        async with SimulatedServer(256, Latency(0.001 * concurrency, 0.8, shuffle=concurrency)) as server:
            result = await run(
                tmp_path,
                server.url,
                *("--concurrency", str(concurrency), "--window", "512", "--max-examples", "240"),
                out=f"run{concurrency}",
                **env,
            )
            assert result.code == 0, result.stderr
            peak = server.statistics().peak_in_flight
            assert peak <= concurrency
            assert (peak > 1) == (concurrency > 1)
        made.append(derived(tmp_path / f"run{concurrency}"))
        check_counts(result.json, tmp_path / f"run{concurrency}")
    assert all(files == made[0] for files in made)
    assert len(made[0]["dataset.jsonl"].splitlines()) == 240


async def test_a_fleet_in_trouble_makes_the_same_bytes(tmp_path: Path) -> None:
    """Three endpoints that find out themselves what they take, one slow, one gone again and again, the run killed twice
    on the way: the files are those of one request after another at one healthy server.
    """
    target = ("--window", "768", "--max-examples", "360")
    async with SimulatedServer(256, Latency(0.001)) as server:
        alone = await run(tmp_path, server.url, "--concurrency", "1", *target, out="alone")
        assert alone.code == 0, alone.stderr

    async def flap(port: int) -> None:
        while True:
            await asyncio.sleep(0.4)
            async with SimulatedServer(64, Latency(0.1, 0.8), port=port):
                await asyncio.sleep(0.6)

    async with (
        SimulatedServer(32, Latency(0.08, 0.8)) as quick,
        SimulatedServer(8, Latency(0.16, 0.8)) as slow_one,
        SimulatedServer(1) as placeholder,
    ):
        flapping = placeholder.url
        await placeholder.__aexit__(None, None, None)
        coming_and_going = asyncio.create_task(flap(int(flapping.split(":")[2].removesuffix("/v1"))))
        urls = [part for url in (quick.url, slow_one.url, flapping) for part in ("--endpoint", url)]
        command = ("run", tmp_path / "config.yaml", *urls, *target, "--out", tmp_path / "fleet", "--json")
        for _ in range(2):
            process = await launch(*command)
            before = quick.statistics().requests
            while quick.statistics().requests < before + 25:
                await asyncio.sleep(0.02)
            process.kill()
            await process.communicate()
        last = await explore(*command)
        assert last.code == 0, last.stderr
        coming_and_going.cancel()
        assert slow_one.statistics().requests > 10  # more than its checks
    assert derived(tmp_path / "fleet") == derived(tmp_path / "alone")


async def test_the_derived_files_hold_nothing_of_the_occasion(tmp_path: Path) -> None:
    """No endpoint, port, latency or time stands in the dataset, the tree or the evidence."""
    async with SimulatedServer() as server:
        await run(tmp_path, server.url)
        port = server.url.rsplit(":", 1)[1].split("/")[0]
    for name, body in derived(tmp_path / "run").items():
        for word in (b"127.0.0.1", port.encode(), b"latency", b"seconds", b"simulated", b"time"):
            assert b'"' + word not in body, (name, word)


async def test_replay_asks_nothing_and_compares(tmp_path: Path) -> None:
    """A finished run run again contacts nobody and leaves every byte; an edited dataset is named by its line."""
    async with SimulatedServer() as server:
        first = await run(tmp_path, server.url)
    before = derived(tmp_path / "run")
    again = await run(tmp_path, "http://127.0.0.1:9")
    assert again.code == 0
    assert again.json["this_time"]["asked"] == 0
    assert again.json["this_time"]["replayed"] >= first.json["requests"]["total"]
    assert derived(tmp_path / "run") == before
    dataset = tmp_path / "run" / "dataset.jsonl"
    lines = dataset.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"instruction":"', b'"instruction":"X', 1)
    dataset.write_bytes(b"".join(lines))
    edited = await run(tmp_path, "http://127.0.0.1:9")
    assert edited.code == 4
    assert "dataset.jsonl, line 8" in edited.stderr


async def test_a_higher_target_is_adopted(tmp_path: Path) -> None:
    """100 examples, then 200 with --adopt: every stored answer serves; without --adopt the difference is shown."""
    async with SimulatedServer() as server:
        small = await run(tmp_path, server.url)
        with sqlite3.connect(tmp_path / "run" / "completions.sqlite") as database:
            stored = {key for (key,) in database.execute("SELECT key FROM outcomes")}
        database.close()
        refused = await run(tmp_path, server.url, "--max-examples", "200")
        assert refused.code == 2
        assert "targets.examples: 100 → 200" in refused.stderr
        adopted = await run(tmp_path, server.url, "--max-examples", "200", "--adopt")
        assert adopted.code == 0
    assert adopted.json["examples"]["kept"] == 200
    assert adopted.json["this_time"]["replayed"] >= small.json["requests"]["total"]
    assert adopted.json["this_time"]["replayed"] == len(stored)


async def test_fresh_keeps_what_was_there(tmp_path: Path) -> None:
    """--fresh where nobody answers changes nothing; before a server it asks everything anew, with the same end, and the
    earlier run lies beside it, to the byte.
    """
    async with SimulatedServer() as server:
        await run(tmp_path, server.url)
        before = derived(tmp_path / "run")
        nobody = await run(tmp_path, "http://127.0.0.1:9", "--fresh")
        assert nobody.code == 6
        assert derived(tmp_path / "run") == before
        assert not (tmp_path / "run.1").exists()
        again = await run(tmp_path, server.url, "--fresh")
    assert again.code == 0, again.stderr
    assert str(tmp_path / "run.1") in again.stderr.replace("\n", "")
    assert again.json["this_time"]["replayed"] == 0
    assert derived(tmp_path / "run.1") == derived(tmp_path / "run") == before


async def test_offline_derives_anew(tmp_path: Path) -> None:
    """--offline with another threshold re-filters what is stored and asks nothing."""
    async with SimulatedServer() as server:
        await run(tmp_path, server.url)
    result = await explore(
        *("run", tmp_path / "config.yaml", "--out", tmp_path / "run", "--json"),
        *("--offline", "--set", "filters.threshold=0.3"),
    )
    assert result.code == 0
    assert result.json["this_time"]["asked"] == 0
    assert result.json["examples"]["dropped"]["duplicate"] > 0
    check_counts(result.json, tmp_path / "run")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """While the first one waits for what is under way, the second does not; the code is still that of the signal."""
    async with MisbehavingServer(lambda body, ordinal: slow(3600) if ordinal >= FORMS else _sensible(body)) as server:
        process = await launch(
            *("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--model", "m"),
        )
        while len(server.bodies) <= FORMS:
            await asyncio.sleep(0.02)
        process.send_signal(number)
        assert process.stderr is not None
        while b"in flight, waited for at most" not in await process.stderr.readline():
            pass
        process.send_signal(number)
        stopped = await finished(process)
    assert stopped.code == code
    assert "stopped at once" in stopped.stderr


async def test_answers_lost_with_the_power(tmp_path: Path) -> None:
    """Where the files hold more than the stored answers lead to, and the model answers otherwise the second time, the run
    names the line and changes nothing; without these files it goes on.
    """
    async with SimulatedServer() as server:
        assert (await run(tmp_path, server.url)).code == 0
    database = sqlite3.connect(tmp_path / "run" / "completions.sqlite")
    with database:
        database.execute("DELETE FROM outcomes WHERE ordinal > 20")
    database.close()
    before = derived(tmp_path / "run")
    async with SimulatedServer(seed=1) as another:
        refused = await run(tmp_path, another.url)
        assert refused.code == 4
        assert "lost with the power" in refused.stderr
        assert derived(tmp_path / "run")["dataset.jsonl"] == before["dataset.jsonl"]
        for name in ("dataset.jsonl", "decisions.jsonl"):
            (tmp_path / "run" / name).unlink()
        result = await run(tmp_path, another.url)
    assert result.code == 0, result.stderr
    check_counts(result.json, tmp_path / "run")


async def test_wall_time_stops_with_usable_data(tmp_path: Path) -> None:
    """A run out of wall time exits 0, says why, and leaves a prefix."""
    async with SimulatedServer(64, Latency(0.2)) as server:
        result = await run(tmp_path, server.url, "--concurrency", "2", "--set", "operation.wall_time_s=2")
    assert result.code == 0
    assert result.json["ending"] == "wall_time"
    check_counts(result.json, tmp_path / "run")


async def test_text_format_and_another_language(tmp_path: Path) -> None:
    """Plain text with markers makes a dataset too, and the language reaches every prompt."""
    async with SimulatedServer() as server:
        result = await run(tmp_path, server.url, "--set", "answer_format=text", "--set", "language=Chinese")
    assert result.code == 0
    assert result.json["examples"]["kept"] == 100
    with sqlite3.connect(tmp_path / "run" / "completions.sqlite") as database:
        questions = [orjson.loads(body) for (body,) in database.execute("SELECT question FROM outcomes")]
    database.close()
    assert all("Chinese" in question["messages"][0]["content"] for question in questions)
    assert all(question["answer_schema"] is None for question in questions)


def _sensible(body: dict) -> Behaviour:
    return Behaviour(body=answer(sensible(body), tokens=40))


async def test_a_server_that_misbehaves(tmp_path: Path) -> None:
    """429, 500, closed connections, nonsense and rejections: the run ends with code 0, the counts add up, what was
    accepted is in the dataset, and failures are reported as such.
    """
    troubles = [
        error(429, "slow down", {"Retry-After": "0"}),
        INTERNAL,
        CLOSED_AT_ONCE,
        CLOSED_AFTER_HEADERS,
        HALF_BODY,
        INVALID_JSON,
        EMPTY_CHOICES,
        NULL_CONTENT,
    ]
    seen: dict[int, int] = {}

    def script(body: dict, ordinal: int) -> Behaviour:
        seed = body["seed"]
        seen[seed] = seen.get(seed, 0) + 1
        if seed % 7 == 3 and body["response_format"]["json_schema"]["name"] == "examples":
            return OVERFLOW
        if seed % 5 == 1:
            return Behaviour(body=answer("I am sorry, but as a gardener I cannot"))
        if seen[seed] == 1 and seed % 3 == 0:
            return troubles[seed % len(troubles)]
        if seed % 17 == 2:
            sensible = _sensible(body)
            return Behaviour(body=sensible.body, delay_s=0.3)
        return _sensible(body)

    async with MisbehavingServer(script) as server:
        result = await run(
            tmp_path,
            server.url,
            *("--concurrency", "8", "--model", "m"),
            *("--set", "operation.retries.first_wait_s=0.02", "--set", "operation.retries.longest_wait_s=0.2"),
        )
    assert result.code == 0, result.stderr
    stats = orjson.loads((tmp_path / "run" / "stats.json").read_bytes())
    check_counts(stats, tmp_path / "run")
    assert stats["examples"]["kept"] == 100
    assert stats["requests"]["failed"]["context_overflow"] > 0
    assert stats["examples"]["dropped"]["unparsable"] > 0
    assert "failed" in result.stderr


async def test_failed_requests_are_asked_again_where_wished(tmp_path: Path) -> None:
    """What was given up is told at the end; retry_failed asks just that again and derives all anew: the same files as
    of a run that met no trouble. A second time it finds nothing to do.
    """
    refusing = True

    def script(body: dict, ordinal: int) -> Behaviour:
        return OVERFLOW if refusing and body["seed"] % 7 == 3 else _sensible(body)

    async with MisbehavingServer(script) as server:
        command = ("--concurrency", "8", "--model", "m")
        result = await run(tmp_path, server.url, *command)
        assert "retry_failed=true then sends them again" in " ".join(result.stderr.split())
        lost = orjson.loads((tmp_path / "run" / "stats.json").read_bytes())["requests"]["failed"]["total"]
        refusing = False
        for asked in (range(lost, 10 * lost), range(FORMS + 1)):
            before = len(server.bodies)
            result = await run(tmp_path, server.url, *command, "--set", "operation.retry_failed=true")
            assert result.code == 0, result.stderr
            assert len(server.bodies) - before in asked
        await run(tmp_path, server.url, *command, out="undisturbed")
    assert derived(tmp_path / "run") == derived(tmp_path / "undisturbed")


async def test_a_start_that_got_no_answer_binds_nobody(tmp_path: Path) -> None:
    """A misspelled model leaves a directory behind; the corrected command uses it, as does one without a model."""
    async with SimulatedServer(8, Latency(0.01, 0.5)) as server:
        wrong = await run(tmp_path, server.url, "--model", "simulatd")
        assert wrong.code == wrong.json["exit_code"] == 6
        assert wrong.json["error"].endswith("as this endpoint's `model`")
        assert "it serves simulated" in " ".join(wrong.stderr.split())
        right = await run(tmp_path, server.url)
    assert right.code == 0, right.stderr


async def test_what_is_simulated_says_so_whatever_it_is_called(tmp_path: Path) -> None:
    """Under another name of the model too, in the figures, at the end, and after a replay without any server."""
    async with SimulatedServer(8, Latency(0.01, 0.5)) as server:
        endpoint = f"operation.endpoints=[{{url: '{server.url}', model: simulated}}]"
        made = await explore(
            *("run", config(tmp_path), "--out", tmp_path / "run", "--model", "big", "--set", endpoint, "--json")
        )
    assert made.code == 0, made.stderr
    again = await explore(
        "run", tmp_path / "config.yaml", "--out", tmp_path / "run", "--model", "big", "--offline", "--json"
    )
    for result in (made, again):
        assert result.json["simulated"] is True
        assert "made up by a simulated server" in result.stderr


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (["--set", "generation.per_requst=3"], 2, "per_request"),
        (["--set", "exploration.depth=-1"], 2, "exploration.depth"),
        (["--set", "exploration.depth=deep"], 2, "exploration.depth"),
        (["--set", "targets=null"], 2, "targets"),
        (["--out", "/dev/null/run"], 4, "/dev/null/run"),
        (["--model", "gpt-99"], 6, "gpt-99"),
        (["--endpoint", "http://127.0.0.1:9"], 6, "127.0.0.1:9"),
        (["--endpoint", "ftp://example"], 2, "--endpoint: an endpoint is"),
        (["--adopt", "--fresh"], 2, "--adopt"),
        (["--window", "0"], 2, "window"),
    ],
)
async def test_bad_input_is_one_clear_message(tmp_path: Path, change: list[str], code: int, says: str) -> None:
    """Each mistake ends in its documented code and a message that names it, never in a traceback."""
    async with SimulatedServer() as server:
        given = [] if change[0] == "--endpoint" else ["--endpoint", server.url]
        out = [] if change[0] == "--out" else ["--out", str(tmp_path / "run")]
        result = await explore("run", config(tmp_path), *given, *out, *change)
    assert result.code == code, result.stderr
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 8


@pytest.mark.parametrize("name", ["nowhere.yaml", "brainstorm"])
async def test_a_missing_config_suggests(name: str) -> None:
    """A config that does not exist is named, with the presets there are."""
    result = await explore("run", name)
    assert result.code == 2
    assert name in result.stderr
    assert "brainstorming" in result.stderr


async def test_a_server_that_never_answers_ends_the_run(tmp_path: Path) -> None:
    """A run without a single answer for the configured time ends with code 6 and its cause, and can be resumed."""
    async with MisbehavingServer(lambda body, ordinal: slow(30)) as server:
        result = await run(tmp_path, server.url, "--model", "m", "--set", "operation.stall_s=1")
    assert result.code == 6
    assert server.url.removesuffix("/v1") in result.stderr


async def test_dry_run_and_init(tmp_path: Path) -> None:
    """--dry-run shows a prompt of each kind and numbers and writes nothing; init prints a config that runs."""
    shown = await explore("run", "brainstorming", "--dry-run", "--out", tmp_path / "run")
    assert shown.code == 0
    for word in ("lookahead", "backtrack", "generate", "57 tasks", "28,500 examples"):
        assert word in shown.stdout
    assert not (tmp_path / "run").exists()
    printed = await explore("init", 'Cook: "slow" food')
    (tmp_path / "mine.yaml").write_text(filled(printed.stdout))
    async with SimulatedServer() as server:
        result = await explore(
            *("run", tmp_path / "mine.yaml", "--endpoint", server.url, "--out", tmp_path / "run"),
            *("--max-examples", "40", "--json"),
        )
    assert result.code == 0, result.stderr
    assert orjson.loads((tmp_path / "run" / "tree.json").read_bytes())["trees"][0]["name"] == 'Cook: "slow" food'


async def test_a_dead_endpoint_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """Ctrl-C while the only endpoint is gone ends the run at once: nothing is tried again after it."""
    async with SimulatedServer(64, Latency(0.1)) as server:
        command = ("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--concurrency", "4")
        process = await launch(*command)
        while server.statistics().requests < 20:
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.0)
    assert process.returncode is None
    process.send_signal(signal.SIGINT)
    result = await finished(process)
    assert result.code == 130, result.stderr


async def test_answers_that_are_gone_are_missed(tmp_path: Path) -> None:
    """Without its answers a run neither asks everything again nor derives nothing: it says so and changes no file."""
    async with SimulatedServer() as server:
        assert (await run(tmp_path, server.url)).code == 0
        before = derived(tmp_path / "run")
        (tmp_path / "run" / "completions.sqlite").unlink()
        for more in ((), ("--offline",)):
            result = await run(tmp_path, server.url, *more)
            assert result.code == 4
            assert "are gone" in result.stderr
        assert derived(tmp_path / "run") == before


async def test_whoever_reads_may_go(tmp_path: Path) -> None:
    """A reader that closes our output, as `head` does, costs the run nothing."""
    async with SimulatedServer(64, Latency(0.01)) as server:
        process = await launch(
            *("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--json"),
        )
        assert process.stderr is not None
        assert process.stdout is not None
        await process.stderr.readline()
        process.stderr._transport.close()
        process.stdout._transport.close()
        assert await process.wait() == 0
    assert len((tmp_path / "run" / "dataset.jsonl").read_bytes().splitlines()) == 100


async def test_a_slow_write_of_the_tree_never_lands_on_the_last(tmp_path: Path, monkeypatch, blockbuster) -> None:
    """However long a periodic write of tree.json takes, the file that stays is the one of the run's end."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on
    begun: list[int] = []
    landed: list[int] = []

    def slowly(path: Path, document: dict) -> None:
        if threading.current_thread() is threading.main_thread() or path.name != "tree.json":
            write_state(path, document)
            return
        begun.append(_kept(document["trees"][0]))
        time.sleep(1.5)
        write_state(path, document)
        landed.append(begun[-1])

    monkeypatch.setattr(run_module, "write_state", slowly)
    monkeypatch.setattr(run_module, "_SECONDS_BETWEEN_STATES", 0.1)
    async with SimulatedServer(64, Latency(0.02)) as server:
        settings = load(str(config(tmp_path)), operation={"endpoints": [{"url": server.url}]})
        result = await run_to_end(settings, tmp_path / "run")
    while len(landed) < len(begun):
        await asyncio.sleep(0.05)
    tree = orjson.loads((tmp_path / "run" / "tree.json").read_bytes())
    assert begun
    assert begun[0] < result.kept == _kept(tree["trees"][0])


def _kept(task: dict) -> int:
    return task["kept"] + sum(map(_kept, task["children"]))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://127.0.0.1:99999"])
async def test_adopting_changes_nothing_before_an_endpoint_has_answered(tmp_path: Path, endpoint: str) -> None:
    """Another config taken over where nobody could be asked: the dataset stays whole, and the recipe the old one. A
    first start leaves nothing at all.
    """
    path = tmp_path / "run"
    async with SimulatedServer(64, Latency(0.01)) as server:
        assert (await explore("run", config(tmp_path), "--endpoint", server.url, "--out", path)).code == 0
    names = (*DERIVED, "config.json")
    before = {name: (path / name).read_bytes() for name in names}
    for more in (("--seed", "9"), ("--max-examples", "150")):
        refused = await explore(
            *("run", config(tmp_path), "--endpoint", endpoint, "--model", "simulated", "--out", path, "--adopt", *more)
        )
        assert refused.code in {2, 6}
        assert {name: (path / name).read_bytes() for name in names} == before
    first = await explore("run", config(tmp_path), "--endpoint", endpoint, "--model", "m", "--out", tmp_path / "new")
    assert first.code in {2, 6}
    assert not (tmp_path / "new").exists()
