"""`explore-async export` and `sample`: examples into what trainers read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from explore_async.curation.card import card
from explore_async.curation.collections.collection import OWN_COLUMNS, Collection, Example
from explore_async.curation.collections.open import opened
from explore_async.curation.collections.originals import is_original, write_original
from explore_async.curation.collections.run_data import is_run_data
from explore_async.curation.files.fields import FieldError
from explore_async.curation.files.formats import Kind, format_of
from explore_async.curation.files.row import Row
from explore_async.curation.files.writers import writing
from explore_async.curation.sampling import CAP, METHODS, Method, farthest_first, held_out, sampled
from explore_async.curation.shapes import SHAPES, Shape
from explore_async.curation.training_script import FOR_SHAPES, training_script
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import replacing, storage_errors
from rouge_kernels import TOKENIZERS, DedupIndex

ORIGINAL = "explore-instruct"
SPLIT_THRESHOLD = 0.7
SplitBy = Literal["example", "task"]
_BATCH_ROWS = 4096
_CARD = "README.md"
_TRAIN = "data/train.parquet"
_VALIDATION = "data/validation.parquet"
_SCRIPT = "train.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What is asked for. `out` without a suffix is a folder with Parquet and a card. `size` None takes all.

    `validation`: the share to hold out; training examples near one of these (ROUGE-L F above SPLIT_THRESHOLD between
    the instructions, with their inputs) are left out.
    """

    source: Path
    out: Path
    shape: str = "rows"
    columns: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    method: str = "proportional"
    cap: int = CAP
    seed: int = 0
    validation: float = 0.0
    split_by: str = "example"
    license_name: str = "other"


@dataclass(slots=True)
class Exported:
    """How many examples went where. `near`: left out of training, being too near to validation; `pruned`: their task
    was pruned.
    """

    train: int = 0
    validation: int = 0
    near: int = 0
    pruned: int = 0
    there: int = 0
    """Of a sample: how many it was drawn from."""
    files: list[Path] = field(default_factory=list)


def export(asked: Export) -> Exported:
    """Writes the examples; the files appear whole or not at all.

    ConfigError for what cannot be done, DataError for what is in the source, StorageError for what cannot be written.
    """
    if asked.shape == ORIGINAL:
        return _export_original(asked)
    shape = SHAPES.get(asked.shape)
    if shape is None:
        raise ConfigError(f"--format {asked.shape}: it is one of {', '.join(SHAPES)}, {ORIGINAL}")
    _check(asked)
    source = opened(asked.source, asked.columns)
    folder = not asked.out.suffix or asked.out.suffix[1:].isdecimal()  # v1.0 is a folder
    splits = ("train", "validation") if asked.validation else ("train",)
    targets = _targets(asked.out, splits, folder=folder)
    kind = format_of(targets[0]).kind
    _check_place(asked, folder=folder)
    if kind is Kind.TEXT:
        raise ConfigError(f"--out {asked.out}: examples have several fields: .jsonl, .json or .parquet")
    found = Exported()
    chosen = _Chosen(source, asked, found)
    schema = _schema(asked.shape, source, shape) if kind is Kind.PARQUET else None
    extras = _extras(asked, folder=folder)
    found.files = [*targets, *(asked.out / name for name in extras)]
    with _made(targets[0].parent), replacing([path.resolve() for path in found.files]) as files:
        with ExitStack() as stack:
            writers = [
                stack.enter_context(writing(file, path, schema)) for file, path in zip(files, targets, strict=False)
            ]
            for split, writer in zip(splits, writers, strict=True):
                shaped = _shaped(chosen.examples(split), source, shape)
                while batch := list(islice(shaped, _BATCH_ROWS)):
                    writer.write(batch)
                    setattr(found, split, getattr(found, split) + len(batch))
        if asked.validation and not found.train:
            raise ConfigError(f"--validation {asked.validation}: nothing is left to train on")
        for file, make in zip(files[len(targets) :], extras.values(), strict=True):
            with storage_errors(asked.out):
                file.write(make(source, found).encode())
    if folder and not asked.validation:
        with storage_errors(asked.out):  # of an earlier export: what is held out of nothing would mislead
            (asked.out / _VALIDATION).unlink(missing_ok=True)
    return found


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder exists; if the work fails, those that were made for it are gone again."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for one in new:
                one.rmdir()
        raise


def _check_place(asked: Export, *, folder: bool) -> None:
    """Nothing that is not an earlier export is written over. Raises ConfigError."""
    out = asked.out
    with storage_errors(out):
        if asked.source.is_file() and out.exists() and out.samefile(asked.source):
            raise ConfigError(f"--out {out}: it is the source")
        around = next((one for one in (out, *out.resolve().parents) if one.is_dir() and _is_data(one)), None)
        if around is not None:
            raise ConfigError(f"--out {out}: {around} is a run or data of ours; write elsewhere")
        if folder and out.exists():
            there = {one.name for one in out.iterdir()} if out.is_dir() else {out.name}
            inside = {f"data/{one.name}" for one in (out / "data").iterdir()} if (out / "data").is_dir() else set()
            if foreign := sorted((there | inside) - {_CARD, _SCRIPT, "data", _TRAIN, _VALIDATION}):
                raise ConfigError(f"--out {out}: {foreign[0]} in it is not of an export; choose another folder")
            if there and _CARD in there and "data" not in there:
                raise ConfigError(f"--out {out}: the {_CARD} in it is not of an export; choose another folder")
        stale = None if folder else _targets(out, ("train", "validation"), folder=False)[1]
        if stale is not None and not asked.validation and stale.exists():
            raise ConfigError(f"{stale}: held out of an earlier export, and not of this one; remove it first")


def _is_data(path: Path) -> bool:
    return is_run_data(path) or is_original(path)


def _export_original(asked: Export) -> Exported:
    if asked.out.suffix:
        raise ConfigError(f"--out {asked.out}: --format {ORIGINAL} makes a folder; give a name without a suffix")
    if asked.size is not None or asked.validation:
        raise ConfigError(f"--format {ORIGINAL} writes the whole tree: no sample and no split")
    return Exported(train=write_original(opened(asked.source, asked.columns), asked.out), files=[asked.out])


def _check(asked: Export) -> None:
    if asked.size is not None and asked.method not in METHODS:
        raise ConfigError(f"--method {asked.method}: it is one of {', '.join(METHODS)}")
    if not asked.license_name.strip() or not asked.license_name.isprintable():
        raise ConfigError("--license: an identifier such as cc-by-4.0")
    if not 0 <= asked.validation < 1:
        raise ConfigError(f"--validation {asked.validation}: a share, from 0 to below 1")
    if asked.split_by not in get_args(SplitBy):
        raise ConfigError(f"--split-by {asked.split_by}: it is example or task")


def _targets(out: Path, splits: Sequence[str], *, folder: bool) -> list[Path]:
    if folder:
        return [out / "data" / f"{split}.parquet" for split in splits]
    plain = out.name.removesuffix(".gz")
    stem = Path(plain).stem
    return [out, *(out.with_name(f"{stem}.{split}{out.name[len(stem) :]}") for split in splits[1:])]


class _Chosen:
    """Which examples go where: a pass over the ids settles it, and later passes over the rows follow it."""

    def __init__(self, source: Collection, asked: Export, found: Exported) -> None:
        self._source = source
        self._pruned = source.pruned
        self._found = found
        self._sample: set[str] | None = None
        if asked.size is not None:
            self._sample = self._sampled(asked.size, asked)
        self._validation: set[str] = set()
        self._index: DedupIndex | None = None
        if asked.validation:
            ids = ((str(one["id"]), str(one["task_id"])) for one in self._taken())
            by: SplitBy = "task" if asked.split_by == "task" else "example"
            self._validation = held_out(ids, asked.validation, by, asked.seed)
            if not self._validation:
                raise ConfigError(f"--validation {asked.validation}: of so few examples that is none")
            self._index = DedupIndex(SPLIT_THRESHOLD, TOKENIZERS["unicode"])
            for batch in _batches(self.examples("validation")):
                self._index.add([_asked(one) for one in batch])

    def examples(self, split: str) -> Iterator[Example]:
        if split == "validation":
            yield from (one for one in self._taken() if one["id"] in self._validation)
            return
        training = (one for one in self._taken() if one["id"] not in self._validation)
        if self._index is None:
            yield from training
            return
        self._found.near = 0
        for batch in _batches(training):
            for one, far in zip(batch, self._index.look_up([_asked(one) for one in batch]).kept, strict=True):
                if far:
                    yield one
                else:
                    self._found.near += 1

    def _taken(self) -> Iterator[Example]:
        self._found.pruned = 0
        for one in self._source.examples():
            if one["task_id"] in self._pruned:
                self._found.pruned += 1
            elif self._sample is None or one["id"] in self._sample:
                yield one

    def _sampled(self, size: int, asked: Export) -> set[str]:
        method: Method = next(one for one in METHODS if one == asked.method)
        texts: dict[str, str] = {}
        ids: list[tuple[str, str]] = []
        for one in self._taken():
            ids.append((one["id"], one["task_id"]))
            if method == "diverse":
                texts[one["id"]] = one["instruction"]
        self._found.there = len(ids)
        if method != "diverse":
            return sampled(ids, size, method, asked.seed, asked.cap)

        def pick(candidates: Sequence[str], wanted: int) -> list[str]:
            places = farthest_first([texts[one] for one in candidates], wanted, TOKENIZERS["unicode"])
            return [candidates[place] for place in places]

        return sampled(ids, size, method, asked.seed, asked.cap, pick=pick)


def _asked(example: Example) -> str:
    return f"{example['instruction']}\n{example['input']}" if example["input"] else str(example["instruction"])


def _batches(examples: Iterator[Example]) -> Iterator[list[Example]]:
    while batch := list(islice(examples, _BATCH_ROWS)):
        yield batch


def _shaped(examples: Iterator[Example], source: Collection, shape: Shape) -> Iterator[Row]:
    for number, example in enumerate(examples, start=1):
        try:
            value = shape(example)
            yield Row(number, Kind.JSON_LINES, value, orjson.dumps(value))
        except (FieldError, TypeError) as error:
            raise DataError(f"{source.path}, example {example['id']}: {error}") from error


def _extras(asked: Export, *, folder: bool) -> dict[str, Callable[[Collection, Exported], str]]:
    """What a folder holds beside the rows."""
    if not folder:
        return {}

    def readme(source: Collection, found: Exported) -> str:
        how = "all that were kept" if asked.size is None else f"sampled {asked.method} (seed {asked.seed})"
        splits = {"train": "data/train.parquet"}
        if asked.validation:
            how += f"; split by {asked.split_by}, {found.near:,} too near to validation left out"
            splits["validation"] = "data/validation.parquet"
        return card(
            source,
            splits=splits,
            exported=found.train + found.validation,
            shape=asked.shape,
            license_name=asked.license_name,
            how=how,
        )

    extras: dict[str, Callable[[Collection, Exported], str]] = {_CARD: readme}
    if asked.shape in FOR_SHAPES:
        extras[_SCRIPT] = lambda _source, _found: training_script(validated=asked.validation > 0)
    return extras


def _schema(name: str, source: Collection, shape: Shape) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: pip install 'explore-async[parquet]'") from error
    string = pa.string()
    said = pa.list_(pa.struct({"role": string, "content": string}))
    columns: dict[str, dict[str, Any]] = {
        "alpaca": {"instruction": string, "input": string, "output": string},
        "sharegpt": {"id": string, "conversations": pa.list_(pa.struct({"from": string, "value": string}))},
        "messages": {"messages": said},
        "prompt-completion": {"prompt": said, "completion": said},
    }
    if name in columns:
        return pa.schema(columns[name])
    if source.is_run:
        return pa.schema({name: pa.list_(string) if name == "task_path" else string for name in OWN_COLUMNS})
    from explore_async.curation.files import parquet

    schema = None
    for batch in _batches(source.examples()):
        with parquet.arrow_faults(source.path):
            found = parquet.schema_of_values([shape(one) for one in batch])
            schema = found if schema is None else parquet.common_schema(schema, found, widen=True)
    return parquet.schema_of_values([]) if schema is None else schema
