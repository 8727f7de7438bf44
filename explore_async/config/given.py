"""The options that lay values over a config: a fault in such a value is told by the option's name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

_Path: TypeAlias = tuple[str, ...]

_OPTIONS: Final[Mapping[_Path, str]] = {
    ("model",): "--model",
    ("seed",): "--seed",
    ("window",): "--window",
    ("shard",): "--shard",
    ("targets", "examples"): "--max-examples",
    ("judge", "threshold"): "--threshold",
    ("system",): "--system",
    ("answers_per_instruction",): "--answers",
    ("vote",): "--vote",
    ("judges",): "--judge",
    ("by",): "--by",
    ("targets", "token_budget"): "--token-budget",
}
"""Options of the command line by their setting."""
_ENDPOINTS: Final = ("operation", "endpoints")


def as_list(names: str | Iterable[str]) -> list[str]:
    """The names as a list, of one where a single name is given."""
    return [names] if isinstance(names, str) else list(names)


@dataclass(frozen=True, slots=True)
class Given:
    """The options by the setting that they have changed, the later ones last."""

    options: Mapping[_Path, str] = field(default_factory=dict)
    urls: bool = False
    concurrency: bool = False

    @classmethod
    def of(cls, overrides: Sequence[str], changes: Mapping[str, Any], *, urls: bool, concurrency: bool) -> Self:
        names = [override.partition("=")[0].strip() for override in overrides]
        options = {tuple(name.split(".")): f"--set {name}" for name in names}
        options |= {path: _OPTIONS.get(path, ".".join(path)) for path in _changed(changes)}
        return cls(options, urls, concurrency)

    def place(self, location: _Path) -> tuple[str, bool]:
        """The name of a setting for a message; that of an option, and True, where an option has given its value."""
        if location[:2] == _ENDPOINTS:
            if self.concurrency and location[-1] == "concurrency":
                return "--concurrency", True
            if self.urls:
                return "--endpoint", True
        for length in range(len(location), 0, -1):
            if (option := self.options.get(location[:length])) is not None:
                return ": ".join(filter(None, [option, ".".join(location[length:])])), True
        return ".".join(location) or "the config", False


def _changed(changes: Mapping[str, Any], above: _Path = ()) -> Iterator[_Path]:
    for name, value in changes.items():
        if isinstance(value, Mapping):
            yield from _changed(value, (*above, name))
        elif value is not None:
            yield *above, name
