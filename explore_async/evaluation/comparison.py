"""Has judges compare the answers of two datasets to the same questions.

The directory is that of a run, with data.json and figures.json beside config.json: it resumes like a run, and all
commands on data read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from explore_async import __version__
from explore_async.curation.collections.collection import Collection, printable_path
from explore_async.curation.collections.data_directory import describe_origin
from explore_async.curation.collections.run_data import DATA_FILE, DATA_FORMAT
from explore_async.errors import ConfigError
from explore_async.evaluation.figures import Figures, figures_of
from explore_async.evaluation.lines import ComparisonLines, judged_in
from explore_async.evaluation.naming import names_apart
from explore_async.evaluation.pairing import Pair, paired
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.revising import Given, Reviser
from explore_async.exploration.values import Answer, Example, Form
from explore_async.running.backend import BackendFactory
from explore_async.running.checkpointing import StartingPoint
from explore_async.running.observer import Observer, SilentObserver
from explore_async.running.resolving import first_model
from explore_async.running.result import FINISHED, RunResult
from explore_async.running.start import Mode, carry_out
from explore_async.running.tally import Tally
from explore_async.settings.comparing_recipe import ComparingRecipe
from explore_async.settings.comparison import FIRST_RULES, RULES, ComparedData, Comparison, ComparisonSettings
from explore_async.settings.recipe import MEANING, MEANINGS
from explore_async.storage.digested import DigestedDocument
from explore_async.storage.directory import RunDirectory
from explore_async.storage.places import local_place
from explore_async.storage.whole_files import storage_errors, write_json
from explore_async.terminal.counts import counted

FIGURES_FILE: Final = "figures.json"


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """The end of a comparison. `figures`: None where it has not come to its end; the same call goes on."""

    run: RunResult
    figures: Figures | None


async def compare(
    a: Collection,
    b: Collection,
    settings: ComparisonSettings,
    out: str | os.PathLike[str],
    *,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
    tune_collector: bool = False,
) -> ComparisonResult:
    """Has all questions that both datasets answer judged, into the directory `out`, or goes on with it; see
    `running.start.run`.
    """
    path, observer = local_place(out), observer if observer is not None else SilentObserver()
    jobs: list[ComparisonJob] = []

    def read() -> ComparisonJob:
        jobs.append(ComparisonJob(settings, a, b, path))
        return jobs[0]

    observer.phase(f"reading {printable_path(a.path)} and {printable_path(b.path)}")
    result = await carry_out(
        read,
        settings.operation,
        path,
        mode=mode,
        observer=observer,
        handle_signals=handle_signals,
        tune_collector=tune_collector,
    )
    (job,) = jobs
    for note in (*a.notes, *b.notes, *job.notes):
        observer.phase(note)
    return ComparisonResult(replace(result, bad_rows=a.bad_rows + b.bad_rows), job.figures)


class ComparisonJob:
    """To compare two datasets, which it reads when it is made. Raises ConfigError where one of them is to be written,
    and DataError where they have no question in common.
    """

    document: type[Any] = Comparison
    compares_at_start = False

    def __init__(self, settings: ComparisonSettings, a: Collection, b: Collection, out: Path) -> None:
        if out.resolve() in {a.path.resolve(), b.path.resolve()}:
            raise ConfigError(
                f"--out {out}: it is one of the datasets, which stay as they are; choose another directory"
            )
        self._settings = settings
        self._sources = a, b
        self._rules = RULES
        self._pairs = paired(a, b, settings.by, rules=self._rules)
        self.figures: Figures | None = None

    def _data(self) -> ComparedData:
        a, b = self._sources
        first, second = (a.name, b.name) if self._rules == FIRST_RULES else names_apart(self._sources)
        return ComparedData(
            names=(first, second),
            paths=(printable_path(a.path.resolve()), printable_path(b.path.resolve())),
            questions=len(self._pairs.found),
            only=self._pairs.only,
            texts=self._pairs.digest(),
        )

    def _go_by(self, rules: int) -> None:
        """Pairs the rows by the rules that the comparison began with."""
        if rules != self._rules:
            self._rules = rules
            self._pairs = paired(*self._sources, self._settings.by, rules=rules)

    @property
    def notes(self) -> Iterator[str]:
        """Says which answers were left out, and which nobody was asked about."""
        if self._rules > FIRST_RULES and (equal := self._pairs.equal):
            of = f"{counted(equal, 'question')} of {len(self._pairs.found):,}"
            yield f"{of} with the same answer in both: a tie, and no judge is asked"
        for source, number in zip(self._sources, self._pairs.only, strict=True):
            if number:
                where = printable_path(source.path)
                yield f"{where}: {counted(number, 'answer')} left out, as the other has none to the question"

    @property
    def needs_served_model(self) -> bool:
        return self._settings.operation.server is None and not self._settings.judges

    async def resolved(self, previous: Any, new_backend: BackendFactory, *, offline: bool) -> Comparison:
        """The judges are those of the settings, else of the directory, else the model that the endpoints serve. The
        rules are those of the directory, else those of today.
        """
        if isinstance(previous, Comparison):
            self._go_by(previous.rules)
            meaning = previous.meaning if previous.meaning in MEANINGS else MEANING
            return self._settings.resolved(
                judges=previous.judges, meaning=meaning, rules=self._rules, data=self._data()
            )
        judges = self._settings.judges
        if not judges:
            is_asked_for = not offline and self.needs_served_model
            judges = (await first_model(None, self._settings.operation, new_backend, is_asked_for=is_asked_for),)
        if not all(judges):
            raise ConfigError("--judge: name the model that judges; nothing is asked offline")
        return self._settings.resolved(judges=judges, meaning=MEANING, rules=RULES, data=self._data())

    @staticmethod
    def as_it_began(document: DigestedDocument, directory: RunDirectory) -> DigestedDocument:
        del directory
        return document

    def recipe(self, document: DigestedDocument) -> ComparingRecipe:
        return _comparison(document).as_recipe(self._pairs.classes_in_prompts)

    @staticmethod
    def forms(prompts: PromptBook) -> tuple[Form, ...]:
        return prompts.forms()

    def starting_point(self, document: DigestedDocument) -> StartingPoint:
        comparison, recipe = _comparison(document), self.recipe(document)
        trees = self._pairs.trees()
        ids = {root["name"]: root["id"] for root in trees}

        def examples(begin: int) -> Iterator[Given]:
            return (_given(pair, ids[pair.kind]) for pair in islice(self._pairs.found, begin, None))

        reviser = Reviser(recipe, trees, examples, count=len(self._pairs.found), digest=comparison.digest)
        lines = ComparisonLines(self._pairs.classes, comparison.judges)
        return StartingPoint(reviser, Tally(recipe.answer_format), lines)

    def begin(self, directory: RunDirectory, document: DigestedDocument) -> None:
        """Makes it a data directory, without the figures of an earlier end."""
        self._describe(directory, _comparison(document), {})
        with storage_errors(directory.path):
            (directory.path / FIGURES_FILE).unlink(missing_ok=True)

    def end(self, directory: RunDirectory, document: DigestedDocument, result: RunResult) -> None:
        """Writes the figures, once all verdicts are there."""
        if result.ending not in FINISHED:
            return
        comparison = _comparison(document)
        with storage_errors(directory.path), directory.dataset.open("rb") as lines:
            questions = [judged_in(orjson.loads(line)) for line in lines]
        self.figures = figures_of(questions, comparison.judges)
        data = {
            "a": comparison.data.names[0],
            "b": comparison.data.names[1],
            "questions": comparison.data.questions,
            "only_a": comparison.data.only[0],
            "only_b": comparison.data.only[1],
            **({"equal_answers": self._pairs.equal} if self._rules > FIRST_RULES else {}),
        }
        write_json(directory.path / FIGURES_FILE, {"data": data, **self.figures.document()})
        examples = result.stats.examples
        counts = {"kept": examples.kept, "dropped": {"total": 0}, "tasks_with_examples": len(self._pairs.classes)}
        self._describe(directory, comparison, {"examples": counts})

    def _describe(self, directory: RunDirectory, comparison: Comparison, counts: Mapping[str, Any]) -> None:
        settings = {"judges": comparison.judges, "by": comparison.by, "answer_format": comparison.answer_format}
        origin = describe_origin("judge", self._sources, settings) | {"name": " and ".join(comparison.data.names)}
        write_json(
            directory.path / DATA_FILE,
            {"format": DATA_FORMAT, "explore_async": __version__, **origin, "digest": comparison.digest, **counts},
        )


def _comparison(document: DigestedDocument) -> Comparison:
    assert isinstance(document, Comparison)
    return document


def _given(pair: Pair, task_id: str) -> Given:
    answers = Answer(0, pair.a), Answer(1, pair.b)
    return Given(Example(pair.id, task_id, 0, pair.instruction, pair.input, pair.a, answers))
