"""Instruction, input and output of a row, with any names of columns. Pure.

Known names are instruction/input/output, prompt/completion (or response), question/answer, and conversations as
`messages` (role, content) or `conversations` (from, value). Of a conversation the first exchange is taken; where there
is more, or a system message at the beginning, the whole conversation stays among the other columns.
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
    """The texts of a row. `rest`: its other columns."""

    instruction: str
    input: str
    output: str
    rest: Mapping[str, Any]


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Columns from the form of the command line, such as `instruction=prompt`. Raises ConfigError."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in {*TEXTS, TASK}:
            raise ConfigError(
                f"--column {pair}: write it as OURS=THEIRS, where OURS is instruction, input, output or task"
            )
        columns[ours] = theirs
    return columns


def make_reader(columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Exchange]:
    """A function from a row to its texts; it raises FieldError.

    `columns` maps our names to those of the file, which may be dotted paths.
    """
    named = {ours: theirs for ours, theirs in columns.items() if ours in TEXTS}
    if not named:
        return _guessed

    def read(row: Mapping[str, Any]) -> Exchange:
        instruction = text_of(row, [named.get("instruction", "instruction")])
        output = text_of(row, [named.get("output", "output")])
        input_name = named.get("input")
        value = row.get("input") if input_name is None else field_of(row, input_name)
        used = {"input", *(named.get(ours, ours).partition(".")[0] for ours in TEXTS)}
        return Exchange(instruction, _optional(value, input_name or "input"), output, _without(row, used))

    return read


def _guessed(row: Mapping[str, Any]) -> Exchange:
    for talk, role, content in _TALKS:
        if isinstance(row.get(talk), list) and row[talk]:
            return _first_exchange(row, talk, role, content)
    for question, reply in _PAIRS:
        if question in row and reply in row:
            if isinstance(row[question], list) or isinstance(row[reply], list):
                return _conversational(row, question, reply)
            input_text = _optional(row.get("input"), "input")
            used = {question, reply, "input"}
            return Exchange(text_of(row, [question]), input_text, text_of(row, [reply]), _without(row, used))
    columns = ", ".join(list(row)[:8]) or "nothing"
    raise FieldError(
        f"no instruction and output among its fields ({columns}); name them: "
        "--column instruction=FIELD --column output=FIELD"
    )


def _first_exchange(row: Mapping[str, Any], talk: str, role: str, content: str) -> Exchange:
    turns = row[talk]
    if any(not isinstance(turn, Mapping) for turn in turns):
        raise FieldError(f"field {talk} is not a list of objects")
    question = next((turn for turn in turns if turn.get(role) in _USERS), None)
    reply = next((turn for turn in turns if turn.get(role) in _ASSISTANTS), None)
    if question is None or reply is None:
        raise FieldError(f"field {talk} has no turn of a user and one of an assistant ({role})")
    texts = [turn.get(content) for turn in (question, reply)]
    for text in texts:
        if not isinstance(text, str):
            raise FieldError(f"field {talk}: {content} is not a text")
    rest = _without(row, set() if len(turns) > _ONE_EXCHANGE else {talk})
    return Exchange(str(texts[0]), "", str(texts[1]), rest)


def _conversational(row: Mapping[str, Any], question: str, reply: str) -> Exchange:
    """TRL's conversational prompt-completion: both are lists of messages."""
    turns = [row[name] if isinstance(row[name], list) else [] for name in (question, reply)]
    joined = {**_without(row, {question, reply}), "messages": [*turns[0], *turns[1]]}
    return _first_exchange(joined, "messages", "role", "content")


def _optional(value: Any, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise FieldError(f"field {name} is not a text")
    return value or ""


def _without(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: row[name] for name in row if name not in names}
