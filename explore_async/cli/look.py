"""The commands that show data: analyze, view, tree, show, stats and doctor."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.choices import DataEngine
from explore_async.cli.embedder import load_embedder
from explore_async.cli.options import (
    ColumnOption,
    JsonOption,
    QuietOption,
    RunArgument,
    SemanticOption,
    TokenizerOption,
    local_path,
    path_or_url,
)
from explore_async.cli.output import all_or_nothing, print_json, say, telling_replaced
from explore_async.cli.runs_under_way import tell_of_runs_under_way, time_of_stats
from explore_async.cli.signals import terminable
from explore_async.errors import EXIT_UNHEALTHY, ConfigError
from explore_async.web import PORT


def analyze(  # noqa: PLR0917 - an option each
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            parser=path_or_url,
            help="runs, folders of runs, imported data or files of rows; several are compared",
        ),
    ],
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", parser=path_or_url, help="write a page with pictures and tables")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", parser=path_or_url, help="write all figures as JSON")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", parser=path_or_url, help="write pictures for a paper, as SVG and PNG"),
    ] = None,
    spacy_model: Annotated[
        str | None, typer.Option(help="a spaCy model, by name or folder (default: the installed one for the language)")
    ] = None,
    tokenizer: TokenizerOption = "auto",
    most: Annotated[int, typer.Option(min=1, help="the most examples of a dataset that are examined")] = 200_000,
    column: ColumnOption = None,
    semantic: SemanticOption = False,
    prompt_weight: Annotated[
        float, typer.Option(help="generated tokens that a prompt token costs, unless a prefix cache held it (0 to 1)")
    ] = 0.1,
    engine: Annotated[
        DataEngine, typer.Option(help="ray: parse and compare by Ray, on all its machines, with the same figures")
    ] = "local",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the coverage of data: verb-noun pairs, overlap, an estimate of the missing part, and the cost."""
    from rich.text import Text

    from explore_async.analysis.command import analyze_data
    from explore_async.analysis.report import make_table, nearest_pairs, notes
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.terminal.console import StdoutConsole
    from explore_async.terminal.reporter import Reporter

    tell = partial(say, quiet=quiet)
    tell_of_runs_under_way(*sources, quiet=quiet)
    embedder = load_embedder(quiet=quiet) if semantic else False
    with telling_replaced(report, out, quiet=quiet), all_or_nothing(), Reporter(quiet=quiet) as reporter:
        analysis = analyze_data(
            *sources,
            report=report,
            out=out,
            figures=figures,
            spacy_model=spacy_model,
            tokenizer=tokenizer,
            most=most,
            columns=parse_columns(column or ()),
            semantic=embedder,
            prompt_weight=prompt_weight,
            engine=engine,
            on_progress=reporter.update,
        )
    if not as_json:
        console = StdoutConsole()
        console.print(make_table(analysis.document))
        for line in nearest_pairs(analysis.document):
            console.print(Text(line), soft_wrap=True)
    for note in notes(analysis.document):
        tell(note)
    for path in analysis.files:
        tell(str(path))
    if as_json:
        print_json(dict(analysis.document))


def view(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", parser=local_path, help="run directories or a folder of runs (default: runs)"),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port")] = PORT,
    open_it: Annotated[bool, typer.Option("--open", help="open the view in the browser")] = False,
    inherited: Annotated[int | None, typer.Option("--socket", hidden=True)] = None,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Show runs in the browser, during a run and afterwards. For this machine only; it writes only your marks."""
    import asyncio

    from explore_async.web.app import view
    from explore_async.web.view_process import from_elsewhere, open_browser

    def announce(url: str) -> None:
        if inherited is None:
            say(f"view at {url} (Ctrl-C stops){from_elsewhere(url)}")
        if open_it:
            open_browser(url)

    paths = runs or [Path("runs")]
    asyncio.run(view(paths, port=port, announce=announce, inherited=inherited, parent=parent))


def tree(
    path: RunArgument,
    depth: Annotated[int | None, typer.Option(min=0, help="the number of levels below the root (default: all)")] = None,
) -> None:
    """Show the tree of tasks with the kept examples of each task."""
    from explore_async.cli.show import tree
    from explore_async.curation.collections.run_data import RunData
    from explore_async.terminal.console import StdoutConsole

    run = RunData.read(path)
    tell_of_runs_under_way(path)
    tree(run, StdoutConsole(), depth=depth)


def show(
    path: RunArgument,
    item_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="the id of a task or an example, or the key of a request")
    ] = None,
    dropped: Annotated[
        str | None,
        typer.Option(metavar="REASON", help="list what was dropped for this reason, for example duplicate; or all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a task or an example with its evidence, or list what was dropped.

    The evidence is the verdict, the nearest example, the prompt and the completion.
    """
    from explore_async.cli.show import dropped_counts, dropped_document, show, show_document, show_dropped
    from explore_async.curation.collections.run_data import RunData
    from explore_async.terminal.console import StdoutConsole

    if (item_id is None) == (dropped is None):
        raise ConfigError("give either an ID or --dropped REASON: `show RUN 0.3-0.1`, `show RUN --dropped duplicate`")
    run = RunData.read(path)
    tell_of_runs_under_way(path)
    if item_id is not None:
        if as_json:
            print_json(show_document(run, item_id))
        else:
            show(run, item_id, StdoutConsole())
        return
    document = dropped_document(run, None if dropped == "all" else dropped)
    if as_json:
        print_json(document)
    else:
        show_dropped(run, document, StdoutConsole())
    say(f"{len(document['dropped']):,} shown; everything that was dropped: {dropped_counts(document)}")


def stats(path: RunArgument) -> None:
    """Print the statistics of a run as JSON, during the run and afterwards."""
    from explore_async.curation.collections.run_data import RunData
    from explore_async.terminal.text import json_text

    run = RunData.read(path)
    has_starts = run.is_run or bool(run.stats)  # those of answer and rate are data directories, too
    if has_starts and (text := time_of_stats(path, run.stats)):
        say(text)
    typer.echo(json_text(run.stats if has_starts else run.config))


def doctor(
    path: Annotated[Path, typer.Argument(metavar="RUN", parser=local_path, help="a run directory")],
    repair: Annotated[bool, typer.Option("--repair", help="repair what can be repaired; nothing is deleted")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Check a run directory: the formats, every stored completion, and the files derived from them."""
    from explore_async.doctor.command import doctor, document, show
    from explore_async.terminal.console import StdoutConsole
    from explore_async.terminal.reporter import Reporter

    with terminable():
        findings, done = doctor(path, mend=repair, reporter=Reporter(quiet=quiet))
    if as_json:
        print_json(document(path, findings, done))
    else:
        show(path, findings, done, StdoutConsole())
    if not findings.healthy:
        sys.exit(EXIT_UNHEALTHY)
