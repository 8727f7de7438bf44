"""The cost of a run by what its endpoints report."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from explore_async.analysis.cost import Curve, _note, _Spent, decode_equivalent
from explore_async.exploration.values import Completion, Failure


def test_prompt_tokens_without_a_report_are_told():
    """Of two endpoints, one of which never reports a cached token, the share of its prompt tokens is said; where both
    report, or prompts cost nothing, there is nothing to say. A failure is a request without tokens.
    """
    spent = _Spent()
    for endpoint, prompt, cached in (("a", 100, 0), ("b", 200, 0), ("b", 100, 90)):
        spent.take(Completion("", "stop", prompt, 10, cached, endpoint=endpoint))
    spent.take(Failure("rejected", "", 1))
    assert (spent.requests, spent.generated, spent.prompt, spent.cached) == (4, 30, 400, 90)
    assert decode_equivalent(spent.generated, spent.prompt, spent.cached) == 61
    assert decode_equivalent(spent.generated, spent.prompt, spent.cached, 0) == 30
    assert spent.unreported_share == 0.25
    assert _note(spent.unreported_share).startswith(
        "25% of the prompt tokens went to endpoints that reported no cached"
    )
    assert _note(1).startswith("the prompt tokens went")
    assert _note(0) == ""
    assert _Spent().unreported_share == 0


@given(st.integers(0, 3000), st.integers(2, 50))
def test_points_are_spread_evenly_over_a_row_of_any_length(length: int, most: int) -> None:
    """The first and the last are there, in order, and no step is wider than another but the last, which is narrower; no
    more are kept than said.
    """
    curve = Curve(most)
    for number in range(length):
        curve.add({"at": number})
    at = [point["at"] for point in curve.points]
    assert at[:1] + at[-1:] == [0, length - 1][: 2 * bool(length)]
    steps = [other - one for one, other in pairwise(at)]
    assert len({*steps[:-1]}) <= 1
    assert steps[-1:] <= steps[:1]
    assert len(at) <= most + 1
    assert length <= most or len(at) > most // 2
