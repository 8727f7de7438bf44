"""Turns within one text, between the marks of a prompt format. Pure."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from explore_async.curation.files.turns import (
    ALTERNATING,
    Turn,
    TurnError,
    assistant_turn,
    read_turns,
    system_turn,
    tool_turn,
    user_turn,
    with_calls,
)

_MAKERS = {
    **dict.fromkeys(("human", "user", "prompter", "instruction"), user_turn),
    **dict.fromkeys(("assistant", "gpt", "bot", "response"), assistant_turn),
    **dict.fromkeys(("function response", "tool", "observation"), tool_turn),
    "system": system_turn,
}


class _Style(NamedTuple):
    mark: re.Pattern[str]
    """Stands before a turn; its group is the role."""
    is_exact: bool = False
    """True where each space and mark behind a turn is of its text."""


_STYLES = (
    _Style(re.compile(r"(?:^|\n\n)(Human|Assistant): ?"), is_exact=True),  # hh-rlhf
    _Style(re.compile(r"### ?(Human|User|Assistant|System): ?")),  # guanaco
    _Style(re.compile(r"(?:^|\n)### ?(Instruction|Response|System):[ \n]*")),  # alpaca
    _Style(re.compile(r"<\|im_start\|>(user|assistant|system|tool)\n")),  # ChatML
    _Style(re.compile(r"<\|start_header_id\|>(user|assistant|system)<\|end_header_id\|>\n*")),  # Llama 3
    _Style(re.compile(r"<\|(user|prompter|assistant|system)\|>\n?")),  # Zephyr, OpenAssistant
    _Style(re.compile(r"<(human|bot)>: ?")),  # OIG
    _Style(re.compile(r"(?:^|\s|(?<=</s>))(USER|ASSISTANT|SYSTEM|FUNCTION RESPONSE): ?")),  # Vicuna, Glaive
)
_BEGIN = re.compile(r"(?:<s>|<\|begin_of_text\|>)?\s*(?:Below is an instruction that describes a task[^\n]*\s+)?")
_ENDS = ("</s>", "<|endoftext|>", "<|eot_id|>", "<|im_end|>")
_INPUT = re.compile(r"### ?Input:\s*")
_LLAMA_2_END = "[/INST]"
_LLAMA_2 = re.compile(r"(?:<s>\s*)?\[INST\](.*?)\[/INST\]", re.DOTALL)
_LLAMA_2_SYSTEM = re.compile(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)
_HH = _STYLES[0]


def read_transcript(text: str) -> list[Turn]:
    """The turns of a text that begins with an empty line and `Human:`, as in hh-rlhf; none of another text."""
    return _read(text, _HH, len("\n\n")) if text.startswith("\n\nHuman:") else []


def read_marked_text(text: str) -> list[Turn]:
    """The turns of a text in the prompt format of a known model or dataset; none of another text.

    The text begins with a mark, and no turn is followed by one of the same role, so that a mark within a text that is
    no conversation does not make one of it.
    """
    if turns := read_transcript(text):
        return turns
    begin = _BEGIN.match(text)
    start = 0 if begin is None else begin.end()
    if text.startswith("[INST]", start):
        return _llama_2(text[start:])
    if text.startswith("### Instruction:", start):
        text = _with_input(text)
    for style in _STYLES:
        if style.mark.match(text, start) is not None and _is_alternating(turns := _read(text, style, start)):
            return with_calls(turns)
    return []


def read_column(name: str, value: Any) -> list[Turn]:
    """The turns in a column: in any form of `read_turns`, or in a text with marks. Raises TurnError."""
    if isinstance(value, str) and (value.startswith("[INST]") or not value.lstrip().startswith(("[", "{"))):
        if not (turns := read_marked_text(value)):
            raise TurnError("is not a list of objects")
        return turns
    return read_turns(value, alternating=name in ALTERNATING)


def _read(text: str, style: _Style, start: int) -> list[Turn]:
    pieces = style.mark.split(text[start:])
    return [
        _MAKERS[role.lower()](said if style.is_exact else _without_end(said))
        for role, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _without_end(said: str) -> str:
    """Without the spaces at the end, and the mark of an end among them."""
    said = said.rstrip()
    end = next(filter(said.endswith, _ENDS), "")
    return said.removesuffix(end).rstrip()


def _with_input(text: str) -> str:
    """The first input behind an empty line, without its mark."""
    if (mark := _INPUT.search(text)) is None:
        return text
    return f"{text[: mark.start()].rstrip()}\n\n{text[mark.end() :]}"


def _is_alternating(turns: list[Turn]) -> bool:
    parts = [turn.part for turn in turns]
    return {"user", "assistant"} <= set(parts) and all(part != after for part, after in pairwise(parts))


def _llama_2(text: str) -> list[Turn]:
    before, end, last = text.rpartition(_LLAMA_2_END)  # searched no further: else quadratic in time
    pieces = _LLAMA_2.split(before + end)
    pieces[-1] += last
    turns: list[Turn] = []
    for asked, answered in zip(pieces[1::2], pieces[2::2], strict=True):
        if (system := _LLAMA_2_SYSTEM.match(asked)) is not None:
            turns.append(system_turn(system[1]))
        turns.append(user_turn(asked[0 if system is None else system.end() :].strip()))
        if answer := _without_end(answered).lstrip():
            turns.append(assistant_turn(answer))
    return turns
