"""The commands run, demo and plan: make a dataset, or estimate what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.loading import loading
from explore_async.cli.options import (
    ApiKeyEnvOption,
    ConcurrencyOption,
    ConfigArgument,
    EndpointOption,
    JsonOption,
    MaxExamplesOption,
    ModelOption,
    QuietOption,
    RunDirectoryOption,
    SeedOption,
    SetOption,
    ShardOption,
    WindowOption,
    check_exclusive,
)
from explore_async.cli.output import print_json
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.running.start import Mode


def run(  # noqa: PLR0917 - an option each
    config: ConfigArgument,
    out: RunDirectoryOption = None,
    overrides: SetOption = None,
    endpoints: EndpointOption = None,
    api_key_env: ApiKeyEnvOption = None,
    model: ModelOption = None,
    concurrency: ConcurrencyOption = None,
    seed: SeedOption = None,
    window: WindowOption = None,
    max_examples: MaxExamplesOption = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="stop after this number of tokens")] = None,
    shard: ShardOption = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="continue the run with a changed config")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="derive the dataset again from stored completions, send no request")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="start a new run; the earlier run is kept under another name")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the prompts and the expected numbers, send no request")
    ] = False,
    view: Annotated[bool, typer.Option("--view", help="show the run in the browser while it goes on")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a dataset. The same command again resumes the run."""
    check_exclusive(adopt=adopt, offline=offline, fresh=fresh)
    with loading():
        from explore_async.cli.endpoints import with_endpoints
        from explore_async.cli.start_run import start_run
        from explore_async.config.load import load
    settings = load(
        config,
        overrides or (),
        endpoint=endpoints,
        concurrency=concurrency,
        model=model,
        seed=seed,
        window=window,
        shard=shard,
        targets={"examples": max_examples, "token_budget": token_budget},
    )
    if dry_run:
        from explore_async.cli.dry_run import preview
        from explore_async.terminal.console import StdoutConsole

        preview(settings, StdoutConsole(), as_json=as_json)
        return
    if not offline:
        operation = with_endpoints(settings.operation, api_key_env, quiet=quiet)
        settings = settings.model_copy(update={"operation": operation})
    mode: Mode = "adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume"
    start_run(settings, out, mode=mode, as_json=as_json, quiet=quiet, view=view)


def demo(
    out: RunDirectoryOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a small dataset with a small model on this machine, in minutes."""
    with loading():
        from explore_async.cli.start_run import start_run
        from explore_async.config.load import load
    start_run(load("quickstart", overrides or (), seed=seed), out, mode="resume", as_json=as_json, quiet=quiet)


def plan(  # noqa: PLR0917 - an option each
    config: ConfigArgument,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="a model on a GPU (an unknown name lists all), or a file that `bench --out` wrote"
        ),
    ] = "h100-qwen3-8b",
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="the number of GPUs, each with an engine")] = 1,
    example_tokens: Annotated[
        int, typer.Option(min=1, max=100_000, help="the mean number of tokens of an example")
    ] = 100,
    overrides: SetOption = None,
    window: WindowOption = None,
    max_examples: MaxExamplesOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Estimate the time, tokens and GPU hours of a run with servers of a known speed. No request is sent."""
    with loading():
        from explore_async.cli.profiles import profile_of
        from explore_async.config.load import load
        from explore_async.curation.passage_files import with_passages
        from explore_async.planning.plan import Progress
        from explore_async.planning.plan import plan as rehearse
        from explore_async.planning.show import document, duration, show
        from explore_async.terminal.console import StdoutConsole
        from explore_async.terminal.reporter import Reporter

    settings = with_passages(load(config, overrides or (), window=window, targets={"examples": max_examples}))
    engine = profile_of(profile)
    with Reporter(quiet=quiet) as reporter:
        reporter.phase(f"rehearsing the run with {gpus} x {profile}")

        def report(at: Progress) -> None:
            reporter.update(
                lambda: f"rehearsing: {counted(at.requests, 'request')}, {duration(at.seconds)} of the run",
                done=round(1000 * at.share),
                total=1000,
            )

        result = rehearse(settings, engine, gpus, example_tokens=example_tokens, report=report)
    show(result, profile, StdoutConsole())
    if as_json:
        print_json(document(result, profile))
