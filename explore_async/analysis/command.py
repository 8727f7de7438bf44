"""The command analyze, and the report at the end of a run: reads, measures and writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import orjson

from explore_async.analysis.cost import PROMPT_WEIGHT
from explore_async.analysis.document import MOST_READ, AnalysisOptions, make_document
from explore_async.analysis.figures import draw_figures
from explore_async.analysis.report import make_page
from explore_async.analysis.result import Analysis
from explore_async.curation.collections.collection import Collection
from explore_async.curation.collections.data_set import DataSet
from explore_async.curation.collections.open import DataSource, open_one_of, runs_inside
from explore_async.curation.collections.output_places import check_not_read, check_outside_data
from explore_async.curation.embeddings import Embedder, embedder_of
from explore_async.curation.ray_workers import RayWorkers
from explore_async.curation.tokenizers import check_tokenizer, tokenizer_of
from explore_async.errors import ConfigError, DataError, StorageError
from explore_async.ray_cluster import ray_at_hand
from explore_async.storage.places import place
from explore_async.storage.whole_files import replacing, storage_errors, write_json
from rouge_kernels import warm_up

_MOST_AT_THE_END = 20_000
"""Examples that a run's own report examines: about half a minute of two cores."""


def _silent(_step: str) -> None:
    """Shows no progress."""


def _without_rows(figures: Any) -> Any:
    """Without the lists in it, which are there to be read or drawn."""
    if not isinstance(figures, Mapping):
        return figures
    return {name: _without_rows(value) for name, value in figures.items() if not isinstance(value, list)}


def _keep(collections: Sequence[Collection], documents: Sequence[Mapping[str, Any]]) -> None:
    """Writes the main figures into our own directories, for cards of later exports, where they can be written."""
    for collection, document in zip(collections, documents, strict=True):
        if collection.coverage_file is not None:
            pairs, overlap = document["verb_noun"], document["overlap"]
            figures = {
                "examples": document["examples"],
                "examined": document["examined"],
                **{name: pairs[name] for name in ("unique", "mean_occurrences", "std_occurrences", "with_pair")},
                "pairs_left_out": pairs["left_out"],
                "other_language": document["other_language"],
                **{name: pairs[name] for name in ("chao1", "unseen_mass", "entropy_bits", "hill", "coverage")},
                "overlap_nearest": overlap["greatest"]["mean"],
                "overlap_all": overlap["mean"]["mean"],
                "near_duplicates": document["duplicates"]["near"],
                "compression": document["compression"],
                "shape": _without_rows(document["shape"]),
                "facets": _without_rows(document["facets"]),
                "cost": document["cost_per"],
                "semantic": _without_rows(document["semantic"]),
            }
            with suppress(StorageError):
                write_json(collection.coverage_file, figures)


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The files that an analysis writes; None for those that are not wanted."""

    report: Path | None
    """A page with pictures and tables (.html)."""
    document: Path | None
    """All figures (.json)."""
    figures: Path | None
    """A folder for pictures, each as SVG and PNG."""


def analyze_data(
    *sources: DataSource,
    report: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    spacy_model: str | None = None,
    tokenizer: str = "auto",
    most: int = MOST_READ,
    columns: Mapping[str, str] | None = None,
    semantic: bool | Embedder = False,
    prompt_weight: float = PROMPT_WEIGHT,
    engine: Literal["local", "ray"] = "local",
    on_progress: Callable[[str], None] = _silent,
) -> Analysis:
    """Measures the coverage of one dataset, or of several side by side. A folder of runs counts as all of them.

    Writes a page with pictures (`report`, .html), all figures (`out`, .json) and pictures for a paper (`figures`, a
    folder) where they are wanted. `spacy_model`: an installed model or a folder; None takes for each dataset the one
    for its language, and leaves the figures of verbs and nouns out where there is none. `tokenizer`: rouge, unicode, or
    auto: that of the run, else the one that the letters call for. Of a larger dataset `most` examples are examined.
    `semantic`: compares by meaning too, by MiniLM (the extra `embed`) or by an embedder of your own.
    `prompt_weight`: generated tokens that a token of a prompt costs, unless a prefix cache held it.
    `engine`: ray parses and compares by Ray (the extra `ray`), with the same figures.
    `columns` maps our names to those of files of rows. `on_progress` gets the name of the step that begins.

    Raises ConfigError for options that do not fit and for packages that are missing (the extra `analysis`), DataError
    for a fault in the data and where there is no example, StorageError for what cannot be written.
    """
    if not sources:
        raise ConfigError("analyze needs a source: give a path or an open dataset")
    check_tokenizer(tokenizer)
    if not 0 <= prompt_weight <= 1:
        raise ConfigError(f"--prompt-weight {prompt_weight}: give a number from 0 to 1")
    files = OutputFiles(*(None if path is None else place(path) for path in (report, out, figures)))
    _check_places(files, [source.path if isinstance(source, DataSet) else place(source) for source in sources])
    collections = [collection for source in sources for collection in _collections(source, columns)]
    tokenizer = tokenizer_of(tokenizer, collections)
    embedder = embedder_of(semantic) if semantic else None
    with ray_at_hand() if engine == "ray" else nullcontext():
        options = AnalysisOptions(
            spacy_model=spacy_model,
            tokenizer=tokenizer,
            most_read=most,
            embedder=embedder,
            prompt_weight=prompt_weight,
            workers=RayWorkers() if engine == "ray" else None,
        )
        on_progress("loading")
        warm_up()
        document = make_document(collections, options, on_progress=on_progress)
    if not any(of_set["examples"] for of_set in document["sets"]):
        raise DataError(f"{', '.join(str(collection.path) for collection in collections)}: there are no examples")
    _keep(collections, document["sets"])
    return Analysis(document, _write(document, files))


def _collections(source: DataSource, columns: Mapping[str, str] | None) -> list[Collection]:
    if isinstance(source, DataSet):
        return [source.collection]
    paths = runs_inside(place(source)) or [place(source)]
    return [open_one_of(path, columns) for path in paths]


def _write(document: Mapping[str, Any], files: OutputFiles) -> tuple[Path, ...]:
    outputs = {}
    if files.document is not None:
        outputs[files.document] = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if files.report is not None:
        outputs[files.report] = make_page(document).encode()
    if files.figures is not None:
        outputs |= {files.figures / name: content for name, content in draw_figures(document)}
    for path in outputs:
        with storage_errors(path):
            path.resolve().parent.mkdir(parents=True, exist_ok=True)
    with replacing([path.resolve() for path in outputs]) as opened:
        for file, (path, content) in zip(opened, outputs.items(), strict=True):
            with storage_errors(path):
                file.write(content)
    return tuple(outputs)


def _check_places(files: OutputFiles, sources: Sequence[Path]) -> None:
    """Raises ConfigError where data would be written over, or where a name does not fit."""
    for option, path, suffix in (("--report", files.report, ".html"), ("--out", files.document, ".json")):
        if path is None:
            continue
        if path.suffix != suffix:
            raise ConfigError(f"{option} {path}: the name must end in {suffix}")
        check_not_read(option, path, sources)
        if suffix == ".json":
            check_outside_data(option, path)
    if files.figures is not None and files.figures.exists() and not files.figures.is_dir():
        raise ConfigError(f"--figures {files.figures}: it is a file; give a folder")


def check_report_possible() -> None:
    """Raises ConfigError where the packages of a report are not installed, before any work for it begins."""
    if any(find_spec(name) is None for name in ("plotly", "spacy")):
        raise ConfigError("the report needs plotly and spaCy: pip install 'explore-async[analysis]'")


def report_of_run(
    data: Path, path: Path, tokenizer: str, spacy_model: str | None, on_progress: Callable[[str], None] = _silent
) -> None:
    """Writes the report of a run that has ended about its data.

    Raises ExploreError where there can be no report, which is no failure of the run.
    """
    analyze_data(
        data,
        report=path,
        spacy_model=spacy_model,
        tokenizer=tokenizer,
        most=_MOST_AT_THE_END,
        on_progress=on_progress,
    )
