r"""Completions of runs that began by earlier rules are read by these rules, for good."""

from __future__ import annotations

import pytest

from explore_async.exploration.parsing import ExampleDraft, Unreadable, parse_examples, parse_tasks
from explore_async.exploration.values import Completion
from explore_async.settings.recipe import MEANING, MEANINGS


def in_json(output: str, input_text: str = "") -> str:
    return f'{{"examples":[{{"instruction":"Do it","input":"{input_text}","output":"{output}"}}]}}'


CUT = "### Instruction: Do it\n### Input:\n### Output: one"


@pytest.mark.parametrize(
    ("text", "answer_format", "reason", "before"),
    [
        (in_json(r"\frac{1}{2}"), "json", "stop", [ExampleDraft("Do it", "", "rac{1}{2}")]),
        (in_json("<think>a</think>b"), "json", "stop", [ExampleDraft("Do it", "", "b")]),
        (in_json("Sodium", "Na"), "json", "stop", [ExampleDraft("Do it", "", "Sodium")]),
        (CUT, "text", "content_filter", [ExampleDraft("Do it", "", "one")]),
        (f"{CUT}\n## Input\ntwo\n### End", "text", "stop", [
            ExampleDraft("Do it", "", "one"), Unreadable("missing_field", '{"input":"two"}'),
        ]),
    ],
)  # fmt: skip
def test_version_2_reads_as_it_did(text: str, answer_format: str, reason: str, before: list) -> None:
    """Each of the readings that version 3 has mended stays as it was for runs of version 2, and only for these."""
    completion = Completion(text, reason, 1, 1)
    assert parse_examples(completion, answer_format, 2) == before  # type: ignore[arg-type]
    assert parse_examples(completion, answer_format) != before  # type: ignore[arg-type]


def test_both_read_plain_answers_alike() -> None:
    """Most answers need no mending: every version that is followed reads them as the others do."""
    text = '{"tasks":[{"name":"Prune roses","reason":"in winter"}]}'
    assert list(MEANINGS) == [2, 3, MEANING]
    assert len({str(parse_tasks(Completion(text, "stop", 1, 1), "json", meaning)) for meaning in MEANINGS}) == 1
