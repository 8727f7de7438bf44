"""The command dedup: reads rows from files, and writes those that are not near-duplicates of an earlier row."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from explore_async.curation.collections.output_places import check_not_read, check_outside_data
from explore_async.curation.common_options import Paths, as_names, as_paths, not_for_one, nothing_to_compare
from explore_async.curation.compared_rows import ComparedFile, batches_of, joined, one_ahead, open_files
from explore_async.curation.dedup import BATCH, GroupedIndex, index_factory
from explore_async.curation.dedup_evidence import EvidenceWriter, writing_evidence
from explore_async.curation.files.conversion import check_conversion, columns_of, parquet_schema
from explore_async.curation.files.formats import TABLES, Format, Kind, format_of
from explore_async.curation.files.writers import writing
from explore_async.curation.ray_dedup import RayDedup
from explore_async.curation.tokenizers import UnseenLetters, check_tokenizer, tokenizer_of_sources
from explore_async.errors import ConfigError, DataError
from explore_async.ray_cluster import ray_at_hand
from explore_async.storage.places import place
from explore_async.storage.whole_files import made, replacing
from rouge_kernels import DedupIndex, warm_up

_BAD_ROWS_NAMED = 10
_COMPILING = "compiling the code of the ROUGE-L filter, once for this installation: about 30 s on an idle machine"
DedupEngine: TypeAlias = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DedupOptions:
    """The arguments of `dedup_files`."""

    inputs: Sequence[Path]
    out: Path
    fields: Sequence[str] = ("instruction",)
    threshold: float | None = 0.7
    tokenizer: str = "auto"
    group_by: str | None = None
    evidence: Path | None = None
    skip_bad_rows: bool = False
    against: Sequence[Path] = ()
    against_fields: Sequence[str] | None = None
    engine: DedupEngine = "local"


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
    against_bad: int = 0
    """Rows beside these that could not be read, and were skipped."""
    tokenizer: str = ""
    """The tokenizer that the texts were compared by."""
    note: str | None = None
    """Says that a file was read in another way than its name promises, and that many texts were compared by little of
    what they hold; None where neither is so.
    """

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


def dedup_files(
    inputs: Paths,
    out: str | os.PathLike[str],
    *,
    fields: str | Sequence[str] = ("instruction",),
    threshold: float | None = 0.7,
    tokenizer: str = "auto",
    group_by: str | None = None,
    evidence: str | os.PathLike[str] | None = None,
    skip_bad_rows: bool = False,
    against: Paths = (),
    against_fields: str | Sequence[str] | None = None,
    engine: DedupEngine = "local",
    observer: DedupObserver | None = None,
    batch_rows: int = BATCH,
) -> DedupCounts:
    """Writes the kept rows to `out`, and the evidence if a file is given for it; both appear at the end, or neither.

    A threshold of None drops only rows whose texts have the same tokens. `group_by`: a column; rows are compared within
    equal values only. `against`: files whose texts, in `against_fields` (None: the same as `fields`), count as kept
    before the first row; they are not written. A field for one file alone is written FILE=FIELD. `tokenizer`: rouge,
    unicode, or auto, which takes the one that the letters of the first texts call for. `engine`: ray finds the same
    near-duplicates by Ray (the extra `ray`), for more texts than fit into memory.

    Raises ConfigError for options that do not fit, DataError for a fault in the inputs or a file of `against` without
    any text to compare with, StorageError for what cannot be written. All that can be checked before the first row is
    checked before it.
    """
    if not (paths := as_paths(inputs)):
        raise ConfigError("inputs: give at least one file")
    options = DedupOptions(
        inputs=paths,
        out=place(out),
        fields=as_names(fields, "fields"),
        threshold=threshold,
        tokenizer=tokenizer,
        group_by=group_by,
        evidence=None if evidence is None else place(evidence),
        skip_bad_rows=skip_bad_rows,
        against=as_paths(against),
        against_fields=None if against_fields is None else as_names(against_fields, "against_fields"),
        engine=engine,
    )
    return _dedup(options, observer or SilentObserver(), batch_rows)


def _dedup(options: DedupOptions, observer: DedupObserver, batch_rows: int) -> DedupCounts:
    began = time.monotonic()
    check_tokenizer(options.tokenizer)
    index_factory(options.threshold, "rouge")  # checks the threshold before any file is read
    sources = open_files(options.inputs, options.fields, "--field")
    outputs = [options.out] if options.evidence is None else [options.out, options.evidence]
    names = options.against_fields or not_for_one(options.fields, options.inputs)
    known = open_files(options.against, names, "--against-field")
    _check(options, [*sources, *known], outputs)
    check_conversion([source.rows for source in sources], options.out)
    kind = format_of(options.out).kind
    rows = [source.rows for source in sources]
    schema = parquet_schema(rows) if kind is Kind.PARQUET else columns_of(rows) if kind in TABLES else None
    tokenizer = tokenizer_of_sources(options.tokenizer, [source.texts() for source in (*sources, *known)])
    new_index = index_factory(options.threshold, tokenizer)
    unseen = UnseenLetters(tokenizer)
    counts = DedupCounts(tokenizer=tokenizer)
    with ExitStack() as stack:
        for path in outputs:
            stack.enter_context(made(path.parent))
        files = stack.enter_context(replacing([path.resolve() for path in outputs]))
        writer = stack.enter_context(writing(files[0], options.out, schema))
        evidence = None
        if options.evidence is not None:
            paths = [*options.inputs, *options.against]
            evidence = stack.enter_context(writing_evidence(files[1], options.evidence, paths))
        _load_kernels(observer)
        whole: DedupIndex | RayDedup = new_index()
        grouped: GroupedIndex | RayDedup = GroupedIndex(new_index)
        if options.engine == "ray":
            stack.enter_context(ray_at_hand())
            whole = grouped = _found_by_ray(options, sources, known, tokenizer, observer, batch_rows)
        observer.began(sum(source.rows.size for source in sources))
        for number, source in enumerate(known):
            counts = _add(source, len(sources) + number, options, whole, evidence, counts, batch_rows)
        for batch in one_ahead(batches_of(sources, options.group_by, batch_rows, skip_bad_rows=options.skip_bad_rows)):
            is_grouped = options.group_by is not None
            unseen.count(batch.texts)
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
    notes = [*(file.rows.note for file in (*sources, *known)), unseen.note()]
    return replace(counts, seconds=time.monotonic() - began, note=joined(notes))


def _found_by_ray(  # noqa: PLR0917 - the parts of a dedup
    options: DedupOptions,
    sources: Sequence[ComparedFile],
    known: Sequence[ComparedFile],
    tokenizer: str,
    observer: DedupObserver,
    batch_rows: int,
) -> RayDedup:
    """The verdicts on all texts, for the second reading of the files."""
    found = RayDedup(options.threshold, tokenizer)
    observer.phase("reading the texts, and spreading them over Ray's workers")
    for files, are_known in ((known, True), (sources, False)):
        for batch in batches_of(files, options.group_by, batch_rows, skip_bad_rows=options.skip_bad_rows):
            found.take(batch.texts, batch.groups, known=are_known)
    observer.phase("looking for near-duplicates in partitions")
    found.decide()
    return found


def _add(  # noqa: PLR0917 - the parts of one loop
    source: ComparedFile,
    number: int,
    options: DedupOptions,
    index: DedupIndex | RayDedup,
    evidence: EvidenceWriter | None,
    counts: DedupCounts,
    batch_rows: int,
) -> DedupCounts:
    """Adds the texts of a file of `against`. Raises DataError where none of them can be compared."""
    before, tokens = counts, index.tokens
    for batch in one_ahead(batches_of([source], options.group_by, batch_rows, skip_bad_rows=options.skip_bad_rows)):
        index.add(batch.texts)
        if evidence is not None:
            evidence.remember(batch.placed(number))
        counts = replace(
            counts,
            against=counts.against + len(batch.texts),
            against_bad=counts.against_bad + len(batch.faults),
            bad_rows=_first(counts.bad_rows, batch.faults),
        )
    if index.tokens == tokens:
        rows = counts.against - before.against + counts.against_bad - before.against_bad
        raise DataError(nothing_to_compare(source.rows.path, rows, source.fields, counts.tokenizer, "--against-field"))
    return counts


def _first(named: tuple[str, ...], faults: Sequence[str]) -> tuple[str, ...]:
    return (*named, *faults)[:_BAD_ROWS_NAMED]


def _load_kernels(observer: DedupObserver) -> None:
    """Compiles the kernels, and says so; or loads them from the cache on disk in less than a second."""
    warm_up(lambda: observer.phase(_COMPILING))


def _check(options: DedupOptions, sources: Sequence[ComparedFile], outputs: Sequence[Path]) -> None:
    """No output is an input or the other output; lines of text are not asked for more than one field."""
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise ConfigError(f"{options.out}: given as --out and as --evidence")
    if options.against and options.group_by is not None:
        raise ConfigError("--against and --group-by exclude one another: known texts have no groups")
    if options.evidence is not None and format_of(options.evidence) != Format(Kind.JSON_LINES):
        raise ConfigError(f"--evidence {options.evidence}: it is JSON lines and called .jsonl")
    for option, path in zip(("--out", "--evidence"), outputs, strict=False):
        check_not_read(option, path, [source.rows.path for source in sources])
        check_outside_data(option, path)
    for source in sources:
        if source.rows.format.kind is Kind.TEXT and (len(source.fields) > 1 or options.group_by is not None):
            raise ConfigError(f"{source.rows.path}: a line of text has one field: no second --field, no --group-by")
