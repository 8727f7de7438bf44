"""The commands by which data comes in and goes out: import, export, sample."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.choices import Format, Marked, Method
from explore_async.cli.options import (
    AllAnswersOption,
    BadRowOption,
    ColumnOption,
    DataDirectoryOption,
    DataFileOption,
    FormatOption,
    JsonOption,
    KeepOption,
    LicenseOption,
    MarkedOption,
    ModelRevisionOption,
    PublicOption,
    PushOption,
    QuietOption,
    ReasoningOption,
    SourceArgument,
    SplitOption,
    ValidationOption,
)
from explore_async.cli.output import (
    MADE_UP,
    all_or_nothing,
    counting,
    exit_if_empty,
    path_text,
    print_json,
    say,
    telling_replaced,
)
from explore_async.cli.runs_under_way import tell_of_runs_under_way
from explore_async.errors import ConfigError
from explore_async.terminal.counts import counted

if TYPE_CHECKING:
    from explore_async.curation.export_writing import ExportResult


def import_(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataDirectoryOption,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Import data from elsewhere, to filter, sample and export it, or to explore further from its tree."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.importing import CONFIG, import_data

    tell = partial(say, quiet=quiet)
    columns, skips = parse_columns(column or ()), on_bad_row == "skip"
    tell_of_runs_under_way(source, quiet=quiet)
    with counting("examples read", quiet=quiet) as on_progress:
        result = import_data(source, out, columns=columns, skip_bad_rows=skips, on_progress=on_progress)
    for note in result.notes:
        tell(note)
    of = counted(result.examples, "example")
    if result.uninstructed:
        tell(f"with an empty instruction: {result.uninstructed:,} of {of} (--column instruction=NAME names another)")
    if result.unanswered:
        tell(f"without an answer: {result.unanswered:,} of {of} (--column output=NAME names it)")
    found = f"{counted(result.examples, 'example')} in {counted(result.tasks, 'task')}"
    tell(f"{found}: {out}; to explore further: {out / CONFIG}")
    if as_json:
        counts = {
            "examples": result.examples,
            "tasks": result.tasks,
            "bad_rows": result.bad_rows,
            "unanswered": result.unanswered,
            "uninstructed": result.uninstructed,
        }
        print_json({"out": path_text(out), **counts})
    exit_if_empty(result.examples)


def export(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataFileOption,
    shape: FormatOption = "rows",
    column: ColumnOption = None,
    validation: ValidationOption = 0.0,
    split_by: SplitOption = "example",
    seed: Annotated[int, typer.Option(help="a different seed gives a different split")] = 0,
    marked: MarkedOption = "not-bad",
    keep: KeepOption = None,
    license_name: LicenseOption = "other",
    model_revision: ModelRevisionOption = "",
    push: PushOption = None,
    public: PublicOption = False,
    reasoning: ReasoningOption = False,
    all_answers: AllAnswersOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write examples in the format of a training framework, or as a folder for `datasets.load_dataset`."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.exporting import export_data

    _check_push(out, push, shape)
    tell_of_runs_under_way(source, quiet=quiet)
    with telling_replaced(*_files(out, validation), quiet=quiet), all_or_nothing():
        result = export_data(
            source,
            out,
            shape=shape,
            columns=parse_columns(column or ()),
            validation=validation,
            split_by=split_by,
            seed=seed,
            marked=marked,
            keep=keep or (),
            license_name=license_name,
            model_revision=model_revision,
            repository=push or "",
            reasoning=reasoning,
            all_answers=all_answers,
        )
    _exported(
        result, out, shape, marked=marked, push=push, public=public, as_json=as_json, reasoning=reasoning, quiet=quiet
    )


def sample(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    out: DataFileOption,
    size: Annotated[int, typer.Option("--size", "-n", min=1, help="the number of examples; all if there are fewer")],
    method: Annotated[
        Method, typer.Option(help="proportional to the examples of each task, the same for each task, or diverse texts")
    ] = "proportional",
    cap: Annotated[
        int, typer.Option(min=1, help="a task counts at most this number of examples in the proportions")
    ] = 500,
    seed: Annotated[int, typer.Option(help="a different seed gives a different sample")] = 0,
    shape: FormatOption = "rows",
    column: ColumnOption = None,
    validation: ValidationOption = 0.0,
    split_by: SplitOption = "example",
    marked: MarkedOption = "not-bad",
    keep: KeepOption = None,
    license_name: LicenseOption = "other",
    model_revision: ModelRevisionOption = "",
    push: PushOption = None,
    public: PublicOption = False,
    reasoning: ReasoningOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a number of examples, a share from each task, none from pruned tasks."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.exporting import sample_data

    _check_push(out, push, shape)
    tell_of_runs_under_way(source, quiet=quiet)
    with telling_replaced(*_files(out, validation), quiet=quiet), all_or_nothing():
        result = sample_data(
            source,
            out,
            size,
            method=method,
            cap=cap,
            seed=seed,
            shape=shape,
            columns=parse_columns(column or ()),
            validation=validation,
            split_by=split_by,
            marked=marked,
            keep=keep or (),
            license_name=license_name,
            model_revision=model_revision,
            repository=push or "",
            reasoning=reasoning,
        )
    _exported(
        result,
        out,
        shape,
        marked=marked,
        push=push,
        public=public,
        as_json=as_json,
        size=size,
        reasoning=reasoning,
        quiet=quiet,
    )


def _files(out: Path, validation: float) -> list[Path]:
    """The files of an export that is no folder."""
    from explore_async.curation.export_files import is_folder_name, targets

    splits = ["train", "validation"] if validation else ["train"]
    return [] if is_folder_name(out) else targets(out, splits, is_folder=False)


def _check_push(out: Path, push: str | None, shape: Format) -> None:
    from explore_async.curation.collections.written_originals import ORIGINAL
    from explore_async.curation.publishing import check_push

    if push is not None:
        if shape == ORIGINAL:
            raise ConfigError(f"--push: --format {ORIGINAL} makes no data card; take another format")
        check_push(out, push)


def _exported(
    result: ExportResult,
    out: Path,
    shape: str,
    *,
    marked: Marked,
    push: str | None,
    public: bool,
    as_json: bool,
    reasoning: bool,
    quiet: bool,
    size: int = 0,
) -> None:
    tell = partial(say, quiet=quiet)
    held_out = f", {result.validation:,} for validation" if result.validation else ""
    notes = "".join(
        f"; {count:,} left out: {why}"
        for count, why in (
            (result.near_validation, "too near to the validation set"),
            (result.unpaired, "no other answer has a lower sum of scores than the one that is written"),
            (result.in_pruned_tasks, "in pruned tasks"),
            (result.by_mark, "not marked good" if marked == "good" else "marked bad"),
        )
        if count
    )
    for note in result.notes:
        tell(note)
    if result.cut:
        tell(
            f"--format {shape} cuts {counted(result.cut, 'example')} to a part of a conversation; "
            "messages and rows keep all"
        )
    if result.unanswered:
        tell(f"without an answer: {counted(result.unanswered, 'example')}")
    if result.more_answers:
        several = counted(result.more_answers, "example")
        tell(f"with several answers: {several}; the best is written, --all-answers writes all")
    if reasoning:
        tell(f"with reasoning: {counted(result.reasoning, 'example')}; those of one completion have the same")
    few = "" if result.available is None or result.available >= size else f" (only {result.available:,} available)"
    tell(f"{counted(result.train, 'example')}{held_out} in {out}{few}{notes}")
    if result.good_not_kept:
        tell(
            f"marked good, and not written, as dropped or with another text by now: "
            f"{counted(result.good_not_kept, 'example')}. An export has only what was kept"
        )
    if result.simulated:
        tell(MADE_UP)
    document = {
        "out": path_text(out),
        "simulated": result.simulated,
        "examples": result.train,
        "validation": result.validation,
        "cut": result.cut,
        "unanswered": result.unanswered,
        **({"reasoning": result.reasoning} if reasoning else {}),
    }
    if push is not None and result.train:
        from explore_async.curation.publishing import push_data

        document["url"] = push_data(out, push, public=public)
        tell(f"pushed to {document['url']}")
    left_out = {
        "near_validation": result.near_validation,
        "pruned_tasks": result.in_pruned_tasks,
        "marked": result.by_mark,
        **({"unpaired": result.unpaired} if shape.startswith("preference") else {}),
    }
    if as_json:
        print_json({**document, "left_out": left_out, "files": [path_text(path) for path in result.files]})
    exit_if_empty(result.train)
