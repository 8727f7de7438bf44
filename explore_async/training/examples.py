"""Examples as turns that a model learns from: which rows are trained on, and which are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, printable_path
from explore_async.curation.collections.conversations import REASONING, conversation_of
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.turns import content_text, has_only_text
from explore_async.curation.selection import Marked, Selection, Split, near_to, select
from explore_async.errors import ConfigError, DataError
from explore_async.training.recipe import Data


@dataclass(frozen=True, slots=True)
class Turns:
    """A conversation for a chat template."""

    messages: list[dict[str, Any]]
    """Each with role and content; that of a user may have an `input` apart, for Alpaca's template."""
    answers: tuple[int, ...]
    """Places of the turns that are learned: those of the assistant."""
    tools: list[Any] | None = None

    @property
    def line(self) -> bytes:
        return orjson.dumps({"messages": self.messages, "tools": self.tools}, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one source, and what was left out of them."""

    turns: list[Turns]
    data: Data
    unanswered: int = 0
    near_held_out: int = 0
    """Left out, as they are near-duplicates of a held-out row."""
    in_pruned_tasks: int = 0
    by_mark: int = 0


def training_rows(
    source: Collection, *, share: float, held_out: Collection | None, seed: int, marked: Marked
) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those held out: a share of the source, drawn by digests of ids, or all of another.

    None where nothing is held out. Raises ConfigError where nothing is left to train on, DataError for a faulty row.
    """
    selection = select(source, None, Split(0.0 if held_out is not None else share, "example", seed), marked)
    near = selection.near_validation
    apart = None
    if held_out is not None:
        apart = all_rows(held_out)
        near = frozenset(near_to(held_out.examples(), selection.examples("train")))
    elif share:
        apart = _rows(source, selection.examples("validation"))
    far = (example for example in selection.examples("train") if example["id"] not in near)
    train = _rows(source, far, selection, near=len(near))
    if not train.turns:
        raise ConfigError(f"{source.path}: no example with an answer is left to train on")
    if apart is not None and not apart.turns:
        raise ConfigError("no held-out row has an answer; give others with --held-out, or --validation 0")
    return train, apart


def all_rows(source: Collection) -> Rows:
    """All rows but those of pruned tasks and those that are marked bad."""
    selection = select(source, None, Split(0.0, "example", 0), "not-bad")
    return _rows(source, selection.examples("train"), selection)


def left_out(*parts: Rows) -> str:
    """The rows of these parts that are left out, with the reasons, for the end of a sentence; empty where none is."""
    reasons = (
        (sum(part.near_held_out for part in parts), "near to a held-out one"),
        (sum(part.unanswered for part in parts), "without an answer"),
        (sum(part.in_pruned_tasks for part in parts), "in pruned tasks"),
        (sum(part.by_mark for part in parts), "by the marks of readers"),
    )
    return "".join(f"; {count:,} left out: {why}" for count, why in reasons if count)


def turns_of(example: ExampleRow) -> Turns | None:
    """The conversation of an example; None where nothing answers. Raises FieldError for what is not learned from."""
    conversation = conversation_of(example)
    if conversation is None:
        if not str(example["output"]).strip():
            return None
        asked = {"role": "user", "content": str(example["instruction"])}
        if given := example.get("input"):
            asked["input"] = str(given)
        answer = {"role": "assistant", "content": str(example["output"])}
        if isinstance(thoughts := example.get(REASONING), str):
            answer[REASONING] = thoughts
        return Turns([asked, answer], (1,))
    if conversation.rejected is not None or conversation.label is not None:
        raise FieldError("it is a preference (chosen and rejected, or a label); training takes one good answer to each")
    carried = conversation.carried
    if not all(map(has_only_text, conversation.turns)) or not carried.keys() <= {"tools", "functions"}:
        raise FieldError("it holds more than texts (images, videos or sounds); training takes texts alone")
    begin = conversation.split or 0
    messages = [{**turn.message, "content": content_text(turn.message.get("content"))} for turn in conversation.turns]
    answers = tuple(n for n, turn in enumerate(messages) if n >= begin and turn["role"] == "assistant")
    tools = carried.get("tools") or carried.get("functions")
    return Turns(messages, answers, orjson.loads(tools) if isinstance(tools, str) else tools) if answers else None


def with_input_below(turns: Turns) -> Turns:
    """The same for a chat template: an input stands below its instruction, after an empty line."""
    if not any("input" in message for message in turns.messages):
        return turns
    messages = []
    for message in turns.messages:
        content = f"{message['content']}\n\n{message['input']}" if "input" in message else message["content"]
        messages.append({**{name: value for name, value in message.items() if name != "input"}, "content": content})
    return Turns(messages, turns.answers, turns.tools)


def _rows(
    source: Collection, examples: Iterable[ExampleRow], selection: Selection | None = None, near: int = 0
) -> Rows:
    turns: list[Turns] = []
    digest = hashlib.sha256()
    read = 0
    for read, one in enumerate(_all_turns(source, examples), start=1):  # noqa: B007 - the last number is the count
        if one is not None:
            turns.append(one)
            digest.update(one.line)
    return Rows(
        turns=turns,
        data=Data(name=printable_path(source.path.resolve().name), rows=len(turns), digest=digest.hexdigest()),
        unanswered=read - len(turns),
        near_held_out=near,
        in_pruned_tasks=0 if selection is None else selection.in_pruned_tasks,
        by_mark=0 if selection is None else len(selection.by_mark),
    )


def _all_turns(source: Collection, examples: Iterable[ExampleRow]) -> Iterator[Turns | None]:
    for example in examples:
        try:
            yield turns_of(example)
        except (FieldError, orjson.JSONDecodeError) as error:
            raise DataError(f"{source.path}, example {example['id']}: {error}") from error
