"""The commands run, demo, plan and init: make a dataset, or prepare one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from explore_async.cli.choices import Profile
from explore_async.cli.options import (
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
    WindowOption,
    check_exclusive,
)
from explore_async.cli.output import path_text, print_json
from explore_async.cli.signals import at_once, terminable
from explore_async.config.load import load, template
from explore_async.errors import ConfigError, ExploreError
from explore_async.terminal.console import StderrConsole, StdoutConsole
from explore_async.terminal.text import printable


def run(  # noqa: PLR0917 - an option each
    config: ConfigArgument,
    out: RunDirectoryOption = None,
    overrides: SetOption = None,
    endpoints: EndpointOption = None,
    model: ModelOption = None,
    concurrency: ConcurrencyOption = None,
    seed: SeedOption = None,
    window: WindowOption = None,
    max_examples: MaxExamplesOption = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="stop at so many tokens")] = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="go on with a changed config")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="derive anew from stored answers, ask nothing")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="start over; the earlier run is kept aside")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show prompts and numbers, ask nothing")] = False,
    view: Annotated[bool, typer.Option("--view", help="look on in the browser")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a dataset. Running the same command again resumes."""
    settings = load(
        config,
        overrides or (),
        endpoint=endpoints,
        concurrency=concurrency,
        model=model,
        seed=seed,
        window=window,
        targets={"examples": max_examples, "token_budget": token_budget},
    )
    check_exclusive(adopt=adopt, offline=offline, fresh=fresh)
    if dry_run:
        from explore_async.cli.dry_run import preview

        preview(settings, StdoutConsole(), as_json=as_json)
        return
    mode = "adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume"
    _run(settings, out or Path("runs") / settings.name, mode=mode, as_json=as_json, quiet=quiet, view=view)


def demo(
    out: RunDirectoryOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """A small dataset from a small model on this machine, in minutes."""
    settings = load("quickstart", overrides or (), seed=seed)
    _run(settings, out or Path("runs") / settings.name, mode="resume", as_json=as_json, quiet=quiet)


def plan(  # noqa: PLR0917 - an option each
    config: ConfigArgument,
    profile: Annotated[
        Profile, typer.Option(metavar="NAME", help="an engine on a GPU; an unknown name lists them")
    ] = "h100-qwen3-8b",
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="engines, one a GPU")] = 1,
    example_tokens: Annotated[int, typer.Option(min=1, max=100_000, help="tokens of one example, on average")] = 100,
    overrides: SetOption = None,
    window: WindowOption = None,
    max_examples: MaxExamplesOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a run would take before servers of a known speed: rehearsed on a clock of its own, nothing is asked."""
    from explore_async.planning.plan import plan as plan_run
    from explore_async.planning.show import document, show
    from explore_async.serving.simulated.engine import PROFILES
    from explore_async.terminal.reporter import Reporter

    settings = load(config, overrides or (), window=window, targets={"examples": max_examples})
    with Reporter() as reporter:
        reporter.update("rehearsing")
        found = plan_run(settings, PROFILES[profile], gpus, example_tokens=example_tokens)
    show(found, profile, StdoutConsole())
    if as_json:
        print_json(document(found, profile))


def init(domain: Annotated[str, typer.Argument(help='what the data is about, for example "cooking"')]) -> None:
    """Print a commented config for a domain of your own."""
    typer.echo(template(domain), nl=False)


def _run(settings: Any, out: Path, *, mode: Any, as_json: bool, quiet: bool, view: bool = False) -> NoReturn:
    with at_once():
        from explore_async.cli.progress import RunProgress
        from explore_async.cli.summary import show
        from explore_async.running.observer import Observer
        from explore_async.running.start import run as run_to_end

    _check_path(out)
    console = StderrConsole()
    with ExitStack() as stack:
        observer: Observer = stack.enter_context(RunProgress(console, quiet=quiet))
        if view:
            from explore_async.web.beside import ViewBeside

            observer = stack.enter_context(ViewBeside(observer, out))
        result = asyncio.run(
            run_to_end(settings, out, mode=mode, observer=observer, handle_signals=True, tune_collector=True)
        )
    if not quiet:
        show(result, console)
    if settings.operation.report and result.is_over:
        _report(result, settings, quiet=quiet)
    if as_json:
        print_json({"directory": path_text(result.directory), **result.stats.document()})
    sys.exit(result.exit_code)


def _report(result: Any, settings: Any, *, quiet: bool) -> None:
    """The page about a run's data. Ctrl-C does without."""
    from explore_async.analysis.command import REPORT, report_of_run
    from explore_async.terminal.reporter import Reporter

    reporter = Reporter(quiet=quiet)
    try:
        with terminable(), reporter:
            model = settings.operation.spacy_model
            path = report_of_run(result.directory, settings.tokenizer, model, reporter.update)
    except ExploreError as error:
        reporter.say(f"no {REPORT}: {error}")
        return
    except KeyboardInterrupt:
        reporter.say(f"no {REPORT}: stopped; the data is complete")
        return
    if not quiet:
        line = Text(f"  {path}", style="bold") + Text("  what the data covers: pictures, figures, examples")
        reporter.console.print(line, soft_wrap=True)


def _check_path(path: Path) -> None:
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {printable(str(path))}: this cannot be a path: {error}") from error
