"""The commands export and sample: they write examples in the formats of trainers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

from explore_async.curation.collections.collection import Collection, printable_path
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.curation.collections.originals import write_original
from explore_async.curation.data_card import CardOptions, ShownRows, make_card
from explore_async.curation.export_files import (
    CARD,
    SCRIPT,
    TRAIN,
    VALIDATION,
    check_place,
    is_folder_name,
    made,
    targets,
)
from explore_async.curation.files.formats import Kind, output_format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.writers import RowWriter, writing
from explore_async.curation.reasoning import with_reasoning
from explore_async.curation.sampling import CAP, METHODS
from explore_async.curation.selection import (
    BATCH,
    Marked,
    Sample,
    Selection,
    Split,
    SplitBy,
    SplitName,
    left_out_by_mark,
    select,
)
from explore_async.curation.shaping import Losses, kept_columns, noticed, schema_of, shaped, with_more
from explore_async.curation.trainer_formats import SHAPES, WITH_REASONING
from explore_async.curation.training_script import FOR_SHAPES, training_script
from explore_async.errors import ConfigError
from explore_async.storage.whole_files import replacing, storage_errors

ORIGINAL = "explore-instruct"
"""The format of the published Explore-Instruct code: a folder with a file for each task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The arguments of an export, checked."""

    source: Collection
    out: Path
    shape: str
    sample: Sample | None
    split: Split
    marked: Marked
    keep: tuple[str, ...]
    """Columns of the source that each row has beside those of its format."""
    license_name: str
    reasoning: bool
    model_revision: str
    repository: str
    """The name by which others load the data; empty if it stays here."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The numbers of examples, and the files with them."""

    train: int
    validation: int = 0
    near_validation: int = 0
    """Left out of training, because they are too near to an example of validation."""
    in_pruned_tasks: int = 0
    """Left out, because their task is pruned."""
    by_mark: int = 0
    """Left out, because of the mark of a reader."""
    available: int | None = None
    """Number of examples that a sample was drawn from; None without a sample."""
    files: tuple[Path, ...] = ()
    cut: int = 0
    """Conversations of which the format holds a part only."""
    unanswered: int = 0
    """Examples with an empty output."""
    reasoning: int = 0
    """Examples with the reasoning of their completion, where it was asked for."""
    notes: tuple[str, ...] = ()
    """Notes on the source: its columns that no format of trainers takes."""


def export_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    shape: str = "rows",
    columns: Mapping[str, str] | None = None,
    validation: float = 0.0,
    split_by: str = "example",
    seed: int = 0,
    marked: str = "not-bad",
    keep: Sequence[str] = (),
    license_name: str = "other",
    reasoning: bool = False,
    model_revision: str = "",
    repository: str = "",
) -> ExportResult:
    """Writes all examples but those of pruned tasks and those marked bad; the files appear whole or not at all.

    `out` is a file (.jsonl, .json, .parquet), or without a suffix a folder with Parquet and a card. `shape`: a format
    of trainers, one of SHAPES, or ORIGINAL. `validation`: the share of examples to hold out, single ones or whole tasks
    by `split_by`; training examples with a ROUGE-L F above SPLIT_THRESHOLD with one of these are left out. `marked`:
    "good" takes only examples that a reader marked so, "any" takes bad ones too. `keep`: columns of the source (id,
    task_path, …) that each row has beside those of its format. For the card of a folder are `license_name`,
    `model_revision`, and `repository` (owner/name), by which others load the data. `columns` maps our names
    (instruction, input, output, task) to those of a file of rows. `reasoning`: with what the model thought before the
    completion of an example, as `reasoning_content` of the row or of the assistant's message.

    Raises ConfigError for options that do not fit, DataError for a fault in the source, StorageError for what cannot be
    written.
    """
    split = Split(validation, _split_by(split_by), seed)
    return _export(
        *(source, Path(out), columns),
        shape=shape, sample=None, split=split, marked=marked, keep=keep,
        license_name=license_name, model_revision=model_revision, repository=repository, reasoning=reasoning,
    )  # fmt: skip


def sample_data(
    source: DataSource,
    out: str | os.PathLike[str],
    size: int,
    *,
    method: str = "proportional",
    cap: int = CAP,
    seed: int = 0,
    shape: str = "rows",
    columns: Mapping[str, str] | None = None,
    validation: float = 0.0,
    split_by: str = "example",
    marked: str = "not-bad",
    keep: Sequence[str] = (),
    license_name: str = "other",
    reasoning: bool = False,
    model_revision: str = "",
    repository: str = "",
) -> ExportResult:
    """Writes a sample of `size` examples, all where there are fewer; equal seeds give equal samples.

    `method`: proportional to the examples of each task (a task weighs as if it had `cap` at most), uniform over tasks,
    or diverse (unlike one another). Else as `export_data`.
    """
    if size < 1 or cap < 1:
        raise ConfigError("a sample needs a size and a cap of at least 1")
    if method not in METHODS:
        raise ConfigError(f"--method {method}: it must be one of {', '.join(METHODS)}")
    sample = Sample(size, next(known for known in METHODS if known == method), cap, seed)
    split = Split(validation, _split_by(split_by), seed)
    return _export(
        *(source, Path(out), columns),
        shape=shape, sample=sample, split=split, marked=marked, keep=keep,
        license_name=license_name, model_revision=model_revision, repository=repository, reasoning=reasoning,
    )  # fmt: skip


def _split_by(text: str) -> SplitBy:
    if text not in get_args(SplitBy):
        raise ConfigError(f"--split-by {text}: it must be example or task")
    return "task" if text == "task" else "example"


def _marked(text: str) -> Marked:
    known: tuple[Marked, ...] = get_args(Marked)
    if text not in known:
        raise ConfigError(f"--marked {text}: it must be one of {', '.join(known)}")
    return next(name for name in known if name == text)


def _export(
    source: DataSource,
    out: Path,
    columns: Mapping[str, str] | None,
    *,
    shape: str,
    sample: Sample | None,
    split: Split,
    marked: str,
    keep: Sequence[str],
    license_name: str,
    model_revision: str,
    repository: str,
    reasoning: bool,
) -> ExportResult:
    wanted = _marked(marked)
    if reasoning and shape not in WITH_REASONING:
        raise ConfigError(f"--reasoning: --format {shape} has no place for it; {', '.join(WITH_REASONING)} have one")
    if shape == ORIGINAL:
        if out.suffix:
            raise ConfigError(f"--out {out}: --format {ORIGINAL} makes a folder; give a name without a suffix")
        if sample is not None or split.share or keep:
            raise ConfigError(f"--format {ORIGINAL} writes the whole tree as it is: no sample, no split, no --keep")
        collection = collection_of(source, columns)
        written = write_original(collection, out, without=frozenset(left_out_by_mark(collection, wanted)))
        return ExportResult(
            train=written.examples, in_pruned_tasks=written.in_pruned_tasks, by_mark=written.left_out, files=(out,)
        )
    if shape not in SHAPES:
        raise ConfigError(f"--format {shape}: it must be one of {', '.join(SHAPES)}, {ORIGINAL}")
    if not license_name.strip() or not license_name.isprintable():
        raise ConfigError("--license: give an identifier such as cc-by-4.0")
    if not 0 <= split.share < 1:
        raise ConfigError(f"--validation {split.share}: it must be a share, from 0 to below 1")
    collection = collection_of(source, columns)
    return _write(
        ExportOptions(
            source=collection,
            out=out,
            shape=shape,
            sample=sample,
            split=split,
            marked=wanted,
            keep=kept_columns(collection, keep),
            license_name=license_name,
            model_revision=model_revision,
            repository=repository,
            reasoning=reasoning,
        )
    )


def _write(options: ExportOptions) -> ExportResult:
    out, source = options.out, options.source
    is_folder = is_folder_name(out)
    splits: tuple[SplitName, ...] = ("train", "validation") if options.split.share else ("train",)
    places = targets(out, splits, is_folder=is_folder)
    kind = output_format_of(places[0]).kind
    check_place(out, source.path, is_folder=is_folder, has_validation=bool(options.split.share))
    if kind is Kind.TEXT:
        raise ConfigError(f"--out {out}: its suffix must be .jsonl, .json or .parquet")
    selection = select(source, options.sample, options.split, options.marked)
    shape = with_more(SHAPES[options.shape], options.keep, source.marks)
    schema = (
        schema_of(options.shape, source, shape, options.keep, reasoning=options.reasoning)
        if kind is Kind.PARQUET
        else None
    )
    extras = _extras(options, selection) if is_folder else {}
    files = [*places, *(out / name for name in extras)]
    with made(places[0].parent), replacing([path.resolve() for path in files]) as opened:
        counts: dict[str, int] = {}
        losses, shown = Losses(), ShownRows()
        for split, target, file in zip(splits, places, opened, strict=False):
            with writing(file, target, schema) as writer:
                examples = selection.examples(split)
                if options.reasoning:
                    examples = with_reasoning(examples, source)
                rows = shaped(noticed(examples, options.shape, losses), source, shape, kind)
                counts[split] = _write_rows(writer, rows, shown)
        if options.split.share and not counts["train"]:
            raise ConfigError(f"--validation {options.split.share}: no example is left to train on")
        result = ExportResult(
            train=counts["train"],
            validation=counts.get("validation", 0),
            near_validation=len(selection.near_validation),
            in_pruned_tasks=selection.in_pruned_tasks,
            by_mark=len(selection.by_mark),
            available=selection.available,
            files=tuple(files),
            cut=losses.cut,
            unanswered=losses.unanswered,
            reasoning=losses.reasoning,
            notes=() if options.shape == "rows" else tuple(source.notes),
        )
        for file, text_of_file in zip(opened[len(places) :], extras.values(), strict=True):
            with storage_errors(out):
                file.write(text_of_file(result, shown).encode())
    if is_folder and not options.split.share:
        with storage_errors(out):  # an earlier export held out examples that are in training now
            (out / VALIDATION).unlink(missing_ok=True)
    return result


def _write_rows(writer: RowWriter, rows: Iterator[Row], shown: ShownRows) -> int:
    count = 0
    while batch := list(islice(rows, BATCH)):
        writer.write(batch)
        shown.take(row.value for row in batch)
        count += len(batch)
    return count


def _extras(options: ExportOptions, selection: Selection) -> dict[str, Callable[[ExportResult, ShownRows], str]]:
    """The names of the texts that a folder holds beside the rows, each with a function that writes it."""
    sample, split = options.sample, options.split
    has_script = options.shape in FOR_SHAPES

    def card(result: ExportResult, shown: ShownRows) -> str:
        how = "all that were kept" if sample is None else f"a {sample.method} sample (seed {sample.seed})"
        splits = {"train": TRAIN}
        if split.share:
            how += f"; split by {split.by}, {result.near_validation:,} too near to validation left out"
            splits["validation"] = VALIDATION
        if result.by_mark:
            how += f"; {result.by_mark:,} left out by the marks of readers"
        return make_card(
            options.source,
            CardOptions(
                splits=splits,
                exported=result.train + result.validation,
                shape=options.shape,
                license_name=options.license_name,
                how=how,
                shown=shown.some(),
                repository=options.repository or printable_path(options.out.resolve().name),
                model_revision=options.model_revision,
                has_script=has_script,
                marked=selection.count_marks(),
            ),
        )

    extras: dict[str, Callable[[ExportResult, ShownRows], str]] = {CARD: card}
    if has_script:
        extras[SCRIPT] = lambda _result, _shown: training_script(validated=split.share > 0)
    return extras
