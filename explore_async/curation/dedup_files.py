"""`explore-async dedup`: rows of files in, the rows that are no near-duplicates out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from threading import Timer
from typing import Protocol

from explore_async.curation.dedup import GroupedIndex
from explore_async.curation.dedup_evidence import Located, writing_evidence
from explore_async.curation.files.conversion import check_conversion, parquet_schema
from explore_async.curation.files.fields import FieldError, group_of, text_of
from explore_async.curation.files.formats import Format, Kind, format_of
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.curation.files.writers import writing
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import replacing
from rouge_kernels import IDENTICAL, TOKENIZERS, DedupIndex, warm_up

BATCH_ROWS = 8192
"""Rows judged at once: enough to keep all threads busy, few enough to show progress and to stop at a word."""

_BAD_ROWS_NAMED = 10
_SECONDS_UNTOLD = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedup:
    """What is asked for. A threshold of None drops only texts of the same tokens.

    `against`: files whose texts count as kept already, in `against_fields` (None: the same); none of them is written.
    """

    inputs: Sequence[Path]
    out: Path
    fields: Sequence[str] = ("instruction",)
    threshold: float | None = 0.7
    tokenizer: str = "rouge"
    group_by: str | None = None
    evidence: Path | None = None
    skip_bad_rows: bool = False
    against: Sequence[Path] = ()
    against_fields: Sequence[str] | None = None


@dataclass(slots=True)
class Counts:
    """What has become of the rows so far; rows = kept + dropped + bad."""

    kept: int = 0
    dropped: int = 0
    bad: int = 0
    bad_rows: list[str] = field(default_factory=list)
    """The first few, each with its place and its fault."""
    seconds: float = 0.0
    against: int = 0
    """Texts that were there already."""

    @property
    def rows(self) -> int:
        return self.kept + self.dropped + self.bad


class Observer(Protocol):
    """Told how far the work is, in bytes of all inputs together."""

    def phase(self, text: str) -> None: ...

    def began(self, total_bytes: int) -> None: ...

    def advanced(self, counts: Counts, read_bytes: int) -> None: ...


@dataclass(slots=True)
class _Batch:
    """Rows that can be compared, one entry of each list a row, and what is wrong with those that cannot."""

    rows: list[Row] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    position: int = 0
    """How many bytes of all inputs had been read by its end."""

    def located(self, sources_before: int = 0) -> list[Located]:
        """Each text with its place; `sources_before`: so many files are counted before these."""
        return [
            Located(source + sources_before, row.number, text)
            for source, row, text in zip(self.sources, self.rows, self.texts, strict=True)
        ]


def dedup_files(asked: Dedup, observer: Observer, *, batch_rows: int = BATCH_ROWS) -> Counts:
    """Write the kept rows, and the evidence if asked for; both files appear at the end, or neither does.

    ConfigError for what cannot be done at all, DataError for what is in the inputs, StorageError for what cannot be
    written; all that can be known before the first row is.
    """
    began = time.monotonic()
    new_index = _index_factory(asked)
    sources = [Source(path, text_column=asked.fields[0]) for path in asked.inputs]
    outputs = [asked.out] if asked.evidence is None else [asked.out, asked.evidence]
    known = [Source(path, text_column=(asked.against_fields or asked.fields)[0]) for path in asked.against]
    _check(asked, [*sources, *known], outputs)
    check_conversion(sources, asked.out)
    schema = parquet_schema(sources) if format_of(asked.out).kind is Kind.PARQUET else None
    counts = Counts()
    with ExitStack() as stack:
        files = stack.enter_context(replacing([path.resolve() for path in outputs]))
        writer = stack.enter_context(writing(files[0], asked.out, schema))
        evidence = None
        if asked.evidence is not None:
            evidence = stack.enter_context(writing_evidence(files[1], asked.evidence, [*asked.inputs, *asked.against]))
        _load_kernels(observer)
        observer.began(sum(source.size for source in sources))
        whole, grouped = new_index(), GroupedIndex(new_index)
        reading = replace(asked, fields=asked.against_fields or asked.fields)
        for batch in _one_ahead(_batches(reading, known, batch_rows)):
            whole.add(batch.texts)
            if evidence is not None:
                evidence.remember(batch.located(len(asked.inputs)))
            counts.against += len(batch.texts)
            counts.bad_rows += batch.faults[: _BAD_ROWS_NAMED - len(counts.bad_rows)]
        for batch in _one_ahead(_batches(asked, sources, batch_rows)):
            grouping = asked.group_by is not None
            admission = grouped.admit(batch.texts, batch.groups) if grouping else whole.admit(batch.texts)
            kept = list(compress(batch.rows, admission.kept.tolist()))
            writer.write(kept)
            if evidence is not None:
                evidence.write(batch.located(), admission)
            counts.kept += len(kept)
            counts.dropped += len(batch.rows) - len(kept)
            counts.bad += len(batch.faults)
            counts.bad_rows += batch.faults[: _BAD_ROWS_NAMED - len(counts.bad_rows)]
            counts.seconds = time.monotonic() - began
            observer.advanced(counts, batch.position)
    counts.seconds = time.monotonic() - began
    return counts


def _load_kernels(observer: Observer) -> None:
    """Says what takes so long where it does: from the cache on disk the kernels come in less than a second."""
    telling = Timer(_SECONDS_UNTOLD, observer.phase, ["compiling the kernels, once on this machine: some 30 s"])
    telling.start()
    try:
        warm_up()
    finally:
        telling.cancel()


def _one_ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Read the next batch while this one is judged, which mostly happens outside of Python."""
    with ThreadPoolExecutor(1, "read") as pool:
        ahead = pool.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, batches, None)
            yield batch


def _batches(asked: Dedup, sources: Sequence[Source], size: int) -> Iterator[_Batch]:
    """The rows of all files in order. A bad row ends it, or is named where it is to be skipped."""
    batch = _Batch()
    for number, source in enumerate(sources):
        for row in source:
            try:
                text, group = _compared(row, asked)
            except FieldError as error:
                fault = f"{source.place(row.number)}: {error}"
                if not asked.skip_bad_rows:
                    raise DataError(f"{fault} (--on-bad-row skip goes on without such rows)") from error
                batch.faults.append(fault)
            else:
                assert isinstance(row, Row)
                batch.rows.append(row)
                batch.texts.append(text)
                batch.groups.append(group)
                batch.sources.append(number)
            if len(batch.rows) + len(batch.faults) >= size:
                batch.position = sum(source.position for source in sources)
                yield batch
                batch = _Batch()
    batch.position = sum(source.size for source in sources)
    yield batch


def _compared(row: Row | BadRow, asked: Dedup) -> tuple[str, str]:
    """The row's text and its group."""
    if isinstance(row, BadRow):
        raise FieldError(row.fault)
    return text_of(row.value, asked.fields), "" if asked.group_by is None else group_of(row.value, asked.group_by)


def _index_factory(asked: Dedup) -> Callable[[], DedupIndex]:
    tokenizer = TOKENIZERS.get(asked.tokenizer)
    if tokenizer is None:
        raise ConfigError(f"--tokenizer {asked.tokenizer}: it is one of {', '.join(TOKENIZERS)}")
    threshold = IDENTICAL if asked.threshold is None else asked.threshold
    if not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold}: it lies above 0 and is 1 at most")
    return lambda: DedupIndex(threshold, tokenizer)


def _check(asked: Dedup, sources: Sequence[Source], outputs: Sequence[Path]) -> None:
    """No output is an input, or the other output; what is asked of lines of text is what they have."""
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ConfigError(f"{asked.out}: given as --out and as --evidence")
    if asked.against and asked.group_by is not None:
        raise ConfigError("--against and --group-by exclude one another: what is known has no groups")
    if asked.evidence is not None and format_of(asked.evidence) != Format(Kind.JSON_LINES, gzipped=False):
        raise ConfigError(f"--evidence {asked.evidence}: it is JSON lines and called .jsonl")
    for path in outputs:
        if path.exists() and any(path.samefile(source.path) for source in sources):
            raise ConfigError(f"{path}: an input cannot be an output as well")
    for source in sources:
        if source.format.kind is Kind.TEXT and (len(asked.fields) > 1 or asked.group_by is not None):
            raise ConfigError(f"{source.path}: a line of text has one field: no second --field, no --group-by")
