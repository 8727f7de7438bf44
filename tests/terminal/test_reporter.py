"""The reporter: live on a terminal, lines now and then elsewhere, silence when quiet; a closed stderr stops no work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import datetime

import pytest
from rich.console import Console
from support.cli import environment

from explore_async.terminal import reporter as reporter_module
from explore_async.terminal.reporter import Reporter


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def output(of: Reporter) -> str:
    assert isinstance(of.console.file, io.StringIO)
    return of.console.file.getvalue()


def without_time(line: str) -> str:
    """The text of a line; it must begin with its time."""
    time, text = line.split("  ", 1)
    datetime.strptime(time, "%Y-%m-%d %H:%M:%S").astimezone()
    return text


def work(reporter: Reporter) -> None:
    with reporter:
        reporter.phase("reading")
        for done in (1, 2):
            reporter.update(lambda done=done: f"{done} rows", done=done, total=2)
        reporter.say("all rows are read")


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [(float("inf"), ["reading", "all rows are read"]), (0.0, ["reading", "50%: 1 rows", "100%: 2 rows", "all rows are read"])],
)  # fmt: skip
def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, seconds: float, lines: list[str]) -> None:
    """Phases and results are lines at once; the state is a line where the last line is old enough. Each begins with its
    time.
    """
    monkeypatch.setattr(reporter_module, "SECONDS_BETWEEN_LINES", seconds)
    reporter = Reporter(console())
    work(reporter)
    assert [without_time(line) for line in output(reporter).splitlines()] == lines


def test_steps_do_not_put_off_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state comes every 10 s, also where a step is told every second."""
    seconds = 0.0
    monkeypatch.setattr(reporter_module.time, "monotonic", lambda: seconds)
    reporter = Reporter(console())
    with reporter:
        for second in range(1, 31):
            seconds = float(second)
            reporter.update(f"state {second}")
            reporter.say(f"step {second}")
    states = [line.split("state ")[1] for line in output(reporter).splitlines() if "state" in line]
    assert states == ["10", "20", "30"]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_is_silent(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    """Nothing is written, on a terminal and elsewhere."""
    monkeypatch.setattr(reporter_module, "SECONDS_BETWEEN_LINES", 0.0)
    reporter = Reporter(console(terminal=terminal), quiet=True)
    work(reporter)
    assert output(reporter) == ""


def test_a_terminal_shows_the_state_in_place() -> None:
    """The live display holds the latest state, goes away at the end, and only results stay as lines."""
    reporter = Reporter(console(terminal=True))
    with reporter:
        reporter.phase("reading")
        reporter.update("1 of 2 [rows]", done=1, total=2)
        reporter._live.refresh()
        reporter.say("all rows are read")
    shown = output(reporter)
    assert "1 of 2 [rows]" in shown
    assert "50%" in shown
    assert "all rows are read\n" in shown.replace("\x1b[0m", "")


def test_text_of_others_steers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters in phases, states and lines are replaced."""
    monkeypatch.setattr(reporter_module, "SECONDS_BETWEEN_LINES", 0.0)
    reporter = Reporter(console())
    with reporter:
        for report in (reporter.phase, reporter.update, reporter.say):
            report("a\x1b[31m\rb")
    assert not {"\x1b", "\r"} & set(output(reporter))


def test_a_closed_stderr_stops_no_work() -> None:
    """A process whose stderr nobody reads any more goes on and ends well."""
    reading, writing = os.pipe()
    os.close(reading)
    program = (
        "from explore_async.terminal.reporter import Reporter\nr = Reporter()\nr.say('a')\nr.say('b')\nprint('done')"
    )
    try:
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, stderr=writing, check=True
        )
    finally:
        os.close(writing)
    assert result.stdout == b"done\n"
