"""The language of a text, by its letters and its most frequent words. Pure, and the same on every machine."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Final

from explore_async.exploration.language_table import LANGUAGES, Language
from rouge_kernels import UnicodeTokenizer

_tokenize: Final = UnicodeTokenizer()
_LONGEST = 4_000
"""Characters that are looked at."""
_OF_SCRIPT = 0.5
"""The share of the letters that belong to the script of the text."""
_LEAST_KANA = 0.08
"""The share of kana that Japanese has among kana and Han; Chinese has none."""
_FEW_LETTERS = 12
_TEXTS = 2_000
_LEAST_HITS = 2
_LEAST_SHARE = 0.15
"""The share of frequent words among all: prose has two to four times that, code less."""
_LEAD = 1.5
"""The best language has this many times the frequent words of the next one, or nothing is said."""
_WHOLE_WORDS = 3
"""A Han, kana or Hangul letter weighs as much as this number of letters of an alphabet."""
_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_BY_NAME: Final = {language.name: language for language in LANGUAGES}


def language_named(setting: str) -> Language | None:
    """The language that a recipe's setting means ("Deutsch", "zh-CN", "Swiss German"); None if it is not here."""
    folded = unicodedata.normalize("NFC", setting).casefold().strip()
    code = re.split(r"[-_]", folded, maxsplit=1)[0]
    for language in LANGUAGES:
        if code == language.code or (code, language.code) in {("no", "nb"), ("nn", "nb")}:
            return language
    named = [
        (len(name), language)
        for language in LANGUAGES
        for name in (language.name.casefold(), *language.names)
        if name in folded
    ]
    return max(named, key=lambda pair: pair[0])[1] if named else None


def language_of(text: str) -> Language | None:
    """The language of prose; None where the text is too short, is code, or could be of several languages."""
    prose = _CODE.sub(" ", text[:_LONGEST])
    script = script_of(prose)
    written_in_it = [language for language in LANGUAGES if language.script == script]
    if len(written_in_it) < 2:  # noqa: PLR2004 - one, or none
        return written_in_it[0] if written_in_it else None
    tokens = _tokenize(prose)
    hits = sorted(((_hits(language, tokens), -place) for place, language in enumerate(written_in_it)), reverse=True)
    (best, place), (second, _) = hits[:2]
    if best < max(_LEAST_HITS, _LEAST_SHARE * len(tokens), _LEAD * second):
        return None
    return written_in_it[-place]


def language_of_texts(texts: Iterable[str]) -> Language | None:
    """The language of most of the first texts; None where no language has most of those that can be told."""
    counts = Counter(found for text in islice(texts, _TEXTS) if (found := language_of(text)) is not None)
    if not counts:
        return None
    language, times = counts.most_common(1)[0]
    return language if 2 * times > counts.total() else None


def share_of_script(text: str, language: Language) -> float | None:
    """The share of the letters that belong to this language's script; None where there are hardly any letters."""
    counts = _scripts(_CODE.sub(" ", text[:_LONGEST]))
    letters = counts.total()
    return counts[language.script] / letters if letters >= _FEW_LETTERS else None


def hits_of(text: str, language: Language) -> int:
    """The number of the text's words that are frequent in this language."""
    return _hits(language, _tokenize(_CODE.sub(" ", text[:_LONGEST])))


def frequent_words(text: str) -> tuple[int, dict[Language, Counter[str]]]:
    """The number of the text's words, and of each language those that are frequent in it."""
    tokens = _tokenize(_CODE.sub(" ", text[:_LONGEST]))
    counts = Counter(tokens)
    return len(tokens), {
        language: Counter({word: counts[word] for word in counts.keys() & _all_words(language.name)})
        for language in LANGUAGES
    }


def script_of(text: str) -> str | None:
    """The script that most letters belong to, as the table calls it; None where there is none."""
    counts = _scripts(text)
    if not counts:
        return None
    script, letters = counts.most_common(1)[0]
    return script if letters > _OF_SCRIPT * counts.total() else None


def _scripts(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for letter, times in Counter(text).items():
        if letter.isalpha():
            script, weight = _script(letter)
            counts[script] += weight * times
    kana, han = counts["KANA"], counts["CJK"]
    if kana and kana >= _LEAST_KANA * (kana + han):  # Japanese is written with both
        counts["KANA"], counts["CJK"] = kana + han, 0
    return +counts


@cache
def _script(letter: str) -> tuple[str, int]:
    if letter.isascii():
        return "LATIN", 1
    name = unicodedata.name(unicodedata.normalize("NFKC", letter)[0], "OTHER").split(" ")[0].split("-")[0]
    script = "KANA" if name in {"HIRAGANA", "KATAKANA"} else name
    return script, _WHOLE_WORDS if script in {"CJK", "KANA", "HANGUL"} else 1


def _hits(language: Language, tokens: list[str]) -> int:
    words = _words(language.name)
    return sum(token in words for token in tokens)


@cache
def _words(name: str) -> frozenset[str]:
    return frozenset(_tokenize(_BY_NAME[name].words))


@cache
def _all_words(name: str) -> frozenset[str]:
    return _words(name) | frozenset(_tokenize(_BY_NAME[name].more))
