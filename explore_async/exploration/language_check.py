"""The check of the language that examples are in: `filters.language`. It drops what is clearly in another language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from explore_async.errors import ConfigError
from explore_async.exploration.filter_patterns import ASKS_FOR_ANOTHER_LANGUAGE
from explore_async.exploration.language_table import LANGUAGES, Language
from explore_async.exploration.languages import hits_of, language_named, language_of, share_of_script
from explore_async.exploration.parsing import ExampleDraft

_QUOTED: Final = re.compile(r"[\"“„«「『:：\n]")
_LEAST_WORDS = 3
_OWN_SCRIPT = 0.2
"""A text with this share of letters of its own script is in its language, whatever it quotes."""
_CLEARLY = 2
"""The other language has this many times the frequent words of the wanted one."""
_IN_AN_INSTRUCTION, _IN_AN_OUTPUT = 2, 5
"""The least number of frequent words of another language: an output may be code, or a list of names."""


def language_check(language: str) -> Callable[[ExampleDraft], bool]:
    """A function that is true for a draft in another language than this one of a recipe.

    The instruction decides. An output is looked at where the instruction neither has an input nor asks for another
    language. Raises ConfigError for a language that cannot be told from others.
    """
    wanted = language_named(language)
    if wanted is None:
        raise ConfigError(
            f"filters.language: {language} cannot be told from other languages; set filters.language to false, or "
            f"language to one of {', '.join(known.name for known in LANGUAGES)}"
        )

    def is_other(draft: ExampleDraft) -> bool:
        if is_other_than(wanted, draft.instruction):
            return True
        if draft.input or ASKS_FOR_ANOTHER_LANGUAGE.search(draft.instruction):
            return False
        return _is_other(draft.output, wanted, _IN_AN_OUTPUT)

    return is_other


def is_other_than(language: Language, instruction: str) -> bool:
    """True for an instruction that is clearly in another language."""
    return _is_other(_said(instruction), language, _IN_AN_INSTRUCTION)


def _said(instruction: str) -> str:
    """The instruction without what it quotes."""
    beginning = _QUOTED.split(instruction, maxsplit=1)[0]
    return beginning if len(beginning.split()) >= _LEAST_WORDS else instruction


def _is_other(text: str, wanted: Language, least_words: int) -> bool:
    share = share_of_script(text, wanted)
    found = language_of(text) if share is not None else None
    if share is None or found is None or found == wanted:
        return False
    if not found.words:  # no other language here has its script
        return share < _OWN_SCRIPT
    hits = hits_of(text, found)
    if found.script != wanted.script:
        return share < _OWN_SCRIPT and hits >= least_words
    return hits >= max(least_words, _CLEARLY * hits_of(text, wanted))
