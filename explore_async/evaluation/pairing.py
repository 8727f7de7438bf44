"""Two datasets joined by their questions: the answers of both to the same instruction with the same input."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, new_node
from explore_async.curation.collections.open import keep_columns
from explore_async.errors import ConfigError, DataError
from explore_async.settings.comparison import FIRST_RULES, NUMBERS_MEET, RULES

_CLASSES: Final = ("class", "category")
_UNCLASSED: Final = "questions"
"""The only class where rows name none."""


class Pair(NamedTuple):
    """A question with both answers. `kind`: its class."""

    id: str
    instruction: str
    input: str
    a: str
    b: str
    kind: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """The questions that both datasets answer, in the order of the first. `only`: answers of each to others."""

    found: tuple[Pair, ...]
    only: tuple[int, int]

    @property
    def equal(self) -> int:
        """Questions with the same answer in both."""
        return sum(pair.a.strip() == pair.b.strip() for pair in self.found)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order in which they come."""
        return tuple(dict.fromkeys(pair.kind for pair in self.found))

    @property
    def classes_in_prompts(self) -> list[tuple[str, str]]:
        """Each class with its name in prompts, which is empty for the class of rows that name none."""
        return [(name, "" if name == _UNCLASSED else name) for name in self.classes]

    def trees(self) -> list[dict[str, Any]]:
        """A tree for each class, without sub-tasks."""
        return [new_node(str(number), name) for number, name in enumerate(self.classes)]

    def digest(self) -> str:
        """Of all texts, ids and classes. In hexadecimal."""
        digest = hashlib.blake2b(digest_size=16)
        for pair in self.found:
            digest.update(orjson.dumps(list(pair), option=orjson.OPT_APPEND_NEWLINE))
        return digest.hexdigest()


def paired(a: Collection, b: Collection, by: str | None = None, *, rules: int = RULES) -> Pairs:
    """Joins the rows by instruction and input; of equal ones those with the same id, else in their order. A row with an
    empty output is no answer. `by`: the column with the class of a question; None takes `class` or `category`, else the
    row's domain or, where all have one domain, its task on the first level, else the domain itself.

    `rules`: those that the comparison began by. By the first ones, equal questions meet by the ids that we give the
    rows of files, and the domain's own examples have no class; by the second ones, rows of two files without ids meet
    by their numbers. Raises DataError where no question has two answers.
    """
    for source in (a, b):
        keep_columns(source, _CLASSES if by is None else (by,))
    waiting: dict[tuple[str, str], list[ExampleRow]] = defaultdict(list)
    for row in _answered(b):
        waiting[question_of(row)].append(row)
    alike: dict[tuple[str, str], list[ExampleRow]] = defaultdict(list)
    by_id: dict[str, ExampleRow] = {}
    for row in _answered(a):
        if row["id"] in by_id:
            raise DataError(f"{a.path}: the id {row['id']!r} is there twice")
        by_id[row["id"]] = row
        alike[question_of(row)].append(row)
    by_number = rules <= NUMBERS_MEET or numbers_meet(a, b)
    meet = _met_earlier if rules == FIRST_RULES else partial(_met, by_number=by_number)
    others = {row["id"]: other for key, own in alike.items() for row, other in meet(own, waiting.get(key, []))}
    rows = [(row, others[name]) for name, row in by_id.items() if name in others]
    if not rows:
        raise DataError(
            f"{a.path} and {b.path}: no question has an answer in both; they are joined by equal instruction and input "
            "(--column names the columns of files)"
        )
    only = len(by_id) - len(rows), sum(map(len, waiting.values())) - len(rows)
    kinds = _kinds(rows, by, by_first_rules=rules == FIRST_RULES)
    return Pairs(tuple(_pair(row, other, kind) for (row, other), kind in zip(rows, kinds, strict=True)), only)


def _met(
    rows: list[ExampleRow], others: list[ExampleRow], *, by_number: bool
) -> Iterator[tuple[ExampleRow, ExampleRow]]:
    """Rows of equal questions: first those with the same id, then the rest in their order."""
    by_id: dict[str, deque[int]] = defaultdict(deque)
    for place, other in enumerate(others):
        by_id[id_to_meet_by(other, by_number=by_number)].append(place)
    by_id.pop("", None)
    left: list[ExampleRow] = []
    taken: set[int] = set()
    for row in rows:
        if places := by_id.get(id_to_meet_by(row, by_number=by_number)):
            taken.add(place := places.popleft())
            yield row, others[place]
        else:
            left.append(row)
    yield from zip(left, (other for place, other in enumerate(others) if place not in taken), strict=False)


def _met_earlier(rows: list[ExampleRow], others: list[ExampleRow]) -> Iterator[tuple[ExampleRow, ExampleRow]]:
    """The same by the first rules: each row in turn takes one with the same id of ours, else the first."""
    left = list(others)
    for row in rows[: len(others)]:
        place = next((place for place, other in enumerate(left) if other["id"] == row["id"]), 0)
        yield row, left.pop(place)


def numbers_meet(a: Collection, b: Collection) -> bool:
    """False for two files without ids: the number of a row in the one says nothing about the rows of the other. In a
    directory it does: `answer` keeps the numbers of the file that it read.
    """
    return not (a.numbers_rows and b.numbers_rows)


def id_to_meet_by(row: ExampleRow, *, by_number: bool) -> str:
    """The id that the row has in its file, else ours; without `by_number`, empty in place of ours."""
    theirs = row.get("imported")
    value = theirs.get("id") if isinstance(theirs, Mapping) else None
    return str(value) if isinstance(value, str | int) and value != "" else row["id"] if by_number else ""


def _answered(source: Collection) -> Iterator[ExampleRow]:
    return (row for row in source.examples() if row["output"].strip())


def question_of(row: ExampleRow) -> tuple[str, str]:
    return row["instruction"].strip(), row["input"].strip()


def _pair(row: ExampleRow, other: ExampleRow, kind: str) -> Pair:
    return Pair(row["id"], row["instruction"], row["input"], row["output"], other["output"], kind)


def _kinds(rows: list[tuple[ExampleRow, ExampleRow]], by: str | None, *, by_first_rules: bool) -> Iterator[str]:
    """The class of each pair of rows."""
    columns = _CLASSES if by is None else (by,)
    named = [
        next((name for row in both for column in columns if (name := class_name(row.get(column)))), "") for both in rows
    ]
    if by is not None and not any(named):
        raise ConfigError(f"--by {by}: no row has a text or a number in this column")
    if any(named):
        return (name or _UNCLASSED for name in named)
    paths = [row["task_path"] for row, _ in rows]
    if len({path[0] for path in paths}) > 1:
        return (path[0] for path in paths)
    below = [path[1] if len(path) > 1 else "" for path in paths]
    own = paths[0][0] if any(below) and not by_first_rules else ""
    return (name or own or _UNCLASSED for name in below)


def class_name(value: object) -> str:
    """A class as a column has it: a text, or a number, as levels are."""
    return " ".join(str(value).split()) if isinstance(value, str | int) and not isinstance(value, bool) else ""
