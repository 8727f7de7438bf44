"""Tells what a model thought from what it answers, by the marks that today's models and engines put around thoughts.

A mark inside an item is data: an example may be about these marks. So the caller names the places that hold items.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]
Shields: TypeAlias = Callable[[str, int, int], Iterator[Span]]
"""The places of a text, from a position on and in order, whose marks are data; none where none begins before the second
position.
"""

_NEVER = "(?!)"
_TAG = r"(?:\w{1,20}[:_])?(?:think|thinking|thought|reasoning|reflection|scratch_?pad)"
_FINAL_CHANNEL = r"(?:<\|start\|>assistant)?<\|channel\|>final(?:[^<]{0,80}(?:<\|constrain\|>[^<]{0,80})?)<\|message\|>"
_GOES_ON = r"(?:(?-i:(?=[A-Z]))|(?=[\s\S]*?assistant\s?final))"
_FRAME = (
    rf"(?:{_FINAL_CHANNEL}|<\|START_(?:RESPONSE|TEXT)\|>|<\|open\|>response<\|sep\|>"
    r"|<\|begin_of_(?:solution|box)\|>|<answer>|<response>)"
)
"""Marks of an answer's beginning, which may follow the thoughts."""


@dataclass(frozen=True, slots=True)
class _Marks:
    """A row of the table: the marks of a kind, as patterns. `alone`: the closing mark also says it without an opening
    mark, which the chat template may have written.
    """

    of: str
    opening: str
    closing: str
    alone: bool = True


_TABLE: Final = (
    _Marks("DeepSeek, Qwen, GLM, MiniMax, Seed, LongCat, EXAONE, Granite 3.3", rf"<{_TAG}>", rf"</{_TAG}>"),
    _Marks("Mistral", r"(?-i:\[THINK\])", r"(?-i:\[/THINK\])"),
    _Marks("Cohere", r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    _Marks("Kimi", "◁think▷", "◁/think▷"),
    _Marks("Kimi K3", r"<\|open\|>think<\|sep\|>", r"<\|close\|>think<\|sep\|>"),
    _Marks("Gemma 4", r"<\|channel>thought\b", r"<channel\|>"),
    _Marks("Solar", r"<\|think:start\|>", r"<\|think:end\|>"),
    _Marks("Apertus", r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    _Marks("OpenThinker", r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    _Marks("Pangu", r"\[unused16\]", r"\[unused17\]"),
    _Marks(
        "gpt-oss (harmony)",
        r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)[^<]{0,80}<\|message\|>",
        rf"(?:<\|(?:end|call|return)\|>|{_FINAL_CHANNEL})",
        alone=False,
    ),
    _Marks("gpt-oss, from the final channel on", _NEVER, _FINAL_CHANNEL),
    _Marks("answers without thoughts", _NEVER, rf"\A\s*{_FRAME}"),
    _Marks("gpt-oss without special tokens", rf"\A\s*analysis{_GOES_ON}", r"assistant\s?final", alone=False),
    _Marks("Granite 3.2", r"\A\s*Here(?:'s| is) my thought process:", r"Here(?:'s| is) my response:", alone=False),
    _Marks("Apriel", r"\A\s*Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]", alone=False),
)
_CLOSING_OF: Final = {
    f"open{number}": re.compile(rf"{row.closing}(?:\s*{_FRAME})?", re.IGNORECASE) for number, row in enumerate(_TABLE)
}
"""By the group that opens."""


def _any_of(*, at_start: bool) -> re.Pattern[str]:
    """The marks that may stand anywhere, or those that only begin a text."""
    openings = [(f"open{number}", row.opening) for number, row in enumerate(_TABLE)]
    closings = "|".join(row.closing for row in _TABLE if row.alone and row.closing.startswith(r"\A") is at_start)
    groups = [(name, pattern) for name, pattern in openings if pattern.startswith(r"\A") is at_start]
    groups.append(("close", rf"(?:{closings})(?:\s*{_FRAME})?"))
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in groups), re.IGNORECASE)


_AT_START: Final = _any_of(at_start=True)
_ANYWHERE: Final = _any_of(at_start=False)
_FIRST_CHARACTER: Final = re.compile(r"[<\[◁]")
"""Of every mark that may stand anywhere: looking for it first is a hundred times as quick."""
_ENDING: Final = re.compile(
    r"(?:<\|(?:end|return|im_end|endoftext|eot_id|END_(?:TEXT|RESPONSE)|end_of_(?:solution|box))\|>"
    r"|<\|close\|>(?:response|message)<\|sep\|>|</(?:answer|response|s)>|\[END FINAL RESPONSE\])\Z"
)
"""A mark that some servers leave at the end of an answer."""
_LONGEST_ENDING = 40


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a text: the answer, and the thoughts without their marks."""

    answer: str
    thoughts: str


def split(text: str, shields: Shields) -> Parts:
    """Thoughts are what marks enclose, what follows an opening mark that is never closed, and what precedes a closing
    mark that was never opened.
    """
    answer: list[str] = []
    thoughts: list[str] = []
    position = 0
    while (mark := _next(text, position, shields)) is not None:
        before, position = text[position : mark.start()], mark.end()
        closing = _CLOSING_OF.get(mark.lastgroup or "")
        if closing is None:
            thoughts += [*answer, before]
            answer.clear()
            continue
        answer.append(before)
        end = closing.search(text, position)
        thoughts.append(text[position : len(text) if end is None else end.start()])
        position = len(text) if end is None else end.end()
    answer.append(text[position:])
    return Parts(_without_endings("".join(answer)), "\n".join(filter(None, map(str.strip, thoughts))))


def _without_endings(text: str) -> str:
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        if (ending := _ENDING.search(text, max(0, end - _LONGEST_ENDING), end)) is None:
            return text[:end]
        end = ending.start()


def marks(text: str, start: int, end: int) -> Iterator[re.Match[str]]:
    """The marks in a part of a text, whatever they mean there."""
    if start == 0 and (mark := _AT_START.match(text, 0, end)) is not None:
        yield mark
        start = mark.end()
    while (mark := _search(text, start, end)) is not None:
        yield mark
        start = mark.end()


def _search(text: str, start: int, end: int) -> re.Match[str] | None:
    for place in _FIRST_CHARACTER.finditer(text, start, end):
        if (mark := _ANYWHERE.match(text, place.start(), end)) is not None:
            return mark
    return None


def is_closing(mark: re.Match[str]) -> bool:
    return mark.lastgroup == "close"


def _next(text: str, position: int, shields: Shields) -> re.Match[str] | None:
    """The first mark from `position` on that no shield covers."""
    found = marks(text, position, len(text))
    if (mark := next(found, None)) is None:
        return None
    for start, end in shields(text, position, mark.start()):
        if mark.start() < start:
            return mark
        while mark.start() < end:
            if (mark := next(found, None)) is None:
                return None
    return mark
