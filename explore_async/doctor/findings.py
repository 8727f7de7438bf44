"""What the doctor found, a check at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "note", "wrong"]
"""note: nothing is the matter, but there is something to know, or to tidy up."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`do` is what to do about it, empty where there is nothing to do. `mends`: --repair does it."""

    check: str
    state: State
    says: str
    do: str = ""
    mends: bool = False


@dataclass(slots=True)
class Findings:
    """Of one examination, in their order."""

    all: list[Finding] = field(default_factory=list)

    def ok(self, check: str, says: str) -> None:
        self.all.append(Finding(check, "ok", says))

    def note(self, check: str, says: str, do: str = "", *, mends: bool = False) -> None:
        self.all.append(Finding(check, "note", says, do, mends))

    def wrong(self, check: str, says: str, do: str = "", *, mends: bool = False) -> None:
        self.all.append(Finding(check, "wrong", says, do, mends))

    @property
    def healthy(self) -> bool:
        return all(finding.state != "wrong" for finding in self.all)

    def mendable(self, *checks: str) -> list[Finding]:
        """Those of these checks that --repair has something to do about."""
        return [finding for finding in self.all if finding.mends and finding.check in checks]

    def mended(self, *checks: str, says: str) -> None:
        """What was mendable of these checks is in order now."""
        self.all = [
            Finding(finding.check, "ok", says) if finding in self.mendable(*checks) else finding for finding in self.all
        ]
