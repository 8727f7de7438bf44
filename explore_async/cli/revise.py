"""The commands on examples that exist which ask a model: answer and rate."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

import typer

from explore_async.cli.choices import AnswerTemplate
from explore_async.cli.loading import loading
from explore_async.cli.options import (
    ApiKeyEnvOption,
    BadRowOption,
    ColumnOption,
    ConcurrencyOption,
    EndpointOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SourceArgument,
    WorkDirectoryOption,
    check_exclusive,
)
from explore_async.errors import ConfigError

if TYPE_CHECKING:
    from explore_async.running.observer import Observer
    from explore_async.running.result import RunResult
    from explore_async.running.start import Mode
    from explore_async.settings.revision import MadeBy, RevisionSettings

_Revising: TypeAlias = "Coroutine[Any, Any, RunResult]"

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
    out: WorkDirectoryOption,
    endpoints: EndpointOption = None,
    api_key_env: ApiKeyEnvOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="the model that answers (default: that of the server); of several each has a directory below --out",
        ),
    ] = None,
    concurrency: ConcurrencyOption = None,
    answers: Annotated[
        int | None, typer.Option("--answers", min=1, max=16, help="answers to each instruction; all are kept")
    ] = None,
    vote: Annotated[
        bool, typer.Option("--vote", help="of several answers take the one with the final answer of most")
    ] = False,
    unfiltered: Annotated[
        bool, typer.Option("--unfiltered", help="no filter drops an answer, as an evaluation needs it")
    ] = False,
    template: Annotated[
        AnswerTemplate, typer.Option(help="chat: that of the server; alpaca: Alpaca's, as text, for base models")
    ] = "chat",
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
        models=models,
        seed=seed,
        answers_per_instruction=answers,
        vote=vote or None,
        unfiltered=unfiltered,
        alpaca=template == "alpaca",
        system=system,
        judge={"threshold": threshold} if judge or threshold is not None else None,
    )


def rate(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: WorkDirectoryOption,
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
        models=None if model is None else [model],
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
    models: list[str] | None,
    as_json: bool,
    quiet: bool,
    **changes: Any,
) -> NoReturn:
    """Several models: one after another, each into a directory of its own in `out`."""
    with loading():
        from explore_async.cli.endpoints import with_endpoints
        from explore_async.cli.output import print_json
        from explore_async.cli.runs_under_way import tell_of_runs_under_way
        from explore_async.cli.start_run import carry_on, document_of, leave_with
        from explore_async.cli.summary import Words
        from explore_async.config.load import load_revision
        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_collection
        from explore_async.running.result import FINISHED
        from explore_async.running.revision import revise
    directories = _directories(out, models or [])
    tell_of_runs_under_way(source, quiet=quiet)
    collection = open_collection(source, parse_columns(columns or ()), skip_bad_rows=skip_bad_rows)
    given: dict[str, Any] = {"endpoint": endpoints, "concurrency": concurrency, **changes}
    settings = [
        load_revision(made_by, collection.recipe, overrides or (), model=model, **given) for model in directories
    ]
    if mode != "offline":
        operation = with_endpoints(settings[0].operation, api_key_env, quiet=quiet)
        settings = [one.model_copy(update={"operation": operation}) for one in settings]
    found: list[RunResult] = []
    for directory, of_model in zip(directories.values(), settings, strict=True):

        def start(observer: Observer, wanted: RevisionSettings = of_model, to: Path = directory) -> _Revising:
            return revise(
                collection, wanted, to, mode=mode, observer=observer, handle_signals=True, tune_collector=True
            )

        found.append(carry_on(start, directory, quiet=quiet, words=Words(complete="every example has its verdict")))
        if found[-1].ending not in FINISHED:
            break
    if as_json:
        by_model = {model or "": document_of(result) for model, result in zip(directories, found, strict=False)}
        print_json({"models": by_model} if len(directories) > 1 else document_of(found[0]))
    leave_with(next((result for result in reversed(found) if result.exit_code), found[-1]))


def _directories(out: Path, models: list[str]) -> dict[str | None, Path]:
    """The directory of each model. Raises ConfigError where two would have the same."""
    if len(models) < 2:  # noqa: PLR2004 - one of several
        return {next(iter(models), None): out}
    names = [re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model" for model in models]
    if len({name.casefold() for name in names}) < len(names):
        raise ConfigError(f"--model: two of {', '.join(models)} would have the same directory; answer by one at a time")
    return {model: out / name for model, name in zip(models, names, strict=True)}
