"""`explore-async bench`: turns the options into a plan, runs the sweep, and writes what it measured."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from explore_async.errors import EXIT_SIGINT, ConfigError, EndpointError, StorageError
from explore_async.measuring.plot import can_plot, plot
from explore_async.measuring.report import SweepProgress, document, show
from explore_async.measuring.sweep import Sweep, SweepPlan
from explore_async.settings.operation import EndpointSettings
from explore_async.settings.run_settings import RecipeConfig
from explore_async.terminal.reporter import Reporter
from explore_async.terminal.text import printable

_STEP = 4
_HIGHEST = 100_000
_LONGEST_LINE = 10_000


def levels(listed: str | None, most: int) -> tuple[int, ...]:
    """The levels that --concurrency lists; without it the powers of four up to `most`, and `most` itself."""
    if listed is None:
        return tuple(sorted({most} | {_STEP**power for power in range(most.bit_length()) if _STEP**power <= most}))
    try:
        numbers = {int(number) for number in listed.split(",")}
    except ValueError:
        numbers = set()
    if not numbers or not all(1 <= number <= _HIGHEST for number in numbers):
        raise ConfigError(f"--concurrency {listed}: whole numbers from 1 with commas between, for example 8,32")
    return tuple(sorted(numbers))


def bench(
    endpoints: Sequence[EndpointSettings],
    recipe: RecipeConfig,
    config_name: str,
    *,
    model: str | None,
    concurrency: tuple[int, ...],
    between: bool,
    requests: int,
    seconds: float,
    max_tokens: int | None,
    seed: int | None,
    out: Path | None,
    quiet: bool,
) -> tuple[dict[str, Any], int]:
    """Runs the sweep; returns its document and the exit code. An interrupted sweep keeps its finished levels."""
    _check(out)
    plan = SweepPlan(
        endpoints=tuple(endpoint.model_copy(update={"concurrency": concurrency[-1]}) for endpoint in endpoints),
        model=model,
        recipe=recipe,
        concurrency=concurrency,
        between=between,
        requests=requests,
        seconds=seconds,
        max_tokens=max_tokens,
        seed=secrets.randbelow(2**31) if seed is None else seed,
    )
    code = 0
    with Reporter(quiet=quiet) as reporter:
        sweep = Sweep(plan, SweepProgress(reporter))
        try:
            asyncio.run(sweep.run())
        except KeyboardInterrupt:
            code = EXIT_SIGINT
    console = reporter.console
    if code:
        console.print("stopped; the finished levels:" if sweep.levels else "stopped; no level was finished")
    if not quiet:
        show(sweep, console)
    measurements = document(sweep, config_name, finished=not code and len(sweep.levels) >= len(concurrency))
    if out is not None and sweep.levels:
        _write(out, measurements, sweep, console if not quiet else None)
    if sweep.levels and not sweep.levels[-1].completed:
        last = sweep.levels[-1]
        raise EndpointError(
            f"concurrency {last.concurrency}: no request was answered. {next(iter(last.first_errors.values()), '')}"
        )
    return measurements, code


def _check(out: Path | None) -> None:
    """Raises the error of a file that cannot be written now, before minutes of measuring."""
    if out is None:
        return
    if out.suffix != ".json":
        raise ConfigError(
            f"--out {out}: the file is JSON, so its name has to end in .json (the plot beside it ends in .svg)"
        )
    if not out.parent.is_dir():
        raise StorageError(f"{out.parent}: no such folder")


def _write(out: Path, measurements: dict[str, Any], sweep: Sweep, console: Console | None) -> None:
    picture = out.with_suffix(".svg")
    try:
        out.write_bytes(orjson.dumps(measurements, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        if can_plot():
            plot(sweep.levels, f"{sweep.model}: {measurements['config']}", picture)
    except OSError as error:
        raise StorageError(f"{error.filename or out}: {error.strerror or error}") from error
    if console is not None:
        files = f"{out} and {picture}" if can_plot() else f"{out} (a plot needs matplotlib: pip install matplotlib)"
        console.print(Text(printable(f"written: {files}", _LONGEST_LINE)), soft_wrap=True)
