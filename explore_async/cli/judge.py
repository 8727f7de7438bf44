"""`explore-async judge`: models compare the answers of two datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explore_async.cli.loading import loading
from explore_async.cli.options import (
    ApiKeyEnvOption,
    BadRowOption,
    ColumnOption,
    ConcurrencyOption,
    EndpointOption,
    JsonOption,
    QuietOption,
    WorkDirectoryOption,
    check_exclusive,
    path_or_url,
)

if TYPE_CHECKING:
    from explore_async.evaluation.figures import Figures, Rate, Standing
    from explore_async.running.observer import Observer
    from explore_async.running.result import RunResult
    from explore_async.running.start import Mode

_WHAT = "rows with answers: a run, what answer or another command wrote, or a file"


def judge(  # noqa: PLR0917 - an option each
    a: Annotated[Path, typer.Argument(metavar="A", parser=path_or_url, help=_WHAT)],
    b: Annotated[
        Path,
        typer.Argument(metavar="B", parser=path_or_url, help="the same of another model; rows meet by their question"),
    ],
    out: WorkDirectoryOption,
    endpoints: EndpointOption = None,
    api_key_env: ApiKeyEnvOption = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", metavar="MODEL", help="a model that judges; repeatable (default: that of the server)"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="COLUMN", help="the class of a question (default: class, category, domain or task)"
        ),
    ] = None,
    concurrency: ConcurrencyOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="a different seed asks again")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=V", help="another setting, for example answer_format=text; repeatable"),
    ] = None,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    adopt: Annotated[bool, typer.Option("--adopt", help="go on with changed settings or data")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="derive the figures again from stored verdicts, send no request")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="start over; what is there is kept under another name")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Have a model compare two models' answers to the same questions, in both orders: win, tie, lose for A.

    The same command again goes on where it stopped.
    """
    check_exclusive(adopt=adopt, offline=offline, fresh=fresh)
    mode: Mode = "adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume"
    with loading():
        from explore_async.cli.endpoints import with_endpoints
        from explore_async.cli.runs_under_way import tell_of_runs_under_way
        from explore_async.cli.start_run import to_end
        from explore_async.cli.summary import Words
        from explore_async.config.load import load_comparison
        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_one_of
        from explore_async.evaluation.comparison import compare
    for path in (a, b):
        tell_of_runs_under_way(path, quiet=quiet)
    columns, skips = parse_columns(column or ()), on_bad_row == "skip"
    one, other = (open_one_of(path, columns, skip_bad_rows=skips) for path in (a, b))
    settings = load_comparison(
        overrides or (), endpoint=endpoints, concurrency=concurrency, judges=judges or None, by=by, seed=seed
    )
    if mode != "offline":
        operation = with_endpoints(settings.operation, api_key_env, quiet=quiet)
        settings = settings.model_copy(update={"operation": operation})
    found: list[Figures] = []

    async def start(observer: Observer) -> RunResult:
        result = await compare(
            one, other, settings, out, mode=mode, observer=observer, handle_signals=True, tune_collector=True
        )
        if result.figures is not None:
            found.append(result.figures)
        return result.run

    def show(_result: RunResult) -> None:
        if found and not as_json:
            for line in lines_of(found[0]):
                typer.echo(line)

    def document() -> Mapping[str, Any]:
        return {"figures": found[0].document()} if found else {}

    to_end(
        start,
        out,
        as_json=as_json,
        quiet=quiet,
        words=Words("every question has its verdicts", "their questions are invalid", of_questions=True),
        then=show,
        more=document,
    )


def lines_of(figures: Figures) -> Iterator[str]:
    """The figures for people, without those of no question, as no judge is asked about equal answers."""
    from explore_async.terminal.text import printable

    rows = [("all", figures.standing)]
    if len(figures.by_class) > 1:
        rows += [(printable(name, 40), of_class) for name, of_class in figures.by_class.items()]
    if len(figures.by_judge) > 1:
        rows += [(f"by {printable(name, 40)}", judge.standing) for name, judge in figures.by_judge.items()]
    width = max(len(name) for name, _ in rows)
    yield f"{'':{width}}  {'win:tie:lose':>14}  {'win rate':>19}  {'beat rate':>19}  invalid"
    for name, standing in rows:
        yield f"{name:{width}}  {_row(standing)}"
    lengths = figures.lengths
    controlled = "cannot be estimated" if lengths.controlled is None else rate_text(lengths.controlled).strip()
    yield f"win rate at equal length: {controlled}"
    longer = "" if lengths.longer_won is None else f"; the longer answer won {lengths.longer_won:.1%} of those decided"
    yield f"length: {lengths.mean_a:,.0f} characters in A, {lengths.mean_b:,.0f} in B on average{longer}"
    for name, judge in figures.by_judge.items():
        if (place := judge.position).questions:
            yield (
                f"position, {printable(name, 40)}: of {place.questions:,} questions the first answer won in both "
                f"orders in {place.first:,}, the second in {place.second:,}; the orders agree in {place.agree:,}"
            )
    for pair in filter(lambda pair: pair.questions, figures.agreement):
        one, other = (printable(name, 40) for name in pair.judges)
        kappa = "cannot be estimated" if pair.kappa is None else f"{pair.kappa:.3f}"
        yield f"agreement of {one} and {other}: Cohen's kappa {kappa} over {pair.questions:,} questions"


def _row(standing: Standing) -> str:
    counts = f"{standing.win}:{standing.tie}:{standing.lose}"
    rates = f"{rate_text(standing.win_rate)}  {rate_text(standing.beat_rate)}"
    return f"{counts:>14}  {rates}  {standing.invalid:>7}"


def rate_text(rate: Rate | None) -> str:
    """A rate with its interval, 19 characters wide."""
    return f"{'-':>19}" if rate is None else f"{rate.value:>6.1%} ({rate.low:>4.0%}-{rate.high:>4.0%})"
