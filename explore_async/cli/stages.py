"""The stages between a run and a trainer: prune, filter, reparse, merge, decontaminate."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.choices import Scope
from explore_async.cli.embedder import load_embedder
from explore_async.cli.options import (
    ColumnOption,
    ComparedFieldOption,
    DataDirectoryOption,
    FilterSetOption,
    JsonOption,
    OwnRunArgument,
    QuietOption,
    RunArgument,
    SemanticOption,
    SourceArgument,
    ThresholdOption,
    TokenizerOption,
    path_or_url,
)
from explore_async.cli.output import counting, exit_if_empty, path_text, print_json, say
from explore_async.cli.runs_under_way import tell_of_runs_under_way
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.curation.filtering import FilterResult

_SHOWN = 20


def prune(
    source: RunArgument,
    threshold: ThresholdOption = 0.7,
    tokenizer: TokenizerOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Mark tasks whose names are near-duplicates. Their examples are no longer exported, sampled or merged."""
    from explore_async.curation.pruning import prune_data

    tell = partial(say, quiet=quiet)
    tell_of_runs_under_way(source, quiet=quiet)
    result = prune_data(source, threshold=threshold, tokenizer=tokenizer)
    for task in result.pruned[:_SHOWN]:
        tell(f"{task.id} {task.name}  ({task.score:.2f} with {task.nearest} {task.nearest_name})")
    if len(result.pruned) > _SHOWN:
        tell(f"… and {len(result.pruned) - _SHOWN:,} more")
    tell(f"{counted(len(result.pruned), 'task')} pruned: {result.file} (delete this file to undo it)")
    if as_json:
        print_json({"pruned": [asdict(task) for task in result.pruned]})


def filter_(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="an instruction with a ROUGE-L F above this is dropped; above 0, at most 1 (default: as in the run, "
            "0.7 for other data)"
        ),
    ] = None,
    scope: Annotated[
        Scope | None,
        typer.Option(
            help="compare within the whole run, within a domain or within a task (default: as in the run, run for "
            "other data)"
        ),
    ] = None,
    settings: FilterSetOption = None,
    fields: ComparedFieldOption = None,
    column: ColumnOption = None,
    semantic: SemanticOption = False,
    semantic_threshold: Annotated[
        float,
        typer.Option(help="with --semantic: an example with a cosine above this (above 0, at most 1) is dropped"),
    ] = 0.8,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Judge all examples again with another threshold or other filters, also those that a run dropped."""
    from explore_async.config.load import assignments
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.filtering import filter_data

    named = [setting.removeprefix("filters.") for setting in settings or ()]  # as `run --set` names them
    changes, columns = assignments(named), parse_columns(column or ())
    tell_of_runs_under_way(source, quiet=quiet)
    embedder = load_embedder(quiet=quiet) if semantic else False
    with counting("examples judged", quiet=quiet) as on_progress:
        result = filter_data(
            source,
            out,
            threshold=threshold,
            scope=scope,
            settings=changes,
            fields=fields,
            columns=columns,
            semantic=embedder,
            semantic_threshold=semantic_threshold,
            on_progress=on_progress,
        )
    _filtered(result, as_json=as_json, quiet=quiet)


def reparse(
    source: OwnRunArgument,
    out: DataDirectoryOption,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Parse and judge the stored completions of a run again, with the parser and filters of this version."""
    from explore_async.curation.filtering import reparse_run

    tell_of_runs_under_way(source, quiet=quiet)
    with counting("examples judged", quiet=quiet) as on_progress:
        result = reparse_run(source, out, on_progress=on_progress)
    _filtered(result, as_json=as_json, quiet=quiet)


def merge(  # noqa: PLR0917 - an option each
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            parser=path_or_url,
            help="two or more run directories, files of examples or folders; or the shards of a run, or their folder",
        ),
    ],
    out: DataDirectoryOption,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="an instruction with a ROUGE-L F above this is dropped; above 0, at most 1 (default: 0.7)",
        ),
    ] = None,
    tokenizer: TokenizerOption = "auto",
    fields: ComparedFieldOption = None,
    column: ColumnOption = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="join the shards that are there, though some are missing or go on")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Merge several runs or datasets without near-duplicates, or join the shards of a run to its one dataset."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.filtering import merge_data

    columns = parse_columns(column or ())
    tell_of_runs_under_way(*sources, quiet=quiet)
    with counting("examples judged", quiet=quiet) as on_progress:
        result = merge_data(
            sources,
            out,
            threshold=threshold,
            tokenizer=tokenizer,
            fields=fields,
            columns=columns,
            partial=partial,
            on_progress=on_progress,
        )
    _filtered(result, as_json=as_json, quiet=quiet)


def _filtered(result: FilterResult, *, as_json: bool, quiet: bool) -> None:
    from explore_async.curation.paraphrases import PARAPHRASE

    tell = partial(say, quiet=quiet)
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(result.dropped.items()))
    tell(
        f"{result.kept:,} of {result.candidates:,} examples kept ({result.before:,} before), compared by "
        f"{' and '.join(result.fields)}: {result.out}" + (f"; dropped: {dropped}" if dropped else "")
    )
    if (more := result.candidates - result.before) > 0:
        tell(
            f"{more:,} of the {result.candidates:,} were not in the data: the run dropped them, their tasks were full, "
            "or they came after its end"
        )
    if result.lacking or result.shorter:
        shorter = f", and {result.shorter:,} conversations no later turns" if result.shorter else ""
        tell(
            f"{result.lacking:,} new instructions have no stored answer or scores{shorter}; a run with these settings "
            "and --adopt asks for them"
        )
    if result.other_inputs:
        tell(
            f"{result.other_inputs:,} of those dropped have an input, which was not compared; "
            f"{' '.join(f'--field {name}' for name in (*result.fields, 'input'))} compares it, too"
        )
    if PARAPHRASE in result.dropped:
        tell(f"read the paraphrases before you use this: explore-async show {result.out} --dropped {PARAPHRASE}")
    if result.language_not_told:
        tell(f"language not told: {result.language_not_told:,} of those kept do not show which language they are in")
    if result.note is not None:
        tell(result.note)
    if as_json:
        counts = {"before": result.before, "candidates": result.candidates, "kept": result.kept}
        how = {"fields": result.fields, "tokenizer": result.tokenizer, "dropped_with_input": result.other_inputs}
        if result.language_not_told is not None:
            how["language_not_told"] = result.language_not_told
        print_json({"out": path_text(result.out), **counts, "dropped": dict(result.dropped), **how})
    exit_if_empty(result.kept)


def decontaminate(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    against: Annotated[
        list[Path],
        typer.Option(
            "--against", metavar="FILE", parser=path_or_url, help="a file with the rows of a benchmark; repeatable"
        ),
    ],
    benchmark_fields: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark-field",
            help="the field of a benchmark that is compared, FILE=FIELD for one file; repeatable (default: question)",
        ),
    ] = None,
    threshold: ThresholdOption = 0.7,
    ngram: Annotated[
        int, typer.Option(min=1, help="drop an example that has this number of consecutive tokens in common")
    ] = 13,
    tokenizer: TokenizerOption = "auto",
    column: ColumnOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Drop examples that are near a benchmark, by ROUGE-L or by common token sequences, and write a report."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.decontamination import decontaminate_data

    tell = partial(say, quiet=quiet)
    columns = parse_columns(column or ())
    tell_of_runs_under_way(source, quiet=quiet)
    with counting("examples compared", quiet=quiet) as on_progress:
        result = decontaminate_data(
            source,
            out,
            against,
            fields=benchmark_fields or ("question",),
            threshold=threshold,
            ngram=ngram,
            tokenizer=tokenizer,
            columns=columns,
            on_progress=on_progress,
        )
    tell(
        f"{counted(result.kept, 'example')} kept, {result.dropped:,} dropped ({result.by_rouge:,} by ROUGE-L, "
        f"{result.by_ngram:,} by {ngram} consecutive tokens): {out}; the report is {result.report}"
    )
    if result.note is not None:
        tell(result.note)
    if as_json:
        counts = {"kept": result.kept, "dropped": result.dropped, "by_benchmark": dict(result.by_benchmark)}
        print_json({"out": path_text(out), **counts, "tokenizer": result.tokenizer})
    exit_if_empty(result.kept)
