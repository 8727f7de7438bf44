"""`explore-async decontaminate`: examples too close to a benchmark are dropped, each with what it is close to."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from explore_async.curation.collections.collection import Collection, Example, printable_path
from explore_async.curation.collections.data_directory import DataDirectory, described, writing_data
from explore_async.curation.files.fields import FieldError, text_of
from explore_async.curation.files.row import BadRow, Row
from explore_async.curation.files.source import Source
from explore_async.curation.ngrams import NgramIndex
from explore_async.errors import ConfigError, DataError
from rouge_kernels import TOKENIZERS, DedupIndex

REPORT = "contamination.json"
_BATCH = 8192
_LONGEST_SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminate:
    """What is asked for. `fields` of the benchmarks' rows hold the text to stay away from, of several together.

    An example is compared as instruction and input together: ROUGE-L F above `threshold`, or `ngram` tokens in a row.
    """

    benchmarks: Sequence[Path]
    fields: Sequence[str] = ("question",)
    threshold: float = 0.7
    ngram: int = 13
    tokenizer: str = "rouge"


@dataclass(slots=True)
class Contamination:
    """What was found. `by_benchmark` counts the dropped examples by the file they are close to."""

    kept: int = 0
    by_rouge: int = 0
    by_ngram: int = 0
    benchmark_rows: dict[str, int] = field(default_factory=dict)
    by_benchmark: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        return self.by_rouge + self.by_ngram


def decontaminate(source: Collection, out: Path, asked: Decontaminate, *, told: Callable[[int], None]) -> Contamination:
    """Writes a data directory with what is clean, and contamination.json, the report, in it."""
    if asked.ngram < 1:
        raise ConfigError(f"--ngram {asked.ngram}: at least 1")
    if not 0 < asked.threshold <= 1:
        raise ConfigError(f"--threshold {asked.threshold}: it lies above 0 and is 1 at most")
    if asked.tokenizer not in TOKENIZERS:
        raise ConfigError(f"--tokenizer {asked.tokenizer}: it is one of {', '.join(TOKENIZERS)}")
    benchmarks = _Benchmarks(asked)
    found = Contamination(benchmark_rows=dict(benchmarks.rows))
    settings: dict[str, Any] = {
        "benchmarks": [printable_path(path.name) for path in asked.benchmarks],
        "fields": list(asked.fields),
        "threshold": asked.threshold,
        "ngram": asked.ngram,
        "tokenizer": asked.tokenizer,
    }
    with writing_data(out, [source]) as directory:
        waiting, judged = source.examples(), 0
        while batch := list(islice(waiting, _BATCH)):
            for example, evidence in zip(batch, benchmarks.judged(batch), strict=True):
                _write(example, evidence, directory, found)
            judged += len(batch)
            told(judged)
        directory.finish(source.trees(), described("decontaminate", [source], settings), pruned=source.pruned)
        directory.document(
            REPORT,
            {
                **settings,
                "examples": judged,
                "kept": found.kept,
                "dropped": {"total": found.dropped, "rouge_l": found.by_rouge, "ngram": found.by_ngram},
                "by_benchmark": {
                    name: {"rows": rows, "examples_close_to_it": found.by_benchmark[name]}
                    for name, rows in found.benchmark_rows.items()
                },
                "evidence": "decisions.jsonl",
            },
        )
    return found


def _write(
    example: Example, evidence: Mapping[str, Any] | None, directory: DataDirectory, found: Contamination
) -> None:
    line = {"what": "example", "id": example["id"], "task_id": example["task_id"], "request": example.get("request")}
    if evidence is None:
        directory.keep(example)
        directory.decide({**line, "kept": True, "reason": "clean"})
        found.kept += 1
        return
    directory.drop(example["task_id"], "contaminated")
    directory.decide({
        **line,
        "instruction": example["instruction"],
        "kept": False,
        "reason": "contaminated",
        **evidence,
    })  # fmt: skip
    found.by_benchmark[evidence["benchmark"]] += 1
    if "score" in evidence:
        found.by_rouge += 1
    else:
        found.by_ngram += 1


class _Benchmarks:
    """Owns both indexes, and where each of their texts stands."""

    def __init__(self, asked: Decontaminate) -> None:
        self._names = [printable_path(path.name) for path in asked.benchmarks]
        self._files = array("i")
        self._numbers = array("q")
        self._near = DedupIndex(asked.threshold, TOKENIZERS[asked.tokenizer])
        self._shared = NgramIndex(asked.ngram, TOKENIZERS[asked.tokenizer])
        self._texts: list[str] = []
        self.rows: Counter[str] = Counter()
        for number, path in enumerate(asked.benchmarks):
            rows = self._rows(Source(path, text_column=asked.fields[0]), asked.fields, number)
            while batch := list(islice(rows, _BATCH)):
                self._near.add(batch)
                self._shared.add(batch)
                self._texts += (text[:_LONGEST_SHOWN] for text in batch)
            if not self.rows[self._names[number]]:
                raise DataError(f"{path}: no rows to stay away from")
        self._shared.build()

    def _rows(self, source: Source, fields: Sequence[str], file: int) -> Iterator[str]:
        for row in source:
            try:
                text = _text(row, fields)
            except FieldError as error:
                raise DataError(
                    f"{source.place(row.number)}: {error} (--benchmark-field names what to read)"
                ) from error
            self._files.append(file)
            self._numbers.append(row.number)
            self.rows[self._names[file]] += 1
            yield text

    def judged(self, batch: Sequence[Example]) -> Iterator[dict[str, Any] | None]:
        """For each example what it is too close to, or None."""
        texts = [f"{one['instruction']}\n{one['input']}" if one["input"] else str(one["instruction"]) for one in batch]
        near, shared = self._near.look_up(texts), self._shared.find(texts)
        for position, score, run in zip(near.nearest.tolist(), near.score.tolist(), shared, strict=True):
            if position >= 0:
                yield {"score": score, **self._place(position)}
            elif run is not None:
                yield {"ngram": run.run, **self._place(run.position)}
            else:
                yield None

    def _place(self, position: int) -> dict[str, Any]:
        return {
            "benchmark": self._names[self._files[position]],
            "row": self._numbers[position],
            "text": self._texts[position],
        }


def _text(row: Row | BadRow, fields: Sequence[str]) -> str:
    """Fields beyond the first may be missing or null: many benchmarks have an input in some rows only."""
    if isinstance(row, BadRow):
        raise FieldError(row.fault)
    first, *more = fields
    texts = [text_of(row.value, [first])]
    texts += [value for name in more if isinstance(value := row.value.get(name), str)]
    return "\n".join(texts)
