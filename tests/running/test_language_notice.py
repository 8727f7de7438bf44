"""A run says early that its examples come in another language."""

from __future__ import annotations

import pytest
from support.scripted import recipe

from explore_async.exploration.values import Example, ExampleKept, Verdict
from explore_async.running.language_notice import LOOKED_AT, LanguageNotice

ENGLISH = "Write a short letter to the landlord about the noise in the house."
GERMAN = "Schreibe einen kurzen Brief an den Vermieter über den Lärm in dem Haus."


def kept(text: str) -> ExampleKept:
    return ExampleKept(Example("0-0.0", "0", 0, text, "", ""), Verdict(kept=True, reason="new"))


@pytest.mark.parametrize(
    ("language", "texts", "is_told"),
    [
        ("German", [ENGLISH] * LOOKED_AT, True),
        ("German", [GERMAN, GERMAN, ENGLISH] * LOOKED_AT, False),
        ("English", [ENGLISH] * LOOKED_AT, False),
        ("English", [GERMAN] * LOOKED_AT, True),
        ("Klingon", [ENGLISH] * LOOKED_AT, False),
    ],
)
def test_most_of_the_first_examples_in_another_language_are_told(language, texts, is_told):
    """From the 50th on, with the cure; a language that nobody can tell from others says nothing."""
    notice = LanguageNotice(recipe(language=language))
    for text in texts[: LOOKED_AT - 1]:
        notice.look([kept(text)])
        assert not notice.words(simulated=False)
    notice.look([kept(text) for text in texts])
    said = notice.words(simulated=False)
    assert bool(said) == is_told
    if is_told:
        assert language in said
        assert "filters.language: true" in said
        assert "filters.language" not in notice.words(simulated=True)


def test_where_they_are_dropped_nothing_is_said():
    """The summary counts them by their reason."""
    notice = LanguageNotice(recipe(language="German", filters={"language": True}))
    notice.look([kept(ENGLISH)] * (2 * LOOKED_AT))
    assert not notice.words(simulated=False)
