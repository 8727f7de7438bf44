"""Replay of a run from its stored completions, as by `run --offline`, and the comparison with the files of the run.

It only reads, the files first and then the completions: a run in progress stores a completion before it writes what
follows from it, so the completions lead at least to what the files had. Where the run has not ended, a file may end
early, but has to be a beginning of what is derived.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from explore_async.curation.known_texts import read_known
from explore_async.curation.passage_files import with_passages
from explore_async.doctor.comparing import LinesCompared, has_grown_from
from explore_async.doctor.findings import Check, Findings
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, Event, Outcome, Request
from explore_async.running.records import Lines
from explore_async.running.result import FINISHED
from explore_async.running.tally import Tally
from explore_async.settings.recipe import SIMULATED, Recipe
from explore_async.storage.completions import StoredReader
from explore_async.storage.directory import RunDirectory
from explore_async.terminal.counts import counted

_COMMITS_BETWEEN_REPORTS = 500
_DERIVE = "--repair derives it again and keeps the present file aside"


@dataclass(frozen=True, slots=True)
class Replay:
    """The tree and the counts that the stored completions lead to. finished: they reach the run's own end."""

    finished: bool
    tree: dict[str, Any]
    figures: dict[str, Any]


def replay(
    recipe: Recipe,
    known: Sequence[tuple[str, str]],
    reader: StoredReader | None,
    files: tuple[LinesCompared, LinesCompared],
    report: Callable[[str], None],
) -> Replay:
    """Gives the lines to `files` (the dataset, the evidence) as they come. Raises an ExploreError where it cannot."""
    explorer, prompts = Explorer(recipe, known), PromptBook(recipe)
    tally, lines = Tally(recipe.answer_format), Lines([domain.system for domain in recipe.domains])
    keys: dict[int, str] = {}  # of the request that is being committed

    def stored_outcome(request: Request) -> Outcome | None:
        key = keys[request.ordinal] = prompts.render(request).key
        stored = None if reader is None else reader.get_many([key]).get(key)
        if stored is None and reader is not None and (otherwise := prompts.as_joint(request)) is not None:
            key = otherwise.key
            stored = reader.get_many([key]).get(key)
            if stored is not None and isinstance(stored.outcome, Completion):
                keys[request.ordinal] = key
            else:
                stored = None
        return None if stored is None else stored.outcome

    def expect(events: Sequence[Event], key: str | None) -> None:
        for file, documents in zip(files, lines.of(events, key), strict=True):
            file.expect(documents)

    seeds = explorer.seed_events()
    tally.seeds(seeds)
    expect(seeds, None)
    for request, outcome, events in play(explorer, stored_outcome):
        tally.commit(request, outcome, events)
        expect(events, keys.pop(request.ordinal))
        if (done := tally.requests.total()) % _COMMITS_BETWEEN_REPORTS == 0:
            report(f"{counted(done, 'completion')} replayed")
    simulated = tally.simulated or SIMULATED in recipe.wanted_models
    figures = {"digest": recipe.digest, "model": recipe.model, "simulated": simulated}
    tree = {"name": recipe.name, "digest": recipe.digest, "trees": explorer.trees()}
    counts = tally.counts(surplus=explorer.surplus(), unfinished=explorer.unfinished, passages=explorer.passages())
    return Replay(explorer.is_over, tree, {**figures, **counts.document()})


def compare(
    directory: RunDirectory,
    recipe: Recipe,
    reader: StoredReader | None,
    findings: Findings,
    report: Callable[[str], None],
    *,
    in_use: bool,
) -> Replay:
    """Adds a finding for each derived file. `reader` is None where nothing is stored yet. Raises ExploreError."""
    recipe = with_passages(recipe)
    _, known = read_known(recipe.against)
    tree, stats = _content(directory.tree), _content(directory.stats)
    with LinesCompared(directory.dataset) as dataset, LinesCompared(directory.decisions) as decisions:
        replayed = replay(recipe, known, reader, (dataset, decisions), report)
        for file in (dataset, decisions):
            file.end()
    said = {} if stats is None else _document(stats)
    ended = not in_use and said is not None and said.get("ending") in FINISHED
    _lines(Check.DATASET, dataset, replayed, findings, ended=ended, in_use=in_use)
    _lines(Check.DECISIONS, decisions, replayed, findings, ended=ended, in_use=in_use)
    _tree(tree, replayed, findings, ended=ended)
    _stats(said, replayed, findings, ended=ended, in_use=in_use)
    return replayed


def _lines(
    check: Check, file: LinesCompared, replayed: Replay, findings: Findings, *, ended: bool, in_use: bool
) -> None:
    if file.differs_at is not None:
        beyond = ": the file goes on beyond them" if file.differs_at > file.lines else ""
        says = f"line {file.differs_at:,} is not what the stored completions lead to{beyond}"
        findings.wrong(check, says, _DERIVE, mends=True)
    elif not file.behind:
        findings.ok(check, f"{counted(file.lines, 'line')}, as the stored completions have it")
    elif ended:
        says = f"{file.behind:,} of {file.lines:,} lines are missing, though the run ended"
        findings.wrong(check, says, "--repair, or the same run again, writes them", mends=True)
    else:
        says = f"{file.behind:,} of {file.lines:,} lines are not written yet"
        do = "the run in progress writes them" if in_use else "the same run again, or --repair, writes them"
        findings.note(check, says, do, mends=replayed.finished and not in_use)


def _tree(content: bytes | None, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    check = Check.TREE
    if content is None:
        _missing(check, replayed, findings, ended=ended)
        return
    found = _document(content)
    if found == replayed.tree:
        findings.ok(check, "as the stored completions have it")
    elif found is not None and not ended and _is_earlier(found, replayed.tree):
        findings.ok(check, "as it was at an earlier time")
    else:
        findings.wrong(check, "not what the stored completions lead to", _DERIVE, mends=True)


def _is_earlier(found: dict[str, Any], tree: dict[str, Any]) -> bool:
    trees = found.get("trees")
    try:
        return {**found, "trees": tree["trees"]} == tree and has_grown_from(trees or (), tree["trees"])
    except (TypeError, AttributeError):  # it is JSON, but no tree
        return False


_COUNTED = ("requests", "tokens", "tasks", "examples")
"""The counts that every version writes."""


def _stats(said: dict[str, Any] | None, replayed: Replay, findings: Findings, *, ended: bool, in_use: bool) -> None:
    check = Check.STATS
    if said == {}:
        _missing(check, replayed, findings, ended=ended)
    elif said is None or said.get("digest") != replayed.figures["digest"]:
        findings.wrong(check, "these are not the figures of this run", _DERIVE, mends=True)
    elif ended and any(said.get(key) != value for key, value in replayed.figures.items() if key in {*said, *_COUNTED}):
        findings.wrong(check, "its counts are not those of the stored completions", _DERIVE, mends=True)
    else:
        earlier = "of some seconds ago, as the run goes on" if in_use else "of an earlier stop"
        findings.ok(check, f"ended: {said.get('ending')}" if ended else earlier)


def _missing(check: Check, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    do = "the same run again, or --repair, writes it"
    if ended:
        findings.wrong(check, "it is missing, though the run ended", do, mends=True)
    elif replayed.finished:
        findings.note(check, "it is not written yet", do, mends=True)
    else:
        findings.ok(check, "not written yet: a run writes it as it goes on")


def _content(path: Path) -> bytes | None:
    """The bytes of the file; None where it is missing."""
    return path.read_bytes() if path.exists() else None


def _document(body: bytes) -> dict[str, Any] | None:
    """The JSON object in the body; None where it is something else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
