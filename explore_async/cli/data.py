"""The commands on what runs leave, and on data from elsewhere: one short function each. Decides nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from explore_async.errors import EXIT_NOTHING_KEPT, EXIT_SIGINT, EXIT_SIGTERM, EXIT_UNHEALTHY
from explore_async.terminal.text import json_line, json_text, printable

if TYPE_CHECKING:
    from explore_async.curation.filtering import Filtered

data = typer.Typer()
_WIDE = 10_000
_SHOWN = 20

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, or what import, filter … wrote")]
SourceArgument = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="a run directory, a file of examples, a folder of Explore-Instruct"),
]
OutOption = Annotated[Path, typer.Option("--out", help=".jsonl, .json, .parquet; without suffix: a folder with a card")]
FolderOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="the directory to write")]
FormatOption = Annotated[
    str,
    typer.Option("--format", help="rows, alpaca, sharegpt, messages, prompt-completion or explore-instruct"),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="of a file: instruction=prompt, output=answer, task=topic …"),
]
ValidationOption = Annotated[float, typer.Option(help="the share of examples to hold out for validation")]
SplitOption = Annotated[
    str, typer.Option("--split-by", help="hold out single examples, or whole tasks: example or task")
]
LicenseOption = Annotated[str, typer.Option("--license", metavar="ID", help="what the card names as license")]
ThresholdOption = Annotated[float, typer.Option(help="ROUGE-L F above which a text repeats another")]
TokenizerOption = Annotated[str, typer.Option(help="rouge (a-z, 0-9) or unicode (any script)")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a setting of filters: refusals=false …")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]


@data.command("import")
def import_(
    source: SourceArgument,
    out: FolderOption,
    column: ColumnOption = None,
    on_bad_row: Annotated[str, typer.Option(help="stop or skip")] = "stop",
    as_json: JsonOption = False,
) -> None:
    """Take data from elsewhere in: to filter, sample and export it, or to explore on from its tree."""
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.collections.open import opened
    from explore_async.curation.importing import CONFIG, import_collection
    from explore_async.errors import ConfigError

    if on_bad_row not in {"stop", "skip"}:
        raise ConfigError(f"--on-bad-row {on_bad_row}: it is stop or skip")
    collection = opened(source, columns_from(column or ()), skip_bad_rows=on_bad_row == "skip")
    with _telling("examples read") as told:
        found = import_collection(collection, out, told=told)
    for note in found.notes:
        _say(note)
    if found.bad > len(found.notes):
        _say(f"… and {found.bad - len(found.notes):,} more")
    _say(f"{found.examples:,} examples in {found.tasks:,} tasks: {out}; to explore on: {out / CONFIG}")
    _json({"out": _named(out), "examples": found.examples, "tasks": found.tasks, "bad_rows": found.bad}, wanted=as_json)
    _ended(found.examples)


@data.command()
def export(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: OutOption,
    shape: FormatOption = "rows",
    column: ColumnOption = None,
    validation: ValidationOption = 0.0,
    split_by: SplitOption = "example",
    seed: Annotated[int, typer.Option(help="another seed, another split")] = 0,
    license_name: LicenseOption = "other",
    as_json: JsonOption = False,
) -> None:
    """Write examples in the format of a trainer, or as a folder for `datasets.load_dataset`."""
    _export(
        {"source": source, "out": out, "shape": shape, "validation": validation, "split_by": split_by, "seed": seed},
        column,
        license_name,
        as_json=as_json,
    )


@data.command()
def sample(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: OutOption,
    size: Annotated[int, typer.Option("--size", "-n", min=1, help="examples; all where there are fewer")],
    method: Annotated[
        str, typer.Option(help="proportional (to the tasks' counts), uniform, or diverse (unlike one another)")
    ] = "proportional",
    cap: Annotated[int, typer.Option(min=1, help="no task weighs more than so many")] = 500,
    seed: Annotated[int, typer.Option(help="another seed, another sample")] = 0,
    shape: FormatOption = "rows",
    column: ColumnOption = None,
    validation: ValidationOption = 0.0,
    split_by: SplitOption = "example",
    license_name: LicenseOption = "other",
    as_json: JsonOption = False,
) -> None:
    """Draw so many examples, each task its share; none of pruned tasks."""
    asked = {
        "source": source,
        "out": out,
        "shape": shape,
        "size": size,
        "method": method,
        "cap": cap,
        "seed": seed,
        "validation": validation,
        "split_by": split_by,
    }
    _export(asked, column, license_name, as_json=as_json)


def _export(asked: dict[str, Any], column: Sequence[str] | None, license_name: str, *, as_json: bool) -> None:
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.exporting import Export, export

    with _whole():
        found = export(Export(columns=columns_from(column or ()), license_name=license_name, **asked))
    held_out = f", {found.validation:,} for validation" if asked["validation"] else ""
    notes = "".join(
        f"; {count:,} left out: {why}"
        for count, why in ((found.near, "too near to validation"), (found.pruned, "of pruned tasks"))
        if count
    )
    few = "" if asked.get("size") is None or found.there >= asked["size"] else f" (only {found.there:,} are there)"
    _say(f"{found.train:,} examples{held_out} in {asked['out']}{few}{notes}")
    document = {"out": _named(asked["out"]), "examples": found.train, "validation": found.validation}
    left_out = {"near_validation": found.near, "pruned_tasks": found.pruned}
    _json({**document, "left_out": left_out, "files": [_named(path) for path in found.files]}, wanted=as_json)
    _ended(found.train)


@data.command()
def prune(
    source: RunArgument,
    threshold: ThresholdOption = 0.7,
    tokenizer: TokenizerOption = "rouge",
    as_json: JsonOption = False,
) -> None:
    """Take out tasks whose names repeat others: their examples are no longer exported, sampled or merged."""
    from explore_async.curation.collections.run_data import PRUNED_FILE, RunData
    from explore_async.curation.pruning import prune

    found = prune(RunData.read(source), threshold, tokenizer)
    for one in found[:_SHOWN]:
        _say(f"{one.id} {one.name}  ({one.score:.2f} with {one.nearest} {one.nearest_name})")
    if len(found) > _SHOWN:
        _say(f"… and {len(found) - _SHOWN:,} more")
    _say(f"{len(found):,} tasks pruned: {source / PRUNED_FILE} (delete it to take them back)")
    _json({"pruned": [asdict(one) for one in found]}, wanted=as_json)


@data.command("filter")
def filter_(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: FolderOption,
    threshold: Annotated[float | None, typer.Option(help="ROUGE-L F above which an instruction is dropped")] = None,
    scope: Annotated[str | None, typer.Option(help="compared within: run, domain or task")] = None,
    settings: SetOption = None,
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge all examples anew, of a run also those that it dropped, at another threshold or with other filters."""
    from explore_async.config.load import assignments
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.collections.open import opened
    from explore_async.curation.filtering import filter_collection

    given = {"threshold": threshold, "scope": scope}
    changes = {**assignments(settings or ()), **{name: value for name, value in given.items() if value is not None}}
    collection = opened(source, columns_from(column or ()))
    with _telling("examples judged") as told:
        found = filter_collection(collection, out, changes, told=told)
    _filtered(found, as_json=as_json)


@data.command()
def reparse(source: RunArgument, out: FolderOption, as_json: JsonOption = False) -> None:
    """Read a run's stored answers once more with the parser and filters of this version."""
    from explore_async.curation.filtering import reparse

    with _telling("examples judged") as told:
        found = reparse(source, out, told=told)
    _filtered(found, as_json=as_json)


@data.command()
def merge(  # noqa: PLR0917 - an option each
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="as of export, two or more")],
    out: FolderOption,
    threshold: Annotated[float, typer.Option(help="ROUGE-L F above which an instruction is dropped")] = 0.7,
    tokenizer: TokenizerOption = "rouge",
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one of several runs or data sets, without near-duplicates; each example says where it came from."""
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.filtering import merge_files

    with _telling("examples judged") as told:
        found = merge_files(
            sources, out, threshold=threshold, tokenizer=tokenizer, columns=columns_from(column or ()), told=told
        )
    _filtered(found, as_json=as_json)


def _filtered(found: Filtered, *, as_json: bool) -> None:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.dropped.items()))
    _say(
        f"{found.kept:,} of {found.candidates:,} examples kept ({found.before:,} before): {found.out}"
        + (f"; dropped: {dropped}" if dropped else "")
    )
    document = {"out": _named(found.out), "before": found.before, "candidates": found.candidates, "kept": found.kept}
    _json({**document, "dropped": dict(found.dropped)}, wanted=as_json)
    _ended(found.kept)


@data.command()
def decontaminate(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: FolderOption,
    against: Annotated[list[Path], typer.Option("--against", metavar="FILE", help="a benchmark's rows; repeatable")],
    benchmark_fields: Annotated[
        list[str] | None, typer.Option("--benchmark-field", help="what to stay away from in them (default: question)")
    ] = None,
    threshold: ThresholdOption = 0.7,
    ngram: Annotated[int, typer.Option(help="so many tokens in a row are too many in common")] = 13,
    tokenizer: TokenizerOption = "rouge",
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop examples too close to benchmarks, by ROUGE-L or a run of tokens, and report what each was close to."""
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.collections.open import opened
    from explore_async.curation.decontamination import REPORT, Decontaminate, decontaminate

    asked = Decontaminate(
        benchmarks=against,
        fields=tuple(benchmark_fields or ("question",)),
        threshold=threshold,
        ngram=ngram,
        tokenizer=tokenizer,
    )
    collection = opened(source, columns_from(column or ()))
    with _telling("examples compared") as told:
        found = decontaminate(collection, out, asked, told=told)
    _say(
        f"{found.kept:,} examples kept, {found.dropped:,} dropped ({found.by_rouge:,} by ROUGE-L, {found.by_ngram:,} by"
        f" {ngram} tokens in a row): {out}; the report is {out / REPORT}"
    )
    document = {
        "out": _named(out),
        "kept": found.kept,
        "dropped": found.dropped,
        "by_benchmark": dict(found.by_benchmark),
    }
    _json(document, wanted=as_json)
    _ended(found.kept)


@data.command()
def analyze(  # noqa: PLR0917 - an option each
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE...", help="runs, a folder of runs, imported data, files of rows: side by side"),
    ],
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="a page with pictures and tables")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="everything that was found")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="FOLDER", help="pictures for a paper, as SVG and PNG")] = None,
    spacy_model: Annotated[
        str | None, typer.Option(help="for another language: an installed model or a folder")
    ] = None,
    tokenizer: TokenizerOption = "rouge",
    most: Annotated[int, typer.Option(min=1, help="of larger data sets so many examples are examined")] = 200_000,
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what data covers: pairs of verb and noun, overlap, estimates of what is missing, and what it cost."""
    from explore_async.analysis.command import Analyze, analyze
    from explore_async.analysis.report import table
    from explore_async.curation.collections.columns import columns_from

    asked = Analyze(
        sources=sources,
        columns=columns_from(column or ()),
        report=report,
        out=out,
        figures=figures,
        spacy_model=spacy_model,
        tokenizer=tokenizer,
        most=most,
    )
    with _whole():
        document, written = analyze(asked, Console(stderr=True))
    if not as_json:
        _stdout().print(table(document))
    for path in written:
        _say(str(path))
    _json(document, wanted=as_json)


@data.command()
def view(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN...", help="directories, or a folder of runs")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: one that is free")] = 8400,
    open_it: Annotated[bool, typer.Option("--open", help="open the browser too")] = False,
) -> None:
    """Look at runs in the browser, while they are on and afterwards. On this machine only, to read only."""
    import asyncio

    from explore_async.web.app import view
    from explore_async.web.beside import open_browser

    def say(text: str) -> None:
        _say(text)
        if open_it:
            open_browser(text.split()[2])

    asyncio.run(view(runs or [Path("runs")], port=port, say=say))


@data.command()
def tree(
    path: RunArgument,
    depth: Annotated[int | None, typer.Option(min=0, help="levels below the root")] = None,
) -> None:
    """Show the tree of tasks with what each brought."""
    from explore_async.cli.show import tree
    from explore_async.curation.collections.run_data import RunData

    tree(RunData.read(path), _stdout(), depth=depth)


@data.command()
def show(
    path: RunArgument,
    wanted: Annotated[str, typer.Argument(metavar="ID", help="of a task or an example")],
) -> None:
    """Show a task or an example with its evidence: verdict, neighbour, prompt and raw answer."""
    from explore_async.cli.show import show
    from explore_async.curation.collections.run_data import RunData

    show(RunData.read(path), wanted, Console())


@data.command()
def stats(path: RunArgument) -> None:
    """Print the figures of a run as JSON."""
    from explore_async.curation.collections.run_data import RunData

    run = RunData.read(path)
    typer.echo(json_text(run.stats if run.is_run else run.config))


@data.command()
def doctor(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    repair: Annotated[bool, typer.Option("--repair", help="mend what can be mended; nothing is thrown away")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a run directory: its formats, every stored answer, and the files derived from them."""
    from explore_async.doctor.command import doctor, document, show

    with terminable():
        findings, done = doctor(path, mend=repair, console=Console(stderr=True))
    if not as_json:
        show(path, findings, done, _stdout())
    _json(document(path, findings, done), wanted=as_json)
    if not findings.healthy:
        sys.exit(EXIT_UNHEALTHY)


def _stdout() -> Console:
    """On a terminal lines are wrapped to it; a file or a pipe gets them whole."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _say(text: str) -> None:
    Console(stderr=True).print(Text(printable(text, _WIDE)), soft_wrap=True)


def _named(path: Path) -> str:
    from explore_async.curation.collections.collection import printable_path

    return printable_path(path)


def _json(document: dict[str, Any], *, wanted: bool) -> None:
    if wanted:
        typer.echo(json_line(document), nl=False)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that what was begun is tidied away."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _whole() -> Iterator[None]:
    """Around work whose results appear at its end, or not at all."""
    try:
        with terminable():
            yield
    except KeyboardInterrupt:
        _say("stopped; nothing was written")
        sys.exit(EXIT_SIGINT)


def _ended(kept: int) -> None:
    """The documented code where nothing is left."""
    if not kept:
        sys.exit(EXIT_NOTHING_KEPT)


@contextmanager
def _telling(what: str) -> Iterator[Callable[[int], None]]:
    """How many so far: on a terminal, where somebody waits. Stopped, the work leaves nothing behind."""
    console = Console(stderr=True)
    with _whole():
        if not console.is_terminal:
            yield lambda _count: None
            return
        with console.status(what) as status:
            yield lambda count: status.update(f"{count:,} {what}")
