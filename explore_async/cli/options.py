"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from explore_async.cli.choices import BadRow, Format, Marked, SplitBy, TokenizerName
from explore_async.errors import ConfigError


def path_or_url(text: str) -> Path:
    """A path, or a URL of fsspec."""
    from explore_async.storage.places import place

    return place(text)


def local_path(text: str) -> Path:
    """A path on this machine."""
    from explore_async.storage.places import local_place

    return local_place(text)


ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="a YAML file or the name of a preset")]
RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", parser=path_or_url, help="a run directory, or a directory that import, filter, merge … wrote"
    ),
]
OwnRunArgument = Annotated[Path, typer.Argument(metavar="RUN", parser=path_or_url, help="a run directory")]
"""Of commands that read what the run stored."""
SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        parser=path_or_url,
        help="a run directory, a data directory (of import, filter, merge …), a file of examples, or a folder of "
        "Explore-Instruct data; all but a run may be URLs",
    ),
]

RunDirectoryOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", parser=local_path, help="the run directory (default: runs/NAME)")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="make the I-th of N parts of the run, in a directory of its own below --out; `merge` joins them",
    ),
]
DataFileOption = Annotated[
    Path,
    typer.Option(
        "--out",
        parser=path_or_url,
        help="a .jsonl, .json, .csv, .tsv or .parquet file; a name without suffix is a folder with a data card",
    ),
]
DataDirectoryOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", parser=path_or_url, help="the directory to write")
]
WorkDirectoryOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", parser=local_path, help="the directory to write, on this machine")
]
"""Of commands that ask models, whose completions are a database."""

SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=V", help="change one setting of the config; repeatable")
]
FilterSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="change one setting of the filters, for example refusals=false, or judge.threshold; repeatable",
    ),
]
EndpointOption = Annotated[
    list[str] | None, typer.Option("--endpoint", metavar="URL", help="an OpenAI-compatible server; repeatable")
]
ApiKeyEnvOption = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="NAME", help="the environment variable that holds the key of the endpoints"),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="the name of the model (default: the model that the server has)")
]
ConcurrencyOption = Annotated[
    int | None,
    typer.Option("--concurrency", min=1, help="the most requests in flight at each endpoint (default: auto)"),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="a different seed gives a different dataset")]
WindowOption = Annotated[
    int | None,
    typer.Option(min=1, help="the window: the most requests that are not yet committed (default: auto)"),
]
MaxExamplesOption = Annotated[int | None, typer.Option(min=1, help="stop after this number of kept examples")]

FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="the shape of each example: rows, alpaca, sharegpt, messages, prompt-completion, preference, "
        "preference-sharegpt, kto or explore-instruct",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="OURS=THEIRS",
        help="the columns of a file, for example instruction=prompt or output=answer; repeatable",
    ),
]
ValidationOption = Annotated[
    float, typer.Option(help="the share of examples that is held out for validation, from 0 to below 1")
]
SplitOption = Annotated[SplitBy, typer.Option("--split-by", help="hold out single examples or whole tasks")]
ReasoningOption = Annotated[
    bool,
    typer.Option(
        "--reasoning", help="with what the model thought, as reasoning_content (rows, messages, prompt-completion)"
    ),
]
AllAnswersOption = Annotated[
    bool,
    typer.Option(
        "--all-answers", help="a row for each answer to an instruction that passed, not for the best one alone"
    ),
]
ModelRevisionOption = Annotated[
    str, typer.Option("--model-revision", metavar="REVISION", help="the revision of the model, for the data card")
]
PushOption = Annotated[
    str | None,
    typer.Option("--push", metavar="OWNER/NAME", help="upload the folder to this repository, with huggingface_hub"),
]
PublicOption = Annotated[bool, typer.Option("--public", help="a repository that --push makes is public")]
LicenseOption = Annotated[str, typer.Option("--license", metavar="ID", help="the license that the data card names")]
MarkedOption = Annotated[
    Marked, typer.Option(help="by the marks that you gave in the view: leave bad ones out, take only good ones, or any")
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keep", metavar="COLUMN", help="keep this column of the source in each row: id, task_path, …; repeatable"
    ),
]
ThresholdOption = Annotated[
    float,
    typer.Option(help="a text with a ROUGE-L F above this (above 0, at most 1) is a near-duplicate of another text"),
]
TokenizerOption = Annotated[
    TokenizerName,
    typer.Option(help="rouge for English, unicode for any script; auto: as the run, else by the letters of the texts"),
]
ComparedFieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="instruction|input|output|user-turns",
        help="the fields that are compared, together; repeatable (default: instruction; of files also input, or all "
        "user-turns of a conversation)",
    ),
]
SemanticOption = Annotated[
    bool,
    typer.Option("--semantic", help="compare also by meaning, with a small model on this machine (extra: embed)"),
]
BadRowOption = Annotated[BadRow, typer.Option("--on-bad-row", help="stop at a row that cannot be read, or skip it")]

JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object as the last line of stdout")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")]


def check_exclusive(**options: bool) -> None:
    """Raises ConfigError where more than one of the options is given."""
    if sum(options.values()) > 1:
        *others, last = (f"--{name.replace('_', '-')}" for name in options)
        raise ConfigError(f"give only one of {', '.join(others)} and {last}")


class OnceCommand(TyperCommand):
    """Refuses an option of one value that is given twice, so that none is dropped silently. Flags may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        rest = super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(args=given)
        for option in order:
            if isinstance(option, TyperOption) and not (option.multiple or option.is_flag) and order.count(option) > 1:
                ctx.fail(f"{option.opts[0]} is given twice, and takes one value{self._way_out(option)}")
        return rest

    def _way_out(self, option: TyperOption) -> str:
        """For another value of an option there is another run of the command, where it writes to a place of its own."""
        if "--out" in option.opts or not any("--out" in other.opts for other in self.params):
            return ""
        return "; for several, run the command once for each, with another --out"
