"""The moments at which a run's records are written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.waiting import until

from explore_async.exploration.values import Example, ExampleKept, Task, TaskAdded, Verdict
from explore_async.running import records
from explore_async.running.records import Lines, Records
from explore_async.storage.directory import RunDirectory

ACCEPTED = Verdict(kept=True, reason="accepted")


@pytest.mark.usefixtures("in_this_process")
async def test_the_first_example_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is written a moment before it, and an hour is to pass between two writes: the example does not wait."""
    monkeypatch.setattr(records, "_SECONDS_BETWEEN_WRITES", 3600.0)
    with RunDirectory(tmp_path) as directory:
        written = Records(directory, Lines([""]))
        writing = asyncio.create_task(written.keep_writing())
        written.write([TaskAdded(Task("0", "gardens", "", None, 0, "seed"), None)], "a")
        await until(directory.decisions.read_bytes)
        written.write([ExampleKept(Example("0-0", "0", 0, "Dig.", "", "Done."), ACCEPTED)], "b")
        await until(directory.dataset.read_bytes)
        writing.cancel()
        await written.close(complete=True)
    assert directory.dataset.read_text().count("\n") == 1
