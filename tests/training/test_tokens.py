"""The mask of what is learned, rows that are too long, and the templates: with Jinja and a tokenizer of words and signs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from explore_async.errors import ConfigError
from explore_async.training.alpaca import alpaca_template
from explore_async.training.examples import Turns, with_input_below
from explore_async.training.tokens import Encoded, encode, fit

CHAT = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
FORGETS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' and loop.last and m.reasoning_content %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""A template that leaves the thoughts of earlier turns out, as those of reasoning models do."""
THINKS = CHAT.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>' }}")
"""One whose prompt begins the thoughts, which answers without any do not have."""
TEXTS = st.text(alphabet="ab \n.é字<|", min_size=1, max_size=12)


class Tokenizer:
    """Tokens are marks, words, and single other characters, of `text`, so that they join to it again."""

    def __init__(self, template: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self.template = environment.from_string(template)
        self.read: list[list[str]] = []

    def apply_chat_template(self, conversation: list[dict[str, Any]], *, tokenize: bool, **options: Any) -> str:
        assert not tokenize
        marks = {"bos_token": "<s>", "eos_token": "</s>"}
        return self.template.render(messages=conversation, **marks, **options)

    def __call__(self, texts: list[str], **options: Any) -> dict[str, Any]:
        assert options == {
            "add_special_tokens": False,
            "return_offsets_mapping": True,
            "return_attention_mask": False,
        }
        found = [list(re.finditer(r"<\|\w+\|>|</?\w+>|\w+|.", text, re.DOTALL)) for text in texts]
        self.read += [[match[0] for match in matches] for matches in found]
        return {
            "input_ids": [list(range(len(matches))) for matches in found],
            "offset_mapping": [[match.span() for match in matches] for matches in found],
        }


def learned(turns: Turns, template: str) -> tuple[str, str, Encoded]:
    """The text that is learned, the rest, and the row."""
    tokenizer = Tokenizer(template)
    (row,) = encode([turns], tokenizer)
    (tokens,) = tokenizer.read
    assert len(tokens) == len(row.ids) == len(row.learned)
    parts = ["".join(t for t, mark in zip(tokens, row.learned, strict=True) if mark == wanted) for wanted in (1, 0)]
    return parts[0], parts[1], row


def talk(*contents: str, system: str | None = None) -> Turns:
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages += [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(contents)]
    return Turns(messages, tuple(n for n, message in enumerate(messages) if message["role"] == "assistant"))


@settings(max_examples=50)
@given(contents=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), system=st.none() | TEXTS)
def test_the_answers_with_their_end_marks_are_learned_and_nothing_else(contents, system) -> None:
    """Of any conversation, whatever is in its texts: each answer with the mark after it, and no letter of a prompt."""
    turns = talk(*(text for pair in contents for text in pair), system=system)
    found, rest, row = learned(turns, CHAT)
    assert found == "".join(f"{answer}<|end|>\n" for _, answer in contents)
    asked = "".join(f"<|user|>{question}<|end|>\n<|assistant|>" for question, _ in contents)
    assert rest == ("" if system is None else f"<|system|>{system}<|end|>\n") + asked
    assert row.answer_bytes == sum(len(answer.encode()) for _, answer in contents)
    assert row.turns_left_out == 0
    assert row.learned_tokens == sum(row.learned)


def test_an_answer_that_is_rewritten_later_is_left_out_and_counted() -> None:
    """Where a template drops the thoughts of earlier turns, these answers are not learned in another form than they have
    when they are given; the last one is learned with its thoughts.
    """
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "x"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "reasoning_content": "y"},
    ]
    found, _, row = learned(Turns(messages, (1, 3)), FORGETS)
    assert found == "<think>y</think>d<|end|>"
    assert row.turns_left_out == 1


def test_a_prompt_that_says_more_than_the_answer_begins_where_they_part() -> None:
    """A prompt that opens thoughts is no beginning of an answer without them: what they have in common is the prompt."""
    found, rest, _ = learned(talk("a", "b"), THINKS)
    assert (found, rest) == ("b<|end|>\n", "<|user|>a<|end|>\n<|assistant|>")


def test_a_template_that_raises_is_an_error_for_people() -> None:
    """Some templates take no system prompt, and say so in their own words."""
    with pytest.raises(ConfigError, match=r"does not take the conversation that begins 'be kind'.*undefined"):
        list(encode([talk("a", "b", system="be kind")], Tokenizer("{{ nothing.here }}")))


@pytest.mark.parametrize("begins", [False, True])
def test_alpacas_template_is_alpacas(begins: bool) -> None:
    """With an input, without one, with a system prompt and with more turns; only a tokenizer that begins texts with its
    first token gets that.
    """
    opening = "Below is an instruction that describes a task"
    request = ". Write a response that appropriately completes the request.\n\n"
    template, bos = alpaca_template(begins_with_bos=begins), "<s>" if begins else ""
    plain = Turns([{"role": "user", "content": "Add."}, {"role": "assistant", "content": "3"}], (1,))
    found, rest, _ = learned(plain, template)
    assert (found, rest) == ("3</s>", f"{bos}{opening}{request}### Instruction:\nAdd.\n\n### Response:\n")
    given_input = Turns([{**plain.messages[0], "input": "1, 2"}, plain.messages[1]], (1,))
    _, rest, _ = learned(given_input, template)
    further = ", paired with an input that provides further context"
    assert rest == f"{bos}{opening}{further}{request}### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n"
    found, rest, _ = learned(talk("a", "b", "c", "d", system="Be kind."), template)
    assert found == "b</s>d</s>"
    assert rest == (
        f"{bos}Be kind.\n\n{opening}{request}### Instruction:\na\n\n### Response:\n\n\n"
        "### Instruction:\nc\n\n### Response:\n"
    )


def test_a_chat_template_gets_the_input_below_the_instruction() -> None:
    """As all formats of an export have it; other keys of a message stay."""
    turns = Turns([{"role": "user", "content": "Add.", "input": "1, 2"}, {"role": "assistant", "content": "3", "x": 1}], (1,))  # fmt: skip
    assert with_input_below(turns).messages == [{"role": "user", "content": "Add.\n\n1, 2"}, turns.messages[1]]


def test_rows_that_were_cut_are_told_from_rows_without_an_answer() -> None:
    """A short row in which no token is learned is left out, and takes nothing from the number of those that were cut."""
    from array import array

    nothing, long = (Encoded(array("i", range(len(learned))), learned, 0, 0) for learned in (b"\0\0", b"\0\1\1\1"))
    fitted = fit([nothing, long], 3, "cut", "training")
    assert (len(fitted.rows), fitted.cut, fitted.skipped) == (1, 1, 1)


ROWS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=20)


@given(shapes=ROWS, most=st.integers(1, 40))
def test_what_is_too_long_is_counted_and_nothing_is_lost_in_silence(shapes: list[tuple[int, int]], most: int) -> None:
    """Rows of a prompt and an answer: each is whole, cut or left out, and the counts say which; stop names a length that
    holds all.
    """
    from array import array

    rows = [Encoded(array("i", range(p + a)), b"\0" * p + b"\1" * a, a, 0) for p, a in shapes]
    over = [p + a > most for p, a in shapes]
    nothing_left = [is_over and p >= most for (p, _), is_over in zip(shapes, over, strict=True)]

    def fitted(how):
        try:
            return fit(rows, most, how, "training")
        except ConfigError as error:
            return str(error)

    stop, cut, skip = map(fitted, ("stop", "cut", "skip"))
    if not any(over):
        assert stop.rows == cut.rows == skip.rows == rows
        assert stop.skipped == cut.cut == skip.skipped == 0
        return
    longest = max(p + a for p, a in shapes)
    assert f"{sum(over)} of {len(rows)} training row" in stop
    assert f"--max-length {longest} takes all" in stop
    assert (f"({sum(nothing_left)} of them before their answer begins)" in stop) == any(nothing_left)
    assert fit(rows, longest, "stop", "training").rows == rows
    if isinstance(skip, str):
        assert all(over)
    else:
        assert skip.rows == [row for row, is_over in zip(rows, over, strict=True) if not is_over]
        assert (skip.cut, skip.skipped) == (0, sum(over))
    if isinstance(cut, str):
        assert all(nothing_left)
    else:
        assert len(cut.rows) + cut.skipped == len(rows)
        assert cut.skipped == sum(nothing_left)
        assert cut.cut == sum(over) - sum(nothing_left)
        assert all(len(row.ids) <= most and row.learned_tokens for row in cut.rows)
