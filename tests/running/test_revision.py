"""`answer` and `rate`: the real command line on examples that exist, against real servers on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import Finished, explore, in_process, launch
from support.misbehaving import Behaviour, MisbehavingServer, answer
from support.stored_run import serving

from explore_async.config.load import load_revision
from explore_async.curation.collections.marks import write_mark
from explore_async.curation.collections.open import open_collection
from explore_async.errors import DataError
from explore_async.running import checkpointing
from explore_async.running.revision import RevisionJob
from explore_async.serving.simulated.server import Latency, SimulatedServer
from explore_async.storage.completions import read_contents

pytestmark = pytest.mark.timeout(180)

FORMS = 2
"""Requests by which each start finds out whether an endpoint can serve both forms; they are no part of the work."""
FILES = ("dataset.jsonl", "decisions.jsonl", "tree.json", "data.json")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _files_on_the_loop(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    return path


def questions(folder: Path, count: int, **more: Any) -> Path:
    values = [
        {"question": f"What does plant number {number} need?", "answer": f"Water, {number} litres.", "from": "a book"}
        for number in range(count)
    ]
    return write(folder / "questions.jsonl", [{**value, **more} for value in values])


def revise(command: str, source: Path, out: Path, url: str = NOBODY, *more: str | Path) -> Finished:
    done = in_process(command, source, "--out", out, "--endpoint", url, "--json", "--quiet", *more)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def test_the_same_bytes_at_any_concurrency_with_several_endpoints_and_after_a_replay(tmp_path: Path, url: str) -> None:
    """Two answers to each of 40 questions, scored: one request after another and many at two servers give the same
    files, with a row for each question that has an answer, in their order; a second start asks nothing.
    """
    source, ways = questions(tmp_path, 40), ("--answers", "2", "--judge")
    alone = revise("answer", source, tmp_path / "alone", url, *ways, "--concurrency", "1")
    assert alone.code == 0, alone.stderr
    with serving() as other:
        many = revise("answer", source, tmp_path / "many", url, *ways, "--endpoint", other, "--concurrency", "7")
    assert many.code == 0, many.stderr
    assert files(tmp_path / "alone") == files(tmp_path / "many")
    again = revise("answer", source, tmp_path / "many", NOBODY, *ways)
    assert again.code == 0, again.stderr
    assert again.json["this_time"] == {"replayed": alone.json["requests"]["total"], "asked": 0, "asked_twice": 0}
    assert files(tmp_path / "alone") == files(tmp_path / "many")
    made = rows(tmp_path / "alone" / "dataset.jsonl")
    numbers = [int(row["instruction"].split()[4]) for row in made]
    assert numbers == sorted(numbers)
    verdicts = [line for line in rows(tmp_path / "alone" / "decisions.jsonl") if line["what"] == "example"]
    assert [line["id"] for line in verdicts] == [f"0-{number}" for number in range(40)]
    assert [line["id"] for line in verdicts if line["kept"]] == [row["id"] for row in made]
    for number, row in zip(numbers, made, strict=True):
        assert row["earlier_output"] == f"Water, {number} litres."
        assert row["from"] == "a book"
        assert row["output"] in {one["output"] for one in row["answers"]}
        assert set(row["scores"]) == {"correct", "complete", "on_task", "natural"}


async def test_nothing_is_paid_for_twice_after_a_kill(tmp_path: Path) -> None:
    """Killed on the way, then given once more: the server gets no request again whose completion was stored, and the
    files are those of a work that nothing disturbed.
    """
    source, ways = questions(tmp_path, 30), ("--judge", "--json", "--quiet", "--concurrency", "4")

    def command(out: str, url: str) -> tuple[str | Path, ...]:
        return ("answer", source, "--out", tmp_path / out, "--endpoint", url, *ways)

    async with SimulatedServer() as server:
        whole = await explore(*command("whole", server.url))
        assert whole.code == 0, whole.stderr
    async with SimulatedServer(64, Latency(0.03)) as server:
        process = await launch(*command("killed", server.url))
        while server.statistics().requests < 30:
            await asyncio.sleep(0.01)
        process.kill()
        await process.communicate()
        stored = (await asyncio.to_thread(read_contents, tmp_path / "killed" / "completions.sqlite")).rows
        before = server.statistics().requests
        last = await explore(*command("killed", server.url))
        assert last.code == 0, last.stderr
        total = whole.json["requests"]["total"]
        assert 0 < stored < total
        assert last.json["this_time"]["replayed"] == stored
        assert server.statistics().requests - before == total - stored + FORMS
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_scores_and_a_threshold(tmp_path: Path, url: str) -> None:
    """`rate` adds scores and changes nothing else; with a threshold it drops what is below, and takes over from the work
    without one by asking nothing. The source stays as it is.
    """
    source = questions(tmp_path, 30)
    before = source.read_bytes()
    imported = in_process("import", source, "--out", tmp_path / "data")
    assert imported.code == 0, imported.stderr
    plain = rows(tmp_path / "data" / "dataset.jsonl")
    assert revise("rate", tmp_path / "data", tmp_path / "rated", url).code == 0
    rated = rows(tmp_path / "rated" / "dataset.jsonl")
    for old, new in zip(plain, rated, strict=True):
        assert {**old, "scores": new["scores"], "judge_request": new["judge_request"]} == new
        assert all(1 <= score <= 5 for score in new["scores"].values())
    other = revise("rate", tmp_path / "data", tmp_path / "rated", NOBODY, "--threshold", "3")
    assert other.code == 2
    assert "judge.threshold: null → 3.0" in other.stderr
    adopted = revise("rate", tmp_path / "data", tmp_path / "rated", url, "--threshold", "3", "--adopt")
    assert adopted.code in {0, 7}, adopted.stderr
    assert adopted.json["this_time"]["asked"] == 0
    good = [row for row in rated if min(row["scores"].values()) >= 3]
    assert rows(tmp_path / "rated" / "dataset.jsonl") == good
    assert adopted.json["examples"]["dropped"] == {"total": 30 - len(good), "low_score": 30 - len(good)}
    assert source.read_bytes() == before


@pytest.mark.parametrize("threshold", [None, "1"])
async def test_a_judge_that_cannot_be_read_is_asked_again_and_never_taken_for_a_yes(
    tmp_path: Path, threshold: str | None
) -> None:
    """Three requests about each answer, and then it has no scores; it is dropped where scores decide, and counted."""
    source = questions(tmp_path, 5)

    def say(body: dict[str, Any], _number: int) -> Behaviour:
        is_first_check = body["max_tokens"] < 512
        return Behaviour(body=answer('{"reason": "fine"}' if is_first_check else "no idea"))

    async with MisbehavingServer(say) as server:
        done = await explore(
            *("rate", source, "--out", tmp_path / "rated", "--endpoint", server.url, "--json"),
            *(() if threshold is None else ("--threshold", threshold)),
        )
        assert len(server.bodies) == 15 + 1
    assert done.code == (0 if threshold is None else 7), done.stderr
    kept = rows(tmp_path / "rated" / "dataset.jsonl")
    assert len(kept) == (5 if threshold is None else 0)
    assert not any("scores" in row for row in kept)
    assert done.json["not_scored"] == 5
    evidence = [line for line in rows(tmp_path / "rated" / "decisions.jsonl") if line["what"] == "scores"]
    assert [line["reason"] for line in evidence] == ["not_judged"] * 5
    if threshold is None:
        assert "5 answers without scores: the judge could not be read" in " ".join(done.stderr.split())


def test_what_is_there_of_a_run_is_answered_again(tmp_path: Path, url: str) -> None:
    """Rows of a run keep their ids, tasks and system prompts, and name the request that brought the instruction; rows of
    that are rated and answered once more. All commands on data read what came of it.
    """
    (tmp_path / "c.yaml").write_text(
        "domains: [{name: Look after a garden, system: Be brief.}]\nexploration: {depth: 1, breadth: 2}\n"
        "responses: separate\nfilters: {max_output_words: 30}\ntargets: {examples: 20}\noperation: {report: false}\n"
    )
    run, out = tmp_path / "run", tmp_path / "answered"
    assert in_process("run", tmp_path / "c.yaml", "--endpoint", url, "--out", run, "--quiet").code == 0
    done = revise("answer", run, out, url, "--seed", "5")
    assert done.code == 0, done.stderr
    before = {row["id"]: row for row in rows(run / "dataset.jsonl")}
    for row in rows(out / "dataset.jsonl"):
        old = before[row["id"]]
        for name in ("task_id", "task_path", "instruction", "input", "system", "instruction_request"):
            assert row[name] == old[name]
        assert row["earlier_output"] == old["output"]
        assert row["request"] != old["request"]
        assert len(row["output"].split()) <= 30
        request = in_process("show", out, row["request"], "--json").json
        assert request["request"]["messages"][0] == {"role": "system", "content": "Be brief."}
        assert request["completion"]["text"].strip() == row["output"]
    first = rows(out / "dataset.jsonl")[0]
    assert orjson.loads(in_process("stats", out).stdout)["requests"]["answer"] == 20
    shown = in_process("show", out, first["id"]).stdout
    assert first["output"] in shown
    assert f"earlier output  {first['earlier_output']}" in shown
    other = revise(
        "answer", out, tmp_path / "other", url, "--system", "Be long.", "--set", "filters.max_output_words=400"
    )
    assert other.code == 0, other.stderr
    row = rows(tmp_path / "other" / "dataset.jsonl")[0]
    assert (row["system"], row["earlier_output"]) == ("Be long.", first["output"])
    assert row["instruction_request"] == first["instruction_request"]
    kept = len(rows(out / "dataset.jsonl"))
    for command, files_out in (
        (("filter", out, "--out", tmp_path / "f"), "f/dataset.jsonl"),
        (("export", out, "--out", tmp_path / "e.jsonl", "--format", "messages"), "e.jsonl"),
        (("sample", out, "--out", tmp_path / "s.jsonl", "-n", "5"), "s.jsonl"),
        (("export", out, "--out", tmp_path / "folder"), "folder/README.md"),
        (("merge", out, run, "--out", tmp_path / "m"), "m/dataset.jsonl"),
        (("tree", out), "answered/tree.json"),
        (("stats", out), "answered/stats.json"),
        (("doctor", out), "answered/config.json"),
    ):
        result = in_process(*command)
        assert result.code == 0, (command, result.stderr, result.stdout)
        assert (tmp_path / files_out).exists()
    roles = [message["role"] for message in rows(tmp_path / "e.jsonl")[0]["messages"]]
    assert roles == ["system", "user", "assistant"]
    assert len(rows(tmp_path / "e.jsonl")) == len(rows(tmp_path / "f" / "dataset.jsonl")) == kept
    trees = orjson.loads((out / "tree.json").read_bytes())["trees"]
    assert sum(node["kept"] for root in trees for node in (root, *root["children"])) == kept


def test_rows_from_elsewhere(tmp_path: Path, url: str) -> None:
    """A conversation is answered at its first question, under its system prompt, and its later turns do not follow
    another answer; a column with a name of ours stays readable.
    """
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "How are roses pruned?"},
        {"role": "assistant", "content": "In winter."},
        {"role": "user", "content": "And why?"},
        {"role": "assistant", "content": "They sleep."},
    ]
    source = write(tmp_path / "talks.jsonl", [{"messages": talk, "scores": [0.5], "answers": ["a", "b"]}])
    assert revise("answer", source, tmp_path / "answered", url).code == 0
    (row,) = rows(tmp_path / "answered" / "dataset.jsonl")
    assert "messages" not in row
    assert (row["system"], row["instruction"], row["earlier_output"]) == ("Be kind.", talk[1]["content"], "In winter.")
    assert row["imported"] == {"scores": [0.5], "answers": ["a", "b"]}
    assert in_process("export", tmp_path / "answered", "--out", tmp_path / "e.jsonl", "--format", "messages").code == 0
    assert [turn["content"] for turn in rows(tmp_path / "e.jsonl")[0]["messages"]] == [
        *("Be kind.", "How are roses pruned?", row["output"])
    ]
    assert revise("rate", source, tmp_path / "rated", url).code == 0
    (row,) = rows(tmp_path / "rated" / "dataset.jsonl")
    assert row["messages"] == talk
    assert row["imported"] == {"scores": [0.5]}


def test_changed_data_is_told_and_adopted(tmp_path: Path, url: str) -> None:
    """The directory belongs to the texts that it was made of: with other ones the command says so; --adopt asks about
    what is new alone.
    """
    source = questions(tmp_path, 20)
    assert revise("answer", source, tmp_path / "out", url).code == 0
    questions(tmp_path, 25)
    other = revise("answer", source, tmp_path / "out", NOBODY)
    assert other.code == 2
    assert "data.examples: 20 → 25" in other.stderr
    adopted = revise("answer", source, tmp_path / "out", url, "--adopt")
    assert adopted.code == 0, adopted.stderr
    assert adopted.json["this_time"] == {"replayed": 20, "asked": 5, "asked_twice": 0}
    offline = revise("answer", source, tmp_path / "out", NOBODY, "--offline")
    assert offline.code == 0
    assert offline.json["this_time"]["replayed"] == 25


def test_marks_and_pruned_tasks_come_along(tmp_path: Path, url: str) -> None:
    """Scores leave the marks of readers; another answer has none of them. Pruned tasks stay pruned."""
    source = write(
        tmp_path / "q.jsonl",
        [
            {"question": f"What is plant {n}?", "answer": "A plant.", "t": t}
            for n, t in enumerate(("Name herbs", "Name herbs!"))
        ],
    )
    data = tmp_path / "data"
    assert in_process("import", source, "--out", data, "--column", "task=t").code == 0
    assert in_process("prune", data).code == 0
    write_mark(data, rows(data / "dataset.jsonl")[0], "good", "right")
    for command, marks in (("rate", 1), ("answer", 0)):
        assert revise(command, data, tmp_path / command, url).code == 0
        shown = in_process("export", tmp_path / command, "--out", tmp_path / "e.jsonl", "--json").json
        assert shown["left_out"]["pruned_tasks"] == 1
        path = tmp_path / command / "marks.jsonl"
        assert len(rows(path) if path.exists() else ()) == marks


def test_bad_input_has_a_message_and_a_code(tmp_path: Path, url: str) -> None:
    """What cannot be done is told in a line, with the documented code, and leaves no directory."""
    source = questions(tmp_path, 3)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "list.jsonl").write_bytes(b"[1]\n")
    (tmp_path / "half.jsonl").write_bytes(source.read_bytes() + b'{"question"')
    twice = [{"id": "0-1", "task_id": "0", "task_path": ["a"], "instruction": "x", "input": "", "output": "y"}] * 2
    out = tmp_path / "out"
    for command, arguments, code, words in (
        ("answer", (tmp_path / "nothing",), 5, "there is no such run directory or file"),
        ("answer", (tmp_path / "empty.jsonl",), 5, "empty.jsonl"),
        ("rate", (tmp_path / "list.jsonl",), 5, "list.jsonl"),
        ("rate", (write(tmp_path / "twice.jsonl", twice),), 5, "is there twice"),
        ("answer", (source, "--set", "generation.per_request=3"), 2, "unknown key"),
        ("rate", (source, "--set", "answers_per_instruction=2"), 2, "rate asks for no answers"),
        ("rate", (source, "--set", "models.answer=big"), 2, "rate asks for no answers"),
        ("answer", (source, "--set", "models.judge=big"), 2, "nothing is judged"),
        ("answer", (source, "--answers", "0"), 2, "--answers"),
        ("rate", (source, "--threshold", "9"), 2, "--threshold"),
        ("answer", (source, "--adopt", "--fresh"), 2, "give only one of"),
        ("rate", (source, "--column", "output"), 2, "--column"),
        ("answer", (source, "--offline"), 4, "there is no run to go on with offline"),
        ("answer", (source, "--model", "unknown"), 6, "unknown"),
    ):
        done = revise(command, arguments[0], out, url, *arguments[1:])
        assert (done.code, words in done.stderr) == (code, True), (command, arguments, done)
        assert not out.exists()
    assert revise("answer", source, out, url).code == 0
    half = in_process(
        *("answer", tmp_path / "half.jsonl", "--out", tmp_path / "half", "--endpoint", url, "--json", "--quiet"),
        *("--on-bad-row", "skip"),
    )
    assert (half.code, half.json["bad_rows"], "1 row skipped" in half.stderr) == (0, 1, True)
    same = revise("rate", out, out, url)
    assert (same.code, "it is the source" in same.stderr) == (2, True)
    (tmp_path / "c.yaml").write_text("domains: [{name: a}]\ntargets: {examples: 3}\n")
    run = in_process("run", tmp_path / "c.yaml", "--endpoint", url, "--out", out)
    assert (run.code, "this is the directory of `explore-async answer`" in run.stderr) == (4, True)
    assert in_process("run", tmp_path / "c.yaml", "--endpoint", url, "--out", tmp_path / "run", "--quiet").code == 0
    other = revise("answer", source, tmp_path / "run", url)
    assert (other.code, "this is the directory of `explore-async run`" in other.stderr) == (4, True)


def test_the_card_says_who_answered_and_who_scored(tmp_path: Path, url: str) -> None:
    """Also after another command, for data of a run; for a file the card of what `answer` wrote itself."""
    (tmp_path / "c.yaml").write_text(
        "domains: [{name: Look after a garden}]\nexploration: {depth: 0}\ntargets: {examples: 8}\n"
        "operation: {report: false}\n"
    )
    assert in_process("run", tmp_path / "c.yaml", "--endpoint", url, "--out", tmp_path / "run", "--quiet").code == 0
    answered = revise("answer", tmp_path / "run", tmp_path / "answered", url, "--system", "Be kind.", "--judge")
    assert answered.code == 0, answered.stderr
    assert in_process("filter", tmp_path / "answered", "--out", tmp_path / "filtered").code == 0
    assert revise("answer", questions(tmp_path, 5), tmp_path / "plain", url).code == 0
    for name, words in (
        (
            "answered",
            ("each in a request of its own", "Be kind.", "nothing, whatever the score", "`explore-async answer`"),
        ),
        (
            "filtered",
            ("each in a request of its own", "Be kind.", "nothing, whatever the score", "`explore-async answer`"),
        ),
        ("plain", ("| by | answer |", "1 to each instruction, by simulated")),
    ):
        assert in_process("export", tmp_path / name, "--out", tmp_path / f"{name}-folder").code == 0
        card = (tmp_path / f"{name}-folder" / "README.md").read_text()
        for part in words:
            assert part in card, (name, part)
        assert "byte for byte" not in card


def test_a_checkpoint_is_gone_on_from(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the latest checkpoint a second start replays the rest alone, and comes to the same files and counts."""
    monkeypatch.setattr(checkpointing, "EXAMPLES_PER_CHECKPOINT", 10)
    monkeypatch.setattr(checkpointing, "_SECONDS_BETWEEN_LOOKS", 0.001)
    source, ways = questions(tmp_path, 60), ("--judge", "--set", "window=16", "--concurrency", "1")
    whole = revise("answer", source, tmp_path / "out", url, *ways)
    assert whole.code == 0, whole.stderr
    assert (tmp_path / "out" / "checkpoint.json").exists()
    before = files(tmp_path / "out")
    again = in_process("answer", source, "--out", tmp_path / "out", "--endpoint", NOBODY, *ways, "--json")
    assert again.code == 0, again.stderr
    assert "going on from a checkpoint" in again.stderr
    assert again.json["requests"] == whole.json["requests"]
    assert 0 < again.json["this_time"]["replayed"] < whole.json["requests"]["total"]
    assert files(tmp_path / "out") == before


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    """Examples that a run adds while it is read are left for the next time; one that is gone ends the work with the
    reason, and not with data that nobody asked for.
    """
    source = questions(tmp_path, 5)
    job = RevisionJob(load_revision("answer", {}), open_collection(source), tmp_path / "out")
    source.write_bytes(source.read_bytes() + source.read_bytes())
    assert [row["id"] for row in job._rows(0)] == [f"0-{number}" for number in range(5)]
    assert [row["id"] for row in job._rows(3)] == ["0-3", "0-4"]
    questions(tmp_path, 4)
    with pytest.raises(DataError, match="has changed since"):
        list(job._rows(0))


def test_a_check_of_ones_own_looks_at_new_answers(tmp_path: Path, url: str) -> None:
    """What it refuses is dropped with its name, its verdicts replay, and it is not taken over from a run's recipe: that
    would start a program that nobody asked for.
    """
    program = tmp_path / "check.py"
    program.write_text(
        "import json, sys\nfor line in sys.stdin:\n"
        "    print(json.dumps({'ok': len(json.loads(line)['output']) % 2 == 0}), flush=True)\n"
    )
    checks = orjson.dumps([{"name": "even", "command": [sys.executable, str(program)]}]).decode()
    source, out = questions(tmp_path, 12), tmp_path / "out"
    done = revise("answer", source, out, url, "--set", f"checks={checks}")
    assert done.code == 0, done.stderr
    assert done.json["examples"]["dropped"]["check:even"] > 0
    assert all(len(row["output"]) % 2 == 0 for row in rows(out / "dataset.jsonl"))
    before = files(out)
    program.unlink()
    assert revise("answer", source, out, NOBODY, "--set", f"checks={checks}").json["this_time"]["asked"] == 0
    assert files(out) == before
    assert load_revision("answer", {"checks": orjson.loads(checks)}).checks == ()
