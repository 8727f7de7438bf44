"""Revises examples that exist: `answer` has their instructions answered again, `rate` has their answers scored.

The directory is that of a run, with data.json beside config.json: it resumes like a run, and all commands on data read
it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from explore_async import __version__
from explore_async.curation.collections.collection import Collection, ExampleRow, Node, below, printable_path
from explore_async.curation.collections.data_directory import describe_origin, pruned_document
from explore_async.curation.collections.marks import MARKS_FILE, mark_lines
from explore_async.curation.collections.run_data import DATA_FILE, DATA_FORMAT, PRUNED_FILE
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.revising import Given, Reviser
from explore_async.exploration.values import Form
from explore_async.running.backend import BackendFactory
from explore_async.running.checking import require_programs
from explore_async.running.checkpointing import StartingPoint
from explore_async.running.observer import Observer, SilentObserver
from explore_async.running.resolving import first_model
from explore_async.running.result import FINISHED, RunResult
from explore_async.running.revised_lines import RevisedLines
from explore_async.running.start import Mode, carry_out
from explore_async.running.tally import Tally
from explore_async.settings.recipe import MEANING, MEANINGS, Recipe
from explore_async.settings.revision import RevisedData, Revision, RevisionSettings
from explore_async.storage.digested import DigestedDocument
from explore_async.storage.directory import RunDirectory
from explore_async.storage.places import local_place
from explore_async.storage.whole_files import storage_errors, write_json, write_whole

_STAGES: Final = {"answers", "judging"}


async def revise(
    source: Collection,
    settings: RevisionSettings,
    out: str | os.PathLike[str],
    *,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
    tune_collector: bool = False,
) -> RunResult:
    """Revises all examples of the source into the directory `out`, or goes on with it; see `running.start.run`."""
    if mode != "offline":
        await asyncio.to_thread(require_programs, settings.checks)
    path, observer = local_place(out), observer if observer is not None else SilentObserver()
    observer.phase(f"reading {printable_path(source.path)}")
    notes: list[str] = []
    bad_rows = 0

    def read() -> RevisionJob:
        nonlocal bad_rows
        job = RevisionJob(settings, source, path)
        notes.extend(source.notes)
        bad_rows = source.bad_rows
        return job

    result = await carry_out(
        read,
        settings.operation,
        path,
        mode=mode,
        observer=observer,
        handle_signals=handle_signals,
        tune_collector=tune_collector,
    )
    for note in notes:
        observer.phase(note)
    return replace(result, bad_rows=bad_rows)


class RevisionJob:
    """To revise the examples of a source. It reads them all once when it is made: for their digest. Raises ConfigError
    where the source itself is to be written.
    """

    document: type[Any] = Revision

    def __init__(self, settings: RevisionSettings, source: Collection, out: Path) -> None:
        if out.resolve() == source.path.resolve():
            raise ConfigError(f"--out {out}: it is the source, which stays as it is; choose another directory")
        self._settings = settings
        self._source = source
        self._trees = source.trees()
        self._data = _survey(source, self._trees)

    @property
    def needs_served_model(self) -> bool:
        settings = self._settings
        return settings.operation.server is None and not all(map(settings.model_of, settings.kinds))

    @property
    def compares_at_start(self) -> bool:
        return False

    async def resolved(self, previous: Any, new_backend: BackendFactory, *, offline: bool) -> Revision:
        """The model is the one of the settings, else of the directory, else the one that the endpoints serve. The rules
        are those of the directory, else those of today.
        """
        if isinstance(previous, Revision):
            meaning = previous.meaning if previous.meaning in MEANINGS else MEANING
            return self._settings.resolved(model=previous.model, meaning=meaning, data=self._data)
        is_asked_for = not offline and self.needs_served_model
        model = await first_model(
            self._settings.model, self._settings.operation, new_backend, is_asked_for=is_asked_for
        )
        return self._settings.resolved(model=model, meaning=MEANING, data=self._data)

    @staticmethod
    def as_it_began(document: DigestedDocument, directory: RunDirectory) -> DigestedDocument:
        del directory
        return document

    def recipe(self, document: DigestedDocument) -> Recipe:
        return _revision(document).as_recipe([(root["name"], root["reason"]) for root in self._trees])

    @staticmethod
    def forms(prompts: PromptBook) -> tuple[Form, ...]:
        return tuple(form for form in prompts.forms() if form.sampling in _STAGES)

    def starting_point(self, document: DigestedDocument) -> StartingPoint:
        revision, recipe = _revision(document), self.recipe(document)
        lines = RevisedLines(revision.made_by, revision.system, votes=revision.vote)

        def examples(begin: int) -> Iterator[Given]:
            return lines.given(self._rows(begin))

        count, digest = revision.data.examples, revision.digest
        reviser = Reviser(recipe, self._trees, examples, count=count, digest=digest, votes=revision.vote)
        return StartingPoint(reviser, Tally(recipe.answer_format), lines)

    def _rows(self, begin: int) -> Iterator[ExampleRow]:
        """The examples from this position on, as many as there were: a run may add others meanwhile."""
        number = begin
        for row in islice(self._source.examples(), begin, self._data.examples):
            number += 1
            yield row
        if number < self._data.examples:
            raise DataError(f"{self._source.path}: it has changed since this command began to read it; start again")

    def begin(self, directory: RunDirectory, document: DigestedDocument) -> None:
        """Makes it a data directory. Readers may have marked examples of the source: scores leave the marks."""
        self._describe(directory, _revision(document), {})
        with storage_errors(directory.path):
            if pruned := self._source.pruned:
                write_json(directory.path / PRUNED_FILE, pruned_document(self._trees, pruned))
            marks = directory.path / MARKS_FILE
            if self._settings.made_by == "rate" and self._source.marks and not marks.exists():
                write_whole(marks, mark_lines(self._source.marks))

    def end(self, directory: RunDirectory, document: DigestedDocument, result: RunResult) -> None:
        """Says how many examples there are, once that is final: from then on others are a sign of damage."""
        if result.ending in FINISHED:
            examples = result.stats.examples
            counts = {
                "kept": examples.kept,
                "dropped": {"total": examples.total_dropped, **examples.dropped},
                "tasks_with_examples": result.stats.tasks.with_examples,
            }
            self._describe(directory, _revision(document), {"examples": counts})

    def _describe(self, directory: RunDirectory, revision: Revision, counts: Mapping[str, Any]) -> None:
        settings: dict[str, Any] = {"model": revision.model, "models": revision.models}
        if revision.made_by == "answer":
            settings |= {"system": revision.system, "answers_per_instruction": revision.answers_per_instruction}
            settings |= {"vote": True} if revision.vote else {}
        settings["judge"] = None if revision.judge is None else revision.judge.model_dump(mode="json")
        origin = describe_origin(revision.made_by, [self._source], settings)
        if recipe := self._source.recipe:
            origin["recipe"] = _as_revised(recipe, revision)
        write_json(
            directory.path / DATA_FILE,
            {"format": DATA_FORMAT, "explore_async": __version__, **origin, "digest": revision.digest, **counts},
        )


def _revision(document: DigestedDocument) -> Revision:
    assert isinstance(document, Revision)
    return document


def _as_revised(recipe: Mapping[str, Any], revision: Revision) -> dict[str, Any]:
    """The recipe of a run, with what has been asked about its instructions since. `revised` names the commands."""
    models, sampling = dict(recipe.get("models") or {}), dict(recipe.get("sampling") or {})
    changed: dict[str, Any] = {"revised": [*recipe.get("revised", ()), revision.made_by]}
    settings = revision.model_dump(mode="json")
    if revision.made_by == "answer":
        changed |= {"responses": "separate", "answers_per_instruction": revision.answers_per_instruction, "turns": 1}
        changed |= {"judge": None, "checks": settings["checks"]}
        recipe = {name: value for name, value in recipe.items() if name != "vote"}
        changed |= {"vote": True} if revision.vote else {}
        models = {kind: name for kind, name in models.items() if kind != "judge"} | {
            "answer": revision.model_of("answer")
        }
        sampling["answers"] = settings["sampling"]["answers"]
        if revision.system is not None:
            changed["domains"] = [{**domain, "system": revision.system} for domain in recipe.get("domains", ())]
    if revision.judge is not None:
        changed["judge"] = settings["judge"]
        models["judge"] = revision.model_of("judge")
        sampling["judging"] = settings["sampling"]["judging"]
    return {**recipe, **changed, "models": models, "sampling": sampling}


def _survey(source: Collection, trees: Sequence[Node]) -> RevisedData:
    """Reads all examples once. Raises DataError where there are none, where two have the same id, and where a value
    cannot be written.
    """
    digest = hashlib.blake2b(digest_size=16)
    for root in trees:
        for node in below(root):
            digest.update(orjson.dumps([node["id"], node["name"], node["reason"]]))
    seen: set[str] = set()
    for row in source.examples():
        if row["id"] in seen:
            raise DataError(f"{source.path}: the id {row['id']!r} is there twice")
        seen.add(row["id"])
        try:
            digest.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        except TypeError as error:
            raise DataError(
                f"{source.path}: example {row['id']}: JSON has no form for one of its columns; leave the column out"
            ) from error
    if not seen:
        raise DataError(f"{source.path}: it holds no examples")
    path = printable_path(source.path.resolve())
    return RevisedData(name=source.name, path=path, examples=len(seen), texts=digest.hexdigest())
