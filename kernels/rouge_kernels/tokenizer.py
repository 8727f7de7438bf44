"""Tokenizers: from a text to its tokens. They decide which words are equal, and so which texts are duplicates."""

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

Tokenizer: TypeAlias = Callable[[str], list[str]]

ZERO_WIDTH_SPACE = "\u200b"


class RougeTokenizer:
    """The tokens of `rouge_score`'s default tokenizer: runs of a-z and 0-9 in the lower-cased text.

    Lower-casing comes first, so a character outside ASCII with a lower case in ASCII (the Kelvin sign) is a token.
    Text in other scripts has no tokens. With `stemming`, nltk's Porter stemmer replaces tokens of more than three
    characters, as in `rouge_score` with `use_stemmer`; this needs nltk.
    """

    _words = re.compile("[a-z0-9]+")

    def __init__(self, *, stemming: bool = False) -> None:
        self.stemming = stemming

    def __call__(self, text: str) -> list[str]:
        tokens: list[str] = self._words.findall(text.lower())
        return [self.stem(token) for token in tokens] if self.stemming else tokens

    def stem(self, token: str) -> str:
        return str(self._stemmer.stem(token)) if len(token) > _LONGEST_UNSTEMMED else token

    @cached_property
    def _stemmer(self) -> "_Stemmer":
        try:
            from nltk.stem.porter import PorterStemmer
        except ImportError as error:
            raise ImportError("stemming needs nltk: pip install nltk") from error
        stemmer: _Stemmer = PorterStemmer()
        return stemmer


_LONGEST_UNSTEMMED = 3


class _Stemmer:
    """The part of nltk's stemmer that we use; nltk publishes no types."""

    def stem(self, word: str) -> str: ...  # type: ignore[empty-body]


class UnicodeTokenizer:
    """Words of any script: runs of letters, digits and marks; each Han, Hiragana or Katakana character is a token.

    The text is first normalized to NFKC and case-folded, so that full-width letters, ligatures and the two spellings
    of an accented letter give the same tokens. Hangul is written with spaces and is cut there, like Latin. Thai, Lao,
    Khmer and Burmese have no spaces between words: a whole phrase is one token, so fewer near-duplicates are found.
    """

    def __call__(self, text: str) -> list[str]:
        return self.spaced(text).split()

    @staticmethod
    def spaced(text: str) -> str:
        """The text with exactly its tokens separated by spaces."""
        return unicodedata.normalize("NFKC", text).casefold().translate(_SEPARATOR)


class _Separator(dict[int, str]):
    """Table for `str.translate`: the replacement of each character, computed at its first use."""

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = _separate(chr(codepoint))
        return replacement


def _separate(character: str) -> str:
    category = unicodedata.category(character)
    name = unicodedata.name(character, "")
    if category == "Cf" and character != ZERO_WIDTH_SPACE:
        return ""  # joiners and soft hyphens are inside words
    if name.startswith("VARIATION SELECTOR"):
        return ""  # a variant shape of the same character
    if category[0] not in "LNM":
        return " "
    if name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA")):
        return f" {character} "
    return character


_SEPARATOR = _Separator()

ROUGE_TOKENIZER = RougeTokenizer()
TOKENIZERS: dict[str, Tokenizer] = {"rouge": ROUGE_TOKENIZER, "unicode": UnicodeTokenizer()}
"""Every tokenizer by its name in settings."""
