"""The command line: one short function a command. Decides nothing; turns errors into messages and exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from explore_async import __version__
from explore_async.cli.data import data, terminable
from explore_async.cli.signals import at_once
from explore_async.config import load as config
from explore_async.errors import (
    EXIT_NOTHING_KEPT,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    ConfigError,
    DataError,
    ExploreError,
    StorageError,
    SystemLimit,
)
from explore_async.terminal.text import json_line, message, printable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Instruction data that covers a domain: an LLM explores it as a tree of tasks.",
)
app.add_typer(data)

ConfigArgument = Annotated[str, typer.Argument(help="a YAML file, or the name of a preset")]
OutOption = Annotated[Path | None, typer.Option("--out", help="run directory [default: runs/NAME]")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=V", help="override one setting")]
EndpointOption = Annotated[list[str] | None, typer.Option("--endpoint", metavar="URL", help="OpenAI-compatible server")]
ModelOption = Annotated[str | None, typer.Option("--model", help="the model to ask for [default: the one served]")]
ConcurrencyOption = Annotated[int | None, typer.Option("--concurrency", min=1, help="requests in flight per endpoint")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="another seed, another dataset")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]
_LONGEST_LINE = 10_000
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]


def main() -> None:
    """Runs the program and exits with the documented code."""
    try:
        if "" in sys.argv[1:]:
            raise ConfigError("one of the arguments is empty: a shell variable that is not set?")
        app(standalone_mode=True)
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # which click takes for a failure
            sys.exit(0)
        raise
    except ExploreError as error:
        _fail(error)
    except (KeyboardInterrupt, asyncio.CancelledError) as stopped:
        Console(stderr=True).print("stopped at once; running the same command again goes on from here")
        sys.exit(EXIT_SIGTERM if "terminated" in stopped.args else EXIT_SIGINT)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it closes stdout.
        _drop_output()
        sys.exit(0)
    except MemoryError:
        _fail(SystemLimit("memory (`ulimit -v`, or the limit of a container)"))
    except RecursionError:
        _fail(DataError("what was read is nested too deeply: no data that this program writes is"))
    except OSError as error:
        if error.filename is None:
            _check_working_directory()
            _drop_output()
        place = error.filename or ("the output" if error.errno else "")
        _fail(StorageError(f"{place}: {error.strerror}" if place else str(error)))
    except RuntimeError as error:
        if "start new thread" in str(error):
            _fail(SystemLimit("threads (`ulimit -u`, or the limit of a container)"))
        if not str(error).startswith("Symlink loop"):  # as pathlib before Python 3.13 tells of one
            raise
        _fail(StorageError(f"{error}: a link that leads to itself"))


def _check_working_directory() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        _fail(StorageError("the directory that this was started in has been removed; start it in another"))


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_json(document: dict[str, Any]) -> None:
    try:
        sys.stdout.buffer.write(json_line(document))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has enough; what was made stays made
        _drop_output()
    except OSError as error:
        _drop_output()
        raise StorageError(f"stdout: {error.strerror}") from error


def _fail(error: ExploreError) -> NoReturn:
    shown = message(str(error))
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {shown}", style="red"))
    if "--json" in sys.argv:
        _print_json({"error": shown, "exit_code": error.exit_code})
    sys.exit(error.exit_code)


@app.callback(invoke_without_command=True)
def _common(
    *, version: Annotated[bool, typer.Option("--version", is_eager=True, help="print the version")] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def run(  # noqa: PLR0917 - an option each
    config_name: Annotated[str, typer.Argument(metavar="CONFIG", help="a YAML file, or the name of a preset")],
    out: OutOption = None,
    overrides: SetOption = None,
    endpoints: EndpointOption = None,
    model: ModelOption = None,
    concurrency: ConcurrencyOption = None,
    seed: SeedOption = None,
    window: Annotated[int | None, typer.Option(min=1, help="requests under way before commit [default: auto]")] = None,
    max_examples: Annotated[int | None, typer.Option(min=1, help="stop at so many kept examples")] = None,
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
    settings = config.load(
        config_name,
        overrides or (),
        model=model,
        seed=seed,
        window=window,
        targets={"examples": max_examples, "token_budget": token_budget},
        operation=_endpoints(endpoints, concurrency, config_name, overrides or ()),
    )
    if sum((adopt, offline, fresh)) > 1:
        raise ConfigError("--adopt, --offline and --fresh exclude one another")
    if dry_run:
        from explore_async.cli.dry_run import preview

        preview(settings, Console(), as_json=as_json)
        return
    mode = "adopt" if adopt else "offline" if offline else "fresh" if fresh else "resume"
    _run(settings, out or Path("runs") / settings.name, mode=mode, as_json=as_json, quiet=quiet, view=view)


def _endpoints(
    urls: list[str] | None, concurrency: int | None, config_name: str, overrides: list[str] | tuple[str, ...]
) -> dict[str, Any]:
    """What --endpoint and --concurrency change: given URLs replace the endpoints and the server of the config."""
    if not urls:
        if concurrency is None:
            return {}
        configured = config.load(config_name, overrides).operation.endpoints
        if not configured:
            raise ConfigError(
                "--concurrency: give --endpoint as well, or endpoints in the config; an endpoints_file says it itself"
            )
        return {"endpoints": [{**one.model_dump(), "concurrency": concurrency} for one in configured]}
    given = {} if concurrency is None else {"concurrency": concurrency}
    return {
        "endpoints": [{"url": url, **given} for url in urls],
        **dict.fromkeys(("server", "endpoints_file"), config.NOTHING),
    }


def _run(settings: Any, out: Path, *, mode: Any, as_json: bool, quiet: bool, view: bool = False) -> NoReturn:
    with at_once():
        from explore_async.cli.progress import LastingConsole, RunProgress
        from explore_async.cli.summary import show
        from explore_async.curation.collections.collection import printable_path
        from explore_async.running.run import Observer
        from explore_async.running.run import run as run_to_end

    _check_path(out)
    console = LastingConsole()
    with ExitStack() as stack:
        observer: Observer = stack.enter_context(RunProgress(console, quiet=quiet))
        if view:
            from explore_async.web.beside import ViewBeside

            observer = stack.enter_context(ViewBeside(observer, out))
        result = asyncio.run(run_to_end(settings, out, mode=mode, observer=observer))
    if not quiet:
        show(result, console)
    if settings.operation.report and result.is_over:
        _report(result, settings, quiet=quiet)
    if as_json:
        _print_json({"directory": printable_path(result.directory), **result.stats})
    sys.exit(result.exit_code)


def _report(result: Any, settings: Any, *, quiet: bool) -> None:
    """The page about a run's data. Ctrl-C does without."""
    from explore_async.analysis.command import REPORT, report_of_run

    told = Console(stderr=True, quiet=quiet)
    try:
        with terminable():
            path = report_of_run(result.directory, settings.tokenizer, settings.operation.spacy_model, told)
    except KeyboardInterrupt:
        told.print(f"no {REPORT}: stopped; the data is complete")
        return
    if path is not None:
        told.print(
            Text(f"  {path}", style="bold") + Text("  what it covers: pictures, figures, examples"), soft_wrap=True
        )


def _check_path(path: Path) -> None:
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--out {printable(str(path))}: this cannot be a path: {error}") from error


@app.command()
def demo(
    out: OutOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """A small dataset from a small model on this machine, in minutes."""
    settings = config.load("quickstart", overrides or (), seed=seed)
    _run(settings, out or Path("runs") / settings.name, mode="resume", as_json=as_json, quiet=quiet)


@app.command()
def plan(  # noqa: PLR0917 - an option each
    config_name: ConfigArgument,
    profile: Annotated[str, typer.Option(help="an engine on a GPU; an unknown name lists them")] = "h100-qwen3-8b",
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="engines, one a GPU")] = 1,
    example_tokens: Annotated[int, typer.Option(min=1, max=100_000, help="tokens of one example, on average")] = 100,
    overrides: SetOption = None,
    window: Annotated[int | None, typer.Option(min=1, help="requests under way before commit [default: auto]")] = None,
    max_examples: Annotated[int | None, typer.Option(min=1, help="stop at so many kept examples")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a run would take before servers of a known speed: rehearsed on a clock of its own, nothing is asked."""
    from explore_async.planning.plan import plan as plan_run
    from explore_async.planning.show import document, show
    from explore_async.serving.simulated.engine import PROFILES

    if profile not in PROFILES:
        raise ConfigError(f"--profile {profile}: it is one of {', '.join(PROFILES)}")
    settings = config.load(config_name, overrides or (), window=window, targets={"examples": max_examples})
    console = Console(stderr=True)
    with console.status("rehearsing"):
        found = plan_run(settings.recipe, PROFILES[profile], gpus, example_tokens=example_tokens)
    show(found, profile, Console())
    if as_json:
        _print_json(document(found, profile))


@app.command()
def init(domain: Annotated[str, typer.Argument(help='what the data is about, for example "cooking"')]) -> None:
    """Print a commented config for a domain of your own."""
    typer.echo(config.template(domain), nl=False)


@app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": True})
def serve(  # noqa: PLR0917 - an option each
    context: typer.Context,
    engine: Annotated[str, typer.Option(help="auto, vllm, embedded (llama.cpp) or simulated")] = "embedded",
    model: Annotated[
        str, typer.Option(help="embedded: of the registry, or a .gguf file; vllm: a hub name or a folder")
    ] = "qwen2.5-coder-1.5b",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    slots: Annotated[
        int | None, typer.Option(min=1, help="requests answered at once [default: 2, with vllm and simulated 256]")
    ] = None,
    context_tokens: Annotated[int | None, typer.Option("--context", min=256, help="tokens of one request")] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="vllm: GPUs that share the model")] = 1,
    data_parallel: Annotated[int, typer.Option(min=1, help="vllm: copies of the model")] = 1,
    latency: Annotated[float, typer.Option(min=0, help="simulated: mean seconds an answer takes")] = 0.0,
    profile: Annotated[
        str | None, typer.Option(help="simulated: as fast as this engine, for example on an H100")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Start a server on this machine and keep it until Ctrl-C. What follows `--` goes to vLLM as it is."""
    from explore_async.cli.keep_serving import keep_serving, keep_simulating
    from explore_async.serving.simulated.engine import PROFILES

    console = Console(stderr=True, quiet=quiet)

    def say(text: str) -> None:
        console.print(Text(printable(text, _LONGEST_LINE)), soft_wrap=True)

    if engine not in {"auto", "vllm", "embedded", "simulated"}:
        raise ConfigError(f"--engine {engine}: it is one of auto, vllm, embedded, simulated")
    if context.args and engine in {"embedded", "simulated"}:
        raise ConfigError(f"{' '.join(context.args)}: only vLLM takes arguments of its own")
    if engine == "simulated":
        if profile is not None and profile not in PROFILES:
            raise ConfigError(f"--profile {profile}: it is one of {', '.join(PROFILES)}")
        pace = None if profile is None else PROFILES[profile].with_slots(slots or PROFILES[profile].slots)
        simulating = keep_simulating(port=port, slots=slots or 256, latency_s=latency, profile=pace, say=say)
        asyncio.run(simulating)
        return
    settings = config.server(
        {
            "engine": engine,
            "model": model,
            "slots": slots,
            "context_tokens": context_tokens,
            "vllm": {"tensor_parallel": tensor_parallel, "data_parallel": data_parallel, "args": context.args},
        }
    )
    asyncio.run(keep_serving(settings, port=port, say=say))


@app.command()
def dedup(  # noqa: PLR0917 - an option each
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help=".jsonl, .json, .txt (also .gz), .parquet")],
    out: Annotated[Path, typer.Option("--out", help="where the kept rows go; its name tells the format")],
    fields: Annotated[list[str] | None, typer.Option("--field", help="what is compared (default: instruction)")] = None,
    threshold: Annotated[float | None, typer.Option(help="a duplicate lies above it (default: 0.7)")] = None,
    tokenizer: Annotated[str, typer.Option(help="rouge (a-z, 0-9) or unicode (any script)")] = "rouge",
    group_by: Annotated[str | None, typer.Option(metavar="COLUMN", help="compare only within equal values")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="drop only texts of the very same tokens")] = False,
    evidence: Annotated[Path | None, typer.Option(help="a .jsonl that says of what each row is a duplicate")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="drop what is near a row of these: benchmarks, other data")
    ] = None,
    against_fields: Annotated[
        list[str] | None, typer.Option("--against-field", help="what is compared of theirs (default: as --field)")
    ] = None,
    on_bad_row: Annotated[str, typer.Option(help="stop or skip")] = "stop",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Remove near-duplicate rows from files: exact ROUGE-L, first come first kept."""
    from explore_async.curation.collections.collection import printable_path
    from explore_async.curation.dedup_files import Dedup, dedup_files
    from explore_async.curation.progress import FileProgress, show

    if exact and threshold is not None:
        raise ConfigError("--exact and --threshold exclude one another")
    if on_bad_row not in {"stop", "skip"}:
        raise ConfigError(f"--on-bad-row {on_bad_row}: it is stop or skip")
    asked = Dedup(
        inputs=inputs,
        out=out,
        fields=tuple(fields or ("instruction",)),
        threshold=None if exact else 0.7 if threshold is None else threshold,
        tokenizer=tokenizer,
        group_by=group_by,
        evidence=evidence,
        skip_bad_rows=on_bad_row == "skip",
        against=against or (),
        against_fields=against_fields,
    )
    console = Console(stderr=True)
    try:
        with terminable(), FileProgress(console, quiet=quiet) as progress:
            counts = dedup_files(asked, progress)
    except KeyboardInterrupt:
        console.print("stopped; nothing was written")
        sys.exit(EXIT_SIGINT)
    if not quiet:
        show(counts, console)
    if as_json:
        document = {
            "out": printable_path(out),
            "rows": counts.rows,
            "kept": counts.kept,
            "dropped": counts.dropped,
            "bad": counts.bad,
            "against": counts.against,
            "bad_rows": counts.bad_rows,
            "seconds": round(counts.seconds, 3),
            "rows_per_s": round(counts.rows / max(counts.seconds, 1e-9), 1),
        }
        _print_json(document)
    sys.exit(0 if counts.kept else EXIT_NOTHING_KEPT)


@app.command()
def bench(  # noqa: PLR0917 - an option each
    endpoints: Annotated[list[str], typer.Argument(metavar="ENDPOINT...", help="URLs of OpenAI-compatible servers")],
    config_name: Annotated[str, typer.Option("--config", help="whose prompts: a file or preset")] = "brainstorming",
    model: ModelOption = None,
    listed: Annotated[str | None, typer.Option("--concurrency", metavar="N,N", help="the levels to measure")] = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="or 1, 4, 16, ... up to this")] = 256,
    requests: Annotated[int, typer.Option(min=1, help="a level asks at least so many, and twice what it holds")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="after which a level begins no more requests")] = 60.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="limit of an answer [default: the config's]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="the same prompts again [default: new ones]")] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="NAME", help="the variable that holds the key")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="written there, with a plot beside it")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure endpoints with the prompts of a run: tokens per second and latencies by concurrency."""
    from explore_async.measuring.command import bench, levels

    recipe, concurrency = config.load(config_name).recipe, levels(listed, most)
    with terminable():
        found, code = bench(
            endpoints, recipe, config_name, model=model, concurrency=concurrency, requests=requests, seconds=seconds,
            max_tokens=max_tokens, seed=seed, api_key_env=api_key_env, out=out, quiet=quiet,
        )  # fmt: skip
    if as_json:
        _print_json(found)
    sys.exit(code)
