"""The files of an export: their names, and what may be written over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from explore_async.curation.collections.output_places import check_not_read, check_outside_data
from explore_async.errors import ConfigError
from explore_async.storage.whole_files import storage_errors

CARD = "README.md"
TRAIN = "data/train.parquet"
VALIDATION = "data/validation.parquet"
SCRIPT = "train.py"
AXOLOTL = "axolotl.yaml"
LLAMA_FACTORY = "llamafactory.yaml"
DATASET_INFO = "dataset_info.json"
FOR_TRAINERS = (SCRIPT, AXOLOTL, LLAMA_FACTORY, DATASET_INFO)


def is_folder_name(out: Path) -> bool:
    """True where an export of this name is a folder."""
    return not out.suffix or out.suffix[1:].isdecimal()  # v1.0 is a folder


def targets(out: Path, splits: Sequence[str], *, is_folder: bool) -> list[Path]:
    """The file of each split."""
    if is_folder:
        return [out / "data" / f"{split}.parquet" for split in splits]
    plain = out.name.removesuffix(".gz").removesuffix(".zst")
    stem = Path(plain).stem
    return [out, *(out.with_name(f"{stem}.{split}{out.name[len(stem) :]}") for split in splits[1:])]


def check_place(out: Path, source: Path, *, is_folder: bool, has_validation: bool) -> None:
    """Raises ConfigError where something other than an earlier export would be written over."""
    for place in (out, *targets(out, ("train", "validation"), is_folder=is_folder)):
        check_not_read("--out", place, [source])
    check_outside_data("--out", out)
    with storage_errors(out):
        if is_folder and out.exists():
            there = {path.name for path in out.iterdir()} if out.is_dir() else {out.name}
            inside = {f"data/{path.name}" for path in (out / "data").iterdir()} if (out / "data").is_dir() else set()
            if foreign := sorted((there | inside) - {CARD, *FOR_TRAINERS, "data", TRAIN, VALIDATION}):
                raise ConfigError(f"--out {out}: {foreign[0]} in it is not from an export; choose another folder")
            if there and CARD in there and "data" not in there:
                raise ConfigError(f"--out {out}: the {CARD} in it is not from an export; choose another folder")
        stale = None if is_folder else targets(out, ("train", "validation"), is_folder=False)[1]
        if stale is not None and not has_validation and stale.exists():
            raise ConfigError(f"{stale}: an earlier export held it out, and this one does not; remove it first")
