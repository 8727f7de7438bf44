"""The commands on examples that exist which ask a model: answer and rate."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from explore_async.cli.loading import loading
from explore_async.cli.options import (
    ApiKeyEnvOption,
    BadRowOption,
    ColumnOption,
    ConcurrencyOption,
    DataDirectoryOption,
    EndpointOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SourceArgument,
    check_exclusive,
)

if TYPE_CHECKING:
    from explore_async.running.observer import Observer
    from explore_async.running.result import RunResult
    from explore_async.running.start import Mode
    from explore_async.settings.revision import MadeBy

_SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="another setting, for example sampling.answers.max_tokens; repeatable"),
]
_SeedOption = Annotated[int | None, typer.Option("--seed", help="a different seed asks again, and gives other data")]
_ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold", min=1, max=5, help="drop an example with a score below this (default: scores drop nothing)"
    ),
]
_AdoptOption = Annotated[bool, typer.Option("--adopt", help="go on with changed settings or data")]
_OfflineOption = Annotated[
    bool, typer.Option("--offline", help="derive the data again from stored completions, send no request")
]
_FreshOption = Annotated[bool, typer.Option("--fresh", help="start over; what is there is kept under another name")]


def answer(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    endpoints: EndpointOption = None,
    api_key_env: ApiKeyEnvOption = None,
    model: ModelOption = None,
    concurrency: ConcurrencyOption = None,
    answers: Annotated[
        int | None, typer.Option("--answers", min=1, max=16, help="answers to each instruction; all are kept")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="the system prompt (default: that of each row)")
    ] = None,
    judge: Annotated[bool, typer.Option("--judge", help="have each answer scored from 1 to 5")] = False,
    threshold: _ThresholdOption = None,
    seed: _SeedOption = None,
    overrides: _SetOption = None,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    adopt: _AdoptOption = False,
    offline: _OfflineOption = False,
    fresh: _FreshOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Have a model answer all instructions of a dataset anew. The same command again goes on where it stopped."""
    check_exclusive(adopt=adopt, offline=offline, fresh=fresh)
    _revise(
        "answer",
        source,
        out,
        overrides=overrides,
        endpoints=endpoints,
        api_key_env=api_key_env,
        concurrency=concurrency,
        columns=column,
        skip_bad_rows=on_bad_row == "skip",
        mode="adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume",
        as_json=as_json,
        quiet=quiet,
        model=model,
        seed=seed,
        answers_per_instruction=answers,
        system=system,
        judge={"threshold": threshold} if judge or threshold is not None else None,
    )


def rate(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    endpoints: EndpointOption = None,
    api_key_env: ApiKeyEnvOption = None,
    model: ModelOption = None,
    concurrency: ConcurrencyOption = None,
    threshold: _ThresholdOption = None,
    seed: _SeedOption = None,
    overrides: _SetOption = None,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    adopt: _AdoptOption = False,
    offline: _OfflineOption = False,
    fresh: _FreshOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Have a model score all answers of a dataset from 1 to 5. The same command again goes on where it stopped."""
    check_exclusive(adopt=adopt, offline=offline, fresh=fresh)
    _revise(
        "rate",
        source,
        out,
        overrides=overrides,
        endpoints=endpoints,
        api_key_env=api_key_env,
        concurrency=concurrency,
        columns=column,
        skip_bad_rows=on_bad_row == "skip",
        mode="adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume",
        as_json=as_json,
        quiet=quiet,
        model=model,
        seed=seed,
        judge={"threshold": threshold},
    )


def _revise(
    made_by: MadeBy,
    source: Path,
    out: Path,
    *,
    overrides: list[str] | None,
    endpoints: list[str] | None,
    api_key_env: str | None,
    concurrency: int | None,
    columns: list[str] | None,
    skip_bad_rows: bool,
    mode: Mode,
    as_json: bool,
    quiet: bool,
    **changes: Any,
) -> NoReturn:
    with loading():
        from explore_async.cli.endpoints import with_endpoints
        from explore_async.cli.runs_under_way import tell_of_runs_under_way
        from explore_async.cli.start_run import to_end
        from explore_async.config.load import load_revision
        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_collection
        from explore_async.running.revision import revise
    tell_of_runs_under_way(source, quiet=quiet)
    collection = open_collection(source, parse_columns(columns or ()), skip_bad_rows=skip_bad_rows)
    settings = load_revision(
        made_by, collection.recipe, overrides or (), endpoint=endpoints, concurrency=concurrency, **changes
    )
    if mode != "offline":
        operation = with_endpoints(settings.operation, api_key_env, quiet=quiet)
        settings = settings.model_copy(update={"operation": operation})

    def start(observer: Observer) -> Coroutine[Any, Any, RunResult]:
        return revise(collection, settings, out, mode=mode, observer=observer, handle_signals=True, tune_collector=True)

    to_end(start, out, as_json=as_json, quiet=quiet, complete="every example has its verdict")
