"""`explore-async analyze`, and the report at the end of a run: composes reading, measuring and showing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.analysis.document import MOST_READ, Options, analysed
from explore_async.analysis.figures import figures
from explore_async.analysis.report import page
from explore_async.analysis.verb_noun import ENGLISH
from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.open import opened, runs_inside
from explore_async.curation.collections.originals import is_original
from explore_async.curation.collections.run_data import is_run_data
from explore_async.errors import ConfigError, DataError, ExploreError, StorageError
from explore_async.storage.whole_files import replacing, storage_errors, write_json
from explore_async.terminal.reporter import Reporter
from rouge_kernels import TOKENIZERS, warm_up

REPORT = "report.html"
"""In a run's directory, made at its end."""
_MOST_AT_THE_END = 20_000
"""Examples that a run's own report examines: some half a minute of two cores."""


def _keep(collections: Sequence[Collection], documents: Sequence[Mapping[str, Any]]) -> None:
    """The figures of our own directories stay with them, for the cards of later exports; where they can be written."""
    for collection, document in zip(collections, documents, strict=True):
        if collection.coverage_file is not None:
            pairs, overlap = document["verb_noun"], document["overlap"]
            figures = {
                "examples": document["examples"],
                "examined": document["examined"],
                **{name: pairs[name] for name in ("unique", "mean_occurrences", "std_occurrences", "with_pair")},
                **{name: pairs[name] for name in ("chao1", "unseen_mass", "entropy_bits")},
                "overlap_nearest": overlap["greatest"]["mean"],
                "overlap_all": overlap["mean"]["mean"],
                "near_duplicates": document["duplicates"]["near"],
            }
            with suppress(StorageError):
                write_json(collection.coverage_file, figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyze:
    """What is asked for. `columns` are for files of rows."""

    sources: Sequence[Path]
    columns: Mapping[str, str]
    report: Path | None = None
    out: Path | None = None
    figures: Path | None = None
    spacy_model: str | None = None
    tokenizer: str = "rouge"
    most: int = MOST_READ


def analyze(asked: Analyze, reporter: Reporter) -> tuple[dict[str, Any], list[Path]]:
    """The document, and the files that were written."""
    if asked.tokenizer not in TOKENIZERS:
        raise ConfigError(f"--tokenizer {asked.tokenizer}: it is one of {', '.join(TOKENIZERS)}")
    _check_places(asked)
    collections = [
        opened(path, None if path.is_dir() else asked.columns)
        for source in asked.sources
        for path in (runs_inside(source) or [source])
    ]
    options = Options(spacy_model=asked.spacy_model or ENGLISH, tokenizer=asked.tokenizer, most_read=asked.most)
    with reporter:
        reporter.update("loading")
        warm_up()
        document = analysed(collections, options, told=reporter.update)
    if not any(one["examples"] for one in document["sets"]):
        raise DataError(f"{', '.join(map(str, asked.sources))}: no examples to look at")
    _keep(collections, document["sets"])
    outputs = {}
    if asked.out is not None:
        outputs[asked.out] = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if asked.report is not None:
        outputs[asked.report] = page(document).encode()
    if asked.figures is not None:
        outputs |= {asked.figures / name: content for name, content in figures(document)}
    for path in outputs:
        with storage_errors(path):
            path.resolve().parent.mkdir(parents=True, exist_ok=True)
    with replacing([path.resolve() for path in outputs]) as files:
        for file, content in zip(files, outputs.values(), strict=True):
            file.write(content)
    return document, list(outputs)


def _check_places(asked: Analyze) -> None:
    """Nothing that is data is written over. Raises ConfigError."""
    for option, path, suffix in (("--report", asked.report, ".html"), ("--out", asked.out, ".json")):
        if path is None:
            continue
        if path.suffix != suffix:
            raise ConfigError(f"{option} {path}: the name has to end in {suffix}")
        if any(path.exists() and source.exists() and path.samefile(source) for source in asked.sources):
            raise ConfigError(f"{option} {path}: it is a source")
        folder = path.resolve().parent
        if suffix == ".json" and (is_run_data(folder) or is_original(folder)):
            raise ConfigError(f"{option} {path}: {folder} is a run or data of ours; write elsewhere")
    if asked.figures is not None and asked.figures.exists() and not asked.figures.is_dir():
        raise ConfigError(f"--figures {asked.figures}: a folder is wanted, and this is a file")


def report_of_run(directory: Path, tokenizer: str, spacy_model: str | None, reporter: Reporter) -> Path | None:
    """Writes the report of a run that has ended, unless one is there and nothing has been added since.

    Says why there is none: that is no failure of the run.
    """
    path = directory / REPORT
    with suppress(OSError):
        if path.stat().st_mtime_ns > (directory / "dataset.jsonl").stat().st_mtime_ns:
            return path
    asked = Analyze(
        sources=[directory],
        columns={},
        report=path,
        spacy_model=spacy_model,
        tokenizer=tokenizer,
        most=_MOST_AT_THE_END,
    )
    try:
        analyze(asked, reporter)
    except ExploreError as error:
        reporter.say(f"no {REPORT}: {error}")
        return None
    return path
