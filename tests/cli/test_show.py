"""`show` prints evidence as it is: code keeps its indentation, JSON has all of it, what was dropped is listed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import in_process

from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.quality_filters import copied_field
from explore_async.exploration.values import AnswerSchema, ChatRequest, Completion, Prompt, Request
from explore_async.storage.completions import CompletionStore
from explore_async.terminal.text import printable_lines

CODE = "def double(x):\n    if x:\n\t\treturn 2 * x  # \u202etwice\n\n    return 0"
DROPPED = [
    {"what": "example", "id": "0-0.1", "task_id": "0", "instruction": "Write one", "kept": False, "reason": "duplicate", "score": 0.8, "nearest": "0-0.0", "request": "cd"},
    {"what": "example", "id": None, "task_id": "0", "excerpt": "odd", "kept": False, "reason": "unreadable", "request": "ab"},
    {"what": "task", "id": None, "parent": "0", "name": "Root again", "kept": False, "reason": "duplicate", "score": 0.75, "nearest": "0", "request": None},
]  # fmt: skip


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """A run directory with an example of code, and what was dropped beside it."""
    node = {
        "id": "0",
        "name": "Root",
        "reason": "",
        "origin": "seed",
        "depth": 0,
        "kept": 1,
        "dropped": 2,
        "answers": 1,
    }
    example = {"id": "0-0.0", "task_id": "0", "task_path": ["Root"], "instruction": "Write it", "input": "", "output": CODE, "request": "ab"}  # fmt: skip
    evidence = {"kept": True, "reason": "accepted", "request": "ab"}
    decisions = [
        {"what": "task", "id": "0", "parent": None, "name": "Root", "origin": "seed", **evidence},
        {"what": "example", "id": "0-0.0", "task_id": "0", **evidence},
        *DROPPED,
    ]
    for name, document in {
        "config.json": {"recipe": {"name": "test"}},
        "tree.json": {"trees": [{**node, "exhausted": False, "children": []}]},
    }.items():
        (tmp_path / name).write_bytes(orjson.dumps(document))
    for name, lines in (("dataset.jsonl", [example]), ("decisions.jsonl", decisions)):
        (tmp_path / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    async def store() -> None:
        request = Request(1, 1, "generate", "0", 0, Prompt("generate", {}), 0)
        question = ChatRequest("m", ({"role": "user", "content": "Write\n  code"},), {}, 0, AnswerSchema("a", {}))
        async with CompletionStore(tmp_path / "completions.sqlite") as completions:
            await completions.put("ab", request, question, Completion(CODE, "stop", 5, 7))
            both = [
                {"instruction": text, "input": "", "output": f"{text}:\n{CODE}"} for text in ("Another", "Write one")
            ]
            text = orjson.dumps({"examples": both}).decode()
            await completions.put("cd", request, question, Completion(text, "stop", 5, 7))

    asyncio.run(store())
    return tmp_path


def test_code_keeps_its_indentation(run_path: Path) -> None:
    """Output, prompt and completion have the line breaks and the indentation that the model wrote, and no control."""
    shown = in_process("show", run_path, "0-0.0").stdout
    for _ in range(2):  # the output of the example, then the completion
        at = shown.index("  def double(x):\n      if x:\n")
        shown = shown[at + 1 :]
    assert "return 2 * x  # \ufffdtwice\n  \n      return 0" in shown
    assert "Write\n    code" in in_process("show", run_path, "ab").stdout
    assert "\u202e" not in shown


def test_all_of_it_as_json(run_path: Path) -> None:
    """One object: the decision, the example, the request with its prompt, the completion; for a task its node."""
    found = in_process("show", run_path, "0-0.0", "--json").json
    assert found["decision"]["reason"] == "accepted"
    assert found["example"]["output"] == CODE
    assert found["request"]["messages"] == [{"role": "user", "content": "Write\n  code"}]
    assert (found["completion"]["text"], found["completion"]["finish_reason"]) == (CODE, "stop")
    assert in_process("show", run_path, "ab", "--json").json == {
        name: found[name] for name in ("request", "completion")
    }
    assert in_process("show", run_path, "0", "--json").json["task"]["name"] == "Root"
    near = in_process("show", run_path, "0-0.1", "--json").json
    assert near["nearest"]["output"] == CODE
    assert "example" not in near
    assert near["draft"] == {"instruction": "Write one", "input": "", "output": f"Write one:\n{CODE}"}
    assert "\n  Write one:\n  def double(x):\n" in in_process("show", run_path, "0-0.1").stdout


def test_what_was_dropped_is_listed(run_path: Path) -> None:
    """Of one reason, or all: each text with the text that it is near to, tasks too; and how many each reason dropped."""
    shown = in_process("show", run_path, "--dropped", "duplicate")
    assert shown.code == 0
    assert shown.stdout.splitlines() == [
        "0-0.1  example, duplicate, ROUGE-L F 0.800 with 0-0.0", "  Write one", "  near: Write it",
        "-  task below 0, duplicate, ROUGE-L F 0.750 with 0", "  Root again", "  near: Root",
    ]  # fmt: skip
    assert "2 shown" in shown.stderr
    closing = " ".join(in_process("show", run_path, "--dropped", "all").stderr.split())
    assert (
        "3 shown; everything that was dropped: 2 examples (duplicate 1, unreadable 1); 1 task (duplicate 1)" in closing
    )
    every = in_process("show", run_path, "--dropped", "all", "--json").json
    assert [{**row, "nearest_text": None} for row in every["dropped"]] == [
        {**row, "nearest_text": None} for row in DROPPED
    ]
    assert every["counts"] == {"duplicate": 2, "unreadable": 1}
    assert every["tasks"] == {"duplicate": 1}
    unknown = in_process("show", run_path, "--dropped", "odd")
    assert (unknown.code, unknown.stdout) == (2, "")
    assert "duplicate, unreadable, or all" in " ".join(unknown.stderr.split())


def test_what_has_no_id_begins_with_its_request(run_path: Path) -> None:
    """The first word of each item is what `show` finds: for a text without an id the request with its completion. A
    dropped task stands below its parent, whose id is not its own.
    """
    with (run_path / "decisions.jsonl").open("ab") as file:
        file.write(orjson.dumps({**DROPPED[2], "request": "cd"}) + b"\n")
    heads = in_process("show", run_path, "--dropped", "all").stdout.splitlines()
    assert "ab  example of task 0, unreadable" in heads
    assert "cd  task below 0, duplicate, ROUGE-L F 0.750 with 0" in heads
    assert "def double(x)" in in_process("show", run_path, "ab").stdout


def test_a_copy_names_what_it_repeats(run_path: Path) -> None:
    """The demonstration with its id and the text, or its own instruction; in the list, for one example, and as JSON."""
    copied = {**DROPPED[0], "id": "0.0-0.1", "task_id": "0.0", "reason": "copied"}
    with (run_path / "decisions.jsonl").open("ab") as file:
        file.write(orjson.dumps({name: copied[name] for name in copied.keys() - {"score", "nearest"}}) + b"\n")
    said = "a copy of the output of the demonstration 0-0.1: Write one:"
    assert f"  output: {said}" in in_process("show", run_path, "--dropped", "copied").stdout
    assert f"output is\n  {said}\n" in in_process("show", run_path, "0.0-0.1").stdout
    (row,) = in_process("show", run_path, "--dropped", "copied", "--json").json["dropped"]
    assert row["copied"] == {"what": "demonstration", "text": f"Write one:\n{CODE}", "id": "0-0.1"}
    assert in_process("show", run_path, "0.0-0.1", "--json").json["copied"] == row["copied"]
    (run_path / "completions.sqlite").write_bytes(b"damaged")
    listed = in_process("show", run_path, "--dropped", "copied")
    assert (listed.code, "0.0-0.1  example, copied" in listed.stdout, said in listed.stdout) == (0, True, False)
    assert copied_field(ExampleDraft("Say it.", "no", "Say it")) == "instruction"
    assert copied_field(ExampleDraft("Repeat it.", "no", "no")) == "input"


def test_a_dropped_example_names_its_task(run_path: Path) -> None:
    """By the names of the task and those above it, as a kept one; also for JSON."""
    child = {
        "id": "0.0",
        "name": "Leaf",
        "reason": "",
        "origin": "lookahead",
        "depth": 1,
        "kept": 0,
        "dropped": 1,
        "answers": 1,
    }
    document = orjson.loads((run_path / "tree.json").read_bytes())
    document["trees"][0]["children"] = [{**child, "exhausted": False, "children": []}]
    (run_path / "tree.json").write_bytes(orjson.dumps(document))
    with (run_path / "decisions.jsonl").open("ab") as file:
        file.write(orjson.dumps({**DROPPED[0], "id": "0.0-0.1", "task_id": "0.0"}) + b"\n")
    assert "task  Root > Leaf\n" in in_process("show", run_path, "0.0-0.1").stdout
    assert in_process("show", run_path, "0.0-0.1", "--json").json["task_path"] == ["Root", "Leaf"]


@pytest.mark.parametrize("stage", [None, "filter"])
def test_the_turns_of_a_conversation(tmp_path: Path, stage: str | None) -> None:
    """Each turn with its role, calls of tools and their results among them, code with its indentation, both answers of a
    pair; before and after another command.
    """
    call = {"type": "function", "function": {"name": "tides", "arguments": {"port": "Brest"}}}
    rows = [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "High tide?"},
                      {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "12:00"},
                      {"role": "assistant", "content": CODE}]},
        {"prompt": "Name a sea.", "chosen": "The Baltic.", "rejected": "Rome."},
    ]  # fmt: skip
    (tmp_path / "talks.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    assert in_process("import", tmp_path / "talks.jsonl", "--out", tmp_path / "data").code == 0
    data = tmp_path / "data"
    if stage is not None:
        assert in_process(stage, data, "--out", tmp_path / "next").code == 0
        data = tmp_path / "next"
    ids = [orjson.loads(line)["id"] for line in (data / "dataset.jsonl").read_bytes().splitlines()]
    shown = in_process("show", data, ids[0]).stdout
    places = [shown.index(part) for part in ("system  Be brief.", "user  High tide?", '"port": "Brest"', "tool  12:00", "  def double(x):\n      if x:\n")]  # fmt: skip
    assert places == sorted(places)
    assert "rejected assistant  Rome." in in_process("show", data, ids[1]).stdout
    turns = in_process("show", data, ids[0], "--json").json["turns"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("arguments", [[], ["0", "--dropped", "all"]])
def test_an_id_or_a_list(run_path: Path, arguments: list[str]) -> None:
    """Neither, or both, is an error of usage that says what to give."""
    result = in_process("show", run_path, *arguments)
    assert result.code == 2
    assert "--dropped" in result.stderr


@pytest.mark.parametrize("damage", [{"score": "much"}, {"nearest": ["0"]}, {"what": 5, "reason": None}, {"name": 7}])
def test_edited_lines_are_named(run_path: Path, damage: dict) -> None:
    """A line in another form than a run writes is an error that names the directory, or is shown; never a traceback."""
    line = {"what": "task", "id": None, "name": "x", "kept": False, "reason": "duplicate", **damage}
    with (run_path / "decisions.jsonl").open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")
    result = in_process("show", run_path, "--dropped", "all")
    assert result.code in {0, 5}
    assert result.code == 0 or str(run_path) in result.stderr.replace("\n", "")


@given(st.text())
def test_lines_cannot_control_a_terminal(text: str) -> None:
    """Nothing but printable characters, spaces and tabs; printable text stays as it is."""
    lines = printable_lines(text)
    assert all(c.isprintable() or c.isspace() for line in lines for c in line)
    assert not any(c in "\n\r\v\f\x1b\x85\u2028\u2029\u202e" for line in lines for c in line)
    if all(c.isprintable() or c in "\n\t" for c in text):
        assert "\n".join(lines) == text
