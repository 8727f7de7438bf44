"""Paths below a home directory. Standard library only."""

from __future__ import annotations

from pathlib import Path

from explore_async.errors import ConfigError


def expanded(path: str | Path) -> Path:
    """The path with the home directory in place of a ~ at its beginning. Raises ConfigError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # the only one that it raises
        name = Path(path).parts[0]
        raise ConfigError(f"{path}: the system knows no home directory for {name}; give the whole path") from error
