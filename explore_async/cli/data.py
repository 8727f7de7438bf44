"""The commands that make data out of data: import, export, sample, prune, filter, reparse, merge, decontaminate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from explore_async.cli.choices import Method, Scope
from explore_async.cli.options import (
    BadRowOption,
    ColumnOption,
    DataDirectoryOption,
    DataFileOption,
    FilterSetOption,
    FormatOption,
    JsonOption,
    LicenseOption,
    RunArgument,
    SourceArgument,
    SplitOption,
    ThresholdOption,
    TokenizerOption,
    ValidationOption,
)
from explore_async.cli.output import all_or_nothing, counting, exit_if_empty, path_text, print_json, say

if TYPE_CHECKING:
    from explore_async.curation.filtering import Filtered

_SHOWN = 20


def import_(
    source: SourceArgument,
    out: DataDirectoryOption,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    as_json: JsonOption = False,
) -> None:
    """Take data from elsewhere in: to filter, sample and export it, or to explore on from its tree."""
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.collections.open import opened
    from explore_async.curation.importing import CONFIG, import_collection

    collection = opened(source, columns_from(column or ()), skip_bad_rows=on_bad_row == "skip")
    with counting("examples read") as told:
        found = import_collection(collection, out, told=told)
    for note in found.notes:
        say(note)
    if found.bad > len(found.notes):
        say(f"… and {found.bad - len(found.notes):,} more")
    say(f"{found.examples:,} examples in {found.tasks:,} tasks: {out}; to explore on: {out / CONFIG}")
    if as_json:
        print_json({"out": path_text(out), "examples": found.examples, "tasks": found.tasks, "bad_rows": found.bad})
    exit_if_empty(found.examples)


def export(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataFileOption,
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


def sample(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataFileOption,
    size: Annotated[int, typer.Option("--size", "-n", min=1, help="examples; all where there are fewer")],
    method: Annotated[
        Method, typer.Option(help="proportional (to the tasks' counts), uniform, or diverse (unlike one another)")
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

    with all_or_nothing():
        found = export(Export(columns=columns_from(column or ()), license_name=license_name, **asked))
    held_out = f", {found.validation:,} for validation" if asked["validation"] else ""
    notes = "".join(
        f"; {count:,} left out: {why}"
        for count, why in ((found.near, "too near to validation"), (found.pruned, "of pruned tasks"))
        if count
    )
    few = "" if asked.get("size") is None or found.there >= asked["size"] else f" (only {found.there:,} are there)"
    say(f"{found.train:,} examples{held_out} in {asked['out']}{few}{notes}")
    document = {"out": path_text(asked["out"]), "examples": found.train, "validation": found.validation}
    left_out = {"near_validation": found.near, "pruned_tasks": found.pruned}
    if as_json:
        print_json({**document, "left_out": left_out, "files": [path_text(path) for path in found.files]})
    exit_if_empty(found.train)


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
        say(f"{one.id} {one.name}  ({one.score:.2f} with {one.nearest} {one.nearest_name})")
    if len(found) > _SHOWN:
        say(f"… and {len(found) - _SHOWN:,} more")
    say(f"{len(found):,} tasks pruned: {source / PRUNED_FILE} (delete it to take them back)")
    if as_json:
        print_json({"pruned": [asdict(one) for one in found]})


def filter_(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="ROUGE-L F above which an instruction is dropped")
    ] = None,
    scope: Annotated[Scope | None, typer.Option(help="compared within: run, domain or task")] = None,
    settings: FilterSetOption = None,
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
    with counting("examples judged") as told:
        found = filter_collection(collection, out, changes, told=told)
    _filtered(found, as_json=as_json)


def reparse(source: RunArgument, out: DataDirectoryOption, as_json: JsonOption = False) -> None:
    """Read a run's stored answers once more with the parser and filters of this version."""
    from explore_async.curation.filtering import reparse

    with counting("examples judged") as told:
        found = reparse(source, out, told=told)
    _filtered(found, as_json=as_json)


def merge(  # noqa: PLR0917 - an option each
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="as of export, two or more")],
    out: DataDirectoryOption,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="ROUGE-L F above which an instruction is dropped")
    ] = 0.7,
    tokenizer: TokenizerOption = "rouge",
    column: ColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one of several runs or data sets, without near-duplicates; each example says where it came from."""
    from explore_async.curation.collections.columns import columns_from
    from explore_async.curation.filtering import merge_files

    with counting("examples judged") as told:
        found = merge_files(
            sources, out, threshold=threshold, tokenizer=tokenizer, columns=columns_from(column or ()), told=told
        )
    _filtered(found, as_json=as_json)


def _filtered(found: Filtered, *, as_json: bool) -> None:
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(found.dropped.items()))
    say(
        f"{found.kept:,} of {found.candidates:,} examples kept ({found.before:,} before): {found.out}"
        + (f"; dropped: {dropped}" if dropped else "")
    )
    document = {"out": path_text(found.out), "before": found.before, "candidates": found.candidates, "kept": found.kept}
    if as_json:
        print_json({**document, "dropped": dict(found.dropped)})
    exit_if_empty(found.kept)


def decontaminate(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    against: Annotated[list[Path], typer.Option("--against", metavar="FILE", help="a benchmark's rows; repeatable")],
    benchmark_fields: Annotated[
        list[str] | None, typer.Option("--benchmark-field", help="what to stay away from in them (default: question)")
    ] = None,
    threshold: ThresholdOption = 0.7,
    ngram: Annotated[int, typer.Option(min=1, help="so many tokens in a row are too many in common")] = 13,
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
    with counting("examples compared") as told:
        found = decontaminate(collection, out, asked, told=told)
    say(
        f"{found.kept:,} examples kept, {found.dropped:,} dropped ({found.by_rouge:,} by ROUGE-L, {found.by_ngram:,} by"
        f" {ngram} tokens in a row): {out}; the report is {out / REPORT}"
    )
    document = {
        "out": path_text(out),
        "kept": found.kept,
        "dropped": found.dropped,
        "by_benchmark": dict(found.by_benchmark),
    }
    if as_json:
        print_json(document)
    exit_if_empty(found.kept)
