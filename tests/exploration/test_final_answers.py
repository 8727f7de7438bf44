"""Final answers in texts, their comparable forms, and votes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.exploration.final_answers import comparable, exactly_equal, final_answer, marked_answer, vote_of


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{\frac{1}{2}}, or \boxed{ \sqrt{\{3\}} }.", r"\sqrt{\{3\}}"),
        (r"\fbox{x} and \boxed 7$ remain", "7"),
        (r"first \boxed{4}, then \boxed{5", "4"),
        (r"\boxed{ } is empty", None),
        ("It is 4*3 = <<4*3=12>>12.\n#### 12 ", "12"),
        ("#### 3\nno, wait\n#### 1,000 apples\n", "1,000 apples"),
        (r"\boxed{2} #### 3", "2"),
        ("#### .5", ".5"),
        ("The answer is 5.", None),
    ],
)
def test_marked_answers(text: str, answer: str | None) -> None:
    """The last closed box counts, with all that it nests, then what stands behind the last ####."""
    assert marked_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("We add.\nThe answer is: **42**.\n", "42"),
        ("Answer: B", "B"),
        ("the final answer is $x = 3$.", "$x = 3$"),
        ("The answer is 1. Hm. So the answer is 2.", "2"),
        (r"The answer is 1, that is \boxed{2}", "2"),
        ("An answerable question", None),
    ],
)
def test_said_answers(text: str, answer: str | None) -> None:
    """Without a mark, the rest of the line that says the answer counts."""
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "forms",
    [
        (r"\frac{1}{2}", r"\frac12", r"\dfrac 1 2", "1/2", "0.5", "$.5$", r"x = \tfrac{1}{2}"),
        ("1000", "1,000", "$1,000.", r"\$1000", r"1000 \text{ m}"),
        (r"\sqrt{3}", r"\sqrt3", r"\sqrt 3"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"30^\circ", "30", r"30^{\circ}", r"30\%", "30%"),
        (r"\frac{1}{72}", r"\frac1{72}", "1/72"),
    ],
)
def test_forms_of_an_answer_that_are_one(forms: tuple[str, ...]) -> None:
    """Each of them has the same comparable form."""
    assert len(set(map(comparable, forms))) == 1, [comparable(form) for form in forms]


@pytest.mark.parametrize(
    "forms",
    [
        ("1", "-1", "10"),
        ("(1,000)", "1000"),
        (r"\text{ a}", r"\text{ b}"),
        ("x+1", "x-1"),
        ("0.50", "0.5"),
    ],
)
def test_forms_that_stay_apart(forms: tuple[str, ...]) -> None:
    """What the older rule does not know to be equal, or what differs, is not made equal."""
    assert len(set(map(comparable, forms))) == len(forms)


def test_the_older_rule_needs_a_mark() -> None:
    """An answer without a box or #### is wrong by it, whatever it says."""
    assert exactly_equal("1/2", r"thus \boxed{\frac12}")
    assert exactly_equal("1000", "so\n#### 1,000")
    assert not exactly_equal("42", "The answer is 42.")


@given(st.text())
def test_any_text_can_be_compared(text: str) -> None:
    """No text is too odd, and a comparable form has none but itself."""
    form = comparable(text)
    assert isinstance(form, str)
    assert marked_answer(text) is None or marked_answer(text)
    assert vote_of({0: text}).votes == 1


def test_a_vote() -> None:
    """Most win, in whichever form they write it, under the words of the first; of equally many the earliest, also where
    numbers are missing. Texts without an answer vote as they stand.
    """
    vote = vote_of({0: "The answer is 7.", 2: r"\boxed{\frac12}", 3: "Hm.\n#### 1/2"})
    assert vote == (r"\frac12", 2, 2, 3)
    assert vote.line == {"answer": r"\frac12", "votes": 2, "of": 3}
    assert vote_of({4: "Paris", 1: "Rome", 5: "rome ", 6: "PARIS"}).number == 1
