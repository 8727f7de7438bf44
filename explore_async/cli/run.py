"""The commands run, demo and plan: make a dataset, or estimate what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.choices import RunEngine
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
from explore_async.errors import ConfigError
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.running.start import Mode


_SHARDS = 4
"""Those that --engine ray makes where no number is given: it is part of what the data is."""


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
    engine: Annotated[
        RunEngine, typer.Option(help="ray: make all shards of the run on a Ray cluster, and join them")
    ] = "local",
    shards: Annotated[
        int | None, typer.Option(min=1, help="with --engine ray: the number of shards (default: 4)")
    ] = None,
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
    on_ray = _shards_on_ray(engine, shards, shard=shard, view=view)
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
        shard=shard if on_ray is None else f"1/{on_ray}",
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
    if on_ray is not None:
        from explore_async.cli.run_on_ray import start_on_ray

        start_on_ray(settings, out, on_ray, mode=mode, as_json=as_json, quiet=quiet)
    start_run(settings, out, mode=mode, as_json=as_json, quiet=quiet, view=view)


def _shards_on_ray(engine: RunEngine, shards: int | None, *, shard: str | None, view: bool) -> int | None:
    """The number of shards that are to be made on Ray; None where none are. Raises ConfigError for options that do not
    go together.
    """
    if engine == "local":
        if shards is not None:
            raise ConfigError(f"--shards {shards}: for --engine ray; --shard I/{shards} makes one of them here")
        return None
    if shard is not None:
        raise ConfigError("--shard makes one shard here, --engine ray all of them: give only one of them")
    if view:
        raise ConfigError("--view shows one run: with --engine ray, `explore-async view` shows one of its shards")
    return _SHARDS if shards is None else shards


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
