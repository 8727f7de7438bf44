"""Checks of the user's: real programs, also ones that crash, hang and say nonsense."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import Finished, derived, explore, launch
from support.misbehaving import Behaviour, MisbehavingServer, answer, sensible

from explore_async.config.load import load
from explore_async.exploration import checks
from explore_async.exploration.values import Failure
from explore_async.running import status
from explore_async.running.check_process import CheckFailed, CheckProcess
from explore_async.running.group_guard import GroupGuard
from explore_async.running.observer import RunInProgress, SilentObserver
from explore_async.running.start import run as library_run
from explore_async.serving.servers.process import importable, python
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.settings.recipe import Check

pytestmark = pytest.mark.timeout(180)

PROGRAM = """
import json, os, sys, time
for line in sys.stdin:
    example = json.loads(line)
    with open({log!r}, "a") as log:
        print(example["id"], file=log)
    odd = len(example["output"]) % 16 == 0
    if {mode!r} == "crash" and odd:
        print("odd text", file=sys.stderr)
        sys.exit(3)
    if {mode!r} == "hang" and odd:
        time.sleep(60)
    if {mode!r} == "nonsense" and odd:
        print("maybe")
        continue
    print(json.dumps({{"ok": len(example["output"]) % 3 > 0, "reason": "by its length"}}))
"""


ANSWERS_TWICE = """
import sys, time
for line in sys.stdin:
    print('{"ok": true}')
    time.sleep(0.1)
    print('{"ok": false}')
"""


@pytest.fixture
def guard() -> Iterator[GroupGuard]:
    made = GroupGuard()
    yield made
    made.close()


def program(folder: Path, mode: str = "") -> Path:
    path = folder / "check.py"
    path.write_text(PROGRAM.format(log=str(folder / "asked.log"), mode=mode))
    return path


def config(folder: Path, *checks: dict[str, Any], **more: Any) -> Path:
    document = {
        "domains": [{"name": "Look after a garden"}],
        "exploration": {"depth": 1, "breadth": [3]},
        "generation": {"per_request": 4, "inputs": False},
        "targets": {"examples": 30},
        "responses": "separate",
        "checks": checks,
        "operation": {"report": False},
        **more,
    }
    path = folder / "c.yaml"
    path.write_bytes(orjson.dumps(document))
    return path


async def run(folder: Path, url: str, *more: str | Path) -> Finished:
    return await explore("run", folder / "c.yaml", "--endpoint", url, "--out", folder / "run", "--json", *more)


def rows(folder: Path, file: str, what: str | None = None) -> list[dict[str, Any]]:
    lines = (orjson.loads(line) for line in (folder / "run" / file).read_bytes().splitlines())
    return [line for line in lines if what is None or line.get("what") == what]


async def test_a_check_decides_and_its_verdicts_replay(tmp_path: Path) -> None:
    """Nothing is kept that it refused; its reason is in the evidence; each example is asked about once, also over a
    second start, which needs no program any more and writes the same bytes.
    """
    path = program(tmp_path)
    config(tmp_path, {"name": "length", "command": [sys.executable, str(path)]})
    async with SimulatedServer() as server:
        first = await run(tmp_path, server.url)
        assert first.code == 0, first.stderr
    assert all(len(row["output"]) % 3 > 0 for row in rows(tmp_path, "dataset.jsonl"))
    checked = rows(tmp_path, "decisions.jsonl", "check")
    assert {line["reason"] for line in checked} == {"accepted", "check:length"}
    assert {line["detail"] for line in checked} == {"by its length"}
    asked = (tmp_path / "asked.log").read_text().split()
    assert len(asked) == len(set(asked)) == len(checked) == first.json["requests"]["check"]
    dropped = sum(not line["kept"] for line in checked)
    assert first.json["examples"]["dropped"]["check:length"] == dropped > 0
    before = derived(tmp_path / "run")
    for name in ("dataset.jsonl", "decisions.jsonl", "tree.json"):
        (tmp_path / "run" / name).unlink()
    path.unlink()
    assert (await run(tmp_path, server.url, "--offline")).code == 0
    assert derived(tmp_path / "run") == before


SAYS = {
    "crash": "it ended with code 3: odd text",
    "hang": "no answer within 0.5 s",
    "nonsense": "not {\"ok\": true or false} but 'maybe'",
}


@pytest.mark.parametrize("mode", ["crash", "hang", "nonsense"])
async def test_a_check_that_fails_now_and_then_is_no_yes(tmp_path: Path, mode: str) -> None:
    """The examples that it fails at are given to it twice, dropped, counted and told; the run reaches its target. Once it is
    mended, what failed is asked again on request, and only that.
    """
    path = program(tmp_path, mode)
    config(tmp_path, {"name": "length", "command": [sys.executable, str(path)], "timeout_s": 0.5})
    async with SimulatedServer() as server:
        first = await run(tmp_path, server.url)
        assert first.code == 0, first.stderr
        failed = first.json["requests"]["failed"]["unchecked"]
        assert first.json["examples"]["dropped"]["not_checked"] == failed > 0
        assert first.json["examples"]["kept"] == 30
        unchecked = [line for line in rows(tmp_path, "decisions.jsonl", "check") if line["reason"] == "not_checked"]
        assert all(SAYS[mode] in line["detail"] for line in unchecked)
        shown = (await explore("show", tmp_path / "run", "--dropped", "not_checked")).stdout
        assert shown.count(f"because: {SAYS[mode]}") == failed
        told = " ".join(first.stderr.split())
        assert f"The check length gave no verdict on {failed} answer" in told
        assert f"The latest reason: {SAYS[mode]}" in told
        assert all(len(row["output"]) % 16 for row in rows(tmp_path, "dataset.jsonl"))
        program(tmp_path)
        (tmp_path / "asked.log").unlink()
        again = await run(tmp_path, server.url, "--set", "operation.retry_failed=true")
        assert again.code == 0, again.stderr
    asked = (tmp_path / "asked.log").read_text().split()
    assert len(asked) == len(set(asked))
    assert not again.json["requests"]["failed"]["total"]


def test_failures_of_earlier_versions_have_no_words() -> None:
    """Their runs had none in their evidence, and a replay writes the same bytes."""
    assert checks.fault(Failure("repeated", "the check length: it ended with code 3", 2)) == ()
    (words,) = checks.fault(Failure("unchecked", "it ended with code 3", 2))
    assert words.excerpt == "it ended with code 3"


async def test_with_every_part_a_kill_and_many_at_once_change_no_byte(tmp_path: Path) -> None:
    """Criteria, facets, the policy by yield, answers of their own, turns, a check and a judge: killed on the way and with
    many requests in flight, the run has the files of one request after another.
    """
    path = program(tmp_path)
    config(
        tmp_path,
        {"name": "length", "command": [sys.executable, str(path)]},
        exploration={"strategy": "adaptive", "depth": 1, "breadth": [3]},
        judge={"threshold": 2},
        turns=2,
        window=48,
    )

    def command(url: str, out: str, *more: str) -> tuple[str | Path, ...]:
        return ("run", tmp_path / "c.yaml", "--endpoint", url, "--out", tmp_path / out, "--json", *more)

    async with SimulatedServer(64, Latency(0.001)) as server:
        alone = await explore(*command(server.url, "alone", "--concurrency", "1"))
        assert alone.code == 0, alone.stderr
    async with SimulatedServer(64, Latency(0.02, 0.8, shuffle=3)) as server:
        process = await launch(*command(server.url, "killed"))
        while server.statistics().requests < alone.json["requests"]["total"] // 3:
            await asyncio.sleep(0.01)
        process.kill()
        await process.communicate()
        last = await explore(*command(server.url, "killed"))
        assert last.code == 0, last.stderr
        assert server.statistics().peak_in_flight > 1
    kinds = {kind for kind, count in last.json["requests"].items() if isinstance(count, int) and count}
    assert {"lookahead", "facets", "generate", "answer", "check", "judge", "follow_up"} <= kinds
    assert derived(tmp_path / "killed") == derived(tmp_path / "alone")


async def test_a_check_that_always_fails_ends_the_run(tmp_path: Path) -> None:
    """With exit code 3, its name and its own words; after it is mended the same command goes on, and no completion is
    paid for again.
    """
    path = tmp_path / "check.py"
    path.write_text("import sys; input(); print('no such table', file=sys.stderr); sys.exit(1)")
    config(tmp_path, {"name": "sql", "command": [sys.executable, str(path)]})
    async with SimulatedServer() as server:
        broken = await run(tmp_path, server.url)
        assert broken.code == 3
        for part in (
            "the check sql failed for 10 examples",
            "it ended with code 1: no such table",
            "goes on from here",
        ):
            assert part in " ".join(broken.stderr.split())
        program(tmp_path)
        whole = await run(tmp_path, server.url, "--set", "operation.retry_failed=true")
        assert whole.code == 0, whole.stderr
        with closing(sqlite3.connect(tmp_path / "run" / "completions.sqlite")) as database:
            (stored,) = database.execute("SELECT count(*) FROM outcomes WHERE kind <> 'check'").fetchone()
        twice = [count for count in server.statistics().counts_by_digest.values() if count > 1]
        assert len(twice) <= 4  # of the forms that each start tries first
        assert stored >= whole.json["requests"]["total"] - whole.json["requests"]["check"]
    assert whole.json["examples"]["kept"] == 30


async def test_progress_names_a_check_that_the_run_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blockbuster: BlockBuster
) -> None:
    """The program answers once progress has named it; meanwhile no time is said to be left."""
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    monkeypatch.setattr(status, "HELD_UP_S", 0.0)
    named = tmp_path / "named"
    source = """
import os, sys, time
for line in sys.stdin:
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.02)
    print('{"ok": true}')
"""
    config(tmp_path, {"name": "c", "command": [sys.executable, "-c", source, str(named)]}, targets={"examples": 2})

    class Looking(SilentObserver):
        def began(self, recipe: object, run: RunInProgress) -> None:
            self.run = run

        def tick(self) -> None:
            snapshot = self.run.snapshot()
            if "waiting for the check c (" in snapshot.line():
                assert snapshot.left_s is None
                named.touch()

    async with SimulatedServer() as server:
        settings = load(tmp_path / "c.yaml", endpoint=server.url)
        await library_run(settings, tmp_path / "run", observer=Looking())
    assert named.exists()
    assert len(rows(tmp_path, "dataset.jsonl")) == 2


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        (ANSWERS_TWICE, 3, "the check c failed for 10 examples in a row: more than one line for an example"),
        ("import sys; sys.exit('no such table')", 3, "the check c does not start: it ended with code 1: no such table"),
        ("print('loading')", 3, "the check c does not start: it writes 'loading' before it reads"),
    ],
)
async def test_a_program_that_breaks_the_rules_ends_the_run(tmp_path: Path, source: str, code: int, says: str) -> None:
    """Nothing is kept by verdicts that may belong to other examples."""
    (tmp_path / "check.py").write_text(source)
    config(tmp_path, {"name": "c", "command": [sys.executable, str(tmp_path / "check.py")]})
    async with SimulatedServer() as server:
        result = await run(tmp_path, server.url)
    assert result.code == code
    assert says in " ".join(result.stderr.split())
    assert not rows(tmp_path, "dataset.jsonl")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (ANSWERS_TWICE, "more than one line for an example"),
        ("import sys\nfor line in sys.stdin: print('{\"ok\": true}\\nchecked')", "more than one line"),
        ('import sys\nfor line in sys.stdin: print(\'{"ok": true, "id": "b"}\')', "the id 'b' to the example 'a'"),
        ("import sys, time\nfor line in sys.stdin: time.sleep(600)", "no answer within 0.2 s"),
        ("import time\ninput()\nprint('{\"ok\": true}')\ntime.sleep(600)", "does not read on within 0.2 s"),
        ("import time; time.sleep(600)", "does not read its standard input within 0.2 s of its start"),
        ("while True: print('{\"ok\": true}')", "before it reads"),
    ],
)
async def test_an_answer_is_one_line_for_one_example(guard: GroupGuard, source: str, says: str) -> None:
    """A second line is found, however late it comes, and so is the answer to another example. `timeout_s` begins when
    the process has read its example, also its first one.
    """
    check = Check(name="c", command=(sys.executable, "-c", source), timeout_s=0.2 if "within" in says else 60)
    process = CheckProcess(check, guard, starting_s=0.2 if "start" in says else 60)
    try:
        for _ in range(2):
            with pytest.raises(CheckFailed, match=re.escape(says)):
                await process.ask(b'{"id": "a"}')
    finally:
        await process.close()


async def test_a_program_may_end_after_each_answer(guard: GroupGuard) -> None:
    """Another process then gets the next example; one that is larger than a pipe arrives whole."""
    source = 'line = input(); print(\'{"ok": true, "id": "a", "reason": "%d"}\' % len(line))'
    process = CheckProcess(Check(name="c", command=(sys.executable, "-c", source)), guard)
    for size in (1, 300_000):
        line = orjson.dumps({"id": "a", "output": "x" * size})
        assert orjson.loads(await process.ask(line))["reason"] == str(len(line))
    await process.close()


HANGING = """
import subprocess, sys, time
until_our_end = open(sys.argv[1], "wb", buffering=0)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=until_our_end)
sys.stdin.readline()
until_our_end.write(b"!")
time.sleep(600)
"""
ASKING = """
import asyncio, sys
from explore_async.running.check_process import CheckProcess
from explore_async.running.group_guard import GroupGuard
from explore_async.settings.recipe import Check
check = Check(name="c", command=(sys.executable, "-c", sys.argv[1], sys.argv[2]), timeout_s=600)
asyncio.run(CheckProcess(check, GroupGuard()).ask(b"{}"))
"""


def test_programs_that_hang_end_where_the_run_is_killed(tmp_path: Path) -> None:
    """Those that they have started, too: the pipe that all of them hold comes to its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    asking = subprocess.Popen([sys.executable, "-c", ASKING, HANGING, str(pipe)], env=importable())
    with pipe.open("rb") as held:
        assert held.read(1) == b"!"
        asking.kill()
        asking.wait()
        assert held.read() == b""


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({"command": ["no-such-program"]}, "checks.0.command: no-such-program is not there"),
        ({"command": "python3 check.py"}, 'an item of a list: ["python3", "check.py"]'),
        ({"function": "my-functions:short"}, "checks.0.function: write module:function"),
        ({"function": "json:no_such_name"}, "json:no_such_name: module 'json' has no attribute 'no_such_name'"),
        ({"function": "json"}, "checks.0.function: json: no installed package has an entry point json"),
    ],
)
async def test_a_check_that_is_not_there_is_told_before_anything_is_asked(
    tmp_path: Path, check: dict[str, Any], says: str
) -> None:
    """Also by a dry run, in a line."""
    config(tmp_path, {"name": "sql", **check})
    for more in ((), ("--dry-run",)):
        result = await run(tmp_path, "http://127.0.0.1:9/v1", *more)
        assert result.code == 2, result.stderr
        assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()


FUNCTIONS = """
def short(example):
    print("words of its own")
    return len(example["output"]) < 9, "too long"

def plain(example):
    return example["output"] == "x"

def odd(example):
    return "yes"
"""


@pytest.mark.parametrize(
    ("name", "answers", "says"),
    [
        (
            "functions:short",
            [{"ok": True, "reason": "too long"}, {"ok": False, "reason": "too long"}],
            "words of its own",
        ),
        ("functions:plain", [{"ok": True, "reason": ""}, {"ok": False, "reason": ""}], ""),
        ("functions:odd", [], "a check returns true or false"),
        ("functions:none", [], "module 'functions' has no attribute 'none'\n"),
        ("broken:short", [], "KeyError: 'short' ({folder}/broken.py, line 2)\n"),
        ("no-entry-point", [], "no installed package has an entry point no-entry-point"),
    ],
)
def test_a_function_is_a_program(tmp_path: Path, name: str, answers: list[dict[str, Any]], says: str) -> None:
    """It is given each line; what it prints is no answer; what it returns beside true and false is an error. Where there
    is none, a line says why.
    """
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "broken.py").write_text("names = {}\nshort = names['short']\n")
    examples = b'{"output": "x"}\n{"output": "a text too long"}\n'
    command = python("-m", "explore_async.running.function_check", name)
    done = subprocess.run(command, cwd=tmp_path, input=examples, capture_output=True, env=importable(), check=False)
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == answers
    assert says.format(folder=tmp_path.resolve()) in done.stderr.decode()


VARIES = """
import json, random, sys
for number, line in enumerate(sys.stdin):
    print(json.dumps({"ok": random.random() < 0.7, "reason": f"number {number}"}), flush=True)
"""


def same_answers(body: dict[str, Any], ordinal: int) -> Behaviour:
    """A model that answers each instruction with one of two texts."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("name")
    return Behaviour(body=answer(sensible(body) if schema else ("Yes, it is.", "No.")[body["seed"] % 2]))


async def test_equal_answers_have_one_verdict_of_a_check_that_varies(tmp_path: Path) -> None:
    """Each instruction has four answers, most of them equal, so that requests for a check are equal, too. The verdict
    is the one that is stored: a second start asks no endpoint, no check, and derives the same bytes.
    """
    path = tmp_path / "check.py"
    path.write_text(VARIES)
    config(tmp_path, {"name": "varies", "command": [sys.executable, str(path)]}, answers_per_instruction=4)
    async with MisbehavingServer(same_answers) as server:
        first = await run(tmp_path, server.url)
        assert first.code == 0, first.stderr
        stored = sqlite3.connect(tmp_path / "run" / "completions.sqlite")
        with closing(stored):
            (asked,) = stored.execute("SELECT count(*) FROM outcomes WHERE kind = 'check'").fetchone()
        assert asked < first.json["requests"]["check"]
        before = derived(tmp_path / "run")
        for name in ("dataset.jsonl", "decisions.jsonl", "tree.json"):
            (tmp_path / "run" / name).unlink()
        path.write_text("raise SystemExit(1)")
        requests = len(server.bodies)
        again = await run(tmp_path, server.url)
    assert again.code == 0, again.stderr
    assert len(server.bodies) == requests
    assert derived(tmp_path / "run") == before
