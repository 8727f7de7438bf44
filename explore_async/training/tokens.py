"""Conversations as tokens, with a mask of those that are learned: the answers, and the marks that end them. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from explore_async.errors import ConfigError
from explore_async.terminal.counts import counted
from explore_async.training.examples import Turns
from explore_async.training.recipe import TooLong

_BATCH = 512


class ChatTokenizer(Protocol):
    """The parts of a fast tokenizer of transformers that are used here."""

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any: ...
    def __call__(self, text: list[str], **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A conversation as a model reads it."""

    ids: array[int]
    learned: bytes
    """1 for each token that is learned, else 0."""
    answer_bytes: int
    """Length of the answers that are learned, in UTF-8, without the marks of a template."""
    turns_left_out: int
    """Answers that are not learned, because the template writes them otherwise once more turns follow."""

    @property
    def learned_tokens(self) -> int:
        """The first token of all has nothing before it to be told from."""
        return sum(self.learned[1:])

    @property
    def prompt(self) -> int:
        """Tokens before the first that is learned."""
        return self.learned.find(1)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows that are not longer than the most, and what had to be done for that."""

    rows: list[Encoded]
    cut: int
    """Rows whose end was cut off."""
    skipped: int
    """Rows that were left out; of cut rows those without a token of an answer before the cut."""
    longest: int
    """Tokens of the longest row as it was read."""
    places: tuple[int, ...]
    """Where the rows stood among those that were read."""


def encode(rows: Iterable[Turns], tokenizer: ChatTokenizer) -> Iterator[Encoded]:
    """Each conversation as its chat template writes it. Raises ConfigError for one that the template does not take."""
    waiting = iter(rows)
    while batch := list(islice(waiting, _BATCH)):
        written = [_written(turns, tokenizer) for turns in batch]
        options = {"add_special_tokens": False, "return_offsets_mapping": True, "return_attention_mask": False}
        encoded = tokenizer([text for text, _ in written], **options)
        for turns, (_, spans), ids, offsets in zip(
            batch, written, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            learned = bytes(any(begin <= at and to <= end for begin, end in spans.values()) for at, to in offsets)
            said = sum(len(str(turns.messages[place]["content"]).encode()) for place in spans)
            yield Encoded(array("i", ids), learned, said, len(turns.answers) - len(spans))


def _written(turns: Turns, tokenizer: ChatTokenizer) -> tuple[str, dict[int, tuple[int, int]]]:
    """The whole text, and in it the characters of each answer: all that comes after the prompt for it."""

    def write(number: int, *, prompting: bool = False) -> str:
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": prompting}
        if turns.tools:
            options["tools"] = turns.tools
        try:
            return str(tokenizer.apply_chat_template(turns.messages[:number], **options))
        except Exception as error:  # raised by the template's own code, in any form
            asked = str(turns.messages[0]["content"])[:80]
            raise ConfigError(
                f"the chat template of the model does not take the conversation that begins {asked!r}: {error}"
            ) from error

    whole = write(len(turns.messages))
    spans: dict[int, tuple[int, int]] = {}
    for place in turns.answers:
        is_last = place == len(turns.messages) - 1
        to_here = whole if is_last else write(place + 1)
        if whole.startswith(to_here):
            begin = _common(write(place, prompting=True), to_here)
            spans[place] = (begin, len(to_here))
    return whole, spans


def fit(rows: Sequence[Encoded], most: int, too_long: TooLong, what: str) -> Fitted:
    """Rows of at most `most` tokens. Raises ConfigError for longer ones with `stop`, and where nothing is left.

    `what`: a word for the rows, for the message.
    """
    longest = max(len(row.ids) for row in rows)
    over = [row for row in rows if len(row.ids) > most]
    if over and too_long == "stop":
        lost = sum(row.prompt >= most for row in over)
        of_lost = f" ({lost:,} of them before their answer begins)" if lost else ""
        raise ConfigError(
            f"{len(over):,} of {counted(len(rows), f'{what} row')} are longer than --max-length {most}{of_lost}. "
            f"--max-length {longest} takes all of them, --too-long skip leaves these out"
        )
    shortened = [_cut(row, most) if too_long == "cut" and len(row.ids) > most else row for row in rows]
    places = tuple(place for place, row in enumerate(shortened) if len(row.ids) <= most and row.learned_tokens)
    skipped = len(rows) - len(places)
    cut = sum(shortened[place] is not rows[place] for place in places)
    fitted = Fitted([shortened[place] for place in places], cut, skipped, longest, places)
    if not fitted.rows:
        raise ConfigError(f"--max-length {most}: no {what} row is left; the longest has {longest:,} tokens")
    return fitted


def _common(one: str, other: str) -> int:
    """Length of the beginning that two texts have in common."""
    if other.startswith(one):
        return len(one)  # nearly always
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _cut(row: Encoded, most: int) -> Encoded:
    return Encoded(row.ids[:most], row.learned[:most], row.answer_bytes, row.turns_left_out)
