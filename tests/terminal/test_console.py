"""The consoles on stdout and stderr."""

from __future__ import annotations

import pytest
from rich.table import Table
from support.cli import in_process

from explore_async.terminal.console import StderrConsole, StdoutConsole


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


def test_a_terminal_of_no_size_shows_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS=0 and LINES=0 are no size: lines are as wide as usual, on stdout and on stderr."""
    for name, value in {"COLUMNS": "0", "LINES": "0", "FORCE_COLOR": "1"}.items():  # which makes it a terminal for rich
        monkeypatch.setenv(name, value)
    for console in (StdoutConsole(), StderrConsole()):
        console.print("in sight")
        assert (console.width, console.height) == (80, 25)
    said = capsys.readouterr()
    assert [text.strip() for text in said] == ["in sight", "in sight"]


def test_help_is_shown_on_a_terminal_of_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer prints it, on a console of its own."""
    monkeypatch.setenv("COLUMNS", "0")
    assert "explore-async" in in_process("plan", "--help").stdout
