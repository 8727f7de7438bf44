"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
BadRowOption = Annotated[str, typer.Option("--on-bad-row", help="stop or skip")]

JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="no progress")]
