"""`explore-async doctor`: the examination, the repair with --repair, and the output of both."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from explore_async.doctor.checks import check_is_run, examine
from explore_async.doctor.findings import Finding, Findings, State
from explore_async.doctor.repair import repair
from explore_async.storage.directory import RunDirectory
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

_STYLES = {State.OK: "green", State.NOTE: "yellow", State.WRONG: "bold red"}
_LONGEST = 2000


def doctor(path: Path, *, mend: bool, reporter: Reporter) -> tuple[Findings, list[str]]:
    """Returns the findings, and a line for each thing that was repaired. `reporter` shows the progress."""
    directory = RunDirectory(path)
    check_is_run(directory)
    with reporter:
        if mend:
            return repair(directory, reporter.update)
        return examine(directory, reporter.update)[0], []


def show(path: Path, findings: Findings, done: list[str], console: Console) -> None:
    for line in done:
        console.print(Text("done   ", style="bold") + Text(printable(line, _LONGEST)), soft_wrap=True)
    width = max(len(finding.check) for finding in findings.all)
    for finding in findings.all:
        console.print(_line(finding, width), soft_wrap=True)
    if not findings.healthy:
        mends = any(finding.mends for finding in findings.all)
        hint = f": `explore-async doctor {path} --repair` mends what it can" if mends else ""
        console.print(Text(f"{path} is not in order{hint}", style="bold"), soft_wrap=True)


def document(path: Path, findings: Findings, done: list[str]) -> dict[str, Any]:
    checks = [asdict(finding) for finding in findings.all]
    return {"directory": str(path), "healthy": findings.healthy, "done": done, "checks": checks}


def _line(finding: Finding, width: int) -> Text:
    line = Text(f"{finding.state:<7}", style=_STYLES[finding.state])
    line.append(f"{finding.check:<{width}}  {printable(finding.says, _LONGEST)}", style="not bold default")
    if finding.do:
        line.append(f"\n{'':{7 + width}}→ {printable(finding.do, _LONGEST)}", style="not bold default")
    return line
