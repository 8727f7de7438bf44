"""Text to tokens. A tokenizer decides what counts as the same word, and with that what counts as a duplicate."""

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

Tokenizer: TypeAlias = Callable[[str], list[str]]

ZERO_WIDTH_SPACE = "\u200b"


class RougeTokenizer:
    """The tokens of `rouge_score`'s default tokenizer: runs of a-z and 0-9 in the lower-cased text.

    Lower-casing comes first, so a character outside ASCII whose lower case lies within it (the Kelvin sign) counts.
    Text in any other script has no tokens. With `stemming`, tokens of more than three characters are replaced by what
    nltk's Porter stemmer makes of them, as `rouge_score` does with `use_stemmer`; this needs nltk.
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
    """What is used of nltk's, which publishes no types."""

    def stem(self, word: str) -> str: ...  # type: ignore[empty-body]


class UnicodeTokenizer:
    """Words of any script: runs of letters, digits and marks; each Han, Hiragana or Katakana character for itself.

    The text is first brought to NFKC and case-folded, so that full-width letters, ligatures and the two spellings
    of an accented letter make the same tokens. Hangul is written with spaces and is cut there, like Latin. Thai, Lao,
    Khmer and Burmese are not: a phrase without spaces is one token there, and fewer near-duplicates are found.
    """

    def __call__(self, text: str) -> list[str]:
        return self.spaced(text).split()

    @staticmethod
    def spaced(text: str) -> str:
        """The text with its tokens apart, by spaces and nothing else."""
        return unicodedata.normalize("NFKC", text).casefold().translate(_SEPARATED)


class _Separated(dict[int, str]):
    """For `str.translate`: what becomes of each character, worked out when it is first met."""

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = _separated(chr(codepoint))
        return replacement


def _separated(character: str) -> str:
    category = unicodedata.category(character)
    name = unicodedata.name(character, "")
    if category == "Cf" and character != ZERO_WIDTH_SPACE:
        return ""  # joiners and soft hyphens stand within words
    if name.startswith("VARIATION SELECTOR"):
        return ""  # another drawing of the same character
    if category[0] not in "LNM":
        return " "
    if name.startswith(("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA")):
        return f" {character} "
    return character


_SEPARATED = _Separated()

ROUGE_TOKENIZER = RougeTokenizer()
TOKENIZERS: dict[str, Tokenizer] = {"rouge": ROUGE_TOKENIZER, "unicode": UnicodeTokenizer()}
"""Every tokenizer by the name that settings use for it."""
