"""Thoughts are told from answers by the marks of many models, and marks within an item are data."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.parsing import (
    ExampleDraft,
    Unreadable,
    parse_examples,
    thoughts_of,
    without_reasoning,
)
from explore_async.exploration.values import Completion

DRAFT, KEPT = ExampleDraft("A draft of a task", "", "A draft"), ExampleDraft("Name a tree.", "", "Oak.")
THOUGHT = 'Well, 5" of {it}, "so'
PAIRS = [
    ("<think>", "</think>"),
    ("<THINKING>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<scratchpad>", "</scratchpad>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("◁think▷", "◁/think▷"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>"),
    ("[unused16]", "[unused17]"),
]
WITH_BOTH_ONLY = [
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel|>analysis<|message|>", "<|end|>"),
    ("analysisWe need an example. ", "assistantfinal"),
    ("Here is my thought process:", "Here is my response:"),
    ("Here's my thought process: ", "Here's my response: "),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
]


def written(draft: ExampleDraft, answer_format: str) -> str:
    if answer_format == "json":
        return orjson.dumps({"examples": [draft]}).decode()
    return f"### Instruction: {draft.instruction}\n### Input: {draft.input}\n### Output: {draft.output}\n### End\n"


def read(text: str, answer_format: str, reason: str = "stop") -> list[ExampleDraft | Unreadable]:
    return parse_examples(Completion(text, reason, 1, 1), answer_format)  # type: ignore[arg-type]


def thought(text: str, answer_format: str, reasoning: str = "") -> str:
    return thoughts_of(Completion(text, "stop", 1, 1, reasoning=reasoning), answer_format)  # type: ignore[arg-type]


@pytest.mark.parametrize(("opening", "closing"), [*PAIRS, *WITH_BOTH_ONLY])
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_a_draft_in_thoughts_is_no_example(opening: str, closing: str, answer_format: str) -> None:
    """The marks of each model enclose thoughts, which may hold whole items, braces and odd quotation marks; the answer
    behind them is read, and cut in the thoughts there is none.
    """
    draft, kept = written(DRAFT, answer_format), written(KEPT, answer_format)
    for lead in ("", "\n"):
        text = f"{lead}{opening}{THOUGHT}\n{draft}{closing}\n{kept}"
        assert read(text, answer_format) == [KEPT]
        assert draft.strip() in thought(text, answer_format)
        assert kept.strip() not in thought(text, answer_format)
    (item,) = read(f"{opening}maybe\n{draft}", answer_format, "length")
    assert isinstance(item, Unreadable)
    assert item.reason == "truncated"


@pytest.mark.parametrize(
    "closing", [closing for _, closing in PAIRS] + ["<|start|>assistant<|channel|>final<|message|>"]
)
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_thoughts_that_the_chat_template_opened(closing: str, answer_format: str) -> None:
    """A closing mark alone says that all before it was thought, an unfinished draft too; words may follow it."""
    draft, kept = written(DRAFT, answer_format), written(KEPT, answer_format)
    for before in (draft, f"{THOUGHT}\n{draft}", draft[: len(draft) // 2]):
        for after in ("", "\n\n", "Here it is:\n"):
            assert read(f"{before}\n{closing}{after}{kept}", answer_format) == [KEPT], (before, after)


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Sure:\n{}\nThat is all.", "<think>Hm.</think>{}"])
@pytest.mark.parametrize("answer_format", ["json", "text"])
def test_marks_within_an_item_are_data(opening: str, closing: str, around: str, answer_format: str) -> None:
    """An item may show thoughts, or be about their marks: both, the opening or the closing one alone."""
    if answer_format == "text" and "json" in around:
        pytest.skip("no fence there")
    for text in (f"{opening}12*12 = 144{closing}144", f"Where is {closing} in it?", f"{opening} stands first"):
        draft = ExampleDraft(f"Say what {closing} is", "", text)
        both = written(draft, answer_format)[: -2 if answer_format == "json" else None]
        both += f",{orjson.dumps(KEPT).decode()}]}}" if answer_format == "json" else written(KEPT, answer_format)
        assert read(around.replace("{}", both), answer_format) == [draft, KEPT]


@given(st.lists(st.sampled_from([*(mark for pair in PAIRS for mark in pair), "a", " ", "\n", '"', "{", "}", "[", ":", "\\"]), max_size=12).map("".join))  # fmt: skip
def test_no_text_of_a_whole_document_is_cut(text: str) -> None:
    """Whatever marks a document holds in its strings, it comes back as it was written."""
    draft = ExampleDraft(f"Say {text}.", "", f"It is {text}.")
    assert read(written(draft, "json"), "json") == [draft]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("a<think>b", "a"),
        ("<THINKING>a\n</thinking>\nb<reasoning>c</reasoning>d", "\nbd"),
        ("<think>a <think> b</think>c", "c"),
        ("a < b and <b>bold</b>", "a < b and <b>bold</b>"),
        ('{"a": "<think>b</think>"}', '{"a": "<think>b</think>"}'),
        ("<|channel|>analysis<|message|>a<|end|>b<|return|>", "b"),
        ("b<|end|>", "b"),
    ],
)
def test_thinking_is_no_answer(text: str, rest: str) -> None:
    """Thoughts are cut out whether closed, open at the end, or opened before the text began; other tags stay."""
    assert without_reasoning(text) == rest


@pytest.mark.parametrize("ending", ["<|return|>", "<|END_RESPONSE|>", "</answer>\n", "<|im_end|>"])
def test_end_marks_of_engines_are_no_text(ending: str) -> None:
    """An item that the model ended without its own end mark does not keep the engine's."""
    assert read(f"<think>a</think>### Instruction: Name a tree.\n### Output: Oak.{ending}", "text") == [KEPT]


def test_thoughts_come_from_both_places() -> None:
    """What the server told apart comes before what the text says; without any there are none."""
    text = written(KEPT, "json")
    assert thought(f"<think>two</think>{text}", "json", "one\n") == "one\ntwo"
    assert thought(text, "json") == thought(written(KEPT, "text"), "text") == ""


def test_an_answer_that_is_all_thought_is_truncated() -> None:
    """A completion that is cut in its reasoning has one reason and no item, even if the reasoning holds an item."""
    (item,) = read(f"<think>maybe {written(KEPT, 'json')}", "json", "length")
    assert isinstance(item, Unreadable)
    assert item.reason == "truncated"
