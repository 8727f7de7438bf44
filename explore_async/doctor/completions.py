"""The check of completions.sqlite: its format, its structure, and every row of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from explore_async.doctor.findings import Check, Findings
from explore_async.errors import DamagedStore, NewerFormat, StorageError
from explore_async.storage.completions import StoredReader
from explore_async.storage.directory import RunDirectory
from explore_async.storage.rows import DamagedRow, read_key, read_row
from explore_async.storage.salvage import has_whole_rows, is_half_mended
from explore_async.storage.schema import database_errors, open_reading
from explore_async.terminal.counts import counted

Report = Callable[[str], None]
"""Gets a line about the progress now and then."""

_KEYS_NAMED = 3
_ROWS_BETWEEN_REPORTS = 5000
_REPAIR = "--repair saves everything that can still be read; the next run requests the rest again"


def check_completions(directory: RunDirectory, findings: Findings, report: Report, *, still: bool) -> int | None:
    """The number of stored completions and failures; None where they are damaged or lost.

    still: no other process writes meanwhile.
    """
    path, check = directory.completions, Check.COMPLETIONS
    if is_half_mended(path):
        findings.wrong(check, "a repair was interrupted", "--repair finishes it", mends=True)
        return None
    has_examples = (
        directory.dataset.exists() and directory.dataset.stat().st_size
    )  # first: a run stores before it writes
    if not path.exists() or path.stat().st_size == 0:
        if has_examples:
            do = "restore the file, or start over with `run CONFIG --fresh`"
            findings.wrong(check, "the stored completions are gone", do)
            return None
        findings.ok(check, "nothing is stored yet")
        return 0
    try:
        version, count, faults = _read_all(path, report, still=still)
    except DamagedStore as error:
        findings.wrong(check, f"damaged: {error.__cause__ or error}", _REPAIR, mends=True)
        return None
    except StorageError as error:
        if isinstance(error, NewerFormat) and has_whole_rows(path):
            says = "damaged: its format number was changed, its completions were not"
            findings.wrong(check, says, _REPAIR, mends=True)
        else:
            findings.wrong(check, str(error))
        return None
    if faults:
        findings.wrong(check, f"damaged: {'; '.join(faults)}", _REPAIR, mends=True)
    elif version == 1:
        says = f"format {version}: {counted(count, 'completion')}, without checksums"
        findings.note(check, says, "the next run, or --repair, adds the checksums", mends=True)
    else:
        findings.ok(check, f"format {version}: {counted(count, 'completion')}, each as it was written")
    return None if faults else count


def _read_all(path: Path, report: Report, *, still: bool) -> tuple[int, int, list[str]]:
    """The format, the number of rows, and the faults of the structure and the rows."""
    report("reading the database")
    with database_errors(path):
        connection, columns = open_reading(path, still=still)
        with closing(connection):
            if not columns:
                return 1, 0, []
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            lines = [row[0].decode() for row in connection.execute("PRAGMA integrity_check(3)")]
    faults = [] if lines == ["ok"] else lines
    count, damaged = 0, []
    with StoredReader(path, still=still) as reader:
        for count, row in enumerate(reader.rows(), start=1):
            try:
                read_row(row)
            except DamagedRow:
                damaged.append(read_key(row))
            if count % _ROWS_BETWEEN_REPORTS == 0:
                report(f"{counted(count, 'completion')} read")
    if damaged:
        keys = ", ".join(damaged[:_KEYS_NAMED]) + (", …" if len(damaged) > _KEYS_NAMED else "")
        faults.append(f"not what was written: {counted(len(damaged), 'completion')} ({keys})")
    return version, count, faults
