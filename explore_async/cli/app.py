"""The command line: the table of its commands, and the exit code and message of each error."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from explore_async import __version__
from explore_async.cli import compare, data, judge, look, prepare, revise, run, score, servers, stages, train
from explore_async.cli.dedup import dedup
from explore_async.cli.failures import as_explore_error
from explore_async.cli.options import OnceCommand
from explore_async.cli.output import drop_stdout, flush_stdout, print_json, say
from explore_async.errors import EXIT_SIGINT, ConfigError, ExploreError, StorageError
from explore_async.terminal.text import message

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Makes instruction data that covers a domain: an LLM explores the domain as a tree of tasks.",
)

app.command()(run.run)
app.command()(run.demo)
app.command()(run.plan)
app.command()(prepare.init)
app.command()(prepare.schema)
app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": True})(servers.serve)
app.command()(dedup)
app.command()(servers.bench)
app.command("import")(data.import_)
app.command()(data.export)
app.command()(data.sample)
app.command()(revise.answer)
app.command()(revise.rate)
app.command()(judge.judge)
app.command()(compare.compare)
app.command()(score.score)
app.command()(stages.prune)
app.command("filter")(stages.filter_)
app.command()(stages.reparse)
app.command()(stages.merge)
app.command()(stages.decontaminate)
app.command()(train.train)
app.command()(train.likelihood)
app.command()(look.analyze)
app.command()(look.view)
app.command()(look.tree)
app.command()(look.show)
app.command()(look.stats)
app.command()(look.doctor)
for _command in app.registered_commands:
    _command.cls = OnceCommand


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="print the version and exit")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ConfigError.exit_code)


def main() -> None:
    """Runs the program and exits with the documented code."""
    if os.environ.get("COLUMNS") == "0":  # else typer prints no help
        del os.environ["COLUMNS"]
    try:
        _run_command(sys.argv[1:])
    except typer.Exit as ending:
        sys.exit(ending.exit_code)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(EXIT_SIGINT)
    except BrokenPipeError:  # the reader of our output has enough
        drop_stdout()
        sys.exit(0)
    except Exception as error:
        known = as_explore_error(error)
        if known is None:
            raise
        _fail(known)


def _run_command(arguments: list[str]) -> NoReturn:
    """Without typer's own `main`, which takes a closed pipe for a failure and prints errors without our codes."""
    if "" in arguments:
        raise ConfigError("an argument is empty: does a shell variable have no value?")
    command = typer.main.get_command(app)
    with command.make_context("explore-async", arguments) as context:
        command.invoke(context)
    sys.exit(0)


def _fail(error: ExploreError) -> NoReturn:
    from rich.text import Text

    from explore_async.terminal.console import StderrConsole

    text = message(str(error))
    StderrConsole().print(Text(f"error: {text}", style="red"), soft_wrap=True)
    if "--json" in sys.argv:
        with suppress(StorageError):
            print_json({"error": text, "exit_code": error.exit_code})
    flush_stdout()
    sys.exit(error.exit_code)
