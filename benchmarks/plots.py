"""The common style of all plots. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

mpl.rcParams.update(
    {
        "svg.hashsalt": "explore_async",  # the same figures make the same file
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.constrained_layout.use": True,
    }
)


def panels(number: int, title: str) -> list[Axes]:
    figure, axes = plt.subplots(1, number, figsize=(4.6 * number, 3.6), squeeze=False)
    figure.suptitle(title)
    return list(axes[0])


def save(path: Path) -> None:
    plt.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close()
