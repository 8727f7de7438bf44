"""The check of the language that examples are in: `filters.language`. It drops what is clearly in another language."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from explore_async.errors import ConfigError
from explore_async.exploration.filter_patterns import ASKS_FOR_ANOTHER_LANGUAGE
from explore_async.exploration.language_table import LANGUAGES, Language
from explore_async.exploration.languages import (
    frequent_words,
    hits_of,
    language_named,
    language_of,
    share_of_script,
)
from explore_async.exploration.parsing import ExampleDraft
from explore_async.settings.recipe import MEANING

_QUOTED: Final = re.compile(r"[\"“„«「『:：\n]")
_LEAST_WORDS = 3
_OWN_SCRIPT = 0.2
"""A text with this share of letters of its own script is in its language, whatever it quotes."""
_CLEARLY = 2
"""The other language has this many times the frequent words of the wanted one."""
_IN_AN_INSTRUCTION, _IN_AN_OUTPUT = 2, 5
"""The least number of frequent words of another language: an output may be code, or a list of names."""
_WHOLE_EXAMPLES = 4
"""The version of the rules since which the texts of an example are also judged together."""
_LEAST_SHARE = 0.15
"""The share of frequent words of another language in these texts: prose has more, code and lists less."""
_DIFFERENT = 2
"""The least number of different such words, each of two letters or more: formulas have `a`, names have `La`."""


def language_check(language: str, meaning: int = MEANING) -> Callable[[ExampleDraft], bool]:
    """A function that is true for a draft in another language than this one of a recipe, by this version of the rules.

    The instruction decides. An output is looked at where the instruction neither has an input nor asks for another
    language. Where the instruction alone cannot tell but leans to another language, all texts of the draft decide
    together. Raises ConfigError for a language that cannot be told from others.
    """
    wanted = _known(language)

    def is_other(draft: ExampleDraft) -> bool:
        if is_other_than(wanted, draft.instruction):
            return True
        asks_for_another = ASKS_FOR_ANOTHER_LANGUAGE.search(draft.instruction) is not None
        if not draft.input and not asks_for_another and _is_other(draft.output, wanted, _IN_AN_OUTPUT):
            return True
        if meaning < _WHOLE_EXAMPLES:
            return False
        return _leans_to_another(draft.instruction, draft.instruction if asks_for_another else _whole(draft), wanted)

    return is_other


def language_told(language: str) -> Callable[[ExampleDraft], bool]:
    """A function that is true for a draft whose texts show that they are in this language: no other language has more
    of its frequent words in them, or they have its own script. Raises ConfigError as `language_check` does.
    """
    wanted = _known(language)
    with_its_script = [known for known in LANGUAGES if known.script == wanted.script and known.words]

    def is_told(draft: ExampleDraft) -> bool:
        text = _whole(draft)
        if not wanted.words:
            return (share_of_script(text, wanted) or 0) >= _OWN_SCRIPT
        _, found = frequent_words(text)
        hits = found[wanted].total()
        return hits > 0 and hits >= max(found[known].total() for known in with_its_script)

    return is_told


def _known(language: str) -> Language:
    wanted = language_named(language)
    if wanted is None:
        raise ConfigError(
            f"filters.language: {language} cannot be told from other languages; set filters.language to false, or "
            f"language to one of {', '.join(known.name for known in LANGUAGES)}"
        )
    return wanted


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


def _leans_to_another(instruction: str, text: str, wanted: Language) -> bool:
    """True where some other language has most of the frequent words of the instruction, and clearly those of the text.
    Which of the others it is does not matter: an English `a` is Hungarian too.
    """
    _, asked = frequent_words(_said(instruction))
    leaning = [known for known, words in asked.items() if words.total() > asked[wanted].total()]
    if leaning and (share_of_script(text, wanted) or 0) >= _OWN_SCRIPT:
        leaning = [known for known in leaning if known.script == wanted.script]
    if not leaning:
        return False
    count, found = frequent_words(text)
    least = max(_IN_AN_OUTPUT, _LEAST_SHARE * count, _CLEARLY * found[wanted].total())
    return any(
        found[known].total() >= least and sum(len(word) > 1 for word in found[known]) >= _DIFFERENT for known in leaning
    )


def _whole(draft: ExampleDraft) -> str:
    return f"{draft.instruction}\n{draft.input}\n{draft.output}"
