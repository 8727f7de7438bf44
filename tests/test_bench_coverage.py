"""The comparison of strategies: it goes on where it stopped, and names what it leaves out."""

from __future__ import annotations

import sys
from pathlib import Path

import orjson
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.usefixtures("in_this_process")
def test_arms_are_run_directories_that_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second time the same is told and nothing is asked; with a higher budget the same runs go on. An arm with a
    setting that does not exist is named, and the others are compared. The share kept is that of the run's own counts.
    """
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_coverage

    monkeypatch.setitem(bench_coverage.ARMS, "of the future", ["exploration.telepathy=true"])
    stores = [
        tmp_path / "brainstorming" / arm / "0" / "completions.sqlite" for arm in ("explore_instruct", "criterion")
    ]

    def compared(budget: int) -> dict[str, object]:
        arms = ["explore_instruct", "criterion", "of the future"]
        small = ["--set", "exploration.depth=1", "exploration.breadth=[2]", "--seeds", "0"]
        monkeypatch.setattr(
            *(sys, "argv"),
            ["bench_coverage.py", "--keep", str(tmp_path), "--budget", str(budget), *small, "--arms", *arms],
        )
        bench_coverage.main()
        document: dict[str, object] = orjson.loads(capsys.readouterr().out.splitlines()[-1])
        return document

    first = compared(3000)
    left_out = first["left_out"]
    assert isinstance(left_out, dict)
    assert "exploration.telepathy: unknown key" in left_out["of the future"]
    rows = first["rows"]
    assert isinstance(rows, list)
    assert [row["arm"] for row in rows] == ["explore_instruct", "criterion"]
    assert all(row["true_share"][0] * 69_120 == pytest.approx(row["kept"][0], abs=5) for row in rows)
    for row, store in zip(rows, stores, strict=True):
        examples = orjson.loads(store.with_name("stats.json").read_bytes())["examples"]
        assert row["share_kept"][0] == pytest.approx(examples["kept"] / examples["read"], abs=1e-4)
    sizes = [store.stat().st_size for store in stores]
    assert compared(3000)["rows"] == rows
    assert [store.stat().st_size for store in stores] == sizes
    more = compared(6000)["rows"]
    assert isinstance(more, list)
    assert all(row["kept"][0] > before["kept"][0] for row, before in zip(more, rows, strict=True))
