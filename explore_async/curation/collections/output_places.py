"""The places that a data command may write to: it replaces nothing that it reads, and nothing of a run's own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from explore_async.curation.collections.originals import is_original
from explore_async.curation.collections.run_data import is_run_data
from explore_async.errors import ConfigError
from explore_async.storage.whole_files import storage_errors


def check_not_read(option: str, out: Path, read: Iterable[Path]) -> None:
    """Raises ConfigError where `out`, a file or a folder to write, is one of the places that are read, or holds one."""
    with storage_errors(out):
        for source in read:
            if out.exists() and source.exists() and out.samefile(source):
                raise ConfigError(f"{option} {out}: it is a source, and would be lost; choose another")
            if out.resolve() in source.resolve().parents:
                raise ConfigError(f"{option} {out}: {source} in it is a source, and would be lost; choose another")


def check_outside_data(option: str, out: Path) -> None:
    """Raises ConfigError where `out`, a file or a folder to write, is in a run or data directory, or is one."""
    with storage_errors(out):
        around = next((path for path in (out, *out.resolve().parents) if path.is_dir() and _is_data(path)), None)
    if around is not None:
        raise ConfigError(f"{option} {out}: {around} is a run or data directory; write elsewhere")


def _is_data(path: Path) -> bool:
    """A config.json or a data.json alone is no sign: many projects have one."""
    return (is_run_data(path) and (path / "dataset.jsonl").is_file()) or is_original(path)
