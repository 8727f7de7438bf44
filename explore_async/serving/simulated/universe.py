"""A known universe of tasks and instructions, for measuring how much of it a run reaches. Pure.

A tree of tasks, in which those at the bottom have a finite set of distinct instructions each. By Zipf's law some tasks
and some instructions are asked for far more often than others. `Page` has what a model that knows this universe writes
for one prompt: it depends on the task that the prompt names, on the sub-tasks that it lists, on the facet values at
its end, and on the draws alone. The last word of an instruction is its number, so that it can be told (`number_of`).

The universe does as prompts ask, which a real model may not: with a criterion it names each part of a task once, rare
ones as often as frequent ones. So it shows what follows from that, and not that it is so.
"""

from __future__ import annotations

import hashlib
import random
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Final

from explore_async.serving.simulated.vocabulary import ADJECTIVES, LINKS, NOUNS, VERBS

FACETS: Final = {
    "the reader": ("small children", "teenagers", "newcomers", "experts", "managers", "pensioners"),
    "the form": ("as a dialogue", "as a table", "as a letter", "as a checklist", "as a diary", "as a debate"),
    "the length": ("in a sentence", "in a paragraph", "in half a page", "in a page", "in two pages", "at any length"),
    "the place": ("at home", "at school", "at an office", "on a ship", "in a village", "in a capital"),
}
"""Criteria by which instructions differ, with their values. The first two tell them apart, the others nothing."""
_TELLING: Final = tuple(FACETS.values())[:2]
_LETTERS: Final = "bcdfghjklmnpqrstvwxz"
"""The digits of an instruction's number: no word of the vocabulary is made of these alone."""
_NUMBER: Final = re.compile(rf"x([{_LETTERS}]+)x\W*$")
_TASK: Final = re.compile(r"^Task: (.+?)(?: \(.*\))?$", re.MULTILINE)
_LISTED: Final = re.compile(r"^ *- (.+)$", re.MULTILINE)
_NAMES: Final = 3
"""Names of each task, which mean the same."""
_VARIANTS: Final = ("", "Please ", "Now ")
"""Beginnings of an instruction that ROUGE-L takes for the same."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a universe. `breadths`: the parts of each task, by its depth; the tasks of the last depth have
    `instructions` each. Shares are from 0 to 1.
    """

    breadths: tuple[int, ...] = (12, 8, 6)
    instructions: int = 120
    skew: float = 1.0
    """The exponent of Zipf's law."""
    overlap: float = 0.2
    """The share of what is written for a task that belongs to one of its siblings."""
    synonyms: float = 0.2
    """The share of proposed names that are another name of a part that has been named."""


@dataclass(slots=True, eq=False)
class Place:
    """A task of the universe. `leaf`: the number of the first leaf at or below it."""

    parent: Place | None
    index: int
    leaf: int
    names: tuple[str, ...]
    criterion: str
    parts: list[Place] = field(default_factory=list)


class Universe:
    """Owns the tree and its texts, which follow from the shape and the seed."""

    def __init__(self, shape: Shape | None = None, *, seed: int = 0) -> None:
        self.shape = shape or Shape()
        self._seed = seed
        self._named = 0
        self.by_name: dict[str, Place] = {}
        self.leaves: list[Place] = []
        self.root = self._place(None, 0, 0)
        self._weights = lru_cache(256)(self._cumulated)

    @property
    def size(self) -> int:
        """The number of distinct instructions."""
        return len(self.leaves) * self.shape.instructions

    def place(self, name: str) -> Place:
        """The task of this name; the root for a name that the universe does not know."""
        return self.by_name.get(name.casefold(), self.root)

    def instruction(self, number: int, variant: int = 0) -> str:
        """The text of an instruction."""
        verb, noun = self.pair(number)
        words = hashlib.blake2b(f"{self._seed} {number}".encode(), digest_size=16).digest()

        def pick(options: Sequence[str], at: int) -> str:
            return options[int.from_bytes(words[2 * at : 2 * at + 2]) % len(options)]

        phrase = " ".join(f"{pick(LINKS, at)} a {pick(ADJECTIVES, at + 2)} {pick(NOUNS, at + 4)}" for at in (0, 1))
        text = f"{verb} a {pick(ADJECTIVES, 6)} {noun} {phrase} x{_letters(number)}x."
        beginning = _VARIANTS[variant % len(_VARIANTS)]
        return f"{beginning}{text}" if beginning else text[0].upper() + text[1:]

    def pair(self, number: int) -> tuple[str, str]:
        """The verb and its noun of an instruction. Each leaf has six verbs and eight nouns of its own."""
        leaf, rank = divmod(number, self.shape.instructions)
        drawn = hashlib.blake2b(f"{self._seed} {leaf} {rank}".encode(), digest_size=2).digest()
        return VERBS[(7 * leaf + drawn[0] % 6) % len(VERBS)], NOUNS[(5 * leaf + drawn[1] % 8) % len(NOUNS)]

    def draw(self, rng: random.Random, place: Place, facets: tuple[int | None, int | None] = (None, None)) -> int:
        """The number of an instruction for the task, with these values of the first two facets."""
        if place.parent is not None and rng.random() < self.shape.overlap:
            others = [part for part in place.parent.parts if part is not place] or [place]
            place = others[self._ranked(rng, len(others))]
        while place.parts:
            place = place.parts[self._ranked(rng, len(place.parts))]
        ranks, weights = self._weights(self.shape.instructions, facets)
        rank = ranks[bisect(weights, rng.random() * weights[-1])]
        return place.leaf * self.shape.instructions + rank

    def propose(self, rng: random.Random, place: Place, listed: set[int], *, clean: bool) -> Iterator[str]:
        """Names of parts of the task, without end. `listed`: the indices of those that the prompt lists. `clean`: no
        name is that of a part which has one, and rare parts come as often as others.
        """
        named = sorted(listed)
        missing = [part.index for part in place.parts if part.index not in listed]
        while True:
            if missing and not (named and not clean and rng.random() < self.shape.synonyms):
                index = missing.pop(rng.randrange(len(missing)) if clean else self._ranked(rng, len(missing)))
                named.append(index)
                yield place.parts[index].names[0]
            elif named:
                yield rng.choice(place.parts[rng.choice(named)].names[1:])
            else:
                yield rng.choice(place.names)

    def _ranked(self, rng: random.Random, count: int) -> int:
        """One of `count`, by Zipf's law."""
        _, weights = self._weights(count, (None, None))
        return bisect(weights, rng.random() * weights[-1])

    def _cumulated(self, count: int, facets: tuple[int | None, int | None]) -> tuple[Sequence[int], list[float]]:
        """The ranks below `count` with these facets, and their cumulated weights."""
        values = [len(values) for values in _TELLING]
        ranks = [
            rank
            for rank in range(count)
            if facets[0] in {None, rank % values[0]} and facets[1] in {None, rank // values[0] % values[1]}
        ] or range(count)
        return ranks, list(accumulate((1 + rank) ** -self.shape.skew for rank in ranks))

    def _place(self, parent: Place | None, index: int, depth: int) -> Place:
        names = [self._name() for _ in range(_NAMES)]
        place = Place(parent, index, len(self.leaves), tuple(names), f"the kind of {names[0].split()[2]}")
        self.by_name |= {name.casefold(): place for name in names}
        if depth == len(self.shape.breadths):
            self.leaves.append(place)
        else:
            place.parts = [self._place(place, part, depth + 1) for part in range(self.shape.breadths[depth])]
        return place

    def _name(self) -> str:
        """The next name."""
        rng = random.Random(f"{self._seed} name {self._named}")  # noqa: S311 - reproducible
        self._named += 1
        return f"{rng.choice(VERBS).capitalize()} {rng.choice(ADJECTIVES)} {' '.join(rng.sample(NOUNS, 3))}"


class Page:
    """The texts that a model which knows the universe writes for one prompt, by the names of their fields."""

    def __init__(
        self,
        universe: Universe,
        rng: random.Random,
        prompt: str,
        otherwise: Callable[[random.Random, str], str],
        *,
        asked: str,
    ) -> None:
        """`asked`: the form that is asked for, as text: it shows if a criterion is. `otherwise` writes all that the
        universe does not know.
        """
        self._universe, self._otherwise = universe, otherwise
        tasks = list(_TASK.finditer(prompt))
        self._place = universe.place(tasks[-1][1]) if tasks else universe.root
        end = prompt[tasks[-1].end() :] if tasks else ""
        listed = {universe.place(name[1]) for name in _LISTED.finditer(end)}
        asked = asked.casefold()
        self._names = universe.propose(
            rng,
            self._place,
            {place.index for place in listed if place.parent is self._place},
            clean="criterion" in asked,
        )
        self._facets = _facets_in(end.casefold())
        self._lists_values = "### values:" in asked
        asks_for_facets = self._lists_values or '"values"' in asked
        self._criteria = iter(rng.sample(list(FACETS), len(FACETS)) if asks_for_facets else ())
        self._values: Iterator[str] = iter(())
        self._written: set[int] = set()

    def text(self, rng: random.Random, name: str) -> str:
        """The next text for a field of this name."""
        match name:
            case "name":
                return next(self._names)
            case "criterion":
                return self._criterion()
            case "values" if self._lists_values:
                return "; ".join(self._values)
            case "values":
                return next(self._values, "") or self._otherwise(rng, name)
            case "instruction":
                return self._instruction(rng)
            case "input":
                return ""
            case _:
                return self._otherwise(rng, name)

    def _criterion(self) -> str:
        """Of a request for facets the next one, whose values follow; else that of the task's parts."""
        criterion = next(self._criteria, None)
        self._values = iter(FACETS[criterion]) if criterion else iter(())
        return criterion or self._place.criterion

    def _instruction(self, rng: random.Random) -> str:
        """No list has the same instruction twice, where there are others."""
        for _ in range(8):
            number = self._universe.draw(rng, self._place, self._facets)
            if number not in self._written:
                break
        self._written.add(number)
        return self._universe.instruction(number, rng.randrange(len(_VARIANTS)))


def number_of(instruction: str) -> int | None:
    """The number of an instruction of any universe; None for another text."""
    if (found := _NUMBER.search(instruction)) is None:
        return None
    number = 0
    for letter in found[1]:
        number = number * len(_LETTERS) + _LETTERS.index(letter)
    return number


def _letters(number: int) -> str:
    letters = ""
    while number or not letters:
        number, digit = divmod(number, len(_LETTERS))
        letters = _LETTERS[digit] + letters
    return letters


def _facets_in(text: str) -> tuple[int | None, int | None]:
    """The values of the first two facets that the text names."""
    first, second = (next((at for at, value in enumerate(values) if value in text), None) for values in _TELLING)
    return first, second
