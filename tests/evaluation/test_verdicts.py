"""Verdicts as judges write them."""

from __future__ import annotations

import pytest

from explore_async.exploration.parsing import Format, Preference, parse_preference
from explore_async.exploration.values import Completion


@pytest.mark.parametrize(
    ("answer_format", "text", "better"),
    [
        ("json", '{"reason": "r", "verdict": "first"}', "first"),
        ("json", '```json\n{"Verdict": " Second. ", "reason": "r"}\n```', "second"),
        ("json", '<think>{"verdict": "second"}</think>{"reason": "r", "verdict": "tie"}', "tie"),
        ("json", '{"reason": "r"}', None),
        ("json", '{"reason": "r", "verdict": "both"}', None),
        ("json", '{"reason": "r", "verdict": ["first"]}', None),
        ("json", "### Verdict: first", None),
        ("json", "", None),
        ("text", "The second is short.\n### Verdict: **first**", "first"),
        ("text", "### Verdict: first\nNo:\n### verdict : The second answer.", "second"),
        ("text", "<think>### Verdict: second</think>\n### Verdict: tie", "tie"),
        ("text", "The first is better.", None),
        ("text", "### Verdict: none of us", None),
    ],
)
def test_a_verdict_is_read_or_it_is_none(answer_format: Format, text: str, better: str | None) -> None:
    """Only what says which answer is better counts; no words at all are ever taken for a tie."""
    item = parse_preference(Completion(text, "stop", 1, 1), answer_format)
    assert (item.better if isinstance(item, Preference) else None) == better
