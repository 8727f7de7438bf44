"""The command decontaminate: drops examples that are too close to a benchmark, each with the row it is close to."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from explore_async.curation.collections.collection import Collection, ExampleRow, printable_path, with_input
from explore_async.curation.collections.conversations import conversation_of
from explore_async.curation.collections.data_directory import DataDirectory, describe_origin, writing_data
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.curation.common_options import (
    Paths,
    as_names,
    as_paths,
    check_threshold,
    nothing_to_compare,
    silent,
)
from explore_async.curation.compared_rows import ComparedFile, joined, open_files
from explore_async.curation.files.batching import batches, characters_in
from explore_async.curation.files.fields import FieldError, text_of
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.ngrams import NgramIndex
from explore_async.curation.tokenizers import UnseenLetters, check_tokenizer, tokenizer_of
from explore_async.errors import ConfigError, DataError
from explore_async.storage.places import place
from rouge_kernels import TOKENIZERS, DedupIndex

REPORT = "contamination.json"
_OPTION = "--benchmark-field"
_BATCH = 8192
_LONGEST_SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DecontaminationOptions:
    benchmarks: Sequence[Path]
    fields: Sequence[str]
    threshold: float
    ngram: int
    tokenizer: str


@dataclass(frozen=True, slots=True)
class DecontaminationResult:
    """The numbers of examples; `out` is the data directory with those that were kept, and `report` the report in it."""

    out: Path
    report: Path
    kept: int
    by_rouge: int
    """Dropped for a ROUGE-L F above the threshold."""
    by_ngram: int
    """Dropped for a sequence of tokens in common."""
    by_benchmark: Mapping[str, int]
    """Dropped examples by the name of the benchmark's file that they are close to, with the folders before it that tell
    it from others of the same name; 0 is left out.
    """
    tokenizer: str
    """The tokenizer that the texts were compared by."""
    note: str | None = None
    """Says that a file was read in another way than its name promises, and that many examples were compared by little
    of what they hold; None where neither is so.
    """

    @property
    def dropped(self) -> int:
        return self.by_rouge + self.by_ngram


def decontaminate_data(
    source: DataSource,
    out: str | os.PathLike[str],
    benchmarks: Paths,
    *,
    fields: str | Sequence[str] = ("question",),
    threshold: float = 0.7,
    ngram: int = 13,
    tokenizer: str = "auto",
    columns: Mapping[str, str] | None = None,
    on_progress: Callable[[int], None] = silent,
) -> DecontaminationResult:
    """Writes a data directory with the examples that are not close to a row of a benchmark, and contamination.json, the
    report, in it.

    `benchmarks`: files of rows, with the text in `fields`; a field of one file alone is written FILE=FIELD. An example,
    instruction and input together, is dropped where its ROUGE-L F with a row is above `threshold`, where it shares
    `ngram` tokens in sequence with a row, or where it has no tokens and equals a row. So is an example of a
    conversation where any of its turns is or does.
    `tokenizer`: rouge, unicode, or auto: that of the run that the examples came from, else the one that their letters
    call for.

    Raises ConfigError for options that do not fit, DataError for a fault in the data or a benchmark without any text to
    compare with.
    """
    if ngram < 1:
        raise ConfigError(f"--ngram {ngram}: it must be at least 1")
    check_threshold(threshold)
    check_tokenizer(tokenizer)
    if not (paths := as_paths(benchmarks)):
        raise ConfigError("benchmarks: give at least one file")
    options = DecontaminationOptions(
        benchmarks=paths,
        fields=as_names(fields, "fields"),
        threshold=threshold,
        ngram=ngram,
        tokenizer=tokenizer,
    )
    return _decontaminate(collection_of(source, columns), place(out), options, on_progress)


@dataclass(slots=True)
class _Tally:
    """Examples so far, by their verdict."""

    kept: int = 0
    by_rouge: int = 0
    by_ngram: int = 0
    by_benchmark: Counter[str] = field(default_factory=Counter)


def _decontaminate(
    source: Collection, out: Path, options: DecontaminationOptions, on_progress: Callable[[int], None]
) -> DecontaminationResult:
    options = replace(options, tokenizer=tokenizer_of(options.tokenizer, [source], with_input))
    benchmarks = _Benchmarks(options)
    tally, unseen = _Tally(), UnseenLetters(options.tokenizer)
    settings: dict[str, Any] = {
        "benchmarks": _names(options.benchmarks),
        "fields": list(options.fields),
        "threshold": options.threshold,
        "ngram": options.ngram,
        "tokenizer": options.tokenizer,
    }
    with writing_data(out, [source], options.benchmarks) as directory:
        judged = 0
        for batch in batches(source.examples(), _BATCH, characters_in):
            unseen.count([with_input(example) for example in batch])
            for example, evidence in zip(batch, benchmarks.judged(batch), strict=True):
                _write(example, evidence, directory, tally)
            judged += len(batch)
            on_progress(judged)
        directory.finish(source.trees(), describe_origin("decontaminate", [source], settings), pruned=source.pruned)
        dropped = {
            "total": tally.by_rouge + tally.by_ngram, "rouge_l": tally.by_rouge, "ngram": tally.by_ngram
        }  # fmt: skip
        directory.document(
            REPORT,
            {
                **settings,
                "examples": judged,
                "kept": tally.kept,
                "dropped": dropped,
                "by_benchmark": {
                    name: {"rows": rows, "examples_close_to_it": tally.by_benchmark[name]}
                    for name, rows in benchmarks.rows.items()
                },
                "evidence": "decisions.jsonl",
            },
        )
    by_benchmark = dict(tally.by_benchmark)
    counts = (tally.kept, tally.by_rouge, tally.by_ngram, by_benchmark)
    note = joined([source.read_as, *(file.rows.note for file in benchmarks.files), unseen.note()])
    return DecontaminationResult(out, out / REPORT, *counts, options.tokenizer, note)


def _write(example: ExampleRow, evidence: Mapping[str, Any] | None, directory: DataDirectory, tally: _Tally) -> None:
    line = {"what": "example", "id": example["id"], "task_id": example["task_id"], "request": example.get("request")}
    if evidence is None:
        directory.keep(example)
        directory.decide({**line, "kept": True, "reason": "clean"})
        tally.kept += 1
        return
    directory.drop(example["task_id"], "contaminated")
    directory.decide({
        **line,
        "instruction": example["instruction"],
        "kept": False,
        "reason": "contaminated",
        **evidence,
    })  # fmt: skip
    tally.by_benchmark[evidence["benchmark"]] += 1
    if "score" in evidence:
        tally.by_rouge += 1
    else:
        tally.by_ngram += 1


class _Benchmarks:
    """Owns both indexes, and the place of each of their texts. A text without tokens is close to an equal one."""

    def __init__(self, options: DecontaminationOptions) -> None:
        tokenizer = TOKENIZERS[options.tokenizer]
        self._names = _names(options.benchmarks)
        self._files = array("i")
        self._numbers = array("q")
        self._near = DedupIndex(options.threshold, tokenizer)
        self._shared = NgramIndex(options.ngram, tokenizer)
        self._texts: list[str] = []
        self._without_tokens: dict[str, int] = {}
        self.rows: Counter[str] = Counter()
        self.files = open_files(options.benchmarks, options.fields, _OPTION)
        for number, file in enumerate(self.files):
            tokens = self._near.tokens
            for batch in batches(self._rows(file, number), _BATCH, len):
                self._near.add(batch)
                self._shared.add(batch)
                for position, text in enumerate(batch, start=len(self._texts)):
                    if text and not tokenizer(text):
                        self._without_tokens.setdefault(text, position)
                self._texts += (text[:_LONGEST_SHOWN] for text in batch)
            if self._near.tokens == tokens:
                count = self.rows[self._names[number]]
                raise DataError(nothing_to_compare(file.rows.path, count, file.fields, options.tokenizer, _OPTION))
        self._shared.build()

    def _rows(self, file: ComparedFile, number: int) -> Iterator[str]:
        for row in file.rows:
            try:
                text = _text(row, file.fields)
            except FieldError as error:
                place = file.rows.place(row.number)
                raise DataError(f"{place}: {error} ({_OPTION} names the field to read)") from error
            self._files.append(number)
            self._numbers.append(row.number)
            self.rows[self._names[number]] += 1
            yield text

    def judged(self, batch: Sequence[ExampleRow]) -> Iterator[dict[str, Any] | None]:
        """For each example the row that it is too close to, or None."""
        texts: list[str] = []
        ends: list[int] = []
        for example in batch:
            texts += _texts(example)
            ends.append(len(texts))
        near, shared = self._near.look_up(texts), self._shared.find(texts)
        nearest, scores = near.nearest.tolist(), near.score.tolist()
        for i, text in enumerate(texts):
            if text in self._without_tokens:
                nearest[i], scores[i] = self._without_tokens[text], 1.0
        begin = 0
        for end in ends:
            of_example = range(begin, end)
            begin = end
            if (close := next((i for i in of_example if nearest[i] >= 0), None)) is not None:
                yield {"score": scores[close], **self._place(nearest[close])}
            elif (ngram := next((shared[i] for i in of_example if shared[i] is not None), None)) is not None:
                yield {"ngram": ngram.ngram, **self._place(ngram.position)}
            else:
                yield None

    def _place(self, position: int) -> dict[str, Any]:
        return {
            "benchmark": self._names[self._files[position]],
            "row": self._numbers[position],
            "text": self._texts[position],
        }


def _names(paths: Sequence[Path]) -> list[str]:
    """The name of each file, with as many of the folders before it as tell it from the others."""
    names: list[str] = []
    for path in paths:
        others = [other for other in paths if other != path]
        lengths = range(1, len(PurePath(str(path)).parts))
        ends = (end for n in lengths if (end := _end(path, n)) not in {_end(other, n) for other in others})
        names.append(printable_path(next(ends, path)))
    return names


def _end(path: Path, length: int) -> str:
    """The last parts of the path, this many."""
    return path.name if length == 1 else "/".join(PurePath(str(path)).parts[-length:])


def _texts(example: ExampleRow) -> list[str]:
    """The instruction with the input, and all turns of a conversation."""
    try:
        conversation = conversation_of(example)
    except FieldError:  # answers in an unknown form, which no turn is
        conversation = None
    return list(dict.fromkeys([with_input(example), *(() if conversation is None else conversation.texts)]))


def _text(row: Row | BadRow, fields: Sequence[str]) -> str:
    """Fields beyond the first may be missing or null: many benchmarks have an input in some rows only."""
    if isinstance(row, BadRow):
        raise FieldError(row.fault)
    first, *more = fields
    texts = [text_of(row.value, [first])]
    texts += [value for name in more if isinstance(value := row.value.get(name), str)]
    return "\n".join(texts)
