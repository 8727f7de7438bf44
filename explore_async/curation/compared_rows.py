"""Rows of files with the text of each that is compared, in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from explore_async.curation.common_options import fields_of_files
from explore_async.curation.dedup_evidence import PlacedText
from explore_async.curation.files.batching import MOST_CHARACTERS
from explore_async.curation.files.fields import FieldError, group_of, text_of
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.errors import DataError


@dataclass(frozen=True, slots=True)
class ComparedFile:
    """A file of rows, with the fields of it that are compared."""

    rows: Source
    fields: tuple[str, ...]

    def texts(self) -> Iterator[str]:
        """The texts of the rows that have one."""
        for row in self.rows:
            with suppress(FieldError):
                yield _compared(row, self.fields, None)[0]


def open_files(paths: Sequence[Path], names: Sequence[str], option: str) -> list[ComparedFile]:
    """The files with the fields that `names` gives for them. Raises ConfigError where it gives a file none."""
    fields_of_each = fields_of_files(names, paths, option)
    return [
        ComparedFile(Source(path, text_column=fields[0]), fields)
        for path, fields in zip(paths, fields_of_each, strict=True)
    ]


def joined(notes: Iterable[str | None]) -> str | None:
    """The notes that there are, in one; None where there is none."""
    return "; ".join(filter(None, notes)) or None


@dataclass(slots=True)
class Batch:
    """Rows that can be compared, an entry of each list for each row; and the faults of rows that cannot."""

    rows: list[Row] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    position: int = 0
    """Bytes of all inputs that were read by its end."""

    def placed(self, files_before: int = 0) -> list[PlacedText]:
        """Each text with its place; `files_before`: number of files that are counted before these."""
        return [
            PlacedText(source + files_before, row.number, text)
            for source, row, text in zip(self.sources, self.rows, self.texts, strict=True)
        ]


def one_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Reads the next batch while this one is judged, which mostly happens outside of Python."""
    with ThreadPoolExecutor(1, "read") as pool:
        ahead = pool.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, batches, None)
            yield batch


def batches_of(
    files: Sequence[ComparedFile], group_by: str | None, size: int, *, skip_bad_rows: bool
) -> Iterator[Batch]:
    """The rows of all files in order, `size` of them in a batch, or fewer long ones. A bad row is a DataError, or is
    counted where bad rows are skipped.
    """
    batch, characters = Batch(), 0
    for number, file in enumerate(files):
        for row in file.rows:
            try:
                text, group = _compared(row, file.fields, group_by)
            except FieldError as error:
                fault = f"{file.rows.place(row.number)}: {error}"
                if not skip_bad_rows:
                    raise DataError(
                        f"{fault} (--on-bad-row skip goes on without such rows; in Python, skip_bad_rows)"
                    ) from error
                batch.faults.append(fault)
            else:
                assert isinstance(row, Row)
                batch.rows.append(row)
                batch.texts.append(text)
                batch.groups.append(group)
                batch.sources.append(number)
                characters += max(len(text), row.size())
            if len(batch.rows) + len(batch.faults) >= size or characters >= MOST_CHARACTERS:
                batch.position = sum(file.rows.position for file in files)
                yield batch
                batch, characters = Batch(), 0
    batch.position = sum(file.rows.size for file in files)
    yield batch


def _compared(row: Row | BadRow, fields: Sequence[str], group_by: str | None) -> tuple[str, str]:
    """The row's text and its group."""
    if isinstance(row, BadRow):
        raise FieldError(row.fault)
    return text_of(row.value, fields), "" if group_by is None else group_of(row.value, group_by)
