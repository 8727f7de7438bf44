"""The commands export and sample: they write examples in the formats of trainers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from explore_async.config.given import as_list
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.curation.collections.written_originals import ORIGINAL, write_original
from explore_async.curation.export_writing import ExportOptions, ExportResult, write_export
from explore_async.curation.sampling import CAP, METHODS
from explore_async.curation.selection import Marked, Sample, Split, SplitBy, good_not_kept, left_out_by_mark
from explore_async.curation.shaping import kept_columns
from explore_async.curation.trainer_formats import SHAPES, WITH_REASONING
from explore_async.errors import ConfigError
from explore_async.storage.places import place


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
    keep: str | Sequence[str] = (),
    license_name: str = "other",
    reasoning: bool = False,
    all_answers: bool = False,
    model_revision: str = "",
    repository: str = "",
) -> ExportResult:
    """Writes all examples but those of pruned tasks and those marked bad; the files appear whole or not at all.

    `out` is a file (.jsonl, .json, .csv, .tsv, .parquet), or without a suffix a folder with Parquet and a card.
    `shape`: rows, or a format of trainers: alpaca, sharegpt, messages, prompt-completion, preference, kto; or
    explore-instruct, a folder that the published code reads. `validation`: the share of examples to hold out, single
    ones or whole tasks by `split_by`; training examples with a ROUGE-L F above 0.7 with one of these are left out.
    `marked`: "good" takes only examples that a reader marked so, "any" takes bad ones too. `keep`: columns of the
    source (id, task_path, …) that each row has beside those of its format. For the card of a folder are
    `license_name`, `model_revision`, and `repository` (owner/name), by which others load the data. `columns` maps our
    names (instruction, input, output, task) to those of a file of rows. `reasoning`: with what the model thought before
    the completion of an example, as `reasoning_content` of the row or of the assistant's message. `all_answers`: an
    instruction with several answers gives a row for each that is good enough for the run, not for the best one alone.

    Raises ConfigError for options that do not fit, DataError for a fault in the source, StorageError for what cannot be
    written.
    """
    split = Split(validation, _split_by(split_by), seed)
    return _export(
        *(source, place(out), columns),
        shape=shape, sample=None, split=split, marked=marked, keep=keep,
        license_name=license_name, model_revision=model_revision, repository=repository, reasoning=reasoning,
        all_answers=all_answers,
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
    keep: str | Sequence[str] = (),
    license_name: str = "other",
    reasoning: bool = False,
    model_revision: str = "",
    repository: str = "",
) -> ExportResult:
    """Writes a sample of `size` examples, all where there are fewer; equal seeds give equal samples.

    `method`: proportional to the examples of each task (a task weighs as if it had `cap` at most), uniform over tasks,
    or diverse (unlike one another). The other arguments are those of `export`.
    """
    if size < 1 or cap < 1:
        raise ConfigError("a sample needs a size and a cap of at least 1")
    if method not in METHODS:
        raise ConfigError(f"--method {method}: it must be one of {', '.join(METHODS)}")
    sample = Sample(size, next(known for known in METHODS if known == method), cap, seed)
    split = Split(validation, _split_by(split_by), seed)
    return _export(
        *(source, place(out), columns),
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
    keep: str | Sequence[str],
    license_name: str,
    model_revision: str,
    repository: str,
    reasoning: bool,
    all_answers: bool = False,
) -> ExportResult:
    wanted = _marked(marked)
    if reasoning and shape not in WITH_REASONING:
        raise ConfigError(f"--reasoning: --format {shape} has no place for it; {', '.join(WITH_REASONING)} have one")
    if shape == ORIGINAL:
        if out.suffix:
            raise ConfigError(f"--out {out}: --format {ORIGINAL} makes a folder; give a name without a suffix")
        if sample is not None or split.share or keep or all_answers:
            raise ConfigError(
                f"--format {ORIGINAL} writes the whole tree as it is: no sample, no split, no --keep, no --all-answers"
            )
        collection = collection_of(source, columns)
        written = write_original(collection, out, without=frozenset(left_out_by_mark(collection, wanted)))
        return ExportResult(
            train=written.examples,
            in_pruned_tasks=written.in_pruned_tasks,
            by_mark=written.left_out,
            good_not_kept=good_not_kept(collection),
            unanswered=written.unanswered,
            simulated=collection.is_simulated,
            files=(out,),
            notes=() if collection.read_as is None else (collection.read_as,),
        )
    if shape not in SHAPES:
        raise ConfigError(f"--format {shape}: it must be one of {', '.join(SHAPES)}, {ORIGINAL}")
    if not license_name.strip() or not license_name.isprintable():
        raise ConfigError("--license: give an identifier such as cc-by-4.0")
    if not 0 <= split.share < 1:
        raise ConfigError(f"--validation {split.share}: it must be a share, from 0 to below 1")
    collection = collection_of(source, columns)
    return write_export(
        ExportOptions(
            source=collection,
            out=out,
            shape=shape,
            sample=sample,
            split=split,
            marked=wanted,
            keep=kept_columns(collection, as_list(keep)),
            license_name=license_name,
            model_revision=model_revision,
            repository=repository,
            reasoning=reasoning,
            all_answers=all_answers,
        )
    )
