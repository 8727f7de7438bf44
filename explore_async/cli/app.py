"""The command line: the table of its commands, and the exit code and message of each error."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from explore_async import __version__
from explore_async.cli import data, look, run, servers
from explore_async.cli.dedup import dedup
from explore_async.cli.output import drop_stdout, print_json
from explore_async.errors import (
    EXIT_SIGINT,
    EXIT_SIGTERM,
    ConfigError,
    DataError,
    ExploreError,
    StorageError,
    SystemLimit,
)
from explore_async.terminal.text import message

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Instruction data that covers a domain: an LLM explores it as a tree of tasks.",
)

app.command()(run.run)
app.command()(run.demo)
app.command()(run.plan)
app.command()(run.init)
app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": True})(servers.serve)
app.command()(dedup)
app.command()(servers.bench)
app.command("import")(data.import_)
app.command()(data.export)
app.command()(data.sample)
app.command()(data.prune)
app.command("filter")(data.filter_)
app.command()(data.reparse)
app.command()(data.merge)
app.command()(data.decontaminate)
app.command()(look.analyze)
app.command()(look.view)
app.command()(look.tree)
app.command()(look.show)
app.command()(look.stats)
app.command()(look.doctor)


@app.callback(invoke_without_command=True)
def _common(
    *, version: Annotated[bool, typer.Option("--version", is_eager=True, help="print the version")] = False
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


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
        drop_stdout()
        sys.exit(0)
    except MemoryError:
        _fail(SystemLimit("memory (`ulimit -v`, or the limit of a container)"))
    except RecursionError:
        _fail(DataError("what was read is nested too deeply: no data that this program writes is"))
    except OSError as error:
        if error.filename is None:
            _check_working_directory()
            drop_stdout()
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


def _fail(error: ExploreError) -> NoReturn:
    shown = message(str(error))
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {shown}", style="red"))
    if "--json" in sys.argv:
        print_json({"error": shown, "exit_code": error.exit_code})
    sys.exit(error.exit_code)
