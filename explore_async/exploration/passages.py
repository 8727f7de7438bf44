"""Passages of a user's own texts, which requests for examples show: how a text is cut, and which request gets which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from explore_async.exploration.choice import draw
from explore_async.exploration.values import SOURCE
from explore_async.settings.recipe import Passage, Recipe

MOST_CHARACTERS: Final = 2_000
"""Of a passage: about 500 tokens of English."""

_GOLDEN: Final = (5**0.5 - 1) / 2
"""Multiples of it lie evenly between 0 and 1, however many there are (Weyl's theorem; the golden ratio is best)."""
_HEADING = re.compile(r"#{1,6}\s+\S")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+\s|[。！？]++[」』”’）]*+")
"""Begins only where a run of signs does: else quadratic in time."""


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
    """Deals a passage to each request for examples, by its task and its turn: the passages of a domain have an order by
    digest, a task goes through them from a place of its own, and none comes again before all have come. The places of
    the tasks lie evenly. Owns which passages committed requests have shown.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._passages = [domain.passages for domain in recipe.domains]
        self._orders = [
            sorted(range(len(passages)), key=lambda number: draw(recipe.seed, "passage", domain, number))
            for domain, passages in enumerate(self._passages)
        ]
        self._used: list[set[int]] = [set() for _ in recipe.domains]

    def dealt(self, domain: int, task_id: str, turn: int) -> dict[str, Any]:
        """The values that the prompt shows; none where the domain has no passages. `turn`: the requests for examples
        that the task has had before.
        """
        passages = self._passages[domain]
        return shown(passages[self._number(domain, task_id, turn)]) if passages else {}

    def _number(self, domain: int, task_id: str, turn: int) -> int:
        order = self._orders[domain]
        begin = int(len(order) * (_number_of_task(self._recipe, task_id) * _GOLDEN % 1.0))
        return order[(begin + turn) % len(order)]

    def committed(self, domain: int, task_id: str, turn: int) -> None:
        """Takes in that a request for examples is committed."""
        if self._passages[domain]:
            self._used[domain].add(self._number(domain, task_id, turn))

    def counts(self) -> dict[str, int]:
        """The passages that committed requests showed, and the others; empty where no domain has passages."""
        of_all, used = (sum(map(len, parts)) for parts in (self._passages, self._used))
        return {"used": used, "unused": of_all - used} if of_all else {}

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it; empty where no domain has passages."""
        return {"passages": [sorted(used) for used in self._used]} if any(self._passages) else {}

    def restore(self, state: Sequence[Sequence[int]]) -> None:
        self._used = [set(used) for used in state] or self._used


def _number_of_task(recipe: Recipe, task_id: str) -> int:
    """A number of its own for each task of a tree, whatever the order in which they come: 0 for the root, then those of
    the first level, and so on.
    """
    before, places, number = 0, 1, 0
    for depth, digit in enumerate(task_id.split(".")[1:]):
        before += places
        width = max(1, recipe.exploration.breadth_at(depth))
        places *= width
        number = number * width + int(digit)
    return before + number


def shown(passage: Passage) -> dict[str, Any]:
    """The values that a prompt shows of a passage."""
    return {"passage": passage.text, "passage_name": passage.name}


def longest(recipe: Recipe, domain: int) -> dict[str, Any]:
    """The values of the longest passage of a domain; none where it has no passages."""
    passages = recipe.domains[domain].passages
    return shown(max(passages, key=lambda passage: len(passage.text))) if passages else {}


def source_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The passage, topic, style and facets of the prompt that an example came from; nothing where that showed neither a
    passage nor facets. Facets are a list, so that rows of different tasks have the same columns.
    """
    if not values.get("passage_name") and not values.get("facets"):
        return {}
    facets = [{"criterion": criterion, "value": value} for criterion, value in values["facets"]]
    told = {**values, "passage": values["passage_name"], "facets": facets}
    return {name: told[name] for name in SOURCE if told[name]}
