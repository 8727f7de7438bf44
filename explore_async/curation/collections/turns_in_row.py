"""Turns and pairs of answers in the columns of a row, under any of their names. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.nested_turns import are_numbered
from explore_async.curation.files.transcripts import read_column, read_marked_text, read_transcript
from explore_async.curation.files.turns import (
    TALKS,
    Turn,
    TurnError,
    assistant_turn,
    has_turns,
    read_turns,
    user_turn,
)

QUESTIONS = ("instruction", "prompt", "question", "query", "problem")
ANSWERS = ("output", "completion", "response", "answer", "solution", "chosen")
OTHER_TALKS = ("text", "data")
"""Columns that have turns in some files: in a text with the marks of a prompt format, and as a list of texts."""
_LISTS = ("input", "output")
"""Columns with the texts of a user and those of an assistant, in some files."""
_SURE_TALKS = TALKS[:3]
"""The others are also names of something else: such columns are passed over where they are no turns."""
_PAIRS = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"))
OF_TURNS = frozenset({*TALKS, *(name for pair in _PAIRS for name in pair)})
"""Names of columns with turns, and with answers of a pair."""


def answer_of(row: Mapping[str, Any], name: str) -> str:
    """The answer in a column: a text, or a turn or turns with one. Raises FieldError."""
    return next((turn.text for turn in side_of(row[name], name) if turn.part == "assistant" and turn.text), "")


def pair_in(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The columns with a chosen and a rejected answer, where the row has both."""
    if OF_TURNS.isdisjoint(row):
        return None  # nearly always
    return next((pair for pair in _PAIRS if all(isinstance(row.get(name), str | list | dict) for name in pair)), None)


Written: TypeAlias = tuple[list[Turn], int | None, Sequence[Turn] | None, tuple[str, ...]]
"""Turns, where the completion begins, the rejected turns, and the columns of these."""


def written_in(row: Mapping[str, Any]) -> Written | None:
    """The turns of a row; None where it has none. Raises FieldError for turns that cannot be read."""
    pair = pair_in(row)
    sides = None if pair is None else [side_of(row[name], name) for name in pair]
    if pair is not None and sides is not None and all(any(turn.part == "user" for turn in side) for side in sides):
        split = _common(*sides)
        return sides[0], split, sides[1][split:], pair
    for name in TALKS:
        value = row.get(name)
        if not value or not may_be_turns(value):
            continue
        try:
            turns = read_column(name, value)
        except TurnError as error:
            if name not in _SURE_TALKS or isinstance(value, str):
                continue
            raise FieldError(f"field {name} {error}") from error
        if sides is not None and pair is not None:
            return [*turns, *sides[0]], len(turns), sides[1], (name, *pair)
        return turns, None, None, (name,)
    return _prompted(row, pair, sides) or _in_another_column(row)


def _prompted(row: Mapping[str, Any], pair: tuple[str, str] | None, sides: list[list[Turn]] | None) -> Written | None:
    """A prompt and a completion, of which one at least has turns."""
    asked, answered = _first(row, QUESTIONS), _first(row, [name for name in ANSWERS if name not in (pair or ())])
    if asked is None or not any(_are_turns(row[name]) for name in (asked, answered) if name is not None):
        return None
    prompt = [user_turn(row[asked])] if isinstance(row[asked], str) else side_of(row[asked], asked)
    if pair is not None and sides is not None:
        return [*prompt, *sides[0]], len(prompt), sides[1], (asked, *pair)
    if prompt[-1].part == "assistant" and not (answered and _are_turns(row[answered])):
        return prompt, None, None, (asked,)  # a conversation in a column of prompts
    if answered is None or not row[answered]:
        return prompt, len(prompt), None, (asked,)
    return [*prompt, *side_of(row[answered], answered)], len(prompt), None, (asked, answered)


def _in_another_column(row: Mapping[str, Any]) -> Written | None:
    """Turns in columns whose names say nothing of them, in a row without a question."""
    if any(name in row for name in QUESTIONS):
        return None
    asked, answered = (row.get(name) for name in _LISTS)
    if _are_texts(asked) and _are_texts(answered) and len(asked) == len(answered):
        turns = read_turns([list(pair) for pair in zip(asked, answered, strict=True)])
        return turns, None, None, _LISTS
    text, data = (row.get(name) for name in OTHER_TALKS)
    if isinstance(text, str) and (turns := read_marked_text(text)):
        return turns, None, None, OTHER_TALKS[:1]
    is_talk = _are_texts(data) and len(data) > 1
    return (read_column(OTHER_TALKS[1], data), None, None, OTHER_TALKS[1:]) if is_talk else None


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the columns that has turns, or else that is there."""
    there = [name for name in names if name in row]
    return next((name for name in there if _are_turns(row[name])), next(iter(there), None))


def _are_turns(value: Any) -> bool:
    """True for a turn, for a list of turns or exchanges, and for a list of rounds of turns."""
    if isinstance(value, Mapping):
        return "role" in value or "from" in value
    return has_turns(value) or (isinstance(value, list) and bool(value) and all(map(has_turns, value)))


def side_of(value: Any, name: str) -> list[Turn]:
    """One of several answers: a text, a transcript, a turn or turns."""
    if isinstance(value, str):
        return read_transcript(value) or [assistant_turn(value)]
    if not _are_turns(value):
        raise FieldError(f"field {name} is neither a text nor a list of turns")
    try:
        return read_turns(value)
    except TurnError as error:
        raise FieldError(f"field {name} {error}") from error


def _common(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> int:
    """The number of turns that both begin with, at most up to the last turn of a user."""
    most = max(place for place, turn in enumerate(chosen) if turn.part == "user") + 1
    pairs = enumerate(zip(chosen[:most], rejected, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(most, len(rejected)))


def may_be_turns(value: Any) -> bool:
    """False for a value that is in no form of turns."""
    return isinstance(value, list | str) or are_numbered(value)
