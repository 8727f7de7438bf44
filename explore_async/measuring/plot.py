"""Draws a sweep as a picture. Needs matplotlib, which is not a dependency."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explore_async.measuring.figures import LevelFigures, Spread


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def plot(levels: Sequence[LevelFigures], title: str, path: Path) -> None:
    """Writes an SVG of output tokens a second and latencies against concurrency."""
    import matplotlib as mpl
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "explore_async", "font.size": 9, "axes.grid": True}
    style |= {"text.parse_math": False, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False}
    levels = [level for level in levels if level.completed]
    with mpl.rc_context(style):
        figure = Figure(figsize=(13.8, 3.6), layout="constrained")
        figure.suptitle(title)
        rates, first, between = figure.subplots(1, 3)
        concurrency = [level.concurrency for level in levels]
        rates.plot(concurrency, [level.rate for level in levels], marker="o")
        rates.set(title="output tokens per second")
        rates.set_ylim(bottom=0)
        for axes, name, label in ((first, "ttft_ms", "time to first token"), (between, "tpot_ms", "time per token")):
            for share in ("p50", "p99"):
                spreads: list[tuple[int, Spread]] = [
                    (level.concurrency, spread) for level in levels if (spread := getattr(level, name)) is not None
                ]
                axes.plot(
                    [place for place, _ in spreads],
                    [getattr(spread, share) for _, spread in spreads],
                    marker="o",
                    label=share,
                )
            axes.set(title=f"{label}, ms")
            axes.legend()
        first.set_yscale("log")
        between.set_ylim(bottom=0)
        for axes in (rates, first, between):
            axes.set(xlabel="requests in flight at each endpoint", xscale="log")
            axes.set_xticks(concurrency, [str(number) for number in concurrency])
            axes.minorticks_off()
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
