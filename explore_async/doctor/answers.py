"""The check of completions.sqlite: its format, its structure, and every row of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from explore_async.doctor.findings import Findings
from explore_async.errors import DamagedStore, NewerFormat, StorageError
from explore_async.storage.completions import StoredReader
from explore_async.storage.directory import RunDirectory
from explore_async.storage.rows import COLUMNS, FORMAT, DamagedRow, key_of, stored_of
from explore_async.storage.salvage import has_whole_rows, is_half_mended
from explore_async.storage.schema import mapped, open_reading

Told = Callable[[str], None]

_KEYS_NAMED = 3
_ROWS_BETWEEN_TELLING = 5000
_MENDS = "--repair saves all that can still be read; the next run asks for the rest again"


def check_answers(directory: RunDirectory, findings: Findings, told: Told, *, still: bool) -> int | None:
    """How many are stored; None where they are not whole. still: nobody writes meanwhile."""
    path = directory.completions
    name = path.name
    if is_half_mended(path):
        findings.wrong(name, "a repair was broken off", "--repair ends it", mends=True)
        return None
    if not path.exists() or path.stat().st_size == 0:
        if directory.dataset.exists() and directory.dataset.stat().st_size:
            findings.wrong(name, "the answers are gone", "restore the file, or start over with `run CONFIG --fresh`")
            return None
        findings.ok(name, "nothing was answered yet")
        return 0
    try:
        version, count, bad = _look_through(path, told, still=still)
    except DamagedStore as error:
        findings.wrong(name, f"damaged: {error.__cause__ or error}", _MENDS, mends=True)
        return None
    except StorageError as error:
        if isinstance(error, NewerFormat) and has_whole_rows(path):
            findings.wrong(name, "damaged: its format number was changed, its answers were not", _MENDS, mends=True)
        else:
            findings.wrong(name, str(error))
        return None
    if bad:
        findings.wrong(name, f"damaged: {'; '.join(bad)}", _MENDS, mends=True)
    elif version != FORMAT:
        says = f"format {version}: {count:,} answers, without checksums"
        findings.note(name, says, "the next run, or --repair, gives them theirs", mends=True)
    else:
        findings.ok(name, f"format {version}: {count:,} answers, every one as it was written")
    return None if bad else count


def _look_through(path: Path, told: Told, *, still: bool) -> tuple[int, int, list[str]]:
    """The format, the number of rows, and what is wrong with the structure and the rows."""
    told("reading the database")
    with mapped(path):
        connection, columns = open_reading(path, still=still)
        with closing(connection):
            version = FORMAT if columns == COLUMNS else 1
            if not columns:
                return version, 0, []
            faults = [row[0].decode() for row in connection.execute("PRAGMA integrity_check(3)")]
    count, damaged = 0, []
    with StoredReader(path, still=still) as reader:
        for count, row in enumerate(reader.rows(), start=1):
            try:
                stored_of(row)
            except DamagedRow:
                damaged.append(key_of(row))
            if count % _ROWS_BETWEEN_TELLING == 0:
                told(f"{count:,} answers read")
    named = ", ".join(damaged[:_KEYS_NAMED]) + (", …" if len(damaged) > _KEYS_NAMED else "")
    rows = [f"{len(damaged):,} answers are not what was written ({named})"] if damaged else []
    return version, count, [fault for fault in faults if fault != "ok"] + rows
