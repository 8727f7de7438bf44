"""Documents with a digest, such as recipes: how two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import orjson

from explore_async.errors import ConfigError


class DigestedDocument(Protocol):
    """A document that decides what data is: equal digests and equal completions make equal data."""

    @property
    def digest(self) -> str: ...

    @property
    def seed(self) -> int | None: ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Its content, as JSON holds it where `mode` is "json"."""


def differences(old: DigestedDocument, new: DigestedDocument) -> list[str]:
    """The differences between two documents, a line each: "targets.examples: 100 → 200"."""

    def flat(value: Any, prefix: str) -> dict[str, Any]:
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            value = {str(number): one for number, one in enumerate(value)}
        if isinstance(value, dict) and value:
            return {key: leaf for name, below in value.items() for key, leaf in flat(below, f"{prefix}{name}.").items()}
        return {prefix.rstrip("."): value}

    before, after = flat(old.model_dump(mode="json"), ""), flat(new.model_dump(mode="json"), "")
    return [
        f"{name}: {_short(before.get(name))} → {_short(after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def refuse_other(old: DigestedDocument, new: DigestedDocument, path: Path) -> None:
    """Raises a ConfigError with the differences where the digests of two recipes differ. `path`: of the directory."""
    if old.digest == new.digest:
        return
    shown = "\n  ".join(differences(old, new))
    raise ConfigError(
        f"{path} was made with another recipe:\n  {shown}\n"
        "Take the new one over with --adopt (stored answers that still fit are used), start over with --fresh, "
        "or choose another directory with --out"
    )


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - about a line
