"""The report in a run's directory: its name, and whether it still shows the data. Loads no package of the analysis."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

REPORT: Final = "report.html"
"""Made at the end of the run."""


def is_current(directory: Path) -> bool:
    """True when the run has a report, and no example was added since."""
    with suppress(OSError):
        return (directory / REPORT).stat().st_mtime_ns > (directory / "dataset.jsonl").stat().st_mtime_ns
    return False
