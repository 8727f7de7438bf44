"""`run --engine ray`: starts the shards of a run on Ray, shows them, joins them, and ends with their exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from explore_async.analysis.run_report import REPORT
from explore_async.cli.output import MADE_UP, counting, path_text, print_json, say
from explore_async.cli.shards_progress import ShardsProgress, shard_table
from explore_async.cli.signals import leave
from explore_async.cli.start_run import check_path, write_report
from explore_async.curation.filtering import FilterResult, merge_data
from explore_async.errors import EXIT_NOTHING_KEPT, EXIT_SIGINT, EXIT_SIGTERM, ExploreError
from explore_async.ray_cluster import ray_at_hand, require_ray
from explore_async.running.ray_shard import Failed, ShardWork, StopEnding
from explore_async.running.result import FINISHED, Ending, RunResult
from explore_async.running.shard_states import AllShards, ended_state
from explore_async.running.shards_on_ray import ShardEnd, ShardsOnRay, prepare, works_for
from explore_async.running.signals import first_signal
from explore_async.running.start import Mode
from explore_async.settings.run_settings import RunSettings
from explore_async.terminal.console import StderrConsole
from explore_async.terminal.counts import counted

MERGED = "merged"
"""The data directory of all shards, in the folder that theirs are in."""
_STOPS = {"interrupted": EXIT_SIGINT, "terminated": EXIT_SIGTERM}


def start_on_ray(
    settings: RunSettings, out: Path | None, shards: int, *, mode: Mode, as_json: bool, quiet: bool
) -> NoReturn:
    """Makes all shards below `out`, or runs/NAME, joins them, and exits."""
    folder = out or Path("runs") / settings.name
    check_path(folder)
    require_ray()
    works = works_for(settings, folder, shards, mode)
    console = StderrConsole()
    try:
        ends, ending = _make(works, settings, console, folder, fresh=mode == "fresh", quiet=quiet)
    except (KeyboardInterrupt, SystemExit) as stop:  # the second signal, or one while Ray starts
        say("stopped at once; the same command continues from here")
        leave(EXIT_SIGTERM if isinstance(stop, SystemExit) else EXIT_SIGINT)
    _raise_first(ends)
    results = [end for end in ends if isinstance(end, RunResult)]
    is_over = len(results) == shards and all(result.ending in FINISHED for result in results)
    merged = None
    if is_over:
        with counting("examples judged", quiet=quiet) as on_progress:
            merged = merge_data([work.directory for work in works], folder / MERGED, on_progress=on_progress)
    if not quiet:
        _show(ends, ending, merged, console)
    if merged is not None and merged.kept and settings.operation.report:
        write_report(merged.out, folder / REPORT, settings, quiet=quiet)
    if as_json:
        print_json(
            {
                "directory": path_text(folder),
                "ending": ending or ("complete" if is_over else "offline"),
                "merged": None if merged is None else path_text(merged.out),
                "kept": sum(result.kept for result in results) if merged is None else merged.kept,
                "dropped_among_shards": None if merged is None else sum(merged.dropped.values()),
                "shards": [result.stats.document() for result in results],
            }
        )
    if ending in _STOPS:
        leave(_STOPS[ending])
    kept = any(result.kept for result in results) if merged is None else bool(merged.kept)
    sys.exit(0 if kept or ending == "wall_time" else EXIT_NOTHING_KEPT)


def _make(
    works: Sequence[ShardWork], settings: RunSettings, console: Console, folder: Path, *, fresh: bool, quiet: bool
) -> tuple[list[ShardEnd], StopEnding | None]:
    """The ends of all shards, and the ending that was asked for, None where none was."""
    with ShardsProgress(console, folder, quiet=quiet) as progress:
        progress.phase("starting Ray")
        with ray_at_hand(len(works)):
            prepare(works, fresh=fresh)
            progress.phase(f"{counted(len(works), 'shard')} on Ray, writing to {folder}")

            def stopping() -> None:
                progress.phase("stopping: requests in flight may still be answered; a second signal stops at once")

            with first_signal(stopping) as asked:
                to_stop = _in_time(asked, settings.operation.wall_time_s)
                shards = ShardsOnRay(works, wanted=settings.targets.examples, say=progress.say)
                ends = shards.make(to_stop, progress.show)
            return ends, to_stop() if any(not _is_finished(end) for end in ends) else None


def _is_finished(end: ShardEnd) -> bool:
    return isinstance(end, RunResult) and end.ending in FINISHED


def _in_time(asked: Callable[[], StopEnding | None], wall_time_s: float | None) -> Callable[[], StopEnding | None]:
    """Also asks for the end when the time of the whole run is over."""
    until = None if wall_time_s is None else time.monotonic() + wall_time_s

    def to_stop() -> StopEnding | None:
        if (ending := asked()) is not None:
            return ending
        return "wall_time" if until is not None and time.monotonic() >= until else None

    return to_stop


def _raise_first(ends: Sequence[ShardEnd]) -> None:
    """Raises the error of the first shard that has failed, with its exit code."""
    failed = [(index, end) for index, end in enumerate(ends, 1) if isinstance(end, Failed)]
    if failed:
        index, end = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        error = ExploreError(f"shard {index} of {len(ends)}{others}: {end.message}; the same command goes on")
        error.exit_code = end.exit_code
        raise error


def _show(ends: Sequence[ShardEnd], ending: Ending | None, merged: FilterResult | None, console: Console) -> None:
    states = [ended_state(index, end) for index, end in enumerate(ends, 1)]
    console.print()
    console.print(shard_table(AllShards(states, None)))
    if any(isinstance(end, RunResult) and end.stats.simulated for end in ends):
        console.print(Text(MADE_UP, style="bold yellow"))
    for advice in dict.fromkeys(end.stats.language_advice for end in ends if isinstance(end, RunResult)):
        if advice:
            console.print(Text(f"{advice}.", style="bold yellow"), soft_wrap=True)
    if merged is None:
        why = {"wall_time": "the wall time is over"}.get(ending or "", ending or "a completion is not stored")
        console.print(Text(f"Ended: {why}; the same command continues the run, and joins the shards at its end."))
        return
    console.print(Text(f"Ended: all shards have ended. {merged.note or ''}".rstrip()), soft_wrap=True)
    console.print(
        Text(f"  {merged.out}", style="bold") + Text(f"  {merged.kept:,} examples of all shards, and their tree"),
        soft_wrap=True,
    )
