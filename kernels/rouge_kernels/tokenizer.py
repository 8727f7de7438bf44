"""Tokenizers: from a text to its tokens. They decide which words are equal, and so which texts are duplicates."""

import re
import unicodedata
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

Tokenizer: TypeAlias = Callable[[str], list[str]]

ZERO_WIDTH_SPACE = "\u200b"
_DOTLESS_I = "\u0131"
_DOT_ABOVE = "\u0307"
_I_AND_DOT = f"i{_DOT_ABOVE}"  # the lower case of the Turkish capital with a dot
_SCRIPTS_WITH_VOWEL_SIGNS = ("ARABIC", "HEBREW", "SYRIAC")


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
    of an accented letter give the same tokens. The four letters i of Turkish are one, since without the language
    nobody knows the lower case of I; and the vowel signs of Arabic, Hebrew and Syriac, which most writers leave out,
    are left out. `first_version` keeps these apart, for data that was made before this rule.

    Hangul is written with spaces and is cut there, like Latin. Thai, Lao, Khmer and Burmese have no spaces between
    words: a whole phrase is one token, so fewer near-duplicates are found.
    """

    def __init__(self, *, first_version: bool = False) -> None:
        self._separators = _FIRST_SEPARATORS if first_version else _SEPARATORS
        self._is_first = first_version

    def __call__(self, text: str) -> list[str]:
        return self.spaced(text).split()

    def spaced(self, text: str) -> str:
        """The text with exactly its tokens separated by spaces."""
        folded = unicodedata.normalize("NFKC", text).casefold()
        if not self._is_first and _DOT_ABOVE in folded:
            folded = folded.replace(_I_AND_DOT, "i")
        return folded.translate(self._separators)


class _Separators(dict[int, str]):
    """Table for `str.translate`: the replacement of each character, computed at its first use."""

    def __init__(self, separate: Callable[[str], str]) -> None:
        super().__init__()
        self._separate = separate

    def __missing__(self, codepoint: int) -> str:
        self[codepoint] = replacement = self._separate(chr(codepoint))
        return replacement


def _separate(character: str) -> str:
    if character == _DOTLESS_I:
        return "i"
    name = unicodedata.name(character, "")
    is_vowel_sign = unicodedata.category(character) == "Mn" and name.startswith(_SCRIPTS_WITH_VOWEL_SIGNS)
    if (is_vowel_sign and "HAMZA" not in name) or name == "ARABIC TATWEEL":
        return ""
    return _separate_first(character)


def _separate_first(character: str) -> str:
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


_SEPARATORS = _Separators(_separate)
_FIRST_SEPARATORS = _Separators(_separate_first)

ROUGE_TOKENIZER = RougeTokenizer()
TOKENIZERS: dict[str, Tokenizer] = {
    "rouge": ROUGE_TOKENIZER,
    "unicode": UnicodeTokenizer(),
    "unicode-1": UnicodeTokenizer(first_version=True),
}
"""Every tokenizer by its name."""
