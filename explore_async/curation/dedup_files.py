"""The command dedup: reads rows from files, and writes those that are not near-duplicates of an earlier row."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from threading import Timer
from typing import Protocol

from explore_async.curation.common_options import Paths, as_names, as_paths
from explore_async.curation.dedup import BATCH, GroupedIndex, index_factory
from explore_async.curation.dedup_evidence import PlacedText, writing_evidence
from explore_async.curation.files.conversion import check_conversion, parquet_schema
from explore_async.curation.files.fields import FieldError, group_of, text_of
from explore_async.curation.files.formats import Format, Kind, format_of
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.curation.files.writers import writing
from explore_async.errors import ConfigError, DataError
from explore_async.storage.whole_files import replacing
from rouge_kernels import warm_up

_BAD_ROWS_NAMED = 10
_SECONDS_BEFORE_NOTICE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupOptions:
    """The arguments of `dedup_files`."""

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


@dataclass(frozen=True, slots=True)
class DedupCounts:
    """The rows so far, and at the end; rows = kept + dropped + bad."""

    kept: int = 0
    dropped: int = 0
    bad: int = 0
    """Rows that could not be read, and were skipped."""
    bad_rows: tuple[str, ...] = ()
    """The first few of these, each with its place and its fault."""
    seconds: float = 0.0
    against: int = 0
    """Texts that counted as kept before the first row."""

    @property
    def rows(self) -> int:
        return self.kept + self.dropped + self.bad


class DedupObserver(Protocol):
    """Gets messages about the progress; bytes are those of all inputs together."""

    def phase(self, text: str) -> None: ...

    def began(self, total_bytes: int) -> None: ...

    def advanced(self, counts: DedupCounts, read_bytes: int) -> None: ...


class SilentObserver:
    """Shows nothing."""

    def phase(self, text: str) -> None:
        pass

    def began(self, total_bytes: int) -> None:
        pass

    def advanced(self, counts: DedupCounts, read_bytes: int) -> None:
        pass


@dataclass(slots=True)
class _Batch:
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


def dedup_files(
    inputs: Paths,
    out: str | os.PathLike[str],
    *,
    fields: str | Sequence[str] = ("instruction",),
    threshold: float | None = 0.7,
    tokenizer: str = "rouge",
    group_by: str | None = None,
    evidence: str | os.PathLike[str] | None = None,
    skip_bad_rows: bool = False,
    against: Paths = (),
    against_fields: str | Sequence[str] | None = None,
    observer: DedupObserver | None = None,
    batch_rows: int = BATCH,
) -> DedupCounts:
    """Writes the kept rows to `out`, and the evidence if a file is given for it; both appear at the end, or neither.

    A threshold of None drops only rows whose texts have the same tokens. `group_by`: a column; rows are compared within
    equal values only. `against`: files whose texts, in `against_fields` (None: the same as `fields`), count as kept
    before the first row; they are not written.

    Raises ConfigError for options that do not fit, DataError for a fault in the inputs, StorageError for what cannot be
    written. All that can be checked before the first row is checked before it.
    """
    if not (paths := as_paths(inputs)):
        raise ConfigError("inputs: give at least one file")
    options = DedupOptions(
        inputs=paths,
        out=Path(out),
        fields=as_names(fields, "fields"),
        threshold=threshold,
        tokenizer=tokenizer,
        group_by=group_by,
        evidence=None if evidence is None else Path(evidence),
        skip_bad_rows=skip_bad_rows,
        against=as_paths(against),
        against_fields=None if against_fields is None else as_names(against_fields, "against_fields"),
    )
    return _dedup(options, observer or SilentObserver(), batch_rows)


def _dedup(options: DedupOptions, observer: DedupObserver, batch_rows: int) -> DedupCounts:
    began = time.monotonic()
    new_index = index_factory(options.threshold, options.tokenizer)
    sources = [Source(path, text_column=options.fields[0]) for path in options.inputs]
    outputs = [options.out] if options.evidence is None else [options.out, options.evidence]
    known_fields = options.against_fields or options.fields
    known = [Source(path, text_column=known_fields[0]) for path in options.against]
    _check(options, [*sources, *known], outputs)
    check_conversion(sources, options.out)
    schema = parquet_schema(sources) if format_of(options.out).kind is Kind.PARQUET else None
    counts = DedupCounts()
    with ExitStack() as stack:
        files = stack.enter_context(replacing([path.resolve() for path in outputs]))
        writer = stack.enter_context(writing(files[0], options.out, schema))
        evidence = None
        if options.evidence is not None:
            paths = [*options.inputs, *options.against]
            evidence = stack.enter_context(writing_evidence(files[1], options.evidence, paths))
        _load_kernels(observer)
        observer.began(sum(source.size for source in sources))
        whole, grouped = new_index(), GroupedIndex(new_index)
        for batch in _one_ahead(_batches(replace(options, fields=known_fields), known, batch_rows)):
            whole.add(batch.texts)
            if evidence is not None:
                evidence.remember(batch.placed(len(options.inputs)))
            counts = replace(
                counts, against=counts.against + len(batch.texts), bad_rows=_first(counts.bad_rows, batch.faults)
            )
        for batch in _one_ahead(_batches(options, sources, batch_rows)):
            is_grouped = options.group_by is not None
            admission = grouped.admit(batch.texts, batch.groups) if is_grouped else whole.admit(batch.texts)
            kept = list(compress(batch.rows, admission.kept.tolist()))
            writer.write(kept)
            if evidence is not None:
                evidence.write(batch.placed(), admission)
            counts = replace(
                counts,
                kept=counts.kept + len(kept),
                dropped=counts.dropped + len(batch.rows) - len(kept),
                bad=counts.bad + len(batch.faults),
                bad_rows=_first(counts.bad_rows, batch.faults),
                seconds=time.monotonic() - began,
            )
            observer.advanced(counts, batch.position)
    return replace(counts, seconds=time.monotonic() - began)


def _first(named: tuple[str, ...], faults: Sequence[str]) -> tuple[str, ...]:
    return (*named, *faults)[:_BAD_ROWS_NAMED]


def _load_kernels(observer: DedupObserver) -> None:
    """Compiles the kernels, or loads them from the cache on disk in less than a second; says so where it takes long."""
    notice = Timer(_SECONDS_BEFORE_NOTICE, observer.phase, ["compiling the kernels, once on this machine: about 30 s"])
    notice.start()
    try:
        warm_up()
    finally:
        notice.cancel()


def _one_ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Read the next batch while this one is judged, which mostly happens outside of Python."""
    with ThreadPoolExecutor(1, "read") as pool:
        ahead = pool.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, batches, None)
            yield batch


def _batches(options: DedupOptions, sources: Sequence[Source], size: int) -> Iterator[_Batch]:
    """The rows of all files in order. A bad row is a DataError, or is counted where bad rows are skipped."""
    batch = _Batch()
    for number, source in enumerate(sources):
        for row in source:
            try:
                text, group = _compared(row, options)
            except FieldError as error:
                fault = f"{source.place(row.number)}: {error}"
                if not options.skip_bad_rows:
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


def _compared(row: Row | BadRow, options: DedupOptions) -> tuple[str, str]:
    """The row's text and its group."""
    if isinstance(row, BadRow):
        raise FieldError(row.fault)
    return text_of(row.value, options.fields), "" if options.group_by is None else group_of(row.value, options.group_by)


def _check(options: DedupOptions, sources: Sequence[Source], outputs: Sequence[Path]) -> None:
    """No output is an input or the other output; lines of text are not asked for more than one field."""
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ConfigError(f"{options.out}: given as --out and as --evidence")
    if options.against and options.group_by is not None:
        raise ConfigError("--against and --group-by exclude one another: known texts have no groups")
    if options.evidence is not None and format_of(options.evidence) != Format(Kind.JSON_LINES):
        raise ConfigError(f"--evidence {options.evidence}: it is JSON lines and called .jsonl")
    for path in outputs:
        if path.exists() and any(path.samefile(source.path) for source in sources):
            raise ConfigError(f"{path}: an input cannot be an output as well")
    for source in sources:
        if source.format.kind is Kind.TEXT and (len(options.fields) > 1 or options.group_by is not None):
            raise ConfigError(f"{source.path}: a line of text has one field: no second --field, no --group-by")
