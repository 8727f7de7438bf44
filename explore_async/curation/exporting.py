"""The commands export and sample: they write examples in the formats of trainers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.curation.collections.originals import is_original, write_original
from explore_async.curation.collections.run_data import is_run_data
from explore_async.curation.data_card import make_card
from explore_async.curation.files.formats import Kind, output_format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.writers import RowWriter, writing
from explore_async.curation.reasoning import with_reasoning
from explore_async.curation.sampling import CAP, METHODS
from explore_async.curation.selection import BATCH, Sample, Split, SplitBy, SplitName, select
from explore_async.curation.shaping import Losses, noticed, schema_of, shaped
from explore_async.curation.trainer_formats import SHAPES, WITH_REASONING
from explore_async.curation.training_script import FOR_SHAPES, training_script
from explore_async.errors import ConfigError
from explore_async.storage.whole_files import replacing, storage_errors

ORIGINAL = "explore-instruct"
"""The format of the published Explore-Instruct code: a folder with a file for each task."""
_CARD = "README.md"
_TRAIN = "data/train.parquet"
_VALIDATION = "data/validation.parquet"
_SCRIPT = "train.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The arguments of an export, checked."""

    source: Collection
    out: Path
    shape: str
    sample: Sample | None
    split: Split
    license_name: str
    reasoning: bool


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The numbers of examples, and the files with them."""

    train: int
    validation: int = 0
    near_validation: int = 0
    """Left out of training, because they are too near to an example of validation."""
    in_pruned_tasks: int = 0
    """Left out, because their task is pruned."""
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
    """What else was noticed in the source: its columns that no format of trainers takes."""


def export_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    shape: str = "rows",
    columns: Mapping[str, str] | None = None,
    validation: float = 0.0,
    split_by: str = "example",
    seed: int = 0,
    license_name: str = "other",
    reasoning: bool = False,
) -> ExportResult:
    """Writes all examples but those of pruned tasks; the files appear whole or not at all.

    `out` is a file (.jsonl, .json, .parquet), or without a suffix a folder with Parquet and a card. `shape`: a format
    of trainers, one of SHAPES, or ORIGINAL. `validation`: the share of examples to hold out, single ones or whole tasks
    by `split_by`; training examples with a ROUGE-L F above SPLIT_THRESHOLD with one of these are left out. `columns`
    maps our names (instruction, input, output, task) to those of a file of rows. `reasoning`: with what the model
    thought before the completion of an example, as `reasoning_content` of the row or of the assistant's message.

    Raises ConfigError for options that do not fit, DataError for a fault in the source, StorageError for what cannot be
    written.
    """
    split = Split(validation, _split_by(split_by), seed)
    return _export(
        *(source, Path(out), columns),
        shape=shape,
        sample=None,
        split=split,
        license_name=license_name,
        reasoning=reasoning,
    )


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
    license_name: str = "other",
    reasoning: bool = False,
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
        shape=shape,
        sample=sample,
        split=split,
        license_name=license_name,
        reasoning=reasoning,
    )


def _split_by(text: str) -> SplitBy:
    if text not in get_args(SplitBy):
        raise ConfigError(f"--split-by {text}: it must be example or task")
    return "task" if text == "task" else "example"


def _export(
    source: DataSource,
    out: Path,
    columns: Mapping[str, str] | None,
    *,
    shape: str,
    sample: Sample | None,
    split: Split,
    license_name: str,
    reasoning: bool,
) -> ExportResult:
    if reasoning and shape not in WITH_REASONING:
        raise ConfigError(f"--reasoning: --format {shape} has no place for it; {', '.join(WITH_REASONING)} have one")
    if shape == ORIGINAL:
        if out.suffix:
            raise ConfigError(f"--out {out}: --format {ORIGINAL} makes a folder; give a name without a suffix")
        if sample is not None or split.share:
            raise ConfigError(f"--format {ORIGINAL} writes the whole tree: no sample and no split")
        return ExportResult(train=write_original(collection_of(source, columns), out), files=(out,))
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
            license_name=license_name,
            reasoning=reasoning,
        )
    )


def _write(options: ExportOptions) -> ExportResult:
    out, source = options.out, options.source
    is_folder = not out.suffix or out.suffix[1:].isdecimal()  # v1.0 is a folder
    splits: tuple[SplitName, ...] = ("train", "validation") if options.split.share else ("train",)
    targets = _targets(out, splits, is_folder=is_folder)
    kind = output_format_of(targets[0]).kind
    _check_place(options, is_folder=is_folder)
    if kind is Kind.TEXT:
        raise ConfigError(f"--out {out}: examples have several fields: .jsonl, .json or .parquet")
    selection = select(source, options.sample, options.split)
    shape = SHAPES[options.shape]
    schema = schema_of(options.shape, source, shape, reasoning=options.reasoning) if kind is Kind.PARQUET else None
    extras = _extras(options) if is_folder else {}
    files = [*targets, *(out / name for name in extras)]
    with _made(targets[0].parent), replacing([path.resolve() for path in files]) as opened:
        counts: dict[str, int] = {}
        losses = Losses()
        for split, target, file in zip(splits, targets, opened, strict=False):
            with writing(file, target, schema) as writer:
                examples = selection.examples(split)
                if options.reasoning:
                    examples = with_reasoning(examples, source)
                rows = shaped(noticed(examples, options.shape, losses), source, shape, kind)
                counts[split] = _write_rows(writer, rows)
        if options.split.share and not counts["train"]:
            raise ConfigError(f"--validation {options.split.share}: no example is left to train on")
        result = ExportResult(
            train=counts["train"],
            validation=counts.get("validation", 0),
            near_validation=len(selection.near_validation),
            in_pruned_tasks=selection.in_pruned_tasks,
            available=selection.available,
            files=tuple(files),
            cut=losses.cut,
            unanswered=losses.unanswered,
            reasoning=losses.reasoning,
            notes=() if options.shape == "rows" else tuple(source.notes),
        )
        for file, text_of_file in zip(opened[len(targets) :], extras.values(), strict=True):
            with storage_errors(out):
                file.write(text_of_file(result).encode())
    if is_folder and not options.split.share:
        with storage_errors(out):  # an earlier export held out examples that are in training now
            (out / _VALIDATION).unlink(missing_ok=True)
    return result


def _write_rows(writer: RowWriter, rows: Iterator[Row]) -> int:
    count = 0
    while batch := list(islice(rows, BATCH)):
        writer.write(batch)
        count += len(batch)
    return count


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes the folder; if the work fails, the folders that were made for it are removed."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def _check_place(options: ExportOptions, *, is_folder: bool) -> None:
    """Raises ConfigError where something other than an earlier export would be written over."""
    out, source = options.out, options.source.path
    with storage_errors(out):
        if source.is_file() and out.exists() and out.samefile(source):
            raise ConfigError(f"--out {out}: it is the source")
        around = next((path for path in (out, *out.resolve().parents) if path.is_dir() and _is_data(path)), None)
        if around is not None:
            raise ConfigError(f"--out {out}: {around} is a run or data directory; write elsewhere")
        if is_folder and out.exists():
            there = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
            inside = {f"data/{path.name}" for path in (out / "data").iterdir()} if (out / "data").is_dir() else set()
            if foreign := sorted((there | inside) - {_CARD, _SCRIPT, "data", _TRAIN, _VALIDATION}):
                raise ConfigError(f"--out {out}: {foreign[0]} in it is not from an export; choose another folder")
            if there and _CARD in there and "data" not in there:
                raise ConfigError(f"--out {out}: the {_CARD} in it is not from an export; choose another folder")
        stale = None if is_folder else _targets(out, ("train", "validation"), is_folder=False)[1]
        if stale is not None and not options.split.share and stale.exists():
            raise ConfigError(f"{stale}: an earlier export held it out, and this one does not; remove it first")


def _is_data(path: Path) -> bool:
    return is_run_data(path) or is_original(path)


def _targets(out: Path, splits: Sequence[str], *, is_folder: bool) -> list[Path]:
    if is_folder:
        return [out / "data" / f"{split}.parquet" for split in splits]
    plain = out.name.removesuffix(".gz")
    stem = Path(plain).stem
    return [out, *(out.with_name(f"{stem}.{split}{out.name[len(stem) :]}") for split in splits[1:])]


def _extras(options: ExportOptions) -> dict[str, Callable[[ExportResult], str]]:
    """The names of the texts that a folder holds beside the rows, each with a function that writes it."""
    sample, split = options.sample, options.split

    def readme(result: ExportResult) -> str:
        how = "all that were kept" if sample is None else f"a {sample.method} sample (seed {sample.seed})"
        splits = {"train": _TRAIN}
        if split.share:
            how += f"; split by {split.by}, {result.near_validation:,} too near to validation left out"
            splits["validation"] = _VALIDATION
        return make_card(
            options.source,
            splits=splits,
            exported=result.train + result.validation,
            shape=options.shape,
            license_name=options.license_name,
            how=how,
        )

    extras: dict[str, Callable[[ExportResult], str]] = {_CARD: readme}
    if options.shape in FOR_SHAPES:
        extras[_SCRIPT] = lambda _: training_script(validated=split.share > 0)
    return extras
