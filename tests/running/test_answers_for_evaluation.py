"""`answer` for evaluations: a vote of several answers, several models, no filters, and Alpaca's template as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from blockbuster import BlockBuster
from jinja2 import Template
from support.cli import Finished, explore, in_process
from support.misbehaving import Behaviour, MisbehavingServer, answer, models
from support.stored_run import serving

from explore_async.config.load import load_revision
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Prompt, Request
from explore_async.settings.revision import RevisedData
from explore_async.training.alpaca import alpaca_template

pytestmark = pytest.mark.timeout(180)

NOBODY = "http://127.0.0.1:9"
FILES = ("dataset.jsonl", "decisions.jsonl", "tree.json", "data.json")


@pytest.fixture(autouse=True)
def _files_on_the_loop(blockbuster: BlockBuster) -> None:
    blockbuster.deactivate()  # a run opens and closes its files on the loop, when nothing else is going on


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def questions(folder: Path, count: int) -> Path:
    path = folder / "questions.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"question": f"What is {n} + {n}?"}) + b"\n" for n in range(count)))
    return path


def files(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES}


def command(source: Path, out: Path, url: str, *more: str | Path) -> tuple[str | Path, ...]:
    return ("answer", source, "--out", out, "--endpoint", url, "--json", "--quiet", *more)


def say(body: dict[str, Any], _number: int) -> Behaviour:
    """One of three answers, by the seed, in one of two forms; a refusal for the question about 3."""
    question = body["messages"][-1]["content"]
    if question == "What is 3 + 3?":
        return Behaviour(body=answer("I'm sorry, but I cannot help with that.", model=body["model"]))
    number, form = body["seed"] % 3, body["seed"] % 2
    text = f"So it is \\boxed{{{number}.}}" if form else f"The answer is {number}."
    return Behaviour(body=answer(text, model=body["model"]), delay_s=0.001 * number)


def value_of(text: str) -> str:
    return next(letter for letter in text if letter.isdigit())


async def test_a_vote(tmp_path: Path) -> None:
    """The output is the first of the answers that most agree with, whatever their form, and the row counts the votes; at
    another concurrency the bytes are the same, and offline, too. The row stays as it is in a filter and an export, and the
    card of that says how the output was chosen.
    """
    source = questions(tmp_path, 12)
    ways = ("--answers", "5", "--vote")
    async with MisbehavingServer(say) as server:
        for out, concurrency in (("one", "1"), ("many", "9")):
            done = await explore(*command(source, tmp_path / out, server.url, *ways, "--concurrency", concurrency))
            assert done.code == 0, done.stderr
    assert files(tmp_path / "one") == files(tmp_path / "many")
    assert (await explore(*command(source, tmp_path / "one", NOBODY, *ways, "--offline"))).code == 0
    assert files(tmp_path / "one") == files(tmp_path / "many")
    found = rows(tmp_path / "one" / "dataset.jsonl")
    assert len(found) == 11  # one question was refused
    for row in found:
        values = [value_of(each["output"]) for each in row["answers"]]
        counts = Counter(values)
        most = next(value for value in values if counts[value] == max(counts.values()))
        assert row["vote"] == {"answer": row["vote"]["answer"], "votes": counts[most], "of": 5}
        assert row["output"] == row["answers"][values.index(most)]["output"]
        assert row["request"] == row["answers"][values.index(most)]["request"]
    assert any(row["output"] != row["answers"][0]["output"] for row in found)
    assert (await explore("filter", tmp_path / "one", "--out", tmp_path / "filtered")).code == 0
    kept = {row["id"]: row["output"] for row in rows(tmp_path / "filtered" / "dataset.jsonl")}
    assert kept == {row["id"]: row["output"] for row in found if row["id"] in kept}
    assert kept
    assert (await explore("export", tmp_path / "one", "--out", tmp_path / "exported")).code == 0
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert "5 to each instruction" in card
    assert "the output is the first with the final answer of most of them" in card
    assert "| vote | object" in card


async def test_several_models_have_a_directory_each(tmp_path: Path) -> None:
    """Each model answers every question, under its name, into a directory that the other commands read; a second start
    asks nothing. Without filters a refusal stays.
    """
    source, out = questions(tmp_path, 5), tmp_path / "out"
    ways = ("--model", "org/large", "--model", "small", "--unfiltered")
    async with MisbehavingServer(say, catalogue=lambda _body, _number: models("org/large", "small")) as server:
        done = await explore(*command(source, out, server.url, *ways))
        assert done.code == 0, done.stderr
        before = len(server.bodies)
        again = await explore(*command(source, out, server.url, *ways))
        assert again.code == 0, again.stderr
        assert len(server.bodies) == before
    assert list(done.json["models"]) == ["org/large", "small"]
    for model, name in (("org/large", "org-large"), ("small", "small")):
        assert done.json["models"][model]["directory"] == str(out / name)
        found = rows(out / name / "dataset.jsonl")
        assert [row["instruction"] for row in found] == [f"What is {n} + {n}?" for n in range(5)]
        assert orjson.loads((out / name / "data.json").read_bytes())["settings"]["model"] == model
        assert found[3]["output"].startswith("I'm sorry")
    asked = Counter(body["model"] for body in server.bodies if body["messages"][-1]["content"].startswith("What"))
    assert asked == {"org/large": 5, "small": 5}


def test_alpaca_without_a_chat_template(tmp_path: Path, url: str) -> None:
    """The whole prompt goes as text to /v1/completions of the server, and what comes back is an answer as any; the same
    command replays it.
    """
    source, out = questions(tmp_path, 4), tmp_path / "out"
    done = in_process(*command(source, out, url, "--template", "alpaca", "--system", "Be brief.", "--unfiltered"))
    assert done.code == 0, done.stderr
    found = rows(out / "dataset.jsonl")
    assert len(found) == 4
    shown = in_process("show", out, found[1]["request"], "--json").json["request"]["messages"]
    assert [message["role"] for message in shown] == ["text"]
    assert shown[0]["content"].startswith("Be brief.\n\nBelow is an instruction")
    assert shown[0]["content"].endswith("### Instruction:\nWhat is 1 + 1?\n\n### Response:\n")
    again = in_process(*command(source, out, NOBODY, "--template", "alpaca", "--system", "Be brief.", "--unfiltered"))
    assert again.json["this_time"]["asked"] == 0


@pytest.mark.parametrize("given", ["", "Some text."])
@pytest.mark.parametrize("system", ["", "Be brief."])
def test_the_text_is_what_training_shows(given: str, system: str) -> None:
    """A model that `train --preset paper` trained sees the same characters, with and without input and system prompt."""
    data = RevisedData(name="d", path="d", examples=1, texts="")
    revision = load_revision("answer", {}, alpaca=True).resolved(model="m", meaning=4, data=data)
    values = {"instruction": "Add.", "input": given, "system": system, "task": "data", "count": 1}
    book = PromptBook(revision.as_recipe([("data", "")]))
    (message,) = book.render(Request(0, 0, "answer", "0", 1, Prompt("answer", values), seed=0)).messages
    user = {"role": "user", "content": "Add.", **({"input": given} if given else {})}
    messages = [*([{"role": "system", "content": system}] if system else []), user]
    trained = Template(alpaca_template(begins_with_bos=False), keep_trailing_newline=True)
    assert message["content"] == trained.render(messages=messages, add_generation_prompt=True, eos_token="")


def test_what_does_not_go_together_is_told(tmp_path: Path, url: str) -> None:
    """Each with a message and a code, and no directory is left."""
    source, out = questions(tmp_path, 2), tmp_path / "out"
    for more, words in (
        (("--vote",), "vote: it needs several answers"),
        (("--vote", "--answers", "3", "--judge"), "vote: with a judge its scores choose the output"),
        (("--model", "a/b", "--model", "a-b"), "would have the same directory"),
        (("--template", "vicuna"), "--template"),
    ):
        done: Finished = in_process(*command(source, out, url, *more))
        assert (done.code, words in done.stderr) == (2, True), (more, done)
        assert not out.exists()
    folder = tmp_path / "prompts"
    folder.mkdir()
    (folder / "answer.j2").write_text("[text]\n{{ instruction }}\n[user]\nmore\n")
    done = in_process(*command(source, out, url, "--set", f"prompts={folder}"))
    assert (done.code, "as its only part" in done.stderr) == (2, True), done
    (folder / "answer.j2").write_text("[text]\n{{ instruction }}\n")
    (tmp_path / "c.yaml").write_text(
        "domains: [{name: a}]\nresponses: separate\ntargets: {examples: 3}\nprompts: prompts\n"
    )
    done = in_process("run", tmp_path / "c.yaml", "--endpoint", url, "--out", out)
    assert (done.code, "is for the command answer alone" in done.stderr) == (2, True), done
