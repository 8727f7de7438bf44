"""A run led through its stored answers once more, as by `run --offline`, and compared with the files that are there.

Nothing is written. The files of a run that is not at its end may be behind, but have to be a beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from explore_async.curation.known_texts import read_known
from explore_async.doctor.comparing import LinesCompared, has_grown_from
from explore_async.doctor.findings import Findings
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Event, Outcome, Request
from explore_async.running.records import Lines
from explore_async.running.result import FINISHED
from explore_async.running.tally import Tally
from explore_async.settings.recipe import SIMULATED, Recipe
from explore_async.storage.completions import StoredReader
from explore_async.storage.directory import RunDirectory

DERIVED = ("dataset.jsonl", "decisions.jsonl", "tree.json", "stats.json")
_COMMITS_BETWEEN_REPORTS = 500
_DERIVE = "--repair derives it anew and keeps the one there aside"


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
    explorer, render = Explorer(recipe, known), PromptBook(recipe).render
    tally, lines = Tally(), Lines()
    keys: dict[int, str] = {}  # of the request that is being committed

    def stored_outcome(request: Request) -> Outcome | None:
        key = keys[request.ordinal] = render(request).key
        stored = None if reader is None else reader.get_many([key]).get(key)
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
            report(f"{done:,} answers replayed")
    simulated = tally.simulated or SIMULATED in recipe.wanted_models
    figures = {"digest": recipe.digest, "model": recipe.model, "simulated": simulated}
    tree = {"name": recipe.name, "digest": recipe.digest, "trees": explorer.trees()}
    return Replay(explorer.is_over, tree, {**figures, **tally.counts(surplus=explorer.surplus()).document()})


def compare(
    directory: RunDirectory,
    recipe: Recipe,
    reader: StoredReader | None,
    findings: Findings,
    told: Callable[[str], None],
    *,
    in_use: bool,
) -> Replay:
    """Says of each derived file whether it is what the answers lead to; reader None: there are none yet."""
    _, known = read_known(recipe.against)
    with LinesCompared(directory.dataset) as dataset, LinesCompared(directory.decisions) as decisions:
        replayed = replay(recipe, known, reader, (dataset, decisions), told)
        for file in (dataset, decisions):
            file.end()
    said = _document(directory.stats.read_bytes()) if directory.stats.exists() else {}
    ended = not in_use and said is not None and said.get("ending") in FINISHED
    for file in (dataset, decisions):
        _lines(file, replayed, findings, ended=ended)
    _tree(directory, replayed, findings, ended=ended)
    _stats(said, replayed, findings, ended=ended)
    return replayed


def _lines(file: LinesCompared, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    name = file.path.name
    if file.differs_at is not None:
        beyond = " goes on beyond them" if file.differs_at > file.lines else ""
        says = f"line {file.differs_at:,} is not what the stored answers lead to{beyond and ':' + beyond}"
        findings.wrong(name, says, _DERIVE, mends=True)
    elif not file.behind:
        findings.ok(name, f"{file.lines:,} lines, as the stored answers have it")
    elif ended:
        says = f"{file.behind:,} of {file.lines:,} lines are missing, though the run ended"
        findings.wrong(name, says, "--repair, or the same run again, writes them", mends=True)
    else:
        says = f"{file.behind:,} of {file.lines:,} lines are not written yet"
        findings.note(name, says, "the same run again, or --repair, writes them", mends=replayed.finished)


def _tree(directory: RunDirectory, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    name = directory.tree.name
    if not directory.tree.exists():
        _missing(name, replayed, findings, ended=ended)
        return
    found = _document(directory.tree.read_bytes())
    if found == replayed.tree:
        findings.ok(name, "as the stored answers have it")
    elif found is not None and not ended and _is_earlier(found, replayed.tree):
        findings.ok(name, "as it was some time ago")
    else:
        findings.wrong(name, "not what the stored answers lead to", _DERIVE, mends=True)


def _is_earlier(found: dict[str, Any], tree: dict[str, Any]) -> bool:
    trees = found.get("trees")
    try:
        return {**found, "trees": tree["trees"]} == tree and has_grown_from(trees or (), tree["trees"])
    except (TypeError, AttributeError):  # it is JSON, but no tree
        return False


def _stats(said: dict[str, Any] | None, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    name = "stats.json"
    if said == {}:
        _missing(name, replayed, findings, ended=ended)
    elif said is None or said.get("digest") != replayed.figures["digest"]:
        findings.wrong(name, "these are not the figures of this run", _DERIVE, mends=True)
    elif ended and any(said.get(key) != value for key, value in replayed.figures.items()):
        findings.wrong(name, "its counts are not those of the stored answers", _DERIVE, mends=True)
    else:
        findings.ok(name, f"ended: {said.get('ending')}" if ended else "of an earlier stop")


def _missing(name: str, replayed: Replay, findings: Findings, *, ended: bool) -> None:
    do = "the same run again, or --repair, writes it"
    if ended:
        findings.wrong(name, "it is missing, though the run ended", do, mends=True)
    elif replayed.finished:
        findings.note(name, "it is not written yet", do, mends=True)
    else:
        findings.ok(name, "not written yet: a run writes it as it goes on")


def _document(body: bytes) -> dict[str, Any] | None:
    """The JSON object there, None where there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
