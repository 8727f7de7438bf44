"""`judge`: the real command line on two sets of answers, against a judge whose preferences are known."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from support.cli import Finished, explore, in_process, launch
from support.misbehaving import Behaviour, MisbehavingServer, answer, error, models
from support.stored_run import serving

import explore_async as ea
from explore_async.curation.collections.open import open_collection
from explore_async.evaluation import comparison
from explore_async.evaluation.naming import names_apart
from explore_async.evaluation.pairing import paired
from explore_async.running import checkpointing
from explore_async.running.cures import Cures
from explore_async.running.observer import awaited, kept_in_words
from explore_async.settings.comparison import RULES, ComparedData, ComparisonSettings
from explore_async.settings.recipe import MEANING
from explore_async.storage.completions import read_contents

pytestmark = pytest.mark.timeout(180)

NOBODY = "http://127.0.0.1:9"
FILES = ("dataset.jsonl", "decisions.jsonl", "tree.json", "data.json", "figures.json")
_ANSWER = re.compile(r"<(?:first|second)_answer>\n(\w+) (\d+)")


@pytest.fixture(autouse=True)
def _files_on_the_loop(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on


def rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value in values))
    return path


def answers(folder: Path, name: str, count: int = 40) -> Path:
    """Answers of the model `name` to questions of two classes."""
    values = [
        {"instruction": f"Question {n}?", "output": f"{name} {n}" + " more" * (n % 7 if name == "alpha" else 1)}
        | {"class": "even" if n % 2 == 0 else "odd"}
        for n in range(count)
    ]
    return write(folder / f"{name}.jsonl", values)


def verdict(body: dict[str, Any]) -> str:
    """By the number of the question: tens 0 and 1 alpha wins, 2 beta, and of the rest a tie, the first one, or words that
    nobody can read. The judge `other` takes alpha always.
    """
    (first, number), (_, _) = _ANSWER.findall(body["messages"][1]["content"])
    wanted = {0: "alpha", 1: "alpha", 2: "beta"}.get(int(number) // 10)
    if body["model"] == "other":
        wanted = "alpha"
    if wanted is not None:
        return "first" if first == wanted else "second"
    return ("tie", "first", "")[int(number) % 3]


def say(body: dict[str, Any], _number: int) -> Behaviour:
    if "first_answer" not in body["messages"][1]["content"] or not _ANSWER.search(body["messages"][1]["content"]):
        return Behaviour(body=answer('{"reason": "r", "verdict": "tie"}', model=body["model"]))  # the first look
    said = verdict(body)
    text = orjson.dumps({"reason": "It is so.", "verdict": said}).decode() if said else "I would rather not say."
    return Behaviour(body=answer(text, model=body["model"]), delay_s=0.01)


def judging(tmp_path: Path, out: str, url: str, *more: str | Path) -> tuple[str | Path, ...]:
    sets = tmp_path / "alpha.jsonl", tmp_path / "beta.jsonl"
    return ("judge", *sets, "--out", tmp_path / out, "--endpoint", url, "--json", "--quiet", *more)


def files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def asked(server: MisbehavingServer) -> Counter[bytes]:
    """Requests about questions, those to find out whether the endpoint serves them left out."""
    bodies = [body for body in server.bodies if _ANSWER.search(body["messages"][1]["content"])]
    return Counter(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in bodies)


def outcome(number: int) -> str:
    if number < 30:
        return "win" if number < 20 else "lose"
    return ("tie", "tie", "invalid")[number % 3]


async def test_known_preferences_give_their_figures_also_after_a_kill(tmp_path: Path) -> None:
    """Counts by class and in all, the bias of position, and what only one set answers come out exactly; words that nobody
    can read are asked for three times and are no tie. Killed on the way and given again, the command asks no request
    twice whose completion was stored, and writes the same bytes at another concurrency; offline nothing is asked.
    """
    answers(tmp_path, "alpha", 42), answers(tmp_path, "beta", 40)
    async with MisbehavingServer(say) as server:
        whole = await explore(*judging(tmp_path, "whole", server.url, "--concurrency", "1"))
        assert whole.code == 0, whole.stderr
        once = asked(server)
    expected = [outcome(number) for number in range(40)]
    of_rows = rows(tmp_path / "whole" / "dataset.jsonl")
    assert [row["outcome"] for row in of_rows] == expected
    invalid = expected.count("invalid")
    assert set(once.values()) == {1}
    assert once.total() == 80 + 2 * 2 * invalid
    figures, counts = whole.json["figures"], Counter(expected)
    for name, numbers in (("even", range(0, 40, 2)), ("odd", range(1, 40, 2))):
        own = Counter(expected[number] for number in numbers)
        shown = figures["by_class"][name]
        assert [shown[which] for which in ("win", "tie", "lose", "invalid")] == [
            own[which] for which in ("win", "tie", "lose", "invalid")
        ]
    standing = figures["standing"]
    assert (standing["win"], standing["lose"], standing["invalid"]) == (20, 10, invalid)
    assert standing["tie"] == counts["tie"]
    assert standing["beat_rate"]["value"] == round(20 / 30, 4)
    always_first = len([number for number in range(30, 40) if number % 3 == 1])
    position = figures["by_judge"]["m"]["position"]
    assert (position["first"], position["second"], position["questions"]) == (always_first, 0, 40 - invalid)
    document = orjson.loads((tmp_path / "whole" / "figures.json").read_bytes())
    assert {**figures, "data": document["data"]} == document
    assert document["data"] == {
        "a": "alpha",
        "b": "beta",
        "questions": 40,
        "only_a": 2,
        "only_b": 0,
        "equal_answers": 0,
    }

    async with MisbehavingServer(say) as server:
        process = await launch(*judging(tmp_path, "killed", server.url, "--concurrency", "3"))
        while len(server.bodies) < 40:
            await asyncio.sleep(0.005)
        process.kill()
        await process.communicate()
        stored = (await asyncio.to_thread(read_contents, tmp_path / "killed" / "completions.sqlite")).rows
        before = asked(server).total()
        last = await explore(*judging(tmp_path, "killed", server.url, "--concurrency", "9"))
        assert last.code == 0, last.stderr
        assert 0 < stored < once.total()
        assert asked(server).total() - before == once.total() - stored
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    offline = await explore(*judging(tmp_path, "whole", NOBODY, "--offline"))
    assert offline.json["this_time"]["asked"] == 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


async def test_several_judges(tmp_path: Path) -> None:
    """Each has its figures; together they have the outcome of most, and their agreement is told. Another judge that is
    added asks nothing again of the first. The library returns the same figures.
    """
    answers(tmp_path, "alpha", 30), answers(tmp_path, "beta", 30)
    async with MisbehavingServer(say, catalogue=lambda _body, _number: models("m", "other")) as server:
        first = await explore(*judging(tmp_path, "out", server.url, "--judge", "m"))
        assert first.code == 0, first.stderr
        both = ("--judge", "other", "--judge", "m", "--adopt")
        done = await explore(*judging(tmp_path, "out", server.url, *both))
        assert done.code == 0, done.stderr
        assert set(asked(server).values()) == {1}
        result = await ea.judge(
            tmp_path / "alpha.jsonl", tmp_path / "beta.jsonl", tmp_path / "out", endpoint=server.url,
            judges=["other", "m"],
        )  # fmt: skip
    figures = done.json["figures"]
    assert figures["by_judge"]["other"]["standing"]["win"] == 30
    assert [figures["standing"][name] for name in ("win", "tie", "lose", "invalid")] == [20, 10, 0, 0]
    assert figures["agreement"] == [{"judges": ["other", "m"], "questions": 30, "kappa": 0.0}]
    assert result.figures is not None
    assert result.figures.standing.win == 20
    assert result.run.ending == "complete"


def test_what_is_written_is_read_by_the_other_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated judge gives verdicts as JSON and as text, also from a checkpoint. `show` tells each with its text,
    `export` makes preferences of what one of the two won, `doctor` finds nothing wrong; the figures are for people, too.
    """
    answers(tmp_path, "alpha"), answers(tmp_path, "beta")
    monkeypatch.setattr(checkpointing, "EXAMPLES_PER_CHECKPOINT", 10)
    monkeypatch.setattr(checkpointing, "_SECONDS_BETWEEN_LOOKS", 0.001)
    with serving() as url:
        for out, ways in (("out", ()), ("text", ("--set", "answer_format=text"))):
            done: Finished = in_process(*judging(tmp_path, out, url, "--set", "window=16", *ways))
            assert done.code == 0, done.stderr
            assert done.json["figures"]["standing"]["invalid"] < 10
    out = tmp_path / "out"
    assert (out / "checkpoint.json").exists()
    before = files(out)
    people = in_process(
        *(word for word in judging(tmp_path, "out", NOBODY, "--set", "window=16") if word not in {"--json", "--quiet"})
    )
    assert people.code == 0, people.stderr
    assert files(out) == before
    for words in ("win:tie:lose", "beat rate", "even", "odd", "position, simulated"):
        assert words in people.stdout
    assert re.search(r"questions +\d+ compared", people.stderr)
    assert "first question: " in people.stderr
    assert not re.search(r"^(tasks|examples) |first example|\d tasks?\b", people.stderr, re.MULTILINE)
    row = rows(out / "dataset.jsonl")[0]
    shown = in_process("show", out, row["id"]).stdout
    assert "simulated in the order ba" in shown
    for one in row["verdicts"]:
        assert one["request"] in shown
        assert in_process("show", out, one["request"], "--json").json["completion"]["text"].strip() == one["text"]
    exported = in_process("export", out, "--out", tmp_path / "p.jsonl", "--format", "preference")
    assert exported.code == 0, exported.stderr
    decided = [row for row in rows(out / "dataset.jsonl") if row["outcome"] in {"win", "lose"}]
    assert len([pair for pair in rows(tmp_path / "p.jsonl") if pair.get("rejected")]) == len(decided) > 0
    doctor = in_process("doctor", out)
    assert doctor.code == 0, doctor.stdout


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the beginning, in the middle nor alone: the row says tie, without verdicts, and it is counted. The same
    command again goes on where nothing was asked, and nothing is missing. A comparison that began when judges were
    asked, and rows were paired by their place, goes on by these rules to the same bytes. No pair of equal texts is exported, whatever scores they have.
    """
    texts = [("same", " same\n"), ("one", "two"), ("x", "x"), ("three", "four")]
    a = [{"id": f"q{n}", "instruction": "Question?", "output": one} for n, (one, _) in enumerate(texts)]
    b = [{"id": f"q{n}", "instruction": "Question?", "output": other} for n, (_, other) in enumerate(texts)]
    write(tmp_path / "alpha.jsonl", a), write(tmp_path / "beta.jsonl", b[::-1])
    write(tmp_path / "alike.jsonl", a[:1])
    with serving() as url:
        new = in_process(*(word for word in judging(tmp_path, "new", url) if word != "--quiet"))
        assert (new.code, "2 questions of 4 with the same answer in both" in new.stderr) == (0, True), new.stderr
        alike = tmp_path / "alike.jsonl"
        alone = in_process("judge", alike, alike, "--out", tmp_path / "alone", "--endpoint", url, "--json", "--quiet")
        assert alone.code == 0, alone.stderr
        before = files(tmp_path / "alone")
        told = in_process("judge", alike, alike, "--out", tmp_path / "alone", "--endpoint", url, "--quiet")
        monkeypatch.setattr(comparison, "RULES", comparison.FIRST_RULES)
        old = in_process(*judging(tmp_path, "old", url))
        monkeypatch.undo()
    assert "0:1:0" in told.stdout, told.stderr
    assert files(tmp_path / "alone") == before
    assert "of 0 questions" not in told.stdout
    found = rows(tmp_path / "new" / "dataset.jsonl")
    assert [len(row["verdicts"]) for row in found] == [0, 2, 0, 2]
    assert [row["outcome"] for row in (found[0], found[2])] == ["tie", "tie"]
    assert new.json["figures"]["by_judge"]["simulated"]["position"]["questions"] <= 2
    assert sum(new.json["figures"]["by_judge"]["simulated"]["standing"][which] for which in ("win", "tie", "lose")) == 4
    assert new.json["requests"]["total"] == 4
    assert orjson.loads((tmp_path / "new" / "figures.json").read_bytes())["data"]["equal_answers"] == 2
    assert [alone.json["figures"]["standing"][which] for which in ("win", "tie", "lose")] == [0, 1, 0]
    assert in_process("doctor", tmp_path / "new").code == 0
    assert "same" in in_process("show", tmp_path / "new", found[0]["id"]).stdout
    assert old.json["requests"]["total"] == 8
    before = files(tmp_path / "old")
    again = in_process(*judging(tmp_path, "old", NOBODY, "--offline"))
    assert (again.code, files(tmp_path / "old")) == (0, before), again.stderr
    scored = [{"output": "right", "scores": {"p": 2}}, {"output": "right ", "scores": {"p": 0}}]
    row = {"instruction": "Q?", **scored[0], "answers": scored}
    write(tmp_path / "scored.jsonl", [row, row | {"answers": [*scored, {"output": "wrong", "scores": {"p": 1}}]}])
    pairs = tmp_path / "pairs.jsonl"
    exported = in_process("export", tmp_path / "scored.jsonl", "--out", pairs, "--format", "preference")
    assert exported.code == 0, exported.stderr
    assert [pair["rejected"][0]["content"] for pair in rows(pairs)] == ["wrong"]


def test_equal_questions_meet_by_the_ids_of_their_files(tmp_path: Path) -> None:
    """Whatever the order of the rows; what has no partner of the same id meets in the order that is left."""
    one = [{"id": name, "instruction": "Q?", "output": f"a{name}"} for name in ("n", "m1", "m2", 7)]
    other = [{"id": name, "instruction": "Q?", "output": f"b{name}"} for name in ("7", "m2", "m1", "o")]
    one = [row | {"class": "hard", "remark": "unused"} for row in one]
    a, b = (open_collection(write(tmp_path / f"{n}.jsonl", part)) for n, part in enumerate((one, other)))
    found = [(pair.a, pair.b) for pair in paired(a, b).found]
    assert found == [("an", "bo"), ("am1", "bm1"), ("am2", "bm2"), ("a7", "b7")]
    assert "remark (4)" in a.notes[0]
    assert "class" not in a.notes[0]  # judges see it


def test_equal_questions_of_files_without_ids_meet_in_their_order(tmp_path: Path) -> None:
    """Also where one file has other rows before them; a comparison by the second rules goes on by the numbers of the rows.
    A directory keeps the numbers of the file that it was made from.
    """
    one, two, other = ({"instruction": "Q?", "output": f"{n}"} for n in ("one", "two", "other"))
    a, b = (
        write(tmp_path / "a.jsonl", [one, two]),
        write(tmp_path / "b.jsonl", [other | {"instruction": "O?"}, one, two]),
    )
    files = open_collection(a), open_collection(b)
    assert [(pair.a, pair.b) for pair in paired(*files).found] == [("one", "one"), ("two", "two")]
    assert [(pair.a, pair.b) for pair in paired(*files, rules=2).found] == [("one", "two"), ("two", "one")]
    answered = write(tmp_path / "answered.jsonl", [one | {"output": ""}, two])
    assert in_process("import", answered, "--out", tmp_path / "data", "--quiet").code == 0
    assert [(pair.a, pair.b) for pair in paired(files[0], open_collection(tmp_path / "data")).found] == [("two", "two")]


def test_datasets_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    """By as few folders as it takes; others keep their names, and so does a dataset that is given twice."""
    places = ["x/n1/out.jsonl", "y/n1/out.jsonl", "y/n2/out.jsonl", "y/n2/other.jsonl"]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    one, two, three, other = (open_collection(write(tmp_path / place, [])) for place in places)
    assert names_apart([two, three, other]) == ["n1/out", "n2/out", "other"]
    assert names_apart([one, two, three]) == ["x/n1/out", "y/n1/out", "y/n2/out"]
    assert names_apart([one, one]) == ["out", "out"]
    write(tmp_path / places[1], [{"instruction": "Question?", "output": "x"}])
    for name in ("whole", "again"):  # data of the same name in two directories
        assert in_process("import", tmp_path / places[1], "--out", tmp_path / name, "--quiet").code == 0
    data = [open_collection(tmp_path / name) for name in ("whole", "again")]
    assert {one.name for one in data} == {"out"}
    assert names_apart(data) == ["whole/out", "again/out"]


def test_the_only_domain_is_the_class_of_its_own_examples(tmp_path: Path) -> None:
    """Beside tasks below it, which are the others; a comparison by the first rules has no class for them. Without tasks
    there is none.
    """
    paths = [["Plants"], ["Plants", "Watering"], ["Plants", "Watering", "Cacti"]]
    placed = [
        {"id": f"{n}", "task_id": ".".join("0" * len(path)), "task_path": path, "instruction": f"{n}?", "output": "x"}
        for n, path in enumerate(paths)
    ]
    run, bare = (open_collection(write(tmp_path / f"{n}.jsonl", placed[:n])) for n in (3, 1))
    assert [pair.kind for pair in paired(run, run).found] == ["Plants", "Watering", "Watering"]
    assert paired(run, run, rules=1).found[0].kind == "questions"
    assert paired(run, bare).found[0].kind == "questions"


def test_what_cannot_be_judged_is_told(tmp_path: Path) -> None:
    """Bad input gets a message and an exit code, and leaves no directory."""
    answers(tmp_path, "alpha"), write(tmp_path / "beta.jsonl", [{"instruction": "Other?", "output": "x"}])
    for more, code, words in (
        ((), 5, "no question has an answer in both"),
        (("--judge", "m", "--judge", "m"), 2, "name each model once"),
        (("--set", "turns=2"), 2, "unknown key"),
    ):
        done = in_process(*judging(tmp_path, "out", NOBODY, *more))
        assert (done.code, words in done.stderr) == (code, True), (more, done)
        assert not (tmp_path / "out").exists()
    answers(tmp_path, "beta")
    done = in_process(*judging(tmp_path, "out", NOBODY, "--offline"))
    assert (done.code, "there is no run to go on with offline" in done.stderr) == (4, True), done
    done = in_process(*judging(tmp_path, "out", NOBODY, "--by", "level", "--judge", "m"))
    assert (done.code, "no row has a text or a number in this column" in done.stderr) == (2, True), done
    same = in_process(*judging(tmp_path, "alpha.jsonl", NOBODY))
    assert (same.code, "it is one of the datasets" in same.stderr) == (2, True), same


async def test_a_comparison_is_told_in_its_own_words(tmp_path: Path) -> None:
    """Questions are judged, they wait for the judge, and what fails makes them invalid; no advice names a setting that
    is there already.
    """
    answers(tmp_path, "alpha", 4), answers(tmp_path, "beta", 4)

    def refuse_one(body: dict[str, Any], number: int) -> Behaviour:
        return error(400, "content filter") if "Question 1?" in body["messages"][1]["content"] else say(body, number)

    async with MisbehavingServer(refuse_one) as server:
        words = [word for word in judging(tmp_path, "out", server.url) if word not in {"--quiet", "--json"}]
        done = await explore(*words)
    assert "2 requests failed for good, and their questions are invalid" in " ".join(done.stderr.split())
    data = ComparedData(names=("a", "b"), paths=("a", "b"), questions=2, only=(0, 0), texts="")
    for judges, form, waits, advice in (("m",), "json", "the judge", 1), (("m", "n"), "text", "the judges", 0):
        settings = ComparisonSettings.model_validate({"judges": judges, "answer_format": form})
        recipe = settings.resolved(judges=(), meaning=MEANING, rules=RULES, data=data).as_recipe([("a", "a")])
        assert (awaited(recipe), kept_in_words(recipe)) == (waits, "questions judged")
        assert Cures(recipe).of_unreadable("judge:m").count("answer_format=text") == advice
