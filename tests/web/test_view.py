"""The view shows a run over HTTP, to this machine only, and writes nothing but marks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from support import misbehaving
from support.cli import CONFIG, config, derived, environment, explore, finished, launch
from support.misbehaving import answer
from support.waiting import until

from explore_async.curation.collections.open import runs_inside
from explore_async.errors import DataError
from explore_async.running.observer import SilentObserver
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.web import PORT, app, reading, view_process
from explore_async.web.app import runs_in, serving
from explore_async.web.view_process import ViewBeside, from_elsewhere

pytestmark = pytest.mark.timeout(120)


async def made(folder: Path) -> Path:
    async with SimulatedServer(64, Latency(0.005, 0.5), duplicate_share=0.3) as server:
        result = await explore("run", config(folder), "--endpoint", server.url, "--out", folder / "run")
    assert result.code == 0, result.stderr
    return folder / "run"


def written(folder: Path) -> Path:
    """A run directory with one example."""
    node = {
        "id": "0",
        "name": "Root",
        "reason": "",
        "origin": "seed",
        "depth": 0,
        "kept": 1,
        "dropped": 0,
        "answers": 1,
    }
    example = {
        "id": "0-0.0",
        "task_id": "0",
        "task_path": ["Root"],
        "instruction": "Say so",
        "input": "",
        "output": "x",
    }
    decision = {"what": "example", "id": "0-0.0", "task_id": "0", "kept": True, "reason": "accepted"}
    for name, document in {
        "config.json": {"recipe": {"name": "test"}},
        "tree.json": {"trees": [{**node, "exhausted": False, "children": []}]},
        "dataset.jsonl": example,
        "decisions.jsonl": decision,
    }.items():
        (folder / name).write_bytes(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    return folder


async def get(session: aiohttp.ClientSession, url: str, **query: str | int) -> dict:
    async with session.get(url, params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def run_url(session: aiohttp.ClientSession, url: str, number: int = 0) -> str:
    """The address of a run that the view lists."""
    return f"{url}/api/runs/{(await get(session, f'{url}/api/runs'))[number]['run']}"


async def test_everything_of_a_finished_run(tmp_path: Path) -> None:
    """The tree, every kept and every dropped example in pieces, a search, and the evidence of one; no file changes."""
    run = await made(tmp_path)
    before = derived(run)
    kept = [orjson.loads(line) for line in (run / "dataset.jsonl").read_bytes().splitlines()]
    decisions = [orjson.loads(line) for line in (run / "decisions.jsonl").read_bytes().splitlines()]
    dropped = [one for one in decisions if one.get("kept") is False]
    async with serving([run], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        assert [one["name"] for one in await get(session, f"{url}/api/runs")] == ["test"]
        state = await get(session, f"{at}/state")
        assert state["ending"] == "target"
        assert state["simulated"] is True
        assert sum(task["kept"] for task in state["tree"]) == 100
        for what, expected in (("kept", kept), ("dropped", dropped)):
            found, piece = [], {"next": 0, "done": False}
            while not piece["done"]:
                piece = await get(session, f"{at}/examples", what=what, offset=piece["next"])
                assert len(piece["rows"]) <= reading.MOST_LISTED
                found += piece["rows"]
            assert found == expected
        word = kept[7]["instruction"].split()[2].upper()
        found = await get(session, f"{at}/examples", query=word)
        assert [one["id"] for one in found["rows"]] == [
            one["id"]
            for one in kept
            if word.lower() in orjson.dumps(list(one.values())[3:6]).decode().lower()
            or word.lower() in one["instruction"].lower()
        ][: reading.MOST_LISTED]
        (away,) = (await get(session, f"{at}/examples", query=kept[3]["output"][-30:]))["rows"]
        assert kept[3]["output"][-30:] in away["found"]["text"]
        branch = await get(session, f"{at}/examples", task="0.1")
        of_branch = [one for one in kept if one["task_id"] == "0.1" or one["task_id"].startswith("0.1.")]
        assert branch["rows"] == of_branch[: reading.MOST_LISTED]
        duplicate = next(one for one in dropped if one["reason"] == "duplicate")
        evidence = await get(session, f"{at}/evidence", id=duplicate["id"])
        assert evidence["decision"] == duplicate
        assert evidence["nearest"]["id"] == duplicate["nearest"]
        assert evidence["completion"]["text"]
        assert evidence["request"]["messages"]
    assert derived(run) == before


async def test_failures_with_what_was_asked(tmp_path: Path) -> None:
    """Requests that failed are listed, each with its prompt and what the server said; so is what has no id."""

    def refusing(_body: dict, ordinal: int) -> misbehaving.Behaviour:
        text = orjson.dumps({"examples": [{"instruction": f"Plant tree {ordinal}", "output": "x"}, {"input": "odd"}]})
        return misbehaving.BAD_REQUEST if ordinal % 3 == 2 else misbehaving.Behaviour(body=answer(text.decode()))

    text = CONFIG.replace("depth: 2, breadth: [4, 3], step: 2", "depth: 0").replace("examples: 100", "examples: 8")
    async with misbehaving.MisbehavingServer(refusing) as server:
        result = await explore("run", config(tmp_path, text), "--endpoint", server.url, "--out", tmp_path / "run")
    assert result.code == 0, result.stderr
    async with serving([tmp_path / "run"], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        failed = (await get(session, f"{at}/examples", what="failed"))["rows"]
        assert failed
        assert {row["reason"] for row in failed} == {"rejected"}
        evidence = await get(session, f"{at}/evidence", request=failed[0]["request"])
        assert "temperature must be" in evidence["failure"]["detail"]
        assert evidence["request"]["messages"]
        dropped = (await get(session, f"{at}/examples", what="dropped"))["rows"]
        unread = next(row for row in dropped if row["id"] is None)
        assert "odd" in (await get(session, f"{at}/evidence", request=unread["request"]))["completion"]["text"]
        async with session.get(f"{at}/evidence", params={"request": "none"}) as response:
            assert response.status == 404


async def test_only_this_machine_and_nothing_but_reading(tmp_path: Path) -> None:
    """Another host's name is refused, as are all methods but GET; what is not there is a 404 with a reason; no path
    leads out of the run.
    """
    run = await made(tmp_path)
    async with serving([run], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        async with session.get(f"{url}/api/runs", headers={"Host": "evil.example"}) as response:
            assert response.status == 403
        async with session.post(f"{url}/api/runs", data=b"{}") as response:
            assert response.status == 405
        for path in (
            f"{url}/api/runs/0/state",
            f"{url}/api/runs/x/state",
            f"{at}/evidence?id=9.9",
        ):
            async with session.get(path) as response:
                assert response.status == 404
                assert (await response.json())["error"]
        for query in ("offset=-1", f"offset={10**30}", "offset=x", "what=foo"):
            async with session.get(f"{at}/examples?{query}") as response:
                assert response.status == 400
                assert (await response.json())["error"]
        for path in ("../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "api/runs/..%2f..%2fetc/state"):
            async with session.get(f"{url}/{path}") as response:
                assert response.status == 404
        async with session.get(url) as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "http://" not in (await response.text()).replace("http://www.w3.org", "")


async def test_marks_are_kept_beside_the_run(tmp_path: Path) -> None:
    """A mark with its note stays in lists, evidence and figures until it is taken back; kept and dropped examples can be
    marked; the files of the run stay as they are.
    """
    run = await made(tmp_path)
    before = derived(run)
    kept = orjson.loads((run / "dataset.jsonl").read_bytes().splitlines()[3])
    lines = map(orjson.loads, (run / "decisions.jsonl").read_bytes().splitlines())
    dropped = next(one for one in lines if one["what"] == "example" and not one["kept"])
    async with serving([run], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)

        async def mark(example_id: str, name: str | None, note: str = "") -> None:
            document = {"id": example_id, "mark": name, "note": note}
            async with session.post(f"{at}/marks", json=document) as response:
                assert response.status == 200, await response.text()
                assert await response.json() == {"mark": name, "note": note if name else ""}

        await mark(kept["id"], "good")
        await mark(kept["id"], "bad", "nobody asks\nthis")
        await mark(dropped["id"], "good")
        assert (await get(session, f"{at}/state"))["marks"] == {"bad": 1, "good": 1}
        marked = await get(session, f"{at}/examples", what="marked")
        assert [(one["id"], one["mark"], one["mark_note"]) for one in marked["rows"]] == [
            (kept["id"], "bad", "nobody asks\nthis"), (dropped["id"], "good", ""),
        ]  # fmt: skip
        below = await get(session, f"{at}/examples", what="marked", task=kept["task_id"], query="ASKS")
        assert [one["id"] for one in below["rows"]] == [kept["id"]]
        (found,) = [one for one in (await get(session, f"{at}/examples"))["rows"] if "mark" in one]
        assert found == {**kept, "mark": "bad", "mark_note": "nobody asks\nthis"}
        evidence = await get(session, f"{at}/evidence", id=kept["id"])
        assert evidence["mark"] == {"mark": "bad", "note": "nobody asks\nthis"}
        await mark(kept["id"], None)
        assert "mark" not in await get(session, f"{at}/evidence", id=kept["id"])
        assert (await get(session, f"{at}/state"))["marks"] == {"good": 1}
    assert derived(run) == before


async def test_only_the_page_itself_marks(tmp_path: Path) -> None:
    """A page from elsewhere cannot: its origin is refused, and so is what a form could send. Odd marks are errors, and
    there is no mark afterwards.
    """
    run = await asyncio.to_thread(written, tmp_path)
    good = {"id": "0-0.0", "mark": "good", "note": ""}
    async with serving([run], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        for headers in (
            {"Content-Type": "application/json", "Origin": "http://evil.example"},
            {"Content-Type": "application/json", "Origin": "null"},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded", "Origin": url},
            {"Content-Type": "application/json", "Host": "evil.example"},
        ):
            async with session.post(f"{at}/marks", data=orjson.dumps(good), headers=headers) as response:
                assert response.status == 403
        for document, status in (
            ({**good, "mark": "odd"}, 400), ({**good, "mark": ["good"]}, 400), ({**good, "note": 5}, 400),
            ({**good, "note": "x" * 3000}, 400), ({"id": "0-0.0"}, 400), ([1], 400), ({**good, "id": "9-9"}, 404),
        ):  # fmt: skip
            async with session.post(f"{at}/marks", json=document) as response:
                assert (response.status, bool((await response.json())["error"])) == (status, True)
    assert not (run / "marks.jsonl").exists()


async def test_the_report_is_linked_and_reads_nothing(tmp_path: Path) -> None:
    """As soon as there is a report the state says so; it is served in a sandbox without an origin."""
    run = await asyncio.to_thread(written, tmp_path)
    async with serving([run], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        assert (await get(session, f"{at}/state"))["has_report"] is False
        async with session.get(f"{at}/report") as response:
            assert response.status == 404
        before = await asyncio.to_thread(reading.version, run)
        (run / "report.html").write_text("<p>coverage</p>")
        assert await asyncio.to_thread(reading.version, run) != before
        assert (await get(session, f"{at}/state"))["has_report"] is True
        async with session.get(f"{at}/report") as response:
            assert await response.text() == "<p>coverage</p>"
            policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy  # so that default-src 'none' holds for it


async def test_a_run_is_seen_growing(tmp_path: Path) -> None:
    """While it is on, events come with rising counts, its speed and what is in flight; at the end they say how it ended,
    and the file that told of it is gone.
    """
    async with SimulatedServer(4, Latency(0.25, 0.3)) as server:
        process = await launch(
            "run", config(tmp_path), "--endpoint", server.url, "--concurrency", "4", "--out", tmp_path / "run"
        )
        await until(lambda: (tmp_path / "run" / "live.json").exists() or process.returncode is not None)
        assert process.returncode is None
        seen = []
        async with (
            serving([tmp_path / "run"], 0) as url,
            aiohttp.ClientSession() as session,
            session.get(f"{await run_url(session, url)}/events") as response,
        ):
            async for line in response.content:
                if line.startswith(b"data: "):
                    seen.append(orjson.loads(line[6:]))
                    if seen[-1]["ending"]:
                        break
        assert (await finished(process)).code == 0
    live = [one["live"] for one in seen if one["live"].get("on")]
    assert len(live) >= 3
    assert [one["kept"] for one in live] == sorted(one["kept"] for one in live)
    assert max(one["in_flight"] for one in live) == 4
    assert any(one["tokens_per_s"] > 0 for one in live)
    assert seen[-1]["ending"] == "target"
    assert not (tmp_path / "run" / "live.json").exists()


def test_a_folder_of_runs(tmp_path: Path) -> None:
    """`view runs` finds the runs in it; a folder without any is refused."""
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text('{"recipe": {"name": "x"}}')
    assert runs_in([tmp_path]) == [tmp_path / "a", tmp_path / "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not a run directory"):
        runs_in([tmp_path / "empty"])


async def test_one_bad_run_leaves_the_others(tmp_path: Path) -> None:
    """A run that cannot be read, or is deleted while looked at, is named as such; the others, and new ones, are there."""
    runs = tmp_path / "runs"
    for name in ("a", "b", "c"):
        (runs / name).mkdir(parents=True)
        (runs / name / "config.json").write_text('{"recipe": {"name": "x"}}' if name != "b" else '{"recipe')
    async with serving([runs], 0) as url, aiohttp.ClientSession() as session:
        at = await run_url(session, url)
        assert ["error" in one for one in await get(session, f"{url}/api/runs")] == [False, True, False]
        assert (await get(session, f"{await run_url(session, url, 2)}/state"))["name"] == "x"
        async with session.get(f"{at}/events") as response:
            await response.content.readuntil(b"\n\n")
            (runs / "a" / "config.json").unlink()
            assert "error" in orjson.loads((await response.content.readuntil(b"\n\n"))[6:])
        (runs / "d").mkdir()
        (runs / "d" / "config.json").write_text('{"recipe": {"name": "new"}}')
        listed = await get(session, f"{url}/api/runs")
        assert [(Path(one["path"]).name, "error" in one) for one in listed] == [
            ("a", True), ("b", True), ("c", False), ("d", False),
        ]  # fmt: skip


async def test_a_run_keeps_its_address(tmp_path: Path) -> None:
    """It names the same run after a restart of the view, whatever runs came or went, and no other once the view does not
    show it any more.
    """
    for name in "bc":
        (tmp_path / "runs" / name).mkdir(parents=True)
        await asyncio.to_thread(written, tmp_path / "runs" / name)
    async with serving([tmp_path / "runs"], 0) as url, aiohttp.ClientSession() as session:
        of_b = (await run_url(session, url)).removeprefix(url)
    (tmp_path / "runs" / "a").mkdir()
    await asyncio.to_thread(written, tmp_path / "runs" / "a")
    async with serving([tmp_path / "runs"], 0) as url, aiohttp.ClientSession() as session:
        assert (await get(session, f"{url}{of_b}/state"))["path"] == str(tmp_path / "runs" / "b")
    async with serving([tmp_path / "runs" / "a"], 0) as url, aiohttp.ClientSession() as session:
        for what in ("state", "events", "examples", "report"):
            async with session.get(f"{url}{of_b}/{what}") as response:
                assert (response.status, "this run any more" in (await response.json())["error"]) == (404, True)


async def test_readers_at_once_see_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages that find a new run at the same time do not list it several times."""
    (tmp_path / "a").mkdir()
    await asyncio.to_thread(written, tmp_path / "a")
    async with serving([tmp_path], 0) as url, aiohttp.ClientSession() as session:
        (tmp_path / "b").mkdir()
        await asyncio.to_thread(written, tmp_path / "b")
        together = threading.Barrier(3)

        def found_together(folder: Path) -> Iterator[Path]:
            yield from runs_inside(folder)
            together.wait(60)

        monkeypatch.setattr(app, "runs_inside", found_together)
        for listed in await asyncio.gather(*(get(session, f"{url}/api/runs") for _ in range(3))):
            assert [Path(one["path"]).name for one in listed] == ["a", "b"]


async def test_readers_of_events_may_go(tmp_path: Path) -> None:
    """Dozens of readers who vanish leave no complaint, no connection and no coroutine behind."""
    run = await made(tmp_path)
    process = await launch("view", run, "--port", "0")
    assert process.stderr is not None
    url = (await process.stderr.readline()).decode().split()[2]
    for _ in range(3):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            at = await run_url(session, url)
            readers = [await session.get(f"{at}/events") for _ in range(20)]
            assert await asyncio.gather(*(one.content.readuntil(b"\n\n") for one in readers))
            (run / "stats.json").touch()
            for one in readers:
                one.close()
    await until(lambda: len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 25, every_s=0.1)
    assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 25
    process.terminate()
    assert (await finished(process)).stderr == ""


def test_a_search_through_much_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 40 MB being appended to: no single reading takes long, no row is lost between two, half lines wait."""
    monkeypatch.setattr(reading, "MOST_SECONDS", 0.05)
    row = {"id": "0-0.0", "task_id": "0", "task_path": ["x"], "instruction": "i" * 300, "input": "", "output": "o"}
    filler = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) * 100_000
    wanted = orjson.dumps({**row, "id": "0-1.0", "instruction": "the needle"}, option=orjson.OPT_APPEND_NEWLINE)
    (tmp_path / "dataset.jsonl").write_bytes(filler + wanted + wanted[:20])
    found: list[dict] = []
    piece: dict = {"next": 0, "done": False}
    pieces = 0
    while not piece["done"]:
        piece = reading.list_rows(tmp_path, "kept", task="", query="needle", offset=piece["next"])
        found += piece["rows"]
        pieces += 1
    assert [one["id"] for one in found] == ["0-1.0"]
    assert pieces > 1
    with (tmp_path / "dataset.jsonl").open("ab") as file:
        file.write(wanted[20:])
    (more,) = reading.list_rows(tmp_path, "kept", task="", query="needle", offset=piece["next"])["rows"]
    assert more["id"] == "0-1.0"  # a list goes on where it ended, with the line that was half there
    assert threading.active_count() < 20


async def test_a_run_shows_itself(tmp_path: Path) -> None:
    """`run --view` says its address, where the run is seen while it is on, and takes a free port where another process
    has the usual one. The view ends with its run, even when that is killed.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", PORT)))
        await seen_at_another_port(tmp_path)


async def seen_at_another_port(tmp_path: Path) -> None:
    async with SimulatedServer(4, Latency(0.3)) as server, aiohttp.ClientSession() as session:
        process = await launch("run", config(tmp_path), "--endpoint", server.url, "--out", tmp_path / "run", "--view")
        assert process.stderr is not None
        said = b""
        while not (address := re.search(rb"view at (http://127.0.0.1:(\d+))\n", said)):
            part = await process.stderr.read(1000)
            assert part, said
            said += part
        url = address[1].decode()
        assert int(address[2]) != PORT
        state = await get(session, f"{await run_url(session, url)}/state")
        assert state["path"] == str(tmp_path / "run")
        process.send_signal(signal.SIGKILL)
        await finished(process)

    await until(lambda: is_closed(int(address[2])))


def is_closed(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()
        return False
    return True


KILLED_AT_ONCE = """
import os, sys
from pathlib import Path
from explore_async.running.observer import SilentObserver
from explore_async.web import view_process
view_process.PORT = 0
with view_process.ViewBeside(SilentObserver(), Path(sys.argv[1])) as view:
    view.began(None, None)
    print(view.url.rpartition(":")[2], flush=True)
    os._exit(9)
"""


async def test_a_view_ends_with_a_run_that_is_killed_at_its_start(tmp_path: Path) -> None:
    """The run is gone before its view has begun to watch it."""
    run = await asyncio.to_thread(written, tmp_path)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED_AT_ONCE, str(run)), stdout=asyncio.subprocess.PIPE, env=environment()
    )
    stdout, _ = await process.communicate()
    port = int(stdout)
    await until(lambda: is_closed(port), every_s=0.1)


def test_the_usual_port_of_a_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken where it is free, so that it can be forwarded before the run begins."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(view_process, "PORT", port)
    with ViewBeside(SilentObserver(), tmp_path) as first, ViewBeside(SilentObserver(), tmp_path) as second:
        assert first.url == f"http://127.0.0.1:{port}"
        assert second.url != first.url
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    assert f"ssh -L {port}:127.0.0.1:{port} " in from_elsewhere(f"http://127.0.0.1:{port}")
