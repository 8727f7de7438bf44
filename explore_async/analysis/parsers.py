"""The spaCy model that parses a dataset: that of its language, or none. A parser of another language finds pairs that
are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

from explore_async.analysis.verb_noun import ENGLISH
from explore_async.curation.collections.collection import Collection
from explore_async.curation.tokenizers import tokenizer_of_texts
from explore_async.exploration.language_check import is_other_than
from explore_async.exploration.language_table import Language
from explore_async.exploration.languages import language_named, language_of, language_of_texts

_PARSED: Final = (
    *("ca", "zh", "hr", "da", "nl", "en", "fi", "fr", "de", "el", "it", "ja"),
    *("ko", "lt", "nb", "pl", "pt", "ro", "ru", "sl", "es", "sv", "uk"),
)
"""Codes of the languages that spaCy has models with a parser for."""
_SIZES: Final = ("sm", "md", "lg", "trf")
_TEXTS_LOOKED_AT: Final = 500


@dataclass(frozen=True, slots=True)
class Parser:
    """`model`: the name of an installed spaCy model; None where the data is not parsed, for the reason `left_out`."""

    model: str | None
    left_out: str | None = None
    other_language: str | None = None
    """A sentence where the texts are in another language than their recipe asks for."""


def parser_for(collection: Collection, texts: Sequence[str], chosen: str | None) -> Parser:
    """The chosen model; where none is chosen, the installed one for the language that the recipe asks for, or that the
    texts are clearly in.
    """
    setting = str(collection.recipe.get("language") or "")
    found = language_of_texts(texts)
    named = language_named(setting) if setting else None
    if named is None or found is None or not _is_other(texts, named):
        return _parser(setting, named if setting else found, texts, chosen, is_sure=found is not None)
    note = f"the recipe asks for {named.name}, and most texts are in {found.name}"
    parser = _parser("", found, texts, chosen, is_sure=True)
    if chosen is None and parser.model is not None:
        note += f", so the {found.name} parser is used"
    return replace(parser, other_language=note)


def _is_other(texts: Sequence[str], language: Language) -> bool:
    """True where most texts that can be told are in another language."""
    told = [text for text in texts[:_TEXTS_LOOKED_AT] if language_of(text) is not None]
    return 2 * sum(is_other_than(language, text) for text in told) > len(told)


def _parser(
    setting: str, language: Language | None, texts: Sequence[str], chosen: str | None, *, is_sure: bool
) -> Parser:
    """`setting`: the recipe's language; empty where it does not count. `is_sure`: the texts show it too."""
    if chosen is not None:
        return Parser(chosen)
    if language is None:
        if not setting and tokenizer_of_texts(texts) == "rouge":
            return Parser(ENGLISH)
        which = f"of {setting}, a language that is not known here" if setting else "in no one language"
        return Parser(None, f"the texts are {which}; --spacy-model names a parser for them")
    if language.code == "en":
        return Parser(ENGLISH)
    names = list(_models(language))
    said = f"the texts are in {language.name}" if is_sure else f"the recipe asks for {language.name}"
    installed = next((name for name in names if find_spec(name) is not None), None)
    if installed is not None:
        return Parser(installed)
    if not names:
        return Parser(None, f"{said}, which spaCy has no parser for")
    return Parser(
        None,
        f"{said}, and no spaCy model for it is installed (python -m spacy download {names[0]}, or --spacy-model)",
    )


def _models(language: Language) -> Iterator[str]:
    """The names of spaCy's models for the language, the smallest first."""
    if language.code in _PARSED:
        kind = "web" if language.code in {"en", "zh"} else "news"
        yield from (f"{language.code}_core_{kind}_{size}" for size in _SIZES)
