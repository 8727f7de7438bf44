"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.choices import BadRow, Format, SplitBy, TokenizerName
from explore_async.errors import ConfigError

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="a YAML file, or the name of a preset")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, or what import, filter … wrote")]
SourceArgument = Annotated[
    Path,
    typer.Argument(metavar="SOURCE", help="a run directory, a file of examples, a folder of Explore-Instruct"),
]

RunDirectoryOption = Annotated[Path | None, typer.Option("--out", help="run directory [default: runs/NAME]")]
DataFileOption = Annotated[
    Path, typer.Option("--out", help=".jsonl, .json, .parquet; without suffix: a folder with a card")
]
DataDirectoryOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="the directory to write")]

SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=V", help="override one setting")]
FilterSetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="a setting of filters: refusals=false …")
]
EndpointOption = Annotated[list[str] | None, typer.Option("--endpoint", metavar="URL", help="OpenAI-compatible server")]
ModelOption = Annotated[str | None, typer.Option("--model", help="the model to ask for [default: the one served]")]
ConcurrencyOption = Annotated[int | None, typer.Option("--concurrency", min=1, help="requests in flight per endpoint")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="another seed, another dataset")]
WindowOption = Annotated[int | None, typer.Option(min=1, help="requests under way before commit [default: auto]")]
MaxExamplesOption = Annotated[int | None, typer.Option(min=1, help="stop at so many kept examples")]

FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="rows, alpaca, sharegpt, messages, prompt-completion or explore-instruct",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="of a file: instruction=prompt, output=answer, task=topic …"),
]
ValidationOption = Annotated[float, typer.Option(min=0, max=1, help="the share of examples to hold out for validation")]
SplitOption = Annotated[SplitBy, typer.Option("--split-by", help="hold out single examples, or whole tasks")]
LicenseOption = Annotated[str, typer.Option("--license", metavar="ID", help="what the card names as license")]
ThresholdOption = Annotated[float, typer.Option(min=0, max=1, help="ROUGE-L F above which a text repeats another")]
TokenizerOption = Annotated[TokenizerName, typer.Option(help="rouge: a-z and 0-9; unicode: any script")]
BadRowOption = Annotated[BadRow, typer.Option("--on-bad-row", help="what to do with a row that cannot be read")]

JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]


def check_exclusive(**options: bool) -> None:
    """Raises ConfigError where more than one of the options is given."""
    if sum(options.values()) > 1:
        *others, last = (f"--{name.replace('_', '-')}" for name in options)
        raise ConfigError(f"give only one of {', '.join(others)} and {last}")
