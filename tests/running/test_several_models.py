"""Runs whose instructions, answers and judgements come from different models, at several endpoints."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from support.cli import RECIPE, config, derived, in_process
from support.stored_run import doctor, simulating

from explore_async.serving.endpoints import admission
from explore_async.serving.simulated.server import Latency

pytestmark = pytest.mark.usefixtures("in_this_process")

TEXT = f"""{RECIPE.replace("examples: 100", "examples: 16")}
model: small
models: {{answer: big, judge: referee}}
responses: separate
answers_per_instruction: 2
turns: 2
judge: {{threshold: 2}}
operation: {{report: false}}
"""


def test_each_kind_goes_to_its_model_and_the_order_changes_nothing(tmp_path: Path) -> None:
    """With one endpoint for each model, one request at a time, and with two for each and many at once in another order: the
    same bytes, which the doctor finds again. Each server has got what is for its model.
    """
    config(tmp_path, TEXT)
    made: list[dict[str, bytes]] = []
    for copies, concurrency in ((1, 1), (2, 12)):
        out = tmp_path / f"run{concurrency}"
        with ExitStack() as stack:
            servers = {
                model: [
                    stack.enter_context(
                        simulating(model=model, latency=Latency(0.0005 * concurrency, 0.8, shuffle=copy))
                    )
                    for copy in range(copies)
                ]
                for model in ("small", "big", "referee")
            }
            urls = [part for some in servers.values() for server in some for part in ("--endpoint", server.url)]
            result = in_process(
                *("run", tmp_path / "config.yaml", *urls, "--out", out, "--concurrency", str(concurrency)),
                *("--quiet", "--json"),
            )
            assert result.code == 0, result.stderr
            asked = {model: sum(server.statistics().requests for server in some) for model, some in servers.items()}
        kinds = result.json["requests"]
        for model, names in (
            ("small", ("lookahead", "backtrack", "generate")),
            ("big", ("answer",)),
            ("referee", ("judge",)),
        ):
            due = sum(kinds.get(name, 0) for name in names)
            assert due <= asked[model]
        assert kinds["judge"] > 20
        made.append(derived(out))
        assert doctor(out).code == 0
    assert made[0] == made[1]


def test_a_model_whose_endpoint_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on with the other models, says at once which one no endpoint serves, and names it when it gives up."""
    monkeypatch.setattr(admission, "CONNECT_PATIENCE_S", 0.2)
    with simulating(model="small") as small, simulating(model="referee") as referee:
        places = (
            f"[{{url: '{small.url}'}}, {{url: '{referee.url}'}}, {{url: 'http://127.0.0.1:9', model: {{big: big}}}}]"
        )
        operation = f"operation: {{report: false, stall_s: 3, endpoints: {places}}}"
        text = TEXT.replace("operation: {report: false}", operation)
        result = in_process("run", config(tmp_path, text), "--out", tmp_path / "run")
    assert result.code == 6
    named = "At the moment no endpoint serves 'big', which this run needs for its answers"
    assert f"{named}: these requests wait" in result.stderr
    assert f"answered for 3 s. {named}. Last error: http://127.0.0.1:9/v1 cannot be reached" in result.stderr
    assert "raise operation.stall_s" not in result.stderr


def test_a_model_that_nobody_serves_is_named_before_anything_is_written(tmp_path: Path) -> None:
    """The error says which model, and for which requests."""
    with simulating(model="small") as small, simulating(model="referee") as referee:
        urls = ("--endpoint", small.url, "--endpoint", referee.url)
        result = in_process("run", config(tmp_path, TEXT), *urls, "--out", tmp_path / "run", "--json")
    assert result.code == 6
    assert "'big'" in result.json["error"]
    assert "answer" in result.json["error"]
    assert not (tmp_path / "run").exists()
