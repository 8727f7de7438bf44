"""The check for answers that are Python code."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explore_async.running.code_check import python


@pytest.mark.parametrize(("output", "ok", "reason"), [
    ("def total(prices):\n    return sum(prices)", True, ""),
    ("```python\ndef total(prices):\n    return sum(prices)\n```", True, ""),
    ("```\nasync def total(prices):\n    return sum(prices)\n```\n", True, ""),
    ("import re\n\nclass A:\n    def total(self): return re.escape('\\d')", True, ""),
    ("def total prices):\n    return sum(prices)", False, "no Python, line 1: unmatched ')'"),
    ("def total(prices):\nreturn sum(prices)", False,
     "no Python, line 2: expected an indented block after function definition on line 1"),
    ('"APPLE PIE"', False, "no function"),
    ('def count(books):\n    """Counts the books."""', False, "count does nothing"),
    ("def route(start, end):\n    # look it up\n    pass", False, "route does nothing"),
    ("import datetime as d\n\ndef now(zone=None):\n    return d.datetime.now(zone)", True, ""),
    ("def now():\n    return datetime.now()", False, "unknown: datetime"),
    ("def now():\n    from datetime import datetime\n    return datetime.now()", True, ""),
    ("def by_length(words):\n    return {len(word): [word for word in words] for group in words}", False, "unknown: word"),
    ("def by_length(words):\n    return {n: [w for w in words if len(w) == n] for n in map(len, words)}", True, ""),
    ("class A:\n    b = 1\n    def c(self): return self.b + _D\n_D = 2\nprint(A().c())", True, ""),
    ("from math import *\ndef area(r):\n    return pi * r ** 2", True, ""),
    ("def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nif __name__ == '__main__':\n    print(f(9))", True, ""),
    ("Use sum().", False, "no Python, line 1: invalid syntax"),
    ("x = '\0'", False, None),
    ("(" * 5000, False, None),
])  # fmt: skip
def test_code_passes_that_python_reads(output: str, ok: bool, reason: str | None) -> None:
    """With or without marks of Markdown; the reason names the line."""
    said = python({"output": output})
    assert said[0] is ok
    assert reason is None or said[1] == reason


@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    """Nothing raises, and what passes can be parsed."""
    ok, reason = python({"output": text})
    assert ok is (reason == "")
    assert not ok or ast.parse(text.strip().strip("`"))
