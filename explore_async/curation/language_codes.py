"""Codes of languages (ISO 639-1) by their English names, as hubs of datasets want them; and names that are none."""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from typing import Final

from explore_async.exploration.language_table import LANGUAGES
from explore_async.exploration.languages import language_named

_CODES: Final = {
    "afrikaans": "af", "albanian": "sq", "amharic": "am", "arabic": "ar", "armenian": "hy", "azerbaijani": "az",
    "basque": "eu", "belarusian": "be", "bengali": "bn", "bosnian": "bs", "bulgarian": "bg", "burmese": "my",
    "catalan": "ca", "chinese": "zh", "croatian": "hr", "czech": "cs", "danish": "da", "dutch": "nl", "english": "en",
    "estonian": "et", "finnish": "fi", "french": "fr", "galician": "gl", "georgian": "ka", "german": "de",
    "greek": "el", "gujarati": "gu", "hausa": "ha", "hebrew": "he", "hindi": "hi", "hungarian": "hu",
    "icelandic": "is", "igbo": "ig", "indonesian": "id", "irish": "ga", "italian": "it", "japanese": "ja",
    "javanese": "jv", "kannada": "kn", "kazakh": "kk", "khmer": "km", "korean": "ko", "kurdish": "ku", "lao": "lo",
    "latin": "la", "latvian": "lv", "lithuanian": "lt", "macedonian": "mk", "malay": "ms", "malayalam": "ml",
    "mandarin": "zh", "marathi": "mr", "mongolian": "mn", "nepali": "ne", "norwegian": "no", "persian": "fa",
    "polish": "pl", "portuguese": "pt", "punjabi": "pa", "romanian": "ro", "russian": "ru", "serbian": "sr",
    "sinhala": "si", "slovak": "sk", "slovenian": "sl", "somali": "so", "spanish": "es", "swahili": "sw",
    "swedish": "sv", "tagalog": "tl", "tamil": "ta", "telugu": "te", "thai": "th", "turkish": "tr",
    "ukrainian": "uk", "urdu": "ur", "uzbek": "uz", "vietnamese": "vi", "welsh": "cy", "yoruba": "yo", "zulu": "zu",
}  # fmt: skip
_MORE_CODES: Final = {"nb", "nn"}

_NAMES: Final = {*_CODES, *(name for known in LANGUAGES for name in (known.name.casefold(), *known.names))}


def doubt_about_language(setting: str) -> str | None:
    """A sentence about a recipe's language in which no word is the name or the code of a known one, with the name that
    is most like it; None for a known one.
    """
    folded = unicodedata.normalize("NFC", setting).casefold()
    words = re.findall(r"\w+", folded)
    if any(word in _NAMES or word in _CODES.values() or word in _MORE_CODES for word in words):
        return None
    if any(name in folded for name in _NAMES if not name.isascii() or " " in name):
        return None
    near = next(
        (found[0] for word in words if (found := get_close_matches(word, sorted(_NAMES), n=1, cutoff=0.8))), None
    )
    hint = f" Did you mean {near.capitalize()}?" if near else ""
    return f"language: no language known here is called {setting!r}; the prompts take it as it is.{hint}"


def language_code(name: str) -> str | None:
    """The code of a language by its English name, its own name (`Deutsch`), its code, or a name with more beside it
    (`Chinese (simplified)`, `Swiss German`, `pt-BR`); None where it is not known.
    """
    first = name.casefold().replace("-", " ").replace("_", " ").replace("(", " ").split()[:1]
    word = first[0] if first else ""
    if word in _CODES.values():
        return word
    if (code := _CODES.get(word)) is not None:
        return code
    language = None if doubt_about_language(name) else language_named(name)
    return None if language is None else language.code
