"""The tables of patterns of the quality filters."""

from __future__ import annotations

import pytest

from explore_async.exploration import filter_patterns as patterns
from explore_async.exploration.filter_patterns import compiled

REFUSALS = patterns.BEGINNINGS_OF_REFUSALS
TABLES = {
    "refusals": (REFUSALS, patterns.REFUSAL, r"^\W*", ""),
    "gaps": (patterns.GAPS_IN_BRACKETS, patterns.GAP_IN_BRACKETS, "", ""),
    "stand-ins": (patterns.STAND_INS, patterns.STAND_IN, "", ""),
    "no answers": (patterns.NO_ANSWERS, patterns.NO_ANSWER, r"^\W*", r"\W*$"),
    "pointers": (patterns.POINTERS_AT_INPUT, patterns.POINTER_AT_INPUT, "", ""),
    "texts behind pointers": (patterns.TEXTS_BEHIND_POINTERS, patterns.TEXT_BEHIND_POINTER, "", ""),
    "code": (patterns.WRITERS_OF_CODE, patterns.WRITES_CODE, "", ""),
    "parameters": (patterns.PARAMETERS, patterns.PARAMETER, "", ""),
    "letters": (patterns.LINES_OF_LETTERS, patterns.LINE_OF_A_LETTER, r"^\W*", r"$"),
    "no change": (patterns.REQUESTS_THAT_MAY_CHANGE_NOTHING, patterns.MAY_CHANGE_NOTHING, "", ""),
    "another language": (patterns.REQUESTS_FOR_ANOTHER_LANGUAGE, patterns.ASKS_FOR_ANOTHER_LANGUAGE, "", ""),
    "the rest": (patterns.REQUESTS_FOR_THE_REST, patterns.ASKS_FOR_THE_REST, "", ""),
    "a copy": (patterns.REQUESTS_FOR_A_COPY, patterns.ASKS_FOR_A_COPY, "", ""),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_row_matches_its_example(name: str) -> None:
    """Each row does so alone and within its table, in either case; and no other row of the table does: each is needed."""
    rows, whole, before, after = TABLES[name]
    for row in rows:
        assert row.language in {"any", "English", "Chinese"}
        for example in (row.example, row.example.upper(), row.example.lower()):
            assert compiled([row], before=before, after=after).search(example), row
            assert whole.search(example), row
        others = [other for other in rows if other is not row]
        assert not compiled(others, before=before, after=after).search(row.example), row
