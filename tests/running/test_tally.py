"""Advice about completions that are cut."""

from __future__ import annotations

import pytest

from explore_async.running.tally import cut_advice


@pytest.mark.parametrize(
    ("requests", "cut", "setting"),
    [
        ({"generate": 40}, {"generate": 12}, "generation.max_tokens"),
        ({"generate": 40, "lookahead": 9, "backtrack": 9}, {"lookahead": 2, "backtrack": 2}, "exploration.max_tokens"),
        ({"generate": 40, "lookahead": 9}, {"generate": 9, "lookahead": 9}, "generation.max_tokens"),
        ({"generate": 1000}, {"generate": 50}, None),
        ({"generate": 2}, {"generate": 2}, None),
        ({}, {}, None),
    ],
)
def test_settings_that_cut_completions_are_named(
    requests: dict[str, int], cut: dict[str, int], setting: str | None
) -> None:
    """More than a twentieth, and more than two: the limit of that stage is named, and what to ask less of. The data
    comes first.
    """
    advice = cut_advice(requests, cut)
    assert bool(advice) is (setting is not None)
    if setting:
        assert f"cut at sampling.{setting}: raise it, or lower " in advice
        assert advice.startswith(
            f"{sum(cut.values()) if len(cut) == 1 or 'exploration' in setting else cut['generate']}"
        )
