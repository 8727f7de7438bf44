"""Instruction, input and output of a row, with any names of columns. Pure.

Known names are instruction, prompt, question, query or problem; output, completion, response, answer or solution; input
or context, passage and their like; and conversations (see `conversations`), whose example is their first answer and the
user turn just before it. All that is more than one plain exchange stays among the other columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from explore_async.curation.collections.conversations import OF_CONVERSATIONS, Conversation, find_conversation
from explore_async.curation.collections.turns_in_row import (
    ANSWERS,
    OF_TURNS,
    OTHER_TALKS,
    QUESTIONS,
    answer_of,
    pair_in,
)
from explore_async.curation.files.fields import FieldError, field_of, kind_of, text_of
from explore_async.curation.files.nested_turns import is_branched
from explore_async.curation.files.turns import are_objects
from explore_async.errors import ConfigError

TEXTS = ("instruction", "input", "output")
TASK = "task"
_ANSWERS = (*ANSWERS, "answers", "target")
_PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("instruction", "completion"),
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "output"),
    ("question", "answer"), ("question", "response"), ("query", "response"),
)  # fmt: skip
"""Columns that belong together, before any question is taken with any answer."""
_OTHER_PAIRS = (
    ("input", "output"), ("input", "target"), ("inputs", "targets"), ("user", "assistant"), ("human", "assistant"),
    ("human", "bot"), ("human", "gpt"), ("ask", "answer"), ("q", "a"), ("问题", "答案"), ("问题", "回答"),
)  # fmt: skip
"""Columns of a row without any known question."""
_INSTANCES = "instances"
"""The column with the inputs and outputs of an instruction in Self-Instruct's files."""
_MOST_PLANS = 64
"""Sets of columns that are remembered: a file has a few of them, or each row has its own."""
_INPUTS = ("input", "context", "passage", "document", "article", "background", "paragraph")


class Exchange(NamedTuple):
    """The texts of a row."""

    instruction: str
    input: str
    output: str
    rest: Mapping[str, Any]
    """Its other columns."""
    unused: Sequence[str] = ()
    """The other columns with a text that is in no prompt and no answer."""


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Columns from the form of the command line, such as `instruction=prompt`. Raises ConfigError."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs or ours not in {*TEXTS, TASK}:
            raise ConfigError(
                f"--column {pair}: write it as OURS=THEIRS, where OURS is instruction, input, output or task"
            )
        if columns.setdefault(ours, theirs) != theirs:
            raise ConfigError(f"--column {pair}: {ours} is already {columns[ours]}; a row has one of each")
    return columns


class _Plan(NamedTuple):
    """The columns of an example in all rows with the same columns, as far as these hold texts and nothing else."""

    instruction: str
    output: str
    input: str | None
    rest: tuple[str, ...]
    telling: tuple[str, ...]
    """Those of the rest that could have a text that is no id."""

    def read(self, row: Mapping[str, Any]) -> Exchange | None:
        """None for a row that has to be looked at as a whole."""
        instruction, output = row[self.instruction], row[self.output]
        given = "" if self.input is None else row[self.input]
        if not isinstance(instruction, str) or not isinstance(output, str) or not isinstance(given, str):
            return None
        rest = {name: row[name] for name in self.rest}
        unused: Sequence[str] = ()
        if rest:
            if any(isinstance(value, list | dict) for value in rest.values()):
                return None
            texts = {instruction, given, output}
            unused = [name for name in self.telling if _is_text(rest[name]) and rest[name] not in texts]
        return Exchange(instruction, given, output, rest, unused)


def _plan(names: tuple[str, ...], named: Mapping[str, str], known: frozenset[str]) -> _Plan | None:
    """None where the names of the columns alone do not tell which they are."""
    columns = dict.fromkeys(names)
    if not OF_TURNS.isdisjoint(names) or not columns.keys().isdisjoint({*OTHER_TALKS, _INSTANCES}):
        return None
    question, answer = _names(columns)
    instruction, output = named.get("instruction", question), named.get("output", answer)
    inputs = [named["input"]] if "input" in named else [name for name in _INPUTS if name in columns]
    if "input" not in named:
        inputs = [name for name in inputs if name not in {instruction, output}]
    if instruction is None or output is None or len(inputs) > 1 or not columns.keys() >= {instruction, output, *inputs}:
        return None
    rest = tuple(name for name in names if name not in {instruction, output, *inputs})
    telling = tuple(name for name in rest if name not in known and not _is_id(name))
    return _Plan(instruction, output, inputs[0] if inputs else None, rest, telling)


def make_reader(columns: Mapping[str, str]) -> Callable[[Mapping[str, Any]], Exchange]:
    """A function from a row to its texts; it raises FieldError.

    `columns` maps our names to those of the file, which may be dotted paths; the others are guessed. A missing or empty
    answer is an empty output; an answer or input that is a number, true or false is its text, while an instruction is
    a text, as a number there is no question.
    """
    named = {ours: theirs for ours, theirs in columns.items() if ours in TEXTS}
    known = frozenset({*OF_CONVERSATIONS, *columns.values()})
    whole = {"instruction", "output"} <= named.keys()
    plans: dict[tuple[str, ...], _Plan | None] = {}

    def read(row: Mapping[str, Any]) -> Exchange:
        row = row if isinstance(row, dict) else dict(row)  # each look-up in a row of Parquet makes its value again
        names = tuple(row)
        if names not in plans and len(plans) < _MOST_PLANS:
            plans[names] = _plan(names, named, known)
        plan = plans.get(names)
        if plan is not None and (exchange := plan.read(row)) is not None:
            return exchange  # nearly always
        return look(row)

    def look(row: Mapping[str, Any]) -> Exchange:
        conversation = None if whole else find_conversation(row)
        question, answer = (None, None) if conversation is not None else _names(row)
        used = {theirs for theirs in named.values() if theirs in row}
        if "instruction" in named:
            instruction = text_of(row, [named["instruction"]])
        elif conversation is not None:
            instruction = conversation.turns[conversation.question].text
        elif question is not None:
            instruction = text_of(row, [question])
            used.add(question)
        else:
            raise _nothing(row)
        if "output" in named:
            output = _optional(field_of(row, named["output"]), named["output"])
        else:
            output, outputs = _output(row, conversation, answer)
            used |= outputs
        if "input" in named:
            given = _optional(field_of(row, named["input"]), named["input"])
        elif conversation is not None:
            given = ""
        else:
            given, inputs = _input(row, used)
            used |= inputs
        rest = _rest(row, used, conversation, is_example=not named.keys() & {"instruction", "output"})
        if not rest:
            return Exchange(instruction, given, output, rest)  # nearly always
        texts = {instruction, given, output}
        columns = () if conversation is None else conversation.columns
        others = [name for name in rest if name not in known and name not in columns]
        unused = [name for name in others if _is_text(rest[name]) and rest[name] not in texts and not _is_id(name)]
        unused += [name for name in columns if is_branched(row[name])]
        unused += [_INSTANCES] * (conversation is None and len(_instances(row)) > 1)
        return Exchange(instruction, given, output, rest, unused)

    return read


def exchange_of(row: Mapping[str, Any]) -> Exchange:
    """The texts of a row with our own columns. Raises FieldError."""
    instruction, output = (text_of(row, [name]) for name in ("instruction", "output"))
    rest = {name: row[name] for name in row if name not in TEXTS}
    return Exchange(instruction, _optional(row.get("input"), "input"), output, rest)


def _names(row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The columns with the question and with the answer."""
    known = next((pair for pair in _PAIRS if pair[0] in row and pair[1] in row), None)
    if known is not None:
        return known
    question, answer = (next((name for name in names if name in row), None) for names in (QUESTIONS, _ANSWERS))
    return (question, answer) if question is not None else _other_names(row, answer)


def _other_names(row: Mapping[str, Any], answer: str | None) -> tuple[str | None, str | None]:
    """The same in a row without a question in small letters."""
    names = {str(name).casefold(): name for name in row}
    asked, answered = (next((names[name] for name in known if name in names), None) for known in (QUESTIONS, _ANSWERS))
    if asked is not None:
        return asked, answered if answer is None else answer
    pair = next((pair for pair in _OTHER_PAIRS if pair[0] in names and pair[1] in names), None)
    return (None, answer) if pair is None else (names[pair[0]], names[pair[1]])


def _output(row: Mapping[str, Any], conversation: Conversation | None, answer: str | None) -> tuple[str, set[str]]:
    """The answer of a row, and the columns that it is all of."""
    if conversation is not None:
        return "" if conversation.answer is None else conversation.turns[conversation.answer].text, set()
    if (pair := pair_in(row)) is not None:
        return answer_of(row, pair[0]), set()
    if answer is not None:
        return _answer(row[answer], answer), {answer} if isinstance(row[answer], str | int | float | None) else set()
    if instances := _instances(row):
        is_all = len(instances) == 1 and instances[0].keys() <= {"input", "output"}
        return _optional(instances[0]["output"], f"output in {_INSTANCES}"), {_INSTANCES} if is_all else set()
    return "", set()


def _instances(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The inputs and outputs of an instruction without an output of its own."""
    instances = None if "output" in row else row.get(_INSTANCES)
    if not isinstance(instances, list) or not are_objects(instances) or "output" not in instances[0]:
        return ()
    return instances


def _answer(value: Any, name: str) -> str:
    """A text, or the first of several answers, as sets of questions have them; the others stay in their column."""
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if isinstance(value, list):
        value = value[0] if value else None
        if isinstance(value, Mapping) and "text" in value:
            value = value["text"]
    return _optional(value, name)


def _input(row: Mapping[str, Any], used: set[str]) -> tuple[str, set[str]]:
    """The first input with a text, and the columns that it was taken from: this one, and all without any."""
    _optional(row.get("input"), "input")
    if (instances := _instances(row)) and isinstance(given := instances[0].get("input"), str):
        return given, set()
    values = {name: row[name] for name in _INPUTS if name in row and name not in used}
    first = next((name for name, value in values.items() if value and isinstance(value, str)), None)
    if first is None and isinstance(values.get("input"), int | float):
        first = "input"
    taken = {name for name, value in values.items() if name == first or value is None or value == ""}
    return ("" if first is None else _optional(values[first], first)), taken


def _rest(
    row: Mapping[str, Any], used: set[str], conversation: Conversation | None, *, is_example: bool
) -> dict[str, Any]:
    """The other columns. Turns stay unless they are one plain exchange, which is the example."""
    if conversation is None:
        return {name: row[name] for name in row if name not in used}
    if conversation.is_exchange and is_example:
        used = {*used, *conversation.columns}
    rest = {name: row[name] for name in row if name not in used}
    columns = {*conversation.columns}
    if not rest.keys().isdisjoint(columns & {*TEXTS, *OTHER_TALKS}):  # a column of ours, or one of another sense
        rest = {name: value for name, value in rest.items() if name not in columns}
        rest["messages"] = [turn.message for turn in conversation.turns]
    return rest


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_id(name: str) -> bool:
    return name.lower() in {"id", "uuid"} or name.lower().endswith("_id")


def _nothing(row: Mapping[str, Any]) -> FieldError:
    empty = next((name for name in row if name in OF_TURNS and not row[name]), None)
    if empty is not None:
        return FieldError(
            f"field {empty} is empty; if another one has the instruction, name it: --column instruction=FIELD"
        )
    columns = ", ".join(list(row)[:8]) or "nothing"
    return FieldError(
        f"no instruction and output among its fields ({columns}); name them: "
        "--column instruction=FIELD --column output=FIELD"
    )


def _optional(value: Any, name: str) -> str:
    """An input or an output, which may be missing. A number is its text, and so is true or false."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str() | None:
            return value or ""
    raise FieldError(f"field {name} is {kind_of(value)}, not a text")
