"""The moments at which a run's records are written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S, until

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


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("turns", range(4))
async def test_a_run_can_end_with_its_first_example(tmp_path: Path, turns: int) -> None:
    """Evidence was written, and the first example comes in the last commit: however soon the writer is cancelled then,
    it ends. In Python 3.11 `asyncio.wait_for` loses such a cancellation.
    """
    with RunDirectory(tmp_path) as directory:
        written = Records(directory, Lines([""]))
        writing = asyncio.create_task(written.keep_writing())
        written.write([TaskAdded(Task("0", "gardens", "", None, 0, "seed"), None)], "a")
        await until(directory.decisions.read_bytes)
        await asyncio.sleep(0.05)  # it waits for the example by now
        written.write([ExampleKept(Example("0-0", "0", 0, "Dig.", "", "Done."), ACCEPTED)], "b")
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        done, _ = await asyncio.wait({writing}, timeout=PATIENCE_S)
        await written.close(complete=True)
    assert done
    assert writing.cancelled()
