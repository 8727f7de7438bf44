"""The tokenizer for data: that of its run's recipe; where there is none, the letters of its texts decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from explore_async.curation.collections.collection import Collection, ExampleRow
from explore_async.errors import ConfigError
from explore_async.settings.recipe import MEANING, tokenizer_for
from rouge_kernels import TOKENIZERS

AUTO: Final = "auto"
CHOICES: Final = (AUTO, "rouge", "unicode")
_LOOKED_AT = 20_000
"""Texts whose letters decide: the first ones, of several sources the first of each."""
_LEAST_OF_EACH = 100
_LONGEST = 2_000
_OTHER_LETTERS = 0.01
"""The share of letters beyond a-z above which a language is not English: German has 2 %, English words such as café far
less."""
_A_TO_Z: Final = re.compile("[A-Za-z]+")


def check_tokenizer(name: str) -> None:
    """Raises ConfigError where this is no choice of a tokenizer."""
    if name not in CHOICES:
        raise ConfigError(f"--tokenizer {name}: it must be one of {', '.join(CHOICES)}")


def tokenizer_of_texts(texts: Iterable[str]) -> str:
    """`unicode` where more than a hundredth of the letters are not a-z, which `rouge` does not see; else `rouge`."""
    seen = other = 0
    for text in texts:
        some = text[:_LONGEST]
        seen += sum(map(len, _A_TO_Z.findall(some)))
        if not some.isascii():
            other += sum(letter.isalpha() and not letter.isascii() for letter in some)
    return "unicode" if other > _OTHER_LETTERS * (seen + other) else "rouge"


def tokenizer_of_sources(choice: str, sources: Sequence[Iterable[str]]) -> str:
    """The tokenizer that was chosen; with `auto` the one that the first texts of all sources call for."""
    if choice != AUTO:
        return choice
    of_each = max(_LEAST_OF_EACH, _LOOKED_AT // max(1, len(sources)))
    return tokenizer_of_texts(text for source in sources for text in islice(source, of_each))


def tokenizer_of(
    choice: str, collections: Sequence[Collection], compared: Callable[[ExampleRow], str] | None = None
) -> str:
    """The tokenizer that was chosen; with `auto` that of the run that the examples came from, else what the letters of
    the texts call for. Where the collections differ, it is the one that sees all letters.

    `compared`: the text of an example that is compared; the instruction if None.
    """
    if choice != AUTO:
        return choice
    wanted = {tokenizer_of_recipe(collection) or _of_letters(collection, compared) for collection in collections}
    wanted.discard("rouge")
    return "rouge" if not wanted else wanted.pop() if len(wanted) == 1 else "unicode"


def tokenizer_of_recipe(collection: Collection) -> str | None:
    """The tokenizer of the run that the examples came from; None for other data."""
    recipe = collection.recipe
    if not recipe:
        return None
    filters = recipe.get("filters") or {}
    setting, language = str(filters.get("tokenizer") or AUTO), str(recipe.get("language") or "English")
    name = tokenizer_for(setting, language, recipe.get("meaning", MEANING))
    if name not in TOKENIZERS:
        raise ConfigError(f"{collection.path}: its recipe has filters.tokenizer {name}, which is not known")
    return name


def _of_letters(collection: Collection, compared: Callable[[ExampleRow], str] | None) -> str:
    texts = (example["instruction"] if compared is None else compared(example) for example in collection.examples())
    return tokenizer_of_sources(AUTO, [texts])


class UnseenLetters:
    """Counts texts that a tokenizer sees less than half of: comparing them says little."""

    def __init__(self, tokenizer: str) -> None:
        self._is_rouge = tokenizer == "rouge"
        self.texts = 0
        self.unseen = 0

    def count(self, texts: Sequence[str]) -> None:
        self.texts += len(texts)
        if self._is_rouge:
            self.unseen += sum(not text.isascii() and _is_mostly_unseen(text) for text in texts)

    def note(self) -> str | None:
        """A sentence for the user; None where nearly every text was compared by its letters."""
        if self.unseen <= _OTHER_LETTERS * self.texts:
            return None
        return (
            f"{self.unseen:,} of {self.texts:,} texts consist mostly of letters that --tokenizer rouge does not see, "
            "so they were compared by the rest alone; --tokenizer unicode compares them"
        )


def _is_mostly_unseen(text: str) -> bool:
    seen = sum(map(len, _A_TO_Z.findall(text)))
    return sum(letter.isalpha() and not letter.isascii() for letter in text) > seen
