r"""The final answer in a text, and forms of it that can be compared as texts. Pure.

A marked answer stands in LaTeX's \boxed{}, as in MATH, or behind ####, as in GSM8K.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

_BOX: Final = re.compile(r"\\(?:boxed|fbox)\s*")
_UNBRACED: Final = re.compile(r"[^\s$\\{}]+")
_HASHES: Final = re.compile("####")
_SAID: Final = re.compile(r"\banswer(?:[ \t]+is|[ \t]*[:=])(?:[ \t]*:)?", re.IGNORECASE)
_BEFORE: Final = " \t*"
_BEHIND: Final = " \t\r.*。"
_MOST: Final = 100
"""The latest marks that are looked at: each may need a walk to the end of the text."""


def marked_answer(text: str) -> str | None:
    """The content of the last box that is closed, else what follows the last #### on its line; None where there is
    neither.
    """
    for box in reversed(list(_BOX.finditer(text))[-_MOST:]):
        inner = _in_braces(text, box.end())
        if inner is not None and inner.strip():
            return inner.strip()
    return _behind(_HASHES, text)


def final_answer(text: str) -> str | None:
    """The marked answer, else the rest of the last line that says "the answer is"; None where no answer is told apart
    from the text.
    """
    marked = marked_answer(text)
    return _behind(_SAID, text) if marked is None else marked


def _behind(mark: re.Pattern[str], text: str) -> str | None:
    """The rest of the line behind the last such mark that has any."""
    for found in reversed(list(mark.finditer(text))[-_MOST:]):
        if rest := text[found.end() :].partition("\n")[0].lstrip(_BEFORE).rstrip(_BEHIND):
            return rest
    return None


def _in_braces(text: str, begin: int) -> str | None:
    """What stands in the braces that open here, or the first word where none do; None where they are not closed."""
    if text[begin : begin + 1] != "{":
        bare = _UNBRACED.match(text, begin)
        return None if bare is None else bare.group()
    depth = 0
    for place in range(begin, len(text)):
        if text[place] == "\\":
            continue
        if text[place] in "{}" and text[place - 1] != "\\":
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return text[begin + 1 : place]
    return None


_RULES: Final[Sequence[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]] = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\n|\\!", ""),
        (r"\\\\", r"\\"),
        (r"\\[td]frac", r"\\frac"),
        (r"\\left|\\right", ""),
        (r"\^\{\\circ\}|\^\\circ", ""),
        (r"\\?\$|\\%|(?<=\d)%", ""),
        (r"(?s)(?<=\S)\s*\\text\{ .*", ""),  # units
        (r"(?<![\d\w])\.(?=\d)", "0."),
        (r"(?s)^\s*[^=]{1,2}=([^=]*)$", r"\1"),  # the name of what was asked for, as in x = 3
        (r"\\sqrt\s*([^{\s\[])", r"\\sqrt{\1}"),
        (r"\s", ""),
        (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
        (r"\\frac([^{])\{", r"\\frac{\1}{"),
        (r"^0\.5$", r"\\frac{1}{2}"),
        (r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}"),
    )
]
_THOUSANDS: Final = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")


def comparable(answer: str) -> str:
    r"""An answer without what does not change it, by the rules that came with MATH (Hendrycks et al. 2021): spaces,
    \left and \right, degrees, signs of dollars and percent, units in \text, the name before an equals sign; fractions
    and roots in one form. As with GSM8K, a number has no commas.
    """
    text = answer.strip().strip("$").rstrip(".").strip()
    for pattern, by in _RULES:
        text = pattern.sub(by, text)
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def exactly_equal(reference: str, text: str) -> bool:
    """The older rule: the marked answer of the text, as a text, is the reference. `reference`: an answer alone."""
    marked = marked_answer(text)
    return marked is not None and comparable(marked) == comparable(reference)


class Vote(NamedTuple):
    """The result of a vote of answers. `answer`: that of most, as the first of them wrote it; `number`: of that one."""

    answer: str
    number: int
    votes: int
    of: int
    """Answers that voted."""

    @property
    def line(self) -> Mapping[str, str | int]:
        """As rows have it."""
        return {"answer": self.answer, "votes": self.votes, "of": self.of}


def vote_of(texts: Mapping[int, str]) -> Vote:
    """Most of these texts have this final answer; of equally many the earliest. Answers are equal as comparable texts,
    capital letters aside; a text in which no answer is told apart votes as a whole. `texts`: by number, at least one.
    """
    answers = {number: final_answer(text) or " ".join(text.split()) for number, text in texts.items()}
    forms = {number: comparable(answer).casefold() for number, answer in answers.items()}
    counts = Counter(forms.values())
    first = min(forms, key=lambda number: (-counts[forms[number]], number))
    return Vote(answers[first], first, counts[forms[first]], len(forms))
