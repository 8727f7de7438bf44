"""The commands on what runs leave: one short function each. Decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

data = typer.Typer()
_WIDE = 10_000

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]
SourceArgument = Annotated[Path, typer.Argument(metavar="SOURCE", help="a run directory, or a file of examples")]
OutOption = Annotated[Path, typer.Option("--out", help=".jsonl, .json, .parquet; without suffix: a folder with a card")]
FormatOption = Annotated[str, typer.Option("--format", help="rows, alpaca, sharegpt, messages or prompt-completion")]
LicenseOption = Annotated[str, typer.Option("--license", metavar="ID", help="what the card names as license")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]


@data.command()
def export(
    source: SourceArgument,
    out: OutOption,
    shape: FormatOption = "rows",
    license_name: LicenseOption = "other",
    as_json: JsonOption = False,
) -> None:
    """Write the examples of a run in the format of a trainer, or as a folder for `datasets.load_dataset`."""
    from explore_async.curation.exporting import Export

    _export(Export(source=source, out=out, shape=shape, license_name=license_name), as_json=as_json)


@data.command()
def sample(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: OutOption,
    size: Annotated[int, typer.Option("--size", "-n", min=1, help="examples; all where there are fewer")],
    method: Annotated[str, typer.Option(help="proportional (to the tasks' counts) or uniform")] = "proportional",
    cap: Annotated[int, typer.Option(min=1, help="proportional: no task weighs more than so many")] = 500,
    seed: Annotated[int, typer.Option(help="another seed, another sample")] = 0,
    shape: FormatOption = "rows",
    license_name: LicenseOption = "other",
    as_json: JsonOption = False,
) -> None:
    """Draw so many examples, each task its share."""
    from explore_async.curation.exporting import Export

    asked = Export(
        source=source,
        out=out,
        shape=shape,
        size=size,
        method=method,
        cap=cap,
        seed=seed,
        license_name=license_name,
    )
    _export(asked, as_json=as_json)


def _stdout() -> Console:
    """On a terminal lines are wrapped to it; a file or a pipe gets them whole."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDE
    return console


def _export(asked: object, *, as_json: bool) -> None:
    from explore_async.curation.exporting import Export, export

    assert isinstance(asked, Export)
    count = export(asked)
    Console(stderr=True).print(f"{count:,} examples in {asked.out}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(orjson.dumps({"out": str(asked.out), "examples": count}).decode())


@data.command()
def tree(
    path: RunArgument,
    depth: Annotated[int | None, typer.Option(min=0, help="levels below the root")] = None,
) -> None:
    """Show the tree of tasks with what each brought."""
    from explore_async.curation.run_data import RunData
    from explore_async.looking import tree

    tree(RunData.read(path), _stdout(), depth=depth)


@data.command()
def show(
    path: RunArgument,
    wanted: Annotated[str, typer.Argument(metavar="ID", help="of a task or an example")],
) -> None:
    """Show a task or an example with its evidence: verdict, neighbour, prompt and raw answer."""
    from explore_async.curation.run_data import RunData
    from explore_async.looking import show

    show(RunData.read(path), wanted, Console())


@data.command()
def stats(path: RunArgument) -> None:
    """Print the figures of a run as JSON."""
    from explore_async.curation.run_data import RunData

    typer.echo(orjson.dumps(RunData.read(path).stats, option=orjson.OPT_INDENT_2).decode())
