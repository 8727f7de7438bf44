"""Passages of a user's own texts, which requests for examples show: how a text is cut, and which request gets which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from explore_async.exploration.choice import draw
from explore_async.exploration.values import SOURCE
from explore_async.settings.recipe import Passage, Recipe

MOST_CHARACTERS: Final = 2_000
"""Of a passage: about 500 tokens of English."""

_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s|[。！？]+[」』”’）]*")


def cut(text: str, *, markdown: bool = False, most: int = MOST_CHARACTERS) -> list[str]:
    """The passages of a text, in order, each of at most `most` characters. Paragraphs are joined as long as they fit; a
    longer one is cut after a sentence, else after a word, else anywhere. A Markdown heading begins a passage.

    Only white space is lost.
    """
    passages: list[str] = []
    current = ""
    is_heading_alone = False

    def close() -> None:
        nonlocal current
        if current:
            passages.append(current)
        current = ""

    for paragraph, is_title in _paragraphs(text, markdown=markdown):
        is_heading = is_title and len(paragraph) <= most // 2
        if is_heading and not is_heading_alone:
            close()
        rest = paragraph
        while rest:
            room = most - len(current) - 2 if current else most
            if len(rest) > room and current and not (is_heading_alone and not is_heading and room > most // 4):
                close()
                room = most
            piece, rest = _split(rest, room)
            current = f"{current}\n\n{piece}" if current else piece
            is_heading_alone = is_heading
    close()
    return passages


def _paragraphs(text: str, *, markdown: bool) -> Iterator[tuple[str, bool]]:
    """The paragraphs of a text, each with True where it is a heading. Code between fences is one paragraph."""
    lines: list[str] = []
    in_code = False

    def taken() -> Iterator[tuple[str, bool]]:
        if paragraph := "\n".join(lines).strip():
            yield paragraph, False
        lines.clear()

    for line in text.splitlines():
        if markdown and _FENCE.match(line):
            in_code = not in_code
        if not in_code and not line.strip():
            yield from taken()
        elif markdown and not in_code and _HEADING.match(line):
            yield from taken()
            yield line.strip(), True
        else:
            lines.append(line.rstrip())
    yield from taken()


def _split(text: str, most: int) -> tuple[str, str]:
    """A beginning of at most `most` characters, and the rest."""
    if len(text) <= most:
        return text, ""
    end = max((found.end() for found in _SENTENCE_END.finditer(text, 0, most)), default=0)
    if not text[:end].strip():
        end = max((found.start() for found in re.finditer(r"\s", text[:most])), default=0)
    if not text[:end].strip():
        end = most
    return text[:end].strip(), text[end:].strip()


class PassageDeck:
    """Draws a passage for each request for examples: in each domain in an order by digest, and all of them before any
    comes again. It depends on the recipe and on the requests issued before. Owns what outstanding requests show.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._passages = [domain.passages for domain in recipe.domains]
        self._orders = [
            sorted(range(len(passages)), key=lambda number: draw(recipe.seed, "passage", domain, number))
            for domain, passages in enumerate(self._passages)
        ]
        self._drawn = [0] * len(recipe.domains)
        self._shown: dict[int, tuple[int, int]] = {}
        """By the ordinal of an outstanding request: its domain, and its number among the requests there."""

    def next(self, domain: int, ordinal: int) -> dict[str, Any]:
        """The values that the prompt of a new request shows; none where the domain has no passages."""
        if not self._passages[domain]:
            return {}
        self._shown[ordinal] = domain, self._drawn[domain]
        self._drawn[domain] += 1
        return self.again(ordinal)

    def again(self, ordinal: int) -> dict[str, Any]:
        """The values of an outstanding request."""
        if ordinal not in self._shown:
            return {}
        domain, number = self._shown[ordinal]
        order = self._orders[domain]
        return shown(self._passages[domain][order[number % len(order)]])

    def committed(self, ordinal: int) -> None:
        self._shown.pop(ordinal, None)

    def counts(self) -> dict[str, int]:
        """The passages that committed requests showed, and the others; empty where no domain has passages."""
        of_all = sum(map(len, self._passages))
        waiting = Counter((domain, number % len(self._orders[domain])) for domain, number in self._shown.values())
        used = sum(map(min, map(len, self._passages), self._drawn))
        for (domain, place), count in waiting.items():
            used -= count == len(range(place, self._drawn[domain], len(self._orders[domain])))
        return {"used": used, "unused": of_all - used} if of_all else {}

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it; empty where no domain has passages."""
        if not any(self._passages):
            return {}
        return {
            "passages": {
                "drawn": list(self._drawn),
                "shown": [[ordinal, *place] for ordinal, place in self._shown.items()],
            }
        }

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self._drawn = list(state["drawn"])
            self._shown = {ordinal: (place[0], place[1]) for ordinal, *place in state["shown"]}


def shown(passage: Passage) -> dict[str, Any]:
    """The values that a prompt shows of a passage."""
    return {"passage": passage.text, "passage_name": passage.name}


def longest(recipe: Recipe, domain: int) -> dict[str, Any]:
    """The values of the longest passage of a domain; none where it has no passages."""
    passages = recipe.domains[domain].passages
    return shown(max(passages, key=lambda passage: len(passage.text))) if passages else {}


def source_of(values: Mapping[str, Any]) -> dict[str, str]:
    """What an example tells of the prompt that it came from; nothing where that showed no passage."""
    if not values.get("passage_name"):
        return {}
    told = {**values, "passage": values["passage_name"]}
    return {name: told[name] for name in SOURCE if told[name]}
