"""The checks of a run directory. They only read, and may be made while the run is in progress."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from explore_async import __version__
from explore_async.doctor.completions import Report, check_completions
from explore_async.doctor.findings import DERIVED_FILES, Check, Findings
from explore_async.doctor.replaying import Replay, compare
from explore_async.errors import ExploreError, NewerFormat, OtherWork, StorageError
from explore_async.settings.comparison import Comparison
from explore_async.settings.recipe import MEANING, MEANINGS, Recipe
from explore_async.settings.revision import Revision
from explore_async.storage.checkpoint import StaleCheckpoint, check_begins, read
from explore_async.storage.completions import StoredReader, read_contents
from explore_async.storage.directory import WRITTEN_WHOLE, RunDirectory
from explore_async.storage.salvage import is_half_mended, leftovers
from explore_async.terminal.counts import counted

_ADOPT = "restore it; or `explore-async run CONFIG --adopt` with its config goes on with the stored completions"


@dataclass(slots=True)
class Examination:
    """Results that later checks need from earlier ones; each is None or False where its check could not tell."""

    in_use: bool = False
    recipe: Recipe | None = None
    is_revision: bool = False
    """It is the directory of `answer` or `rate`."""
    completions: int | None = None
    """Number of stored completions and failures."""
    replay: Replay | None = None


def check_is_run(directory: RunDirectory) -> None:
    """Raises StorageError where this is not a run directory at all."""
    if not directory.path.is_dir():
        raise StorageError(f"{directory.path}: no such directory")
    if not (directory.config.exists() or directory.completions.exists() or is_half_mended(directory.completions)):
        raise StorageError(f"{directory.path}: not a run directory: it has neither config.json nor completions.sqlite")


def examine(directory: RunDirectory, report: Report) -> tuple[Findings, Examination]:
    """Makes every check of a run directory. If a run begins in it meanwhile, it is examined again, as one in use."""
    findings, found = _examine(directory, report)
    if not found.in_use and _is_in_use(directory):
        return _examine(directory, report)
    return findings, found


def _examine(directory: RunDirectory, report: Report) -> tuple[Findings, Examination]:
    findings, found = Findings(), Examination()
    if not _permissions(directory, findings):
        return findings, found
    _in_use(directory, findings, found)
    _config(directory, findings, found)
    found.completions = check_completions(directory, findings, report, still=not found.in_use)
    _derived(directory, findings, found, report)
    if found.recipe is not None and found.completions is not None and not found.in_use:
        _checkpoint(directory, findings, found.recipe)
    _space(directory, findings, found)
    if not found.in_use:
        _leftovers(directory, findings)
    elif not directory.in_use:
        findings.note(Check.IN_USE, "the run ended during this examination", "run doctor again")
    return findings, found


def _permissions(directory: RunDirectory, findings: Findings) -> bool:
    """True where everything in the directory can be read."""
    path = directory.path
    store = directory.completions.name
    names = (*DERIVED_FILES, *WRITTEN_WHOLE, store, f"{store}-wal", f"{store}-shm", ".lock")
    places = [path, *(path / name for name in names if (path / name).exists())]
    if strange := [place for place in places[1:] if not place.is_file()]:
        findings.wrong(Check.PERMISSIONS, f"{strange[0].name} is not a regular file", "move it away")
        return False
    unreadable = [place for place in places if not os.access(place, os.R_OK | (os.X_OK if place == path else 0))]
    if unreadable:
        findings.wrong(Check.PERMISSIONS, f"{unreadable[0].name} cannot be read", "let this user read and write it")
    elif fixed := [place for place in places if not os.access(place, os.W_OK)]:
        findings.note(
            Check.PERMISSIONS, f"{fixed[0].name} cannot be written", "to go on with the run, let this user write it"
        )
    else:
        findings.ok(Check.PERMISSIONS, "every file can be read and written")
    return not unreadable


def _is_in_use(directory: RunDirectory) -> bool:
    """False also where it cannot be known; a finding says so then."""
    with suppress(StorageError):
        return directory.in_use
    return False


def _in_use(directory: RunDirectory, findings: Findings, found: Examination) -> None:
    try:
        found.in_use = directory.in_use
    except StorageError as error:
        findings.wrong(Check.IN_USE, str(error))
        return
    if found.in_use:
        says = "another process is running in it: its files may be behind, and nothing is repaired meanwhile"
        findings.note(Check.IN_USE, says)
    else:
        findings.ok(Check.IN_USE, "no process is running in it")


def _config(directory: RunDirectory, findings: Findings, found: Examination) -> None:
    check = Check.CONFIG
    try:
        found.recipe = recipe = directory.recipe(Recipe)
    except OtherWork:
        found.is_revision = True
        _config_of_revision(directory, findings)
        return
    except StorageError as error:
        newer = isinstance(error, NewerFormat)
        do = "update explore_async" if newer else f"--repair keeps it aside; then {_ADOPT}"
        findings.wrong(check, str(error), do, mends=not newer)
        return
    if recipe is None:
        findings.wrong(check, "it is gone", _ADOPT)
        return
    document = orjson.loads(directory.config.read_bytes())
    if document.get("digest") == recipe.digest:
        findings.ok(check, f"format {document['format']}, the recipe fits its digest")
    elif document.get("explore_async") != __version__:  # another version may know other settings
        findings.note(check, f"written by version {document.get('explore_async')}; this is {__version__}")
    elif recipe.digest in _digests(directory):
        findings.wrong(check, "its digest was changed, the recipe was not", "--repair writes it again", mends=True)
    else:
        findings.wrong(check, "the recipe was changed: it does not fit its digest", _ADOPT)
        found.recipe = None


def _config_of_revision(directory: RunDirectory, findings: Findings) -> None:
    check, again = Check.CONFIG, "give the command that made it once more, with --adopt"
    try:
        made_by = orjson.loads(directory.config.read_bytes())["recipe"]["made_by"]
        of = directory.recipe
        revision: Revision | Comparison | None = of(Comparison) if made_by == "judge" else of(Revision)
    except StorageError as error:
        findings.wrong(check, str(error), f"restore it; or set it aside and {again}")
        return
    document = orjson.loads(directory.config.read_bytes())
    if revision is not None and document.get("digest") == revision.digest:
        findings.ok(check, f"format {document['format']}, of `explore-async {revision.made_by}`; it fits its digest")
    else:
        findings.wrong(check, "it was changed: it does not fit its digest", f"restore it; or {again}")


def _digests(directory: RunDirectory) -> Iterator[str]:
    """Digests of the recipe that the derived files name."""
    for path in (directory.tree, directory.stats):
        with suppress(OSError, ValueError, AttributeError):
            yield str(orjson.loads(path.read_bytes()).get("digest"))


def _derived(directory: RunDirectory, findings: Findings, found: Examination, report: Report) -> None:
    if found.is_revision:
        findings.note(Check.DERIVED, "not compared: the command that made them does so, with --offline")
        return
    if found.recipe is None or found.completions is None:
        findings.note(Check.DERIVED, "not compared: the recipe and the completions have to be mended first")
        return
    if found.recipe.meaning not in MEANINGS:
        says = f"not compared: version {found.recipe.meaning} of the rules made them, this is {MEANING}"
        findings.note(Check.DERIVED, says)
        return
    if found.in_use and not found.completions:
        findings.note(Check.DERIVED, "not compared: no completion was stored yet", "run doctor again")
        return
    report("loading the index")
    try:
        with ExitStack() as stack:
            reader = None
            if found.completions:
                reader = stack.enter_context(StoredReader(directory.completions, still=not found.in_use))
            found.replay = compare(directory, found.recipe, reader, findings, report, in_use=found.in_use)
    except ExploreError as error:
        findings.wrong(Check.DERIVED, f"cannot be compared: {error}", "mend this, and run doctor again")


def _checkpoint(directory: RunDirectory, findings: Findings, recipe: Recipe) -> None:
    check = Check.CHECKPOINT
    try:
        checkpoint = read(directory, digest=recipe.digest, answers=read_contents(directory.completions).last_row)
        if checkpoint is None:
            return
        for path, mark in ((directory.dataset, checkpoint.dataset), (directory.decisions, checkpoint.decisions)):
            check_begins(path, mark)
    except StaleCheckpoint as unfit:
        findings.note(check, f"the next start will replay everything: {unfit}", "--repair removes it", mends=True)
    except ExploreError as error:
        findings.wrong(check, str(error), "remove it: the next start then replays everything")
    else:
        findings.ok(check, f"the next start goes on after {counted(checkpoint.dataset.lines, 'example')}")


def _space(directory: RunDirectory, findings: Findings, found: Examination) -> None:
    """Compares the free space with what the run still needs; a finished run needs room to be derived again."""
    size = sum(path.stat().st_size for path in directory.path.iterdir() if path.is_file())
    free = shutil.disk_usage(directory.path).free
    wanted = found.recipe.targets.examples if found.recipe is not None else None
    kept = 0 if found.replay is None else found.replay.figures["examples"]["kept"]
    growing = found.replay is not None and not found.replay.finished
    more = size * (wanted - kept) // kept if growing and wanted and kept else size
    says = f"{_mib(free)} free; the run takes {_mib(size)}"
    if free >= more:
        findings.ok(Check.SPACE, says)
    elif growing and kept:
        findings.wrong(Check.SPACE, f"{says}, and about {_mib(more)} more by its end", "make room before it goes on")
    else:
        findings.note(Check.SPACE, says, "make room before it goes on, or is repaired")


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def stale(directory: RunDirectory) -> list[Path]:
    """Files that a killed process left behind and that nothing needs, in a directory that no process runs in."""
    unfinished = [path for name in WRITTEN_WHOLE for path in directory.path.glob(f".{name}.*")]
    live = [directory.live] if directory.live.exists() else []
    return sorted([*unfinished, *live, *leftovers(directory.completions)])


def _leftovers(directory: RunDirectory, findings: Findings) -> None:
    if found := stale(directory):
        says = f"{', '.join(path.name for path in found)}: left by a process that was killed"
        findings.note(Check.LEFTOVERS, says, "--repair removes them; they do no harm", mends=True)
    else:
        findings.ok(Check.LEFTOVERS, "none")
