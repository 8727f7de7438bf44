"""The summary at the end of a run."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from rich.console import Console

from explore_async.cli import summary
from explore_async.cli.start_run import write_report
from explore_async.config.load import load
from explore_async.running.endpoint_speeds import LatencyFigures


def test_a_long_tree_says_where_the_rest_is(tmp_path: Path) -> None:
    """Its end has the number of the tasks that are left out, and the command that shows them."""
    tasks = [{"name": f"Task {n}", "origin": "lookahead", "kept": 0, "children": []} for n in range(56)]
    root = {"name": "Root", "origin": "seed", "kept": 0, "children": tasks}
    (tmp_path / "tree.json").write_bytes(orjson.dumps({"trees": [root]}))
    result: Any = SimpleNamespace(directory=tmp_path)
    console = Console(width=1000, record=True, file=StringIO())
    console.print(summary._tree(result))
    *_, last = console.export_text().splitlines()
    assert last.rstrip().endswith(f"… and 17 more: explore-async tree {tmp_path}")


def test_an_endpoint_that_took_much_longer_is_named() -> None:
    """By the median of its completions, beside that of the others."""
    latencies = {
        url: LatencyFigures(p50, p50, 2 * p50, 2 * p50, 2 * p50) for url, p50 in (("a", 1.0), ("b", 4.0), ("c", 1.2))
    }
    stats: Any = SimpleNamespace(latencies=latencies, times_median={"a": 0.4, "b": 3.6, "c": 0.5})
    usual = {"checked": True, "left": False, "answered": 9, "failed_attempts": 0}
    endpoints: list[Any] = [SimpleNamespace(url=url, **usual) for url in "abc"]
    lines = [summary._endpoint(endpoint, stats) for endpoint in endpoints]
    assert ["of the other endpoints" in line for line in lines] == [False, True, False]
    assert lines[1].endswith("3.6 times the median of the other endpoints")


def test_an_endpoint_whose_check_the_end_came_before_is_no_trouble() -> None:
    """A run that has all it needs ends while a slow one is still being checked. One that answered with an error, or with
    nothing for long, stays trouble.
    """
    stats: Any = SimpleNamespace(latencies={})

    def unchecked(**figures: Any) -> Any:
        usual = {
            "left": False,
            "checked": False,
            "is_silent": False,
            "last_error": "",
            "answered": 0,
            "failed_attempts": 0,
        }
        return SimpleNamespace(url="a", **usual | figures)

    assert summary._endpoint(unchecked(), stats).endswith("ended before it had answered the first small requests")
    for figures in ({"is_silent": True}, {"last_error": "500"}, {"checked": True}, {"left": True}):
        assert "ended before" not in summary._endpoint(unchecked(**figures), stats)


def test_a_report_that_cannot_be_made_is_not_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the packages of the extra a run says so at once, with the command that brings them, and goes on."""
    monkeypatch.setattr("explore_async.analysis.command.find_spec", lambda _name: None)
    write_report(tmp_path, tmp_path / "report.html", load("quickstart"), quiet=False)
    said = capsys.readouterr().err
    assert "no report.html" in said
    assert "explore-async[analysis]" in said
    assert "writing" not in said
