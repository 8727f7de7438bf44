"""Starts a run for the commands that ask models, shows it, and ends the process with its exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NoReturn

from rich.text import Text

from explore_async.analysis.run_report import REPORT, is_current
from explore_async.cli.output import path_text, print_json, say
from explore_async.cli.progress import RunProgress
from explore_async.cli.signals import leave, terminable
from explore_async.cli.summary import RUN, Words, show
from explore_async.errors import EXIT_SIGINT, EXIT_SIGTERM, ConfigError, ExploreError
from explore_async.exploration.sharding import shard_name
from explore_async.running.observer import Observer
from explore_async.running.result import FINISHED, RunResult
from explore_async.running.start import Mode, run
from explore_async.settings.run_settings import RunSettings
from explore_async.terminal.console import StderrConsole
from explore_async.terminal.counts import counted
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

_STOPPED: Final = {EXIT_SIGINT, EXIT_SIGTERM}
_left_open: Final[list[asyncio.Runner]] = []
"""Those of runs that a signal stopped: to close one could wait for what is under way, and the process ends anyway."""


def start_run(
    settings: RunSettings, out: Path | None, *, mode: Mode, as_json: bool, quiet: bool, view: bool = False
) -> NoReturn:
    """Runs to the end and exits. The run directory is `out`, or runs/NAME; that of a shard lies in there."""
    directory = out or Path("runs") / settings.name
    if settings.shard:
        directory /= shard_name(settings.shard)

    def start(observer: Observer) -> Coroutine[Any, Any, RunResult]:
        return run(settings, directory, mode=mode, observer=observer, handle_signals=True, tune_collector=True)

    def report(result: RunResult) -> None:
        if settings.shard and result.ending in FINISHED and not quiet:
            where = printable(str(directory.parent))
            say(f"when all shards have ended, `explore-async merge {where} --out DIR` joins them")
        if settings.operation.report and result.is_over:
            write_report(result.directory, result.directory / REPORT, settings, quiet=quiet)

    to_end(start, directory, as_json=as_json, quiet=quiet, view=view, then=report)


def to_end(
    start: Callable[[Observer], Coroutine[Any, Any, RunResult]],
    directory: Path,
    *,
    as_json: bool,
    quiet: bool,
    view: bool = False,
    words: Words = RUN,
    then: Callable[[RunResult], None] | None = None,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> NoReturn:
    """Does what `start` begins in the directory, shows it, and exits.

    `then`: called after its end. `more`: what its JSON has beside the statistics.
    """
    result = carry_on(start, directory, quiet=quiet, view=view, words=words)
    if then is not None:
        then(result)
    if as_json:
        print_json({**document_of(result), **more()})
    leave_with(result)


def document_of(result: RunResult) -> dict[str, Any]:
    """The JSON of a run."""
    return {"directory": path_text(result.directory), **result.document()}


def leave_with(result: RunResult) -> NoReturn:
    """Exits with the code of a run."""
    if result.exit_code in _STOPPED:
        leave(result.exit_code)
    sys.exit(result.exit_code)


def carry_on(
    start: Callable[[Observer], Coroutine[Any, Any, RunResult]],
    directory: Path,
    *,
    quiet: bool,
    view: bool = False,
    words: Words = RUN,
) -> RunResult:
    """Does what `start` begins in the directory, and shows it. Exits where it is stopped at once."""
    check_path(directory)
    console = StderrConsole()
    runner = asyncio.Runner()
    with ExitStack() as stack:
        progress = stack.enter_context(RunProgress(console, directory, quiet=quiet))
        observer: Observer = progress
        if view:
            from explore_async.web.view_process import ViewBeside, from_elsewhere

            observer = beside = stack.enter_context(ViewBeside(progress, directory))
            progress.say(f"view at {beside.url}{from_elsewhere(beside.url)}")
        try:
            result = runner.run(start(observer))
        except asyncio.CancelledError as stop:  # the second signal, or one before the first request
            stack.close()
            say("stopped at once; the same command continues from here")
            leave(EXIT_SIGTERM if "terminated" in stop.args else EXIT_SIGINT)
        except BaseException:
            runner.close()
            raise
        if result.exit_code in _STOPPED:
            _left_open.append(runner)
        else:
            runner.close()
    if not quiet:
        show(result, console, words)
    if result.bad_rows:
        say(f"{counted(result.bad_rows, 'row')} skipped: what cannot be read has no part in this data")
    return result


def check_path(path: Path) -> None:
    """Raises ConfigError where it cannot be that of a run."""
    if not path.is_absolute():
        Path.cwd()  # an error of its own where the working directory has been removed
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {printable(str(path))}: this cannot be a path: {error}") from error


def write_report(data: Path, path: Path, settings: RunSettings, *, quiet: bool) -> None:
    """Writes the report about the data of the run, where there is none that shows the same data. Ctrl-C leaves it out;
    that is no failure of the run.
    """
    if is_current(path, data):
        if not quiet:
            line = Text(f"  {path}", style="bold") + Text("  what the data covers, as before")
            StderrConsole().print(line, soft_wrap=True)
        return
    from explore_async.analysis.command import check_report_possible, report_of_run

    try:
        with terminable(), Reporter(quiet=quiet) as reporter:
            model = settings.operation.spacy_model
            check_report_possible()
            reporter.phase(f"the data is complete; writing {REPORT} (Ctrl-C leaves it out)")
            report_of_run(data, path, settings.tokenizer, model, reporter.update)
    except ExploreError as error:
        reporter.say(f"no {REPORT}: {error}; then the same command writes it")
    except KeyboardInterrupt:
        reporter.say(f"no {REPORT}: stopped; the data is complete, and the same command writes the report")
    else:
        if not quiet:
            line = Text(f"  {path}", style="bold") + Text("  what the data covers: pictures, figures, examples")
            reporter.console.print(line, soft_wrap=True)
