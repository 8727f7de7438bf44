"""Texts in the prompt formats of models."""

from __future__ import annotations

import time

import pytest

from explore_async.curation.files.transcripts import read_marked_text

FORMATS = {
    "ChatML": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "Llama 3": (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "Zephyr": ("<|user|>\n", "</s>\n<|assistant|>\n", "</s>\n"),
    "Vicuna": ("USER: ", " ASSISTANT: ", "</s>"),
    "Guanaco": ("### Human: ", "\n### Assistant: ", ""),
    "Alpaca": ("### Instruction:\n", "\n\n### Response:\n", "</s>"),
    "OIG": ("<human>: ", "\n<bot>: ", ""),
    "Llama 2": ("<s>[INST] ", " [/INST] ", "</s>"),
    "Mistral": ("[INST]", "[/INST]", ""),
}


@pytest.mark.parametrize("marks", FORMATS.values(), ids=FORMATS)
def test_no_space_and_no_mark_around_a_turn_is_part_of_it(marks: tuple[str, str, str]) -> None:
    """Each format gives the two turns, whatever spaces stand before and behind its marks."""
    begin, between, end = marks
    for spaces in ("", " ", "\n", " \n\n  "):
        text = f"{begin}Name a  fern.{spaces}{between}Bracken.{spaces}{end}{spaces}"
        said = [(turn.part, turn.text) for turn in read_marked_text(text)]
        assert said == [("user", "Name a  fern."), ("assistant", "Bracken.")]


@pytest.mark.parametrize("marks", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("piece", [" ", "\n", " \n", "#", "<", "</s>", "<s> ", "[INST]", "a "])
def test_a_long_run_is_read_in_linear_time(marks: tuple[str, str, str], piece: str) -> None:
    """100,000 characters of one piece inside a turn take at most a small multiple of what a tenth of them takes: a
    hundred times as much would be quadratic.
    """
    begin, between, end = marks

    def seconds(size: int) -> float:
        text = f"{begin}Indent this{piece * (size // len(piece))}please{between}Done.{end}"
        began = time.process_time()
        assert read_marked_text(text)
        return time.process_time() - began

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<s>[INST] q [/INST] use <s>strike</s> now </s>", ["q", "use <s>strike</s> now"]),
        ("<s>[INST] q [/INST] <s>a</s> b </s> <s> [INST] r [/INST] <s>c</s></s>", ["q", "<s>a</s> b", "r", "<s>c</s>"]),
        ("[INST] q [/INST] a [INST] r [/INST] b", ["q", "a", "r", "b"]),
        ("[INST] q [/INST]a</s>[INST] r [/INST]b</s>", ["q", "a", "r", "b"]),
        ("[INST] q [/INST] a turn begins with [INST] here", ["q", "a turn begins with [INST] here"]),
        ("[INST] q [/INST]", ["q"]),
        ("[INST] q", []),
    ],
)
def test_an_answer_of_llama_2_ends_where_the_next_turn_begins(text: str, said: list[str]) -> None:
    """The marks of HTML in an answer are part of it, and the turns behind it are not, with or without a mark of an end."""
    assert [turn.text for turn in read_marked_text(text)] == said
