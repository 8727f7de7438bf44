"""The report in a run's directory: its name, and whether it still shows the data. Loads no package of the analysis."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

REPORT: Final = "report.html"
"""Made at the end of the run."""


def is_current(report: Path, data: Path) -> bool:
    """True when there is a report, and no example was added to the data since."""
    with suppress(OSError):
        return report.stat().st_mtime_ns > (data / "dataset.jsonl").stat().st_mtime_ns
    return False
