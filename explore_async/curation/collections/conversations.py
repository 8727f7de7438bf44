"""The conversation that an example is part of, and its preferences, wherever a row keeps them. Pure.

A conversation is in a column of turns (`messages`, `conversations`, ...), in a prompt and a completion of turns, or
around an instruction: `system`, `history`. A preference is a pair of answers (`chosen`, `rejected`) or a `label`, true
or false. The example of a conversation is its first answer and the user turn just before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from explore_async.curation.collections.turns_in_row import (
    ANSWERS,
    OF_TURNS,
    OTHER_TALKS,
    QUESTIONS,
    may_be_turns,
    pair_in,
    side_of,
    written_in,
)
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.turns import (
    Turn,
    TurnError,
    assistant_turn,
    is_plain,
    read_turns,
    system_turn,
    user_turn,
)

REASONING = "reasoning_content"
"""The key of a row, and of a message, with what the model thought before."""
_SYSTEMS = ("system", "system_prompt", "system_message", "meta_instruction")
_HISTORY = "history"
_TAG = "kto_tag"
_LABELS = ("label", _TAG)
_CARRIED = ("tools", "functions", "images", "image", "videos", "audios")
"""Columns that trainers read beside the turns."""
OF_CONVERSATIONS = OF_TURNS | {*_SYSTEMS, _HISTORY, *_LABELS, *_CARRIED}
OF_ANSWERS = OF_TURNS | {*_SYSTEMS, _HISTORY, *_LABELS, "reasoning_content"}
"""Columns that tell of one answer: another answer to the same instruction does not have them."""
_MORE_THAN_AN_EXAMPLE = OF_CONVERSATIONS | {*QUESTIONS, *ANSWERS} - {"instruction", "output"}


class Conversation(NamedTuple):  # quicker to make than a dataclass, and an export makes one for each example
    """Turns with the place of the example among them."""

    turns: tuple[Turn, ...]
    question: int
    answer: int | None
    """None where no turn answers."""
    split: int | None = None
    """The turn with which the completion begins, where the row says so."""
    rejected: tuple[Turn, ...] | None = None
    """The turns after the prompt in a rejected answer; None where there is no such answer."""
    label: bool | None = None
    carried: Mapping[str, Any] = MappingProxyType({})
    columns: tuple[str, ...] = ()
    """Columns with the turns."""

    @property
    def system(self) -> str:
        """The text of a system prompt before all else; empty where there is none."""
        first = self.turns[0]
        return first.text if first.part == "system" and is_plain(first) else ""

    @property
    def below_system(self) -> Conversation:
        """The turns after that prompt."""
        return self._replace(turns=self.turns[1:]) if self.system else self

    @property
    def is_exchange(self) -> bool:
        """True where one plain exchange is all that there is."""
        parts = tuple(turn.part for turn in self.turns)
        return parts == ("user", "assistant") and all(map(is_plain, self.turns)) and self.rejected is None

    @property
    def is_prompt(self) -> bool:
        """True where a plain question without an answer is all that there is."""
        return (
            len(self.turns) == 1 and self.turns[0].part == "user" and is_plain(self.turns[0]) and self.rejected is None
        )

    @property
    def prompt(self) -> tuple[Turn, ...]:
        return self.turns[: self._begin]

    @property
    def completion(self) -> tuple[Turn, ...]:
        """The turns after the prompt as the row divides them, or the last turn of an assistant."""
        return self.turns[self._begin :] if self.split is not None else self.turns[self._begin : self._begin + 1]

    @property
    def _begin(self) -> int:
        if self.split is not None:
            return self.split
        last = (place for place in reversed(range(len(self.turns))) if self.turns[place].part in {"assistant", "call"})
        return next(last, len(self.turns))

    @property
    def texts(self) -> list[str]:
        """The texts of all turns, and of rejected ones."""
        return [turn.text for turn in (*self.turns, *(self.rejected or ())) if turn.text]


def find_conversation(row: Mapping[str, Any]) -> Conversation | None:
    """The conversation in the turns of a row; None where it has no turns. Raises FieldError for turns that cannot be
    read, or without a user.
    """
    if (
        OF_TURNS.isdisjoint(row)
        and OTHER_TALKS[0] not in row
        and not any(isinstance(value, list | dict) for value in row.values())
    ):
        return None  # nearly always
    found = written_in(row)
    if found is None:
        return None
    turns, split, rejected, columns = found
    turns = _after_system(row, turns)
    split = None if split is None else split + len(turns) - len(found[0])
    question, answer = next(_exchanges(turns, split or 0), (None, None))
    if question is None:
        question, split = _unanswered(turns, columns), len(turns) if split is None else split
    return Conversation(
        tuple(turns), question, answer, split, None if rejected is None else tuple(rejected), columns=columns
    )


def conversation_of(example: Mapping[str, Any]) -> Conversation | None:
    """The conversation that the example is part of; None where the example is all that there is.

    Turns without the example's exchange, which a user has named by columns, are not its conversation. Raises FieldError
    for answers that are neither texts nor turns.
    """
    if _MORE_THAN_AN_EXAMPLE.isdisjoint(example):
        return None  # nearly always
    label = next((label for name in _LABELS if (label := _label(name, example.get(name))) is not None), None)
    carried = {name: example[name] for name in _CARRIED if example.get(name)}
    try:
        found = find_conversation(example)
    except FieldError:
        found = None
    if found is not None and (located := _located(found, example)) is not None:
        return _with_thoughts(located, example)._replace(label=label, carried=carried)
    around = _around(example)
    if (around.is_exchange or around.is_prompt) and label is None and not carried:
        return None
    return around._replace(label=label, carried=carried)


def check_one_answer(conversation: Conversation | None, shape: str) -> None:
    """Raises FieldError for an answer that is better or worse than another: the shape would only say that it is one."""
    if conversation is not None and conversation.rejected is not None:
        raise FieldError(
            f"it is a pair of answers (chosen, rejected), and --format {shape} holds one; "
            "--format preference or rows holds both"
        )
    if conversation is not None and conversation.label is not None:
        raise FieldError(
            f"its answer has a label (true or false), and --format {shape} has no place for it; "
            "--format kto or rows has"
        )


def asked_of(example: Mapping[str, Any]) -> str:
    """All that the user said: every user turn of the example's conversation, or its instruction and input."""
    try:
        conversation = conversation_of(example)
    except FieldError:  # answers in an unknown form
        conversation = None
    if conversation is None:
        return "\n".join(text for name in ("instruction", "input") if (text := example.get(name)))
    return "\n".join(turn.text for turn in conversation.turns if turn.part == "user" and turn.text)


def _around(example: Mapping[str, Any]) -> Conversation:
    """The turns around the example that stand in columns of their own."""
    asked = str(example["instruction"])
    given = str(example.get("input") or "")
    history = _past(example.get(_HISTORY))
    turns = _after_system(example, [*history, user_turn(f"{asked}\n\n{given}" if given else asked)])
    split = len(turns)
    output = str(example["output"])
    rejected: Sequence[Turn] | None = None
    thoughts = {REASONING: text} if isinstance(text := example.get(REASONING), str) else {}
    completion = [assistant_turn(output, **thoughts)] if output.strip() else []
    if (pair := pair_in(example)) is not None:
        completion, rejected = (_after_user(side_of(example[name], name)) for name in pair)
    answer = split if completion else None
    return Conversation((*turns, *completion), split - 1, answer, split, None if rejected is None else tuple(rejected))


def _after_user(turns: Sequence[Turn]) -> list[Turn]:
    last = max((place for place, turn in enumerate(turns) if turn.part == "user"), default=-1)
    return list(turns[last + 1 :])


def _after_system(row: Mapping[str, Any], turns: list[Turn]) -> list[Turn]:
    """The turns below the system prompt of a column, where they have none of their own."""
    if turns and turns[0].part == "system":
        return turns
    prompts = (row.get(name) for name in _SYSTEMS)
    system = next((text for text in prompts if isinstance(text, str) and text.strip()), None)
    return turns if system is None else [system_turn(system), *turns]


def _past(history: Any) -> list[Turn]:
    try:
        return read_turns(history) if history and may_be_turns(history) else []
    except TurnError:
        return []


def _exchanges(turns: Sequence[Turn], begin: int) -> Iterator[tuple[int, int]]:
    """Each answer from `begin` on with the user turn before it; calls of tools only where nothing else answers."""
    for part in ("assistant", "call"):
        found = False
        asked: int | None = None
        for place, turn in enumerate(turns):
            if turn.part == "user":
                asked = place
            elif asked is not None and place >= begin and turn.part == part and turn.text.strip():
                found = True
                yield asked, place
        if found:
            return


def _unanswered(turns: Sequence[Turn], columns: Sequence[str]) -> int:
    """The last turn of a user; of several users' turns and nothing else the first."""
    asked = [place for place, turn in enumerate(turns) if turn.part == "user"]
    if not asked:
        roles = ", ".join(dict.fromkeys(str(turn.message["role"]) for turn in turns)) or "none"
        raise FieldError(f"field {columns[0]} has no turn of a user; its roles: {roles}")
    return asked[-1] if any(turn.part in {"assistant", "call"} for turn in turns) else asked[0]


def _located(found: Conversation, example: Mapping[str, Any]) -> Conversation | None:
    """The conversation with the example's exchange; None where it has no such exchange."""
    instruction, output = example["instruction"], example["output"]
    if found.answer is None:
        is_it = found.turns[found.question].text == instruction and not output.strip()
        return _with_input(found, example.get("input")) if is_it else None
    for question, answer in _exchanges(found.turns, found.split or 0):
        if found.turns[question].text == instruction and found.turns[answer].text == output:
            return _with_input(found._replace(question=question, answer=answer), example.get("input"))
    return None


def _with_input(found: Conversation, given: Any) -> Conversation:
    """The conversation with the input, which a user has named by a column, below its question."""
    if not given:
        return found
    asked = found.turns[found.question]
    content = asked.message["content"]
    below = f"{content}\n\n{given}" if isinstance(content, str) else [*(content or ()), {"type": "text", "text": given}]
    turn = asked._replace(message={**asked.message, "content": below}, text=f"{asked.text}\n\n{given}")
    return found._replace(turns=(*found.turns[: found.question], turn, *found.turns[found.question + 1 :]))


def _with_thoughts(found: Conversation, example: Mapping[str, Any]) -> Conversation:
    """The conversation with the thoughts of the example's answer beside it."""
    if found.answer is None or not isinstance(text := example.get(REASONING), str):
        return found
    answer = found.turns[found.answer]
    turn = answer._replace(message={REASONING: text, **answer.message})
    return found._replace(turns=(*found.turns[: found.answer], turn, *found.turns[found.answer + 1 :]))


def _label(name: str, value: Any) -> bool | None:
    """1 and 0 are true and false in `kto_tag` alone: a number in `label` may be a class."""
    if name == _TAG and value in (0, 1, "0", "1"):
        return bool(int(value))
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().casefold())
    return value if isinstance(value, bool) else None
