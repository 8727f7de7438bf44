"""The command dedup: removes near-duplicate rows from files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.choices import DataEngine
from explore_async.cli.options import (
    BadRowOption,
    JsonOption,
    QuietOption,
    TokenizerOption,
    check_exclusive,
    path_or_url,
)
from explore_async.cli.output import all_or_nothing, exit_if_empty, path_text, print_json, telling_replaced
from explore_async.cli.runs_under_way import tell_of_runs_under_way


def dedup(  # noqa: PLR0917 - an option each
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            parser=path_or_url,
            help=".jsonl, .json, .csv, .tsv, .txt (each also .gz, .zst) or .parquet",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", parser=path_or_url, help="the file for the kept rows; its suffix decides the format"),
    ],
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            help="the field that is compared, or user-turns: all turns of a user in a conversation; FILE=FIELD is for "
            "one file; repeatable (default: instruction)",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="a row with a ROUGE-L F above this (above 0, at most 1) is a near-duplicate (default: 0.7)",
        ),
    ] = None,
    tokenizer: TokenizerOption = "auto",
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="compare only rows that have the same value in this column")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="drop only texts with exactly the same tokens")] = False,
    evidence: Annotated[
        Path | None,
        typer.Option(
            parser=path_or_url, help="a .jsonl file with the nearest kept row and the score of each dropped row"
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            parser=path_or_url,
            help="drop rows that are near a row of this file, for example a benchmark; repeatable",
        ),
    ] = None,
    against_fields: Annotated[
        list[str] | None,
        typer.Option(
            "--against-field",
            help="the field that is compared in those files, FILE=FIELD for one; repeatable (default: as --field)",
        ),
    ] = None,
    engine: Annotated[
        DataEngine,
        typer.Option(help="ray: find the same near-duplicates by Ray, for more texts than fit into memory"),
    ] = "local",
    on_bad_row: BadRowOption = "stop",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Remove near-duplicate rows from files by exact ROUGE-L. The first row of each kind is kept."""
    from explore_async.cli.dedup_report import DedupProgress, show
    from explore_async.curation.dedup_files import dedup_files
    from explore_async.terminal.reporter import Reporter

    check_exclusive(exact=exact, threshold=threshold is not None)
    tell_of_runs_under_way(*inputs, *(against or ()), quiet=quiet)
    with telling_replaced(out, evidence, quiet=quiet), all_or_nothing(), Reporter(quiet=quiet) as reporter:
        counts = dedup_files(
            inputs,
            out,
            fields=fields or ("instruction",),
            threshold=None if exact else 0.7 if threshold is None else threshold,
            tokenizer=tokenizer,
            group_by=group_by,
            evidence=evidence,
            skip_bad_rows=on_bad_row == "skip",
            against=against or (),
            against_fields=against_fields,
            engine=engine,
            observer=DedupProgress(reporter),
        )
    show(counts, reporter)
    if as_json:
        document = {
            "out": path_text(out),
            "rows": counts.rows,
            "kept": counts.kept,
            "dropped": counts.dropped,
            "bad": counts.bad,
            "against": counts.against,
            "against_bad": counts.against_bad,
            "tokenizer": counts.tokenizer,
            "bad_rows": counts.bad_rows,
            "seconds": round(counts.seconds, 3),
            "rows_per_s": round(counts.rows / max(counts.seconds, 1e-9), 1),
        }
        print_json(document)
    exit_if_empty(counts.kept)
