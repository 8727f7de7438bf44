"""Instruction, input and output of a row, whatever its columns are called. Pure.

What is understood without being told: instruction/input/output, prompt/completion (or response), question/answer, and
conversations as `messages` (role, content) or `conversations` (from, value). Of a conversation the first exchange is
taken; where it goes on, or begins with a system message, the whole of it stays beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from explore_async.curation.files.fields import FieldError, field_of, text_of
from explore_async.errors import ConfigError

TEXTS = ("instruction", "input", "output")
TASK = "task"
_PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("instruction", "completion"),
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "output"),
    ("question", "answer"), ("question", "response"), ("query", "response"),
)  # fmt: skip
_TALKS = (("messages", "role", "content"), ("conversations", "from", "value"), ("conversation", "role", "content"))
_USERS = ("user", "human", "prompter")
_ASSISTANTS = ("assistant", "gpt", "model", "chatgpt", "bot")
_ONE_EXCHANGE = 2


class Exchange(NamedTuple):
    """What a row says. `rest`: its other columns."""

    instruction: str
    input: str
    output: str
    rest: Mapping[str, Any]


def columns_from(pairs: Sequence[str]) -> dict[str, str]:
    """`instruction=prompt` and the like, as the command line has them. Raises ConfigError."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in {*TEXTS, TASK}:
            raise ConfigError(
                f"--column {pair}: write it as OURS=THEIRS, where OURS is instruction, input, output or task"
            )
        columns[ours] = theirs
    return columns


def reader(columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Exchange]:
    """A function from a row to what it says; it raises FieldError. `columns`: theirs by ours, dotted paths allowed."""
    named = {ours: theirs for ours, theirs in columns.items() if ours in TEXTS}
    if not named:
        return _guessed

    def read(row: Mapping[str, Any]) -> Exchange:
        instruction = text_of(row, [named.get("instruction", "instruction")])
        output = text_of(row, [named.get("output", "output")])
        given = named.get("input")
        value = row.get("input") if given is None else field_of(row, given)
        used = {"input", *(named.get(ours, ours).partition(".")[0] for ours in TEXTS)}
        return Exchange(instruction, _optional(value, given or "input"), output, _without(row, used))

    return read


def _guessed(row: Mapping[str, Any]) -> Exchange:
    for talk, role, content in _TALKS:
        if isinstance(row.get(talk), list) and row[talk]:
            return _first_exchange(row, talk, role, content)
    for asked, answered in _PAIRS:
        if asked in row and answered in row:
            if isinstance(row[asked], list) or isinstance(row[answered], list):
                return _conversational(row, asked, answered)
            given = _optional(row.get("input"), "input")
            used = {asked, answered, "input"}
            return Exchange(text_of(row, [asked]), given, text_of(row, [answered]), _without(row, used))
    columns = ", ".join(list(row)[:8]) or "nothing"
    raise FieldError(
        f"no instruction and output among its fields ({columns}); name them: "
        "--column instruction=FIELD --column output=FIELD"
    )


def _first_exchange(row: Mapping[str, Any], talk: str, role: str, content: str) -> Exchange:
    turns = row[talk]
    if any(not isinstance(turn, Mapping) for turn in turns):
        raise FieldError(f"field {talk} is no list of objects")
    asked = next((turn for turn in turns if turn.get(role) in _USERS), None)
    answered = next((turn for turn in turns if turn.get(role) in _ASSISTANTS), None)
    if asked is None or answered is None:
        raise FieldError(f"field {talk} has no turn of a user and one of an assistant ({role})")
    texts = [turn.get(content) for turn in (asked, answered)]
    for text in texts:
        if not isinstance(text, str):
            raise FieldError(f"field {talk}: {content} is no text")
    rest = _without(row, set() if len(turns) > _ONE_EXCHANGE else {talk})
    return Exchange(str(texts[0]), "", str(texts[1]), rest)


def _conversational(row: Mapping[str, Any], asked: str, answered: str) -> Exchange:
    """TRL's conversational prompt-completion: both are lists of messages."""
    turns = [row[name] if isinstance(row[name], list) else [] for name in (asked, answered)]
    joined = {**_without(row, {asked, answered}), "messages": [*turns[0], *turns[1]]}
    return _first_exchange(joined, "messages", "role", "content")


def _optional(value: Any, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise FieldError(f"field {name} is no text")
    return value or ""


def _without(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: row[name] for name in row if name not in names}
