"""Writes the files of an export: rows of each split, and the card and the script of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from explore_async.curation.collections.collection import Collection, ExampleRow, printable_path
from explore_async.curation.data_card import CardOptions, ShownRows, make_card
from explore_async.curation.export_files import (
    CARD,
    FOR_TRAINERS,
    SCRIPT,
    TRAIN,
    VALIDATION,
    check_place,
    is_folder_name,
    targets,
)
from explore_async.curation.files.batching import batches
from explore_async.curation.files.formats import TABLES, Kind, format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.writers import RowWriter, writing
from explore_async.curation.reasoning import with_reasoning
from explore_async.curation.selection import BATCH, Marked, Sample, Selection, Split, SplitName, good_not_kept, select
from explore_async.curation.several_answers import in_pairs, with_all_answers
from explore_async.curation.shaping import Losses, flat_columns, noticed, schema_of, shaped, with_more
from explore_async.curation.trainer_configs import left_out, trainer_configs
from explore_async.curation.trainer_formats import PAIRS, SHAPES
from explore_async.curation.training_script import FOR_SHAPES, training_script
from explore_async.errors import ConfigError
from explore_async.exploration.scores import ScoreCounts
from explore_async.storage.whole_files import made, replacing, storage_errors

_Text: TypeAlias = Callable[["ExportResult", ShownRows, ScoreCounts], str]
"""A function that writes a file of text beside the rows, given what was written."""


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
    all_answers: bool
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
    good_not_kept: int = 0
    """Marked good, though they are not among the examples: dropped, or with another text by now."""
    available: int | None = None
    """Number of examples that a sample was drawn from; None without a sample."""
    files: tuple[Path, ...] = ()
    cut: int = 0
    """Conversations of which the format holds a part only."""
    unanswered: int = 0
    """Examples with an empty output."""
    more_answers: int = 0
    """Examples that have answers beside the one that is written."""
    unpaired: int = 0
    """Left out of pairs of answers, because no other answer has a lower sum of scores than their output."""
    reasoning: int = 0
    """Examples with the reasoning of their completion, where it was asked for."""
    simulated: bool = False
    """True when a simulated server, without a model, wrote any of the source."""
    notes: tuple[str, ...] = ()
    """Notes: how the source was read, its columns that no format of trainers takes, a config that is left out."""


def write_export(options: ExportOptions) -> ExportResult:
    """Writes the files, whole or not at all. Raises ConfigError for a place or a share that does not fit."""
    out, source = options.out, options.source
    is_folder = is_folder_name(out)
    splits: tuple[SplitName, ...] = ("train", "validation") if options.split.share else ("train",)
    places = targets(out, splits, is_folder=is_folder)
    kind = _kind_of(places[0], out)
    check_place(out, source.path, is_folder=is_folder, has_validation=bool(options.split.share))
    selection = select(source, options.sample, options.split, options.marked)

    losses, shown = Losses(), ShownRows()

    def taken(split: SplitName) -> Iterator[ExampleRow]:
        examples = selection.examples(split)
        if options.shape in PAIRS:
            return in_pairs(examples, losses)
        return with_all_answers(examples, source) if options.all_answers else examples

    def with_thoughts(split: SplitName) -> Iterator[ExampleRow]:
        return with_reasoning(taken(split), source) if options.reasoning else taken(split)

    shape = with_more(SHAPES[options.shape], options.keep, source.marks)
    schema = None
    if kind is Kind.PARQUET:
        examples = chain.from_iterable(map(taken, splits))
        schema = schema_of(options.shape, source, examples, shape, options.keep, reasoning=options.reasoning)
    elif kind in TABLES:
        examples = chain.from_iterable(map(with_thoughts, splits))
        added = () if options.shape == "rows" else options.keep  # rows have them all the same
        schema = flat_columns(source, shaped(examples, source, shape, kind), out, added)
    losses.unpaired = 0  # each was counted once for the schema
    columns = schema.names if is_folder and schema is not None else []
    extras = _extras(options, selection, columns) if is_folder else {}
    config_left_out = left_out(options.shape, columns) if is_folder else ""
    files = [*places, *(out / name for name in extras)]
    with made(places[0].parent), replacing([path.resolve() for path in files]) as opened:
        counts: dict[str, int] = {}
        for split, target, file in zip(splits, places, opened, strict=False):
            with writing(file, target, schema) as writer:
                rows = shaped(noticed(with_thoughts(split), source, options.shape, losses), source, shape, kind)
                counts[split] = _write_rows(writer, rows, shown)
        if options.split.share and not counts["train"]:
            raise ConfigError(f"--validation {options.split.share}: no example is left to train on")
        result = ExportResult(
            train=counts["train"],
            validation=counts.get("validation", 0),
            near_validation=len(selection.near_validation),
            in_pruned_tasks=selection.in_pruned_tasks,
            by_mark=len(selection.by_mark),
            good_not_kept=good_not_kept(source),
            available=selection.available,
            files=tuple(files),
            cut=losses.cut,
            unanswered=losses.unanswered,
            more_answers=losses.more_answers,
            unpaired=losses.unpaired,
            reasoning=losses.reasoning,
            simulated=source.is_simulated,
            notes=tuple(filter(None, [*_notes(source, options.shape), config_left_out])),
        )
        for file, text_of_file in zip(opened[len(places) :], extras.values(), strict=True):
            with storage_errors(out):
                file.write(text_of_file(result, shown, losses.scores).encode())
    if is_folder:
        with storage_errors(out):  # an earlier export had another format, or held out examples that are in training now
            for name in {*FOR_TRAINERS, VALIDATION} - {str(path.relative_to(out)) for path in files}:
                (out / name).unlink(missing_ok=True)
    return result


def _kind_of(place: Path, out: Path) -> Kind:
    with suppress(ConfigError):
        if (kind := format_of(place).kind) is not Kind.TEXT:
            return kind
    raise ConfigError(
        f"--out {out}: let the name end in .jsonl, .ndjson, .json, .csv or .tsv, each also with .gz or .zst, or in "
        ".parquet; without such an end it is a folder"
    )


def _notes(source: Collection, shape: str) -> Sequence[str | None]:
    return source.notes if shape != "rows" else [source.read_as]


def _write_rows(writer: RowWriter, rows: Iterator[Row], shown: ShownRows) -> int:
    count = 0
    for batch in batches(rows, BATCH, Row.size):
        writer.write(batch)
        shown.take(row.value for row in batch)
        count += len(batch)
    return count


def _extras(options: ExportOptions, selection: Selection, columns: Sequence[str]) -> dict[str, _Text]:
    """The names of the texts that a folder holds beside the rows, each with a function that writes it."""
    sample, split = options.sample, options.split
    has_script = options.shape in FOR_SHAPES
    configs = trainer_configs(options.shape, columns, validated=split.share > 0)

    def card(result: ExportResult, shown: ShownRows, scores: ScoreCounts) -> str:
        left_out = result.by_mark or result.near_validation or result.in_pruned_tasks or result.unpaired
        whose = "those that were kept" if left_out else "all that were kept"
        all_kept = f"all answers of {whose}" if options.all_answers else whose
        how = all_kept if sample is None else f"a {sample.method} sample (seed {sample.seed})"
        splits = {"train": TRAIN}
        if split.share:
            how += f"; split by {split.by}, {result.near_validation:,} too near to validation left out"
            splits["validation"] = VALIDATION
        for count, what in (
            (result.by_mark, "left out by the marks of readers"),
            (result.in_pruned_tasks, "left out with their pruned tasks"),
            (result.unpaired, "left out without a pair of answers"),
            (result.cut, "cut to a part of their conversation"),
            (result.unanswered, "without an answer"),
        ):
            how += f"; {count:,} {what}" if count else ""
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
                configs=sorted(configs),
                marked=selection.count_marks(),
                scores=scores.by_aspect(),
            ),
        )

    extras: dict[str, _Text] = {CARD: card}
    if has_script:
        extras[SCRIPT] = lambda _result, _shown, _scores: training_script(validated=split.share > 0)
    return extras | {name: _always(text) for name, text in configs.items()}


def _always(text: str) -> _Text:
    return lambda _result, _shown, _scores: text
