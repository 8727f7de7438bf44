"""Conversations and preferences: what a row says in any form is what every later command has, and what an export says."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli import Finished, in_process

from explore_async.curation.collections.columns import Exchange, make_reader
from explore_async.curation.collections.conversations import conversation_of
from explore_async.curation.dedup import dedup
from explore_async.curation.files.fields import FieldError
from explore_async.curation.trainer_formats import SHAPES, calls_as_text, is_cut


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALL = {"type": "function", "function": {"name": "tides", "arguments": '{"port": "Brest"}'}}
TOOLS = [{"type": "function", "function": {"name": "tides", "parameters": {"type": "object"}}}]
SYSTEM, ASKED, ANSWERED = said("system", "Be brief."), said("user", "When is high tide?"), said("assistant", "At noon.")
NEXT = [said("user", "And low tide?"), said("assistant", "At six.")]

FORMS = {
    "a greeting first": (
        {"conversations": [{"from": "gpt", "value": "Hello!"}, {"from": "human", "value": "When is high tide?"}, {"from": "gpt", "value": "At noon."}]},
        [said("assistant", "Hello!"), ASKED, ANSWERED],
    ),
    "two turns of a user": ({"messages": [said("user", "I sail."), ASKED, ANSWERED]}, [said("user", "I sail."), ASKED, ANSWERED]),
    "system and more turns": ({"messages": [SYSTEM, ASKED, ANSWERED, *NEXT]}, [SYSTEM, ASKED, ANSWERED, *NEXT]),
    "system of a column": ({"system": "Be brief.", "conversations": [ASKED, ANSWERED]}, [SYSTEM, ASKED, ANSWERED]),
    "system beside a pair": ({"system_prompt": "Be brief.", "question": ASKED["content"], "response": "At noon."}, [SYSTEM, ASKED, ANSWERED]),
    "history": (
        {"instruction": ASKED["content"], "input": "", "output": "At noon.", "history": [["I sail.", "Good."]]},
        [said("user", "I sail."), said("assistant", "Good."), ASKED, ANSWERED],
    ),
    "both sides in one object": (
        {"conversation": [{"human": ASKED["content"], "assistant": "At noon."}, {"human": "And low tide?", "assistant": "At six."}]},
        [ASKED, ANSWERED, *NEXT],
    ),
    "turns": ({"turns": [ASKED, ANSWERED, *NEXT]}, [ASKED, ANSWERED, *NEXT]),
    "JSON in a cell": ({"messages": orjson.dumps([SYSTEM, ASKED, ANSWERED]).decode()}, [SYSTEM, ASKED, ANSWERED]),
    "a prompt with history": (
        {"prompt": [said("user", "I sail."), said("assistant", "Good."), ASKED], "completion": [ANSWERED]},
        [said("user", "I sail."), said("assistant", "Good."), ASKED, ANSWERED],
    ),
    "parts": (
        {"messages": [said("user", [{"type": "text", "text": ASKED["content"]}]), ANSWERED]},
        [said("user", [{"type": "text", "text": ASKED["content"]}]), ANSWERED],
    ),
    "calls of tools": (
        {"messages": [ASKED, said("assistant", None, tool_calls=[CALL]), said("tool", "12:00", tool_call_id="c"), ANSWERED]},
        [ASKED, said("assistant", None, tool_calls=[CALL]), said("tool", "12:00", tool_call_id="c"), ANSWERED],
    ),
    "calls of tools in ShareGPT": (
        {"conversations": [{"from": "human", "value": ASKED["content"]}, {"from": "function_call", "value": orjson.dumps(CALL["function"]).decode()}, {"from": "observation", "value": "12:00"}, {"from": "gpt", "value": "At noon."}]},
        [ASKED, said("assistant", None, tool_calls=[CALL]), said("tool", "12:00"), ANSWERED],
    ),
    "a call that is no JSON": (
        {"conversations": [{"from": "human", "value": ASKED["content"]}, {"from": "function_call", "value": "tides()"}, {"from": "observation", "value": "12:00"}, {"from": "gpt", "value": "At noon."}]},
        [ASKED, said("assistant", "tides()"), said("tool", "12:00"), ANSWERED],
    ),
    "calls among parts": (
        {"messages": [ASKED, said("assistant", [{"type": "tool_use", "name": "tides"}]), said("user", [{"type": "tool_result", "content": "12:00"}]), ANSWERED]},
        [ASKED, said("assistant", [{"type": "tool_use", "name": "tides"}]), said("user", [{"type": "tool_result", "content": "12:00"}]), ANSWERED],
    ),
    "rounds of turns": ({"question": [[SYSTEM, ASKED], [ANSWERED]]}, [SYSTEM, ASKED, ANSWERED]),
    "numbered turns of MOSS": (
        {"meta_instruction": "Be brief.", "chat": {
            "turn_2": {"Human": "<|Human|>: And low tide?<eoh>\n", "MOSS": "<|MOSS|>: At six.<eom>\n"},
            "turn_1": {"Human": "<|Human|>: When is high tide?<eoh>\n", "MOSS": "<|MOSS|>: At noon.<eom>\n"},
        }},
        [SYSTEM, ASKED, ANSWERED, *NEXT],
    ),
    "texts in turn": ({"id": "1", "data": ["When is high tide?", "At noon.", "And low tide?", "At six."]}, [ASKED, ANSWERED, *NEXT]),
    "texts of both sides": ({"input": ["When is high tide?", "And low tide?"], "output": ["At noon.", "At six."]}, [ASKED, ANSWERED, *NEXT]),
    "texts of a dialogue": ({"dialog": ["When is high tide?", "At noon.", "And low tide?", "At six."]}, [ASKED, ANSWERED, *NEXT]),
    "a tree of replies": (
        {"prompt": {"role": "prompter", "text": "When is high tide?", "replies": [
            {"role": "assistant", "text": "No.", "rank": 1, "replies": []},
            {"role": "assistant", "text": "At noon.", "rank": 0, "replies": [
                {"role": "prompter", "text": "And low tide?", "replies": [{"role": "assistant", "text": "At six."}]},
            ]},
        ]}},
        [ASKED, {**ANSWERED, "rank": 0}, *NEXT],
    ),
    **{
        f"marks of {name}": ({"text": text}, [*([SYSTEM] if "Be brief." in text else []), ASKED, ANSWERED, *NEXT])
        for name, text in {
            "guanaco": "### Human: When is high tide?### Assistant: At noon.### Human: And low tide?### Assistant: At six.",
            "ChatML": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhen is high tide?<|im_end|>\n<|im_start|>assistant\nAt noon.<|im_end|>\n<|im_start|>user\nAnd low tide?<|im_end|>\n<|im_start|>assistant\nAt six.<|im_end|>\n",
            "Llama 2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhen is high tide? [/INST] At noon. </s><s>[INST] And low tide? [/INST] At six. </s>",
            "Zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nWhen is high tide?</s>\n<|assistant|>\nAt noon.</s>\n<|user|>\nAnd low tide?</s>\n<|assistant|>\nAt six.</s>",
            "Llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhen is high tide?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nAt noon.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd low tide?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nAt six.<|eot_id|>",
            "OIG": "<human>: When is high tide?\n<bot>: At noon.\n<human>: And low tide?\n<bot>: At six.",
            "Vicuna": "USER: When is high tide? ASSISTANT: At noon.</s>USER: And low tide? ASSISTANT: At six.</s>",
        }.items()
    },
    "a call in Glaive": (
        {"system": "Be brief.", "chat": "USER: When is high tide?\n\n\nASSISTANT: <functioncall> {} <|endoftext|>\n\n\nFUNCTION RESPONSE: 12:00\n\n\nASSISTANT: At noon. <|endoftext|>\n\n\n"},
        [SYSTEM, ASKED, said("assistant", "<functioncall> {}"), said("tool", "12:00"), ANSWERED],
    ),
    "arguments as values": (
        {"messages": [ASKED, said("assistant", None, tool_calls=[{"type": "function", "function": {"name": "tides", "arguments": {"day": 1}}}]), said("tool", "12:00"), ANSWERED]},
        [ASKED, said("assistant", None, tool_calls=[{"type": "function", "function": {"name": "tides", "arguments": {"day": 1}}}]), said("tool", "12:00"), ANSWERED],
    ),
    "other keys of a turn": (
        {"messages": [ASKED, {**ANSWERED, "weight": 0.5, "name": None}]},
        [ASKED, {**ANSWERED, "weight": 0.5}],
    ),
}  # fmt: skip


def imported(row: dict[str, Any], **columns: str) -> dict[str, Any]:
    """The row as a command on data has it."""
    found = make_reader(columns)(row)
    texts = {"instruction": found.instruction, "input": found.input, "output": found.output}
    return {"id": "0-0", "task_id": "0", "task_path": ["x"], **texts, **found.rest}


@pytest.mark.parametrize("form", FORMS)
def test_the_example_is_an_answer_and_the_turn_before_it(form: str):
    """In every form, and all turns are in an export; a format with one exchange and its system prompt says that it cuts
    what has more.
    """
    row, turns = FORMS[form]
    example = imported(row)
    assert (example["instruction"], example["input"], example["output"]) == ("When is high tide?", "", "At noon.")
    assert SHAPES["messages"](example) == {"messages": turns}
    holds_all = turns == [SYSTEM, ASKED, ANSWERED]
    assert is_cut("alpaca", example) is not holds_all
    assert not holds_all or SHAPES["messages"](imported(SHAPES["alpaca"](example))) == {"messages": turns}
    assert not is_cut("prompt-completion", example)
    parts = SHAPES["prompt-completion"](example)
    assert [*parts["prompt"], *parts["completion"]] == turns
    assert [turn["role"] for turn in parts["completion"]] == ["assistant"]
    again = imported(SHAPES["sharegpt"](example))
    if not is_cut("sharegpt", example) and form not in {"parts", "calls of tools", "calls of tools in ShareGPT"}:
        assert SHAPES["messages"](again) == {"messages": turns}


TEXT = st.text("ab \n", max_size=4).map(lambda text: f"x{text}")
TURNS = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(["user", "assistant", "system", "tool"]), TEXT),
        st.builds(said, st.just("assistant"), st.none(), tool_calls=st.just([CALL])),
        st.builds(said, st.just("user"), TEXT, weight=st.integers(0, 1)),
    ),
    max_size=6,
).map(lambda turns: [said("user", "First."), *turns])


@given(TURNS, st.sampled_from(["messages", "conversations"]), st.booleans())
def test_no_turn_is_lost_whatever_the_conversation(turns: list[dict], column: str, sharegpt: bool):
    """Any order of roles: the turns of an export are those of the row; the example's turns stand in them in order, and
    nothing but calls and their results stands between them.
    """
    names = {"user": "human", "assistant": "gpt"} if sharegpt else {}
    keys = ("from", "value") if sharegpt else ("role", "content")
    written = [
        {
            keys[0]: names.get(turn["role"], turn["role"]),
            keys[1]: turn["content"],
            **{k: v for k, v in turn.items() if k not in {"role", "content"}},
        }
        for turn in turns
    ]
    example = imported({column: written})
    assert SHAPES["messages"](example) == {"messages": turns}
    if (found := conversation_of(example)) is not None and found.answer is not None:
        assert found.turns[found.question].text == example["instruction"]
        assert found.turns[found.answer].text == example["output"]
        between = found.turns[found.question + 1 : found.answer]
        assert not any(turn.part == "user" for turn in between)
        assert found.turns[found.answer].part == "call" or all(turn.part != "assistant" for turn in between)


NAMES = ["instruction", "prompt", "question", "Question", "input", "context", "passage", "output", "answer", "answers", "target", "system", "text", "chosen", "rejected", "doc_id", "note"]  # fmt: skip
VALUES = st.sampled_from(
    ["", " ", "a", "b", "### Human: a### Assistant: b", None, ["a"], [said("user", "a")], {"text": "a"}]
)


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=5), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["instruction", "input", "output"]), st.sampled_from(NAMES), max_size=2),
)
@settings(max_examples=120, deadline=None)
def test_a_row_is_read_alike_whatever_was_read_before(rows: list[dict], columns: dict[str, str]):
    """The reader remembers what names of columns mean: it finds what it finds in a row with one more column, a list, in
    which nothing can be told by the names.
    """
    remembering = make_reader(columns)
    for row in [*rows, *rows]:
        found, expected = (read_or_fault(read, one) for read, one in ((remembering, row), (make_reader(columns), {**row, "more": [1]})))  # fmt: skip
        if expected is not None:
            rest = {name: value for name, value in expected.rest.items() if name != "more"}
            expected = expected._replace(rest=rest, unused=list(expected.unused))
        assert (None if found is None else found._replace(unused=list(found.unused))) == expected


def read_or_fault(read: Callable[[dict], Exchange], row: dict) -> Exchange | None:
    try:
        return read(row)
    except FieldError:
        return None


PAIRS = [
    {"conversations": [{"from": "human", "value": "Name a sea."}], "chosen": {"from": "gpt", "value": "The Baltic."}, "rejected": {"from": "gpt", "value": "Rome."}},
    {"prompt": "Name a sea.", "chosen": "The Baltic.", "rejected": "Rome."},
    {"question": "Name a sea.", "chosen": "The Baltic.", "rejected": "Rome."},
    {"prompt": [said("user", "Name a sea.")], "chosen": [said("assistant", "The Baltic.")], "rejected": [said("assistant", "Rome.")]},
    {"prompt": "Name a sea.", "chosen": [said("user", "Name a sea."), said("assistant", "The Baltic.")], "rejected": [said("user", "Name a sea."), said("assistant", "Rome.")], "score": 2.5},
    {"chosen": "\n\nHuman: Name a sea.\n\nAssistant: The Baltic.", "rejected": "\n\nHuman: Name a sea.\n\nAssistant: Rome."},
    {"chosen_messages": [said("user", "Name a sea."), said("assistant", "The Baltic.")], "rejected_messages": [said("user", "Name a sea."), said("assistant", "Rome.")]},
]  # fmt: skip


@pytest.mark.parametrize("row", PAIRS)
def test_both_answers_of_a_pair_stay(row: dict[str, Any]):
    """In every form that is in use; a format for single answers refuses it, and names the one that holds both."""
    example = imported(row)
    assert (example["instruction"], example["output"]) == ("Name a sea.", "The Baltic.")
    assert SHAPES["preference"](example) == {
        "prompt": [said("user", "Name a sea.")],
        "chosen": [said("assistant", "The Baltic.")],
        "rejected": [said("assistant", "Rome.")],
    }
    of_sharegpt = SHAPES["preference-sharegpt"](example)
    assert of_sharegpt == {
        "id": example["id"],
        "conversations": [{"from": "human", "value": "Name a sea."}],
        "chosen": {"from": "gpt", "value": "The Baltic."},
        "rejected": {"from": "gpt", "value": "Rome."},
    }
    assert SHAPES["preference"](imported(of_sharegpt)) == SHAPES["preference"](example)
    for shape in ("alpaca", "sharegpt", "messages", "prompt-completion"):
        with pytest.raises(FieldError, match="--format preference"):
            SHAPES[shape](example)
    with pytest.raises(FieldError, match="no label"):
        SHAPES["kto"](example)


def test_a_pair_of_answers_with_several_turns_has_no_place_in_sharegpt() -> None:
    """LLaMA-Factory reads one turn of each; TRL reads all of them."""
    talk = [ANSWERED, said("user", "And then?"), said("assistant", "At night.")]
    example = imported({"prompt": [ASKED], "chosen": talk, "rejected": [ANSWERED]})
    assert SHAPES["preference"](example)["chosen"] == talk
    with pytest.raises(FieldError, match="single turn"):
        SHAPES["preference-sharegpt"](example)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKED, ANSWERED], "label": False},
        {"messages": [ASKED, ANSWERED], "kto_tag": False},
        {"messages": [ASKED, ANSWERED], "kto_tag": 0},
        {"messages": [ASKED, ANSWERED], "kto_tag": "0"},
        {"prompt": ASKED["content"], "completion": "At noon.", "label": "False"},
        {"prompt": [ASKED], "completion": [ANSWERED], "label": False},
    ],
)
def test_a_bad_answer_does_not_pass_for_a_good_one(row: dict[str, Any]):
    """The label stays, and formats without a place for it refuse the example."""
    example = imported(row)
    assert SHAPES["kto"](example) == {"prompt": [ASKED], "completion": [ANSWERED], "label": False}
    for shape in ("alpaca", "sharegpt", "messages", "prompt-completion"):
        with pytest.raises(FieldError, match="--format kto"):
            SHAPES[shape](example)


def test_a_number_as_a_label_is_a_class() -> None:
    """A number in `label` is a column as any other, so that an export of questions with classes goes on as it did; in
    `kto_tag`, which has no other sense, 1 is a good answer.
    """
    talk = {"messages": [ASKED, ANSWERED]}
    assert SHAPES["messages"](imported({**talk, "label": 1}))["messages"] == [ASKED, ANSWERED]
    assert SHAPES["kto"](imported({**talk, "label": 3, "kto_tag": 1.0}))["label"] is True


@pytest.mark.parametrize(
    ("row", "columns", "texts"),
    [
        ({"instruction": "a", "context": "b", "response": "c", "category": "d"}, {}, ("a", "b", "c")),
        ({"question": "a", "passage": "b", "answer": "c"}, {}, ("a", "b", "c")),
        ({"instruction": "a", "input": "", "context": "b", "response": "c"}, {}, ("a", "b", "c")),
        ({"question": "a", "facts": "b", "answer": "c"}, {"input": "facts"}, ("a", "b", "c")),
        ({"question": "a", "context": "b", "best": "c"}, {"output": "best"}, ("a", "b", "c")),
        ({"ask": "a", "response": "c"}, {"instruction": "ask"}, ("a", "", "c")),
        ({"problem": "a", "solution": "c"}, {}, ("a", "", "c")),
        ({"kind": "x", "input": "a", "target": "c"}, {}, ("a", "", "c")),
        ({"": "0", "Question": "a", "A": "b", "Answer": "c"}, {}, ("a", "", "c")),
        (
            {"question": "a", "context": "b", "answers": {"text": ["c", "d"], "answer_start": [1, 2]}},
            {},
            ("a", "b", "c"),
        ),
        (
            {"instruction": "a", "instances": [{"input": "b", "output": "c"}, {"input": "d", "output": "e"}]},
            {},
            ("a", "b", "c"),
        ),
        ({"question": "a"}, {}, ("a", "", "")),
        ({"prompt": "a", "response": None}, {}, ("a", "", "")),
        ({"turns": ["a", "Say it again."]}, {}, ("a", "", "")),
        ({"messages": [said("user", "a")]}, {}, ("a", "", "")),
        ({"messages": [said("user", "a"), said("assistant", "c")], "facts": "b"}, {"input": "facts"}, ("a", "b", "c")),
    ],
)
def test_other_columns_are_found_or_named(row: dict, columns: dict[str, str], texts: tuple[str, str, str]):
    """Passages are inputs, a named column leaves the others to be guessed, and a missing answer is an empty one."""
    example = imported(row, **columns)
    assert (example["instruction"], example["input"], example["output"]) == texts
    user = {"role": "user", "content": "a\n\nb" if texts[1] else "a"}
    assert SHAPES["messages"](example)["messages"][0] == user


def test_a_named_path_takes_nothing_out_of_its_column():
    """The rest of the conversation stays beside the example, and an export has it."""
    row = {"conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d"}], "k": 1}
    example = imported(row, instruction="conversation.0.human", output="conversation.0.assistant")
    assert {name: example[name] for name in row} == row
    assert len(SHAPES["messages"](example)["messages"]) == 4
    second = imported(row, instruction="conversation.1.human", output="conversation.1.assistant")
    assert (second["instruction"], second["output"]) == ("c", "d")
    other = imported({**row, "q": "e", "a": "f"}, instruction="q", output="a")
    assert SHAPES["messages"](other) == {"messages": [said("user", "e"), said("assistant", "f")]}


def test_near_duplicates_by_all_turns_of_a_user():
    """A field that joins what the user said; in a file, and among values."""
    rows = [
        {"messages": [said("user", "Sort a list."), said("assistant", "Done."), said("user", "Now backwards.")]},
        {"messages": [said("user", "Sort a list."), said("assistant", "Yes."), said("user", "Now backwards.")]},
        {"messages": [said("user", "Sort a list."), said("assistant", "Done."), said("user", "Explain the steps to me.")]},
    ]  # fmt: skip
    assert dedup(rows, fields="user-turns").kept_indices == (0, 2)
    assert dedup(rows, fields="messages.0.content").kept_indices == (0,)


def test_conversations_that_begin_alike_are_no_duplicates(tmp_path: Path):
    """filter, merge and a split compare all that a user said; an instruction alone where that is asked for."""
    for number, later in enumerate(("Sort a list of words.", "How far away is the moon?", "Sort a list of words.")):
        row = {
            "messages": [
                said("user", "Hello there!"),
                said("assistant", "Hi."),
                said("user", later),
                said("assistant", "Now."),
            ]
        }
        (tmp_path / f"{number}.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    merged = ran("merge", *files, "--out", tmp_path / "a", "--json").json
    assert merged["kept"] == 2
    assert ran("filter", tmp_path / "a", "--out", tmp_path / "b", "--json").json["kept"] == 2
    assert ran("filter", tmp_path / "a", "--out", tmp_path / "b", "--field", "instruction", "--json").json["kept"] == 1
    assert ran("filter", tmp_path / "a", "--out", tmp_path / "b", "--field", "user-turns", "--json").json["kept"] == 2
    split = ran("export", tmp_path / "a", "--out", tmp_path / "c.jsonl", "--validation", "0.5", "--json").json
    assert (split["examples"], split["validation"]) == (1, 1)


def ran(*arguments: str | Path) -> Finished:
    result = in_process(*arguments)
    assert result.code == 0, result.stderr
    return Finished(result.code, result.stdout, " ".join(result.stderr.split()))


def lines(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_conversations_pass_through_every_stage(tmp_path: Path):
    """import, filter, sample, merge, decontaminate and export, also by way of Parquet: the same turns and tools."""
    rows = [{**row, "tools": TOOLS, "n": n} for n, (row, _) in enumerate(FORMS.values())]
    wanted = {n: {"messages": turns, "tools": TOOLS} for n, (_, turns) in enumerate(FORMS.values())}
    for row, turns in zip(rows, wanted.values(), strict=True):  # else they are duplicates of one another
        text = (
            orjson.dumps([row, turns])
            .decode()
            .replace("When is high tide", f"When is high tide in port {row['n']}" * 3)
        )
        changed, changed_turns = orjson.loads(text)
        row.update(changed)
        turns.update(changed_turns)
    (tmp_path / "talks.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (tmp_path / "other.jsonl").write_bytes(orjson.dumps({"question": "Unrelated?", "answer": "Yes."}) + b"\n")
    ran("import", tmp_path / "talks.jsonl", "--out", tmp_path / "a")
    ran("filter", tmp_path / "a", "--out", tmp_path / "b", "--threshold", "0.99")
    ran("merge", tmp_path / "b", tmp_path / "other.jsonl", "--out", tmp_path / "c", "--threshold", "0.99")
    ran("decontaminate", tmp_path / "c", "--against", tmp_path / "other.jsonl", "--out", tmp_path / "d")
    ran("sample", tmp_path / "d", "-n", "99", "--out", tmp_path / "e.jsonl")
    kept = {row["n"]: row for row in lines(tmp_path / "e.jsonl")}
    assert kept.keys() == wanted.keys()
    said_of = ran("export", tmp_path / "e.jsonl", "--out", tmp_path / "f.jsonl", "--format", "messages")
    assert "cut" not in said_of.stderr
    ordered = [wanted[n] for n in kept]
    assert lines(tmp_path / "f.jsonl") == ordered
    forms = list(FORMS)
    plain = [n for n in kept if forms[n] not in {"parts", "calls among parts"}]
    rows = [row for row in lines(tmp_path / "e.jsonl") if row["n"] in plain]  # a column of Parquet has one type
    (tmp_path / "g.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    ran("export", tmp_path / "g.jsonl", "--out", tmp_path / "f.parquet", "--format", "messages")
    for found, n in zip(pq.read_table(tmp_path / "f.parquet").to_pylist(), plain, strict=True):
        assert orjson.loads(found["tools"]) == TOOLS
        back = SHAPES["messages"](imported({"messages": found["messages"]}))["messages"]
        assert back == calls_as_text(wanted[n])["messages"]
    mixed = in_process("export", tmp_path / "e.jsonl", "--out", tmp_path / "m.parquet", "--format", "messages")
    assert mixed.code == 5
    assert ".jsonl holds any" in " ".join(mixed.stderr.split())
    cut = ran("export", tmp_path / "e.jsonl", "--out", tmp_path / "f.json", "--format", "alpaca", "--json")
    assert cut.json["cut"] == len(FORMS)
    assert f"--format alpaca cuts {len(FORMS)} examples" in cut.stderr


def test_contamination_is_looked_for_in_all_turns(tmp_path: Path):
    """A later question, an answer, and a rejected answer that a benchmark has."""
    benchmark = "Which of the four moons that Galileo saw is the largest one"
    rows = [
        {"messages": [said("user", "Hi"), said("assistant", "Hello."), said("user", benchmark), said("assistant", "c")]},
        {"messages": [said("user", "Hi you"), said("assistant", "Hello."), said("user", "Ask me"), said("assistant", benchmark)]},
        {"prompt": "Ask me something", "chosen": "No.", "rejected": benchmark},
        {"prompt": "Say nothing", "completion": "No."},
    ]  # fmt: skip
    (tmp_path / "talks.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    (tmp_path / "benchmark.jsonl").write_bytes(orjson.dumps({"question": benchmark}) + b"\n")
    found = ran(
        *("decontaminate", tmp_path / "talks.jsonl", "--against", tmp_path / "benchmark.jsonl"),
        *("--out", tmp_path / "out", "--json"),
    )
    assert (found.json["kept"], found.json["dropped"]) == (1, 3)


def test_prompts_without_answers_can_be_worked_with(tmp_path: Path):
    """Imported, filtered, sampled and analyzed; that they have no answers is counted and told."""
    prompts = [f"Explain the {n}. rule of {topic}" for n in range(3) for topic in ("chess", "law", "grammar")]
    (tmp_path / "asked.jsonl").write_bytes(b"".join(orjson.dumps({"prompt": text}) + b"\n" for text in prompts))
    result = ran("import", tmp_path / "asked.jsonl", "--out", tmp_path / "data", "--json")
    assert result.json["unanswered"] == len(prompts)
    assert "without an answer: 9 of 9 examples" in result.stderr
    ran("filter", tmp_path / "data", "--out", tmp_path / "kept", "--threshold", "0.9")
    ran("sample", tmp_path / "kept", "-n", "4", "--out", tmp_path / "some.jsonl")
    ran("analyze", tmp_path / "kept", "--out", tmp_path / "figures.json")
    result = ran("export", tmp_path / "kept", "--out", tmp_path / "p.jsonl", "--format", "prompt-completion", "--json")
    assert result.json["unanswered"] == result.json["examples"] > 0
    assert all(row["completion"] == [] for row in lines(tmp_path / "p.jsonl"))


def test_columns_that_no_example_uses_are_told(tmp_path: Path):
    """By name and count, at the import and at an export to a format without them; they stay beside the examples."""
    rows = [{"question": "q", "answer": "a", "hint": "h", "n": 1}, {"question": "r", "answer": "b", "hint": ""}]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["question", "answer", "hint", "n"])
        table.writeheader()
        table.writerows(rows)
    (tmp_path / "x.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    for name in ("x.csv", "x.jsonl"):
        result = ran("import", tmp_path / name, "--out", tmp_path / "data")
        assert "hint (1)" in result.stderr
        assert [row["hint"] for row in lines(tmp_path / "data" / "dataset.jsonl")] == ["h", ""]
    assert "hint (1)" in ran("export", tmp_path / "x.jsonl", "--out", tmp_path / "y.json", "--format", "alpaca").stderr


def test_a_column_called_source_survives_a_merge(tmp_path: Path):
    """Where an example comes from is ours to say; what the file says of it is kept with the other clashing columns."""
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps({"question": "q", "answer": "a", "source": "web", "id": 7}) + b"\n")
    (tmp_path / "b.jsonl").write_bytes(orjson.dumps({"question": "r", "answer": "b"}) + b"\n")
    ran("merge", tmp_path / "a.jsonl", tmp_path / "b.jsonl", "--out", tmp_path / "out")
    first, second = lines(tmp_path / "out" / "dataset.jsonl")
    assert (first["source"], first["imported"]) == ("a", {"id": 7, "source": "web"})
    assert (second["source"], second["source_id"], "imported" in second) == ("b", "0-0", False)


def test_a_pair_is_refused_by_name(tmp_path: Path):
    """Code 5, the example, the format that holds it, and no file; that format writes it."""
    (tmp_path / "x.jsonl").write_bytes(orjson.dumps(PAIRS[0]) + b"\n")
    result = in_process("export", tmp_path / "x.jsonl", "--out", tmp_path / "y.jsonl", "--format", "messages")
    assert result.code == 5
    assert "example 0-0: it is a pair" in " ".join(result.stderr.split())
    assert not (tmp_path / "y.jsonl").exists()
    ran("export", tmp_path / "x.jsonl", "--out", tmp_path / "y.parquet", "--format", "preference")
    assert pq.read_table(tmp_path / "y.parquet").to_pylist()[0]["rejected"] == [said("assistant", "Rome.")]


@pytest.mark.parametrize("row", [PAIRS[0], {"prompt": "Which colour is grass?", "completion": "Red", "label": False}])
def test_the_published_form_takes_no_preference(tmp_path: Path, row: dict[str, Any]):
    """Its files would show a rejected answer as any other: code 5, and no folder. An empty answer in it is counted."""
    (tmp_path / "x.jsonl").write_bytes(orjson.dumps(row) + b"\n")
    published = ("export", tmp_path / "x.jsonl", "--out", tmp_path / "y", "--format", "explore-instruct")
    result = in_process(*published)
    assert result.code == 5
    assert "example 0-0: it" in " ".join(result.stderr.split())
    assert not (tmp_path / "y").exists()
    (tmp_path / "x.jsonl").write_bytes(b'{"instruction": "Name a sea.", "output": ""}\n')
    result = ran(*published, "--json")
    assert "without an answer: 1 example" in result.stderr
    assert result.json["unanswered"] == 1
    assert in_process(*published, "--all-answers").code == 2
