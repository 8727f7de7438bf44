"""The checks of one run directory. They read only, and may be made while the run is on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from explore_async import __version__
from explore_async.doctor.answers import Told, check_answers
from explore_async.doctor.findings import Findings
from explore_async.doctor.replaying import DERIVED, Replay, compare
from explore_async.errors import ExploreError, NewerFormat, StorageError
from explore_async.settings.recipe import MEANING, Recipe
from explore_async.storage.checkpoint import Unfit, check_begins, read
from explore_async.storage.completions import StoredReader, holding
from explore_async.storage.directory import WRITTEN_WHOLE, RunDirectory
from explore_async.storage.salvage import is_half_mended, leftovers

_ADOPT = "restore it; or `explore-async run CONFIG --adopt` with its config goes on with the stored answers"


@dataclass(slots=True)
class Examined:
    """What later checks need of earlier ones. Each is None or False where it could not be found out."""

    in_use: bool = False
    recipe: Recipe | None = None
    answers: int | None = None
    replayed: Replay | None = None


def check_is_run(directory: RunDirectory) -> None:
    """Raises StorageError where this is no run directory at all."""
    if not directory.path.is_dir():
        raise StorageError(f"{directory.path}: no such directory")
    if not (directory.config.exists() or directory.completions.exists() or is_half_mended(directory.completions)):
        raise StorageError(f"{directory.path}: no run directory: it has neither config.json nor completions.sqlite")


def examine(directory: RunDirectory, told: Told) -> tuple[Findings, Examined]:
    """Every check of a directory that is one of a run."""
    findings, found = Findings(), Examined()
    if not _permissions(directory, findings):
        return findings, found
    _in_use(directory, findings, found)
    _config(directory, findings, found)
    found.answers = check_answers(directory, findings, told, still=not found.in_use)
    _derived(directory, findings, found, told)
    if found.recipe is not None and found.answers is not None and not found.in_use:
        _checkpoint(directory, findings, found.recipe)
    _space(directory, findings, found)
    if not found.in_use:
        _leftovers(directory, findings)
    elif not directory.in_use:
        findings.note("in use", "the run ended while this was being looked at", "look again")
    return findings, found


def _permissions(directory: RunDirectory, findings: Findings) -> bool:
    """Whether everything there can be read."""
    path = directory.path
    store = directory.completions.name
    names = (*DERIVED, *WRITTEN_WHOLE, store, f"{store}-wal", f"{store}-shm", ".lock")
    there = [path, *(path / name for name in names if (path / name).exists())]
    if strange := [one for one in there[1:] if not one.is_file()]:
        findings.wrong("permissions", f"{strange[0].name} is not a regular file", "move it away")
        return False
    unreadable = [one for one in there if not os.access(one, os.R_OK | (os.X_OK if one == path else 0))]
    if unreadable:
        findings.wrong("permissions", f"{unreadable[0].name} cannot be read", "let this user read and write it")
    elif fixed := [one for one in there if not os.access(one, os.W_OK)]:
        findings.note(
            "permissions", f"{fixed[0].name} cannot be written", "to go on with the run, let this user write it"
        )
    else:
        findings.ok("permissions", "all can be read and written")
    return not unreadable


def _in_use(directory: RunDirectory, findings: Findings, found: Examined) -> None:
    try:
        found.in_use = directory.in_use
    except StorageError as error:
        findings.wrong("in use", str(error))
        return
    if found.in_use:
        findings.note("in use", "somebody is running in it: its files may be behind, and nothing is repaired meanwhile")
    else:
        findings.ok("in use", "nobody is running in it")


def _config(directory: RunDirectory, findings: Findings, found: Examined) -> None:
    name = directory.config.name
    try:
        found.recipe = recipe = directory.recipe()
    except StorageError as error:
        newer = isinstance(error, NewerFormat)
        do = "update explore_async" if newer else f"--repair sets it aside; then {_ADOPT}"
        findings.wrong(name, str(error), do, mends=not newer)
        return
    if recipe is None:
        findings.wrong(name, "it is gone", _ADOPT)
        return
    document = orjson.loads(directory.config.read_bytes())
    if document.get("digest") == recipe.digest:
        findings.ok(name, f"format {document['format']}, the recipe fits its digest")
    elif document.get("explore_async") != __version__:  # which may know other settings
        findings.note(name, f"written by version {document.get('explore_async')}; this is {__version__}")
    elif any(recipe.digest in said for said in _digests(directory)):
        findings.wrong(name, "its digest was changed, the recipe was not", "--repair writes it anew", mends=True)
    else:
        findings.wrong(name, "the recipe was changed: it does not fit its digest", _ADOPT)
        found.recipe = None


def _digests(directory: RunDirectory) -> Iterator[str]:
    """What the files beside it say that their recipe's digest is."""
    for path in (directory.tree, directory.stats):
        with suppress(OSError, ValueError, AttributeError):
            yield str(orjson.loads(path.read_bytes()).get("digest"))


def _derived(directory: RunDirectory, findings: Findings, found: Examined, told: Told) -> None:
    if found.recipe is None or found.answers is None:
        findings.note("derived files", "not looked at: what they are derived from has to be whole first")
        return
    if found.recipe.meaning != MEANING:
        says = f"not looked at: version {found.recipe.meaning} of the rules made them, this is {MEANING}"
        findings.note("derived files", says)
        return
    told("getting ready to replay")
    try:
        with ExitStack() as stack:
            reader = None
            if found.answers:
                reader = stack.enter_context(StoredReader(directory.completions, still=not found.in_use))
            found.replayed = compare(directory, found.recipe, reader, findings, told, in_use=found.in_use)
    except ExploreError as error:
        findings.wrong("derived files", f"cannot be compared: {error}", "mend this, and look again")


def _checkpoint(directory: RunDirectory, findings: Findings, recipe: Recipe) -> None:
    name = directory.checkpoint.name
    try:
        checkpoint = read(directory, digest=recipe.digest, answers=holding(directory.completions).last_row)
        if checkpoint is None:
            return
        for path, mark in ((directory.dataset, checkpoint.dataset), (directory.decisions, checkpoint.decisions)):
            check_begins(path, mark)
    except Unfit as unfit:
        findings.note(name, f"the next start will replay everything: {unfit}", "--repair removes it", mends=True)
    except ExploreError as error:
        findings.wrong(name, str(error), "remove it: all is replayed then")
    else:
        findings.ok(name, f"the next start goes on after {checkpoint.dataset.lines:,} examples")


def _space(directory: RunDirectory, findings: Findings, found: Examined) -> None:
    """What is free, against what the run has yet to grow; a finished one needs room to be derived anew."""
    size = sum(path.stat().st_size for path in directory.path.iterdir() if path.is_file())
    free = shutil.disk_usage(directory.path).free
    wanted = found.recipe.targets.examples if found.recipe is not None else None
    kept = 0 if found.replayed is None else found.replayed.figures["examples"]["kept"]
    growing = found.replayed is not None and not found.replayed.finished
    more = size * (wanted - kept) // kept if growing and wanted and kept else size
    says = f"{_mib(free)} free; the run takes {_mib(size)}"
    if free >= more:
        findings.ok("space", says)
    elif growing and kept:
        findings.wrong("space", f"{says}, and about {_mib(more)} more by its end", "make room before it goes on")
    else:
        findings.note("space", says, "make room before it goes on, or is repaired")


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"


def stale(directory: RunDirectory) -> list[Path]:
    """What a process that was killed has left behind and nobody needs. For a directory that nobody runs in."""
    begun = [path for name in WRITTEN_WHOLE for path in directory.path.glob(f".{name}.*")]
    live = [directory.live] if directory.live.exists() else []
    return sorted([*begun, *live, *leftovers(directory.completions)])


def _leftovers(directory: RunDirectory, findings: Findings) -> None:
    if found := stale(directory):
        says = f"{', '.join(path.name for path in found)}: left by a process that was killed"
        findings.note("leftovers", says, "--repair removes them; they harm nothing", mends=True)
    else:
        findings.ok("leftovers", "none")
