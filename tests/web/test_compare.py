"""The comparison over HTTP: blind, for this machine only, and kept whatever happens to the process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from support.cli import explore, finished, in_process, launch
from support.waiting import until

from explore_async.curation.collections.open import open_collection
from explore_async.evaluation.blind import blind_pairs
from explore_async.evaluation.pairing import paired
from explore_async.evaluation.rater_verdicts import Verdict, Verdicts
from explore_async.web import LOOPBACK
from explore_async.web.compare import Comparison, application
from explore_async.web.page import serving_page

pytestmark = pytest.mark.timeout(120)


def rows(path: Path, answers: dict[str, str]) -> Path:
    lines = ({"instruction": instruction, "output": answer} for instruction, answer in answers.items())
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def two(folder: Path) -> tuple[Path, Path]:
    """Five questions in both, one of them with the same answer; one in each alone."""
    shared = [f"Question {n}" for n in range(4)]
    a = {question: f"{question}: of alpha" for question in shared} | {"Same": "yes", "Only in A": "x"}
    b = {question: f"{question}: of beta" for question in shared} | {"Only in B": "x", "Same": "yes "}
    return rows(folder / "secret-alpha.jsonl", a), rows(folder / "secret-beta.jsonl", b)


@contextlib.asynccontextmanager
async def served(folder: Path, address: str = LOOPBACK) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Verdicts]]:
    verdicts = await asyncio.to_thread(Verdicts, folder / "verdicts.jsonl")
    writing = verdicts.writing()
    await asyncio.to_thread(writing.__enter__)

    def made() -> web.Application:
        a, b = (open_collection(path) for path in two(folder))
        return application(Comparison(blind_pairs(paired(a, b).found, 0), verdicts), address=address)

    app = await asyncio.to_thread(made)
    async with serving_page(app, 0) as url, aiohttp.ClientSession() as session:
        yield url, session, verdicts
    await asyncio.to_thread(writing.__exit__, None, None, None)


async def state_of(session: aiohttp.ClientSession, url: str, rater: str = "Ann") -> dict[str, Any]:
    async with session.get(f"{url}/api/state", params={"rater": rater}) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def send(session: aiohttp.ClientSession, url: str, what: str, **document: Any) -> dict[str, Any]:
    async with session.post(f"{url}/api/{what}", json={"rater": "Ann", **document}) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_a_rater_judges_all_and_takes_back(tmp_path: Path) -> None:
    """Each question comes once, all raters have the same order; the chosen side is the source that it was; an undone
    question comes again with its comment, as often as there are verdicts; no response names a source.
    """
    async with served(tmp_path) as (url, session, verdicts):
        seen, state = [], await state_of(session, url)
        while (question := state["question"]) is not None:
            assert "secret" not in orjson.dumps(state).decode()
            assert {"left", "right"} == {
                side for side in ("left", "right") if question["instruction"] in question[side]
            }
            seen.append(question)
            side = "left" if question["left"].endswith("of beta") else "right"
            state = await send(session, url, "verdicts", id=question["id"], verdict=side, comment="so")
            assert state["done"] == len(seen)
        assert (len(seen), state["of"]) == (4, 4)
        assert {one.verdict for one in verdicts.of["Ann"].values()} == {"b"}
        assert (await state_of(session, url, " Bob "))["question"]["instruction"] == seen[0]["instruction"]

        for question in reversed(seen):
            state = await send(session, url, "undo")
            side = "left" if question["left"].endswith("of beta") else "right"
            assert state["before"] == {"id": question["id"], "verdict": side, "comment": "so"}
            assert state["question"] == question
        async with session.post(f"{url}/api/undo", json={"rater": "Ann"}) as response:
            assert (response.status, "take back" in (await response.json())["error"]) == (404, True)
        await send(session, url, "verdicts", id=seen[0]["id"], verdict="tie")
        assert [one.verdict for one in verdicts.of["Ann"].values()] == ["tie"]


async def test_only_the_page_itself_judges(tmp_path: Path) -> None:
    """A page from elsewhere cannot, nor a form, nor a name that is made to point here; odd documents are errors, and there
    is no verdict afterwards. The page is under the view's policy.
    """
    async with served(tmp_path) as (url, session, verdicts):
        question = (await state_of(session, url))["question"]
        good = {"rater": "Ann", "id": question["id"], "verdict": "left", "comment": ""}
        for headers in (
            {"Content-Type": "application/json", "Origin": "http://evil.example"},
            {"Content-Type": "application/json", "Origin": "null"},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/json", "Host": "evil.example"},
            {"Content-Type": "application/json", "Host": "192.0.2.1"},
        ):
            async with session.post(f"{url}/api/verdicts", data=orjson.dumps(good), headers=headers) as response:
                assert response.status == 403
        for document, status in (
            ({**good, "verdict": "a"}, 400), ({**good, "verdict": ["left"]}, 400), ({**good, "verdict": None}, 400),
            ({**good, "comment": "x" * 3000}, 400), ({**good, "comment": 1}, 400), ({**good, "id": 1}, 400),
            ({**good, "rater": " "}, 400), ({**good, "rater": "a\nb"}, 400), ({**good, "rater": "x" * 99}, 400),
            ({**good, "rater": None}, 400), ([1], 400), ({**good, "id": "none"}, 404),
        ):  # fmt: skip
            async with session.post(f"{url}/api/verdicts", json=document) as response:
                assert (response.status, bool((await response.json())["error"])) == (status, True)
        for name, said in (("a\nb", "U+000A"), ("a\u202eb", "U+202E"), ("x" * 99, "at most 60 characters")):
            async with session.get(f"{url}/api/state", params={"rater": name}) as response:
                assert said in (await response.json())["error"]
        async with session.get(f"{url}/") as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "secret" not in await response.text()
        assert verdicts.of == {}
    assert (tmp_path / "verdicts.jsonl").read_bytes() == b""


async def test_verdicts_come_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the browser of one drops its connection while its verdict is written: the next waits for that."""
    most, inside, go_on = 0, threading.Semaphore(0), threading.Event()

    def slowly(verdict: Verdict) -> None:
        nonlocal most
        inside.release()
        most = max(most, inside._value)
        assert go_on.wait(60)
        add(verdict)
        inside.acquire()

    async with served(tmp_path) as (url, session, verdicts):
        add = verdicts.add
        monkeypatch.setattr(verdicts, "add", slowly)
        first = (await state_of(session, url))["question"]["id"]
        dropped = asyncio.create_task(send(session, url, "verdicts", id=first, verdict="tie"))
        await until(lambda: most)
        dropped.cancel()
        await asyncio.wait([dropped])
        second = asyncio.create_task(send(session, url, "verdicts", rater="Bob", id=first, verdict="left"))
        for _ in range(50):  # so that the server has the time to begin with it
            await state_of(session, url)
        go_on.set()
        assert (await second)["done"] == 1
        assert most == 1
        assert [len(verdicts.of[name]) for name in ("Ann", "Bob")] == [1, 1]


async def test_another_address_of_this_machine(tmp_path: Path) -> None:
    """With --host other machines reach the page by an address, but no page elsewhere does by a name of its own."""
    async with served(tmp_path, "127.0.0.2") as (url, session, _):
        assert url.startswith("http://127.0.0.2:")
        for host, status in (("127.0.0.2", 200), ("192.0.2.1:80", 200), ("[2001:db8::1]", 200), ("evil.example", 403)):
            async with session.get(url, headers={"Host": host}) as response:
                assert response.status == status


async def test_a_name_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --host NAME that name reaches the page, in large and in small letters, and no other does."""
    getaddrinfo = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: getaddrinfo(LOOPBACK, *rest, **more))
    async with served(tmp_path, "Work-PC") as (url, session, _):
        for host, status in (("work-pc:80", 200), ("WORK-PC", 200), ("LocalHost", 200), ("evil.example", 403)):
            async with session.get(url, headers={"Host": host}) as response:
                assert response.status == status


async def test_a_killed_comparison_goes_on(tmp_path: Path) -> None:
    """Every verdict that was confirmed is there after kill -9; figures and export have it, in exact numbers."""
    a, b = await asyncio.to_thread(two, tmp_path)
    async with aiohttp.ClientSession() as session:
        for done in range(3):
            process = await launch("compare", a, b, "--port", "0")
            assert process.stderr is not None
            said = [(await process.stderr.readline()).decode() for _ in range(4)]
            assert said[0].startswith("5 questions have an answer in both; 1 ")
            assert said[1] == "left out: 1 only A answers, 1 only B answers\n"
            url = said[2].split()[2]
            state = await state_of(session, url)
            assert state["done"] == done
            side = "left" if state["question"]["left"].endswith("of alpha") else "right"
            await send(session, url, "verdicts", id=state["question"]["id"], verdict=side, comment="<b>")
            process.send_signal(signal.SIGKILL)
            await finished(process)
        process = await launch("compare", a, b, "--port", "0")
        assert process.stderr is not None
        while not (line := await process.stderr.readline()).startswith(b"verdicts are kept"):
            assert line
        process.terminate()
        assert (await finished(process)).code == 0
    kept = tmp_path / "compare-secret-alpha-secret-beta.jsonl"
    assert len(kept.read_bytes().splitlines()) == 3
    result = await explore("compare", a, b, "--results", "--json", "--export", tmp_path / "out.jsonl")
    assert result.code == 0, result.stderr
    assert result.json["questions"] == {"both": 5, "identical": 1, "repeated": 0, "only_a": 1, "only_b": 1}
    assert (result.json["all"]["win"], result.json["all"]["lose"], result.json["all"]["judged"]) == (3, 0, 3)
    exported = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    assert {(one["verdict"], one["comment"], one["a"].endswith("of alpha")) for one in exported} == {("a", "<b>", True)}


def test_what_makes_no_sense_is_said(tmp_path: Path) -> None:
    """Nothing in common, only identical answers, --json without figures, and an export over a file that is read."""
    a, b = two(tmp_path)
    other = rows(tmp_path / "other.jsonl", {"Else": "x"})
    before = a.read_bytes()
    for arguments, code, part in (
        ((a, other), 5, "no question has an answer in both"),
        ((a, a), 2, "identical"),
        ((a, b, "--json"), 2, "--results"),
        ((a, b, "--export", a), 2, "it is a source, and would be lost"),
        ((a, b, "--export", tmp_path / "v.parquet"), 2, "does not write Parquet"),
        ((a, b, "--export", tmp_path / "v"), 2, "the name tells the format"),
        ((a, b, "--verdicts", b, "--results"), 5, "line 1"),
        ((a, b, "--verdicts", tmp_path, "--results"), 4, "not a regular file"),
    ):
        result = in_process("compare", *arguments)
        assert (result.code, part in result.stderr) == (code, True), result.stderr
    assert a.read_bytes() == before
    assert in_process("compare", a, b, "--export", tmp_path / "v.csv").code == 0
    assert (tmp_path / "v.csv").read_text() == "rater,verdict,comment,left,id,instruction,input,a,b\n"
    result = in_process("compare", a, b, "--results")
    assert result.code == 0
    assert "no verdicts yet" in result.stderr
