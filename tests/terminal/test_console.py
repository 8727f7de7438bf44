"""The console on stderr, where that is a file."""

from __future__ import annotations

import pytest
from rich.table import Table

from explore_async.terminal.console import StderrConsole


def test_lines_in_a_file_have_no_blanks_at_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    """A table fills up its lines to the longest one: in a log that is nothing but blanks. Those before more text stay."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("tasks", "7")
    table.add_row("examples", "24 kept " + "and others dropped " * 20)
    console = StderrConsole()
    console.print(table)
    console.print("so far ", end="")
    console.print("so good")
    said = capsys.readouterr().err
    assert all(line == line.rstrip() for line in said.splitlines())
    assert "so far so good\n" in said
    assert said.startswith("tasks     7\nexamples  24 kept and others")
