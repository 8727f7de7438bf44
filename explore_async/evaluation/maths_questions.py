"""Mathematical questions with their reference answers, and the answers of a model to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final, NamedTuple

from explore_async.curation.collections.collection import Collection, ExampleRow
from explore_async.curation.collections.open import keep_columns
from explore_async.curation.several_answers import answers_of
from explore_async.errors import ConfigError, DataError
from explore_async.evaluation.pairing import class_name, id_to_meet_by, question_of
from explore_async.exploration.final_answers import final_answer, marked_answer

GROUPS: Final = ("level", "subject", "type")
"""The columns that name groups of questions where none are given, as in MATH."""
_LONGEST_ANSWER: Final = 200
"""Characters of a reference that is taken for an answer alone."""


class Question(NamedTuple):
    """`given_id`: that of its file, else empty. `reference`: the answer, alone where it can be told apart.
    `groups`: by column.
    """

    id: str
    given_id: str
    key: tuple[str, str]
    reference: str
    groups: Mapping[str, str]

    @property
    def boxed(self) -> str:
        """The reference as math-verify is to read it: as a whole, where it is an answer alone."""
        is_alone = len(self.reference) <= _LONGEST_ANSWER and "\n" not in self.reference
        return f"\\boxed{{{self.reference}}}" if is_alone else self.reference


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that have a reference, in their order."""

    found: tuple[Question, ...]
    without_reference: int


class Answers(NamedTuple):
    """The texts of a model to each question. `samples`: to each, as many as were asked for. `others`: rows that answer
    none of the questions. `most`: the place of the first question with the most answers, where these decide
    `samples` and not all have as many; else None.
    """

    texts: Sequence[Sequence[str]]
    samples: int
    others: int
    most: int | None


def questions_in(source: Collection, *, reference: str | None, by: Sequence[str] | None) -> Questions:
    """Reads the questions. `reference`: the column with the answer; None takes the answer of each row. `by`: the
    columns of groups; None takes those of MATH that are there. Raises DataError where no row has a reference, and
    ConfigError where a column is in no row.
    """
    found: list[Question] = []
    without = 0
    columns: set[str] = set()
    keep_columns(source, [name for name in (reference, *(by or GROUPS)) if name is not None])
    for row in source.examples():
        if reference is not None and reference in row:
            columns.add(reference)
        given = _text(row["output"] if reference is None else row.get(reference))
        groups = {name: value for name in by or GROUPS if (value := class_name(row.get(name)))}
        columns |= groups.keys()
        if not given:
            without += 1
            continue
        theirs = id_to_meet_by(row, by_number=False)
        found.append(Question(row["id"], theirs, question_of(row), final_answer(given) or given, groups))
    for option, name in (("--reference", reference), *(("--by", column) for column in by or ())):
        if name is not None and name not in columns:
            raise ConfigError(f"{option} {name}: no row of {source.path} has a text or a number in this column")
    if not found:
        raise DataError(f"{source.path}: no row has a reference answer (--reference COLUMN names its column)")
    return Questions(tuple(found), without)


def answers_to(questions: Sequence[Question], source: Collection, *, by_number: bool) -> Answers:
    """The answers of a dataset to each question, joined by equal instruction and input; of equal questions by the same
    id, else in their order. `by_number`: where a file has no ids, the numbers of its rows are such. Raises DataError
    where none is answered.
    """
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    by_id: dict[tuple[tuple[str, str], str], int] = {}
    for place, question in enumerate(questions):
        places[question.key].append(place)
        if name := question.given_id or (question.id if by_number else ""):
            by_id.setdefault((question.key, name), place)
    in_order = {key: cycle(known) for key, known in places.items()}
    texts: list[list[str]] = [[] for _ in questions]
    others = 0
    for row in source.examples():
        if (key := question_of(row)) not in places:
            others += 1
            continue
        same_id = by_id.get((key, id_to_meet_by(row, by_number=by_number)))
        texts[next(in_order[key]) if same_id is None else same_id] += _texts(row)
    if not any(texts):
        raise DataError(
            f"{source.path}: it answers none of the questions; rows are joined by equal instruction and input "
            "(--column names the columns of files)"
        )
    asked = (source.config.get("settings") or {}).get("answers_per_instruction")
    wanted = asked if isinstance(asked, int) else 1
    numbers = [len(of_question) for of_question in texts]
    most = max(numbers)
    is_uneven = most > wanted and min(numbers) < most
    return Answers(texts, max(wanted, most), others, numbers.index(most) if is_uneven else None)


def _texts(row: ExampleRow) -> Iterator[str]:
    """All answers of a row."""
    several = [answer["output"] for answer in answers_of(row)]
    return (text for text in several or [row["output"]] if text.strip())


def _text(value: Any) -> str:
    """A reference as a column has it: a text or a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value.strip() if isinstance(value, str) else str(value) if is_number else ""


def answer_shown(text: str) -> str:
    """The answer in a text as evidence shows it: the marked one, or the end of the text."""
    return marked_answer(text) or text.strip()[-_LONGEST_ANSWER:]
