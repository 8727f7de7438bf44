"""The progress and the result of `explore-async dedup`, for people."""

from __future__ import annotations

from explore_async.curation.dedup_files import DedupCounts
from explore_async.terminal.counts import counted
from explore_async.terminal.reporter import Reporter


class DedupProgress:
    """Observes a deduplication and shows it with a reporter."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._total_bytes = 0
        self.phase = reporter.phase

    def began(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._reporter.update("reading", total=total_bytes)

    def advanced(self, counts: DedupCounts, read_bytes: int) -> None:
        self._reporter.update(lambda: _line(counts), done=read_bytes, total=self._total_bytes)


def show(counts: DedupCounts, reporter: Reporter) -> None:
    """The counts at the end, and the first bad rows by name."""
    for line in counts.bad_rows:
        reporter.say(f"skipped: {line}")
    bad = counts.bad + counts.against_bad
    if bad > len(counts.bad_rows):
        reporter.say(f"… and {bad - len(counts.bad_rows):,} more")
    if counts.against_bad:
        reporter.say(
            f"of --against {counted(counts.against_bad, 'row')} cannot be compared with, "
            f"beside {counts.against:,} that can"
        )
    if counts.note is not None:
        reporter.say(counts.note)
    reporter.say(
        f"{counted(counts.rows, 'row')} read: {counts.kept:,} kept, {counts.dropped:,} dropped, {counts.bad:,} bad "
        f"({counts.seconds:,.1f} s, {_rows_per_s(counts):,.0f} rows/s; tokenizer {counts.tokenizer})"
    )


def _line(counts: DedupCounts) -> str:
    return (
        f"{counts.seconds:,.0f} s: {counted(counts.rows, 'row')}, {counts.kept:,} kept, {counts.dropped:,} dropped, "
        f"{_rows_per_s(counts):,.0f} rows/s"
    )


def _rows_per_s(counts: DedupCounts) -> float:
    return counts.rows / max(counts.seconds, 1e-9)
