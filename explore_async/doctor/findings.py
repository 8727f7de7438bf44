"""Findings of the doctor, one for each check."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum


class Check(StrEnum):
    """Checks of a run directory. The value is what is shown and what `--json` says."""

    PERMISSIONS = "permissions"
    IN_USE = "in use"
    CONFIG = "config.json"
    COMPLETIONS = "completions.sqlite"
    DERIVED = "derived files"
    DATASET = "dataset.jsonl"
    DECISIONS = "decisions.jsonl"
    TREE = "tree.json"
    STATS = "stats.json"
    CHECKPOINT = "checkpoint.json"
    SPACE = "space"
    LEFTOVERS = "leftovers"


DERIVED_FILES = (Check.DATASET, Check.DECISIONS, Check.TREE, Check.STATS)
"""Checks of the files that a run derives from its stored completions; each is named like its file."""


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Nothing is wrong, but there is something to know or to tidy up."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `do` is the advice to the user, empty where there is nothing to do; `mends` is true where
    --repair does it. The names of the fields are keys of `doctor --json`.
    """

    check: Check
    state: State
    says: str
    do: str = ""
    mends: bool = False


@dataclass(slots=True)
class Findings:
    """The findings of one examination, in the order of the checks."""

    all: list[Finding] = field(default_factory=list)

    def ok(self, check: Check, says: str) -> None:
        self.all.append(Finding(check, State.OK, says))

    def note(self, check: Check, says: str, do: str = "", *, mends: bool = False) -> None:
        self.all.append(Finding(check, State.NOTE, says, do, mends))

    def wrong(self, check: Check, says: str, do: str = "", *, mends: bool = False) -> None:
        self.all.append(Finding(check, State.WRONG, says, do, mends))

    @property
    def healthy(self) -> bool:
        return all(finding.state is not State.WRONG for finding in self.all)

    def mendable(self, checks: Collection[Check]) -> list[Finding]:
        """Findings of these checks that --repair can do something about."""
        return [finding for finding in self.all if finding.mends and finding.check in checks]

    def mark_mended(self, checks: Collection[Check], says: str) -> None:
        """Replaces the mendable findings of these checks by ones that are in order."""
        mended = self.mendable(checks)
        self.all = [Finding(found.check, State.OK, says) if found in mended else found for found in self.all]
