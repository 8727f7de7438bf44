"""A file that lists endpoints. It is read again whenever it changes, so that servers can come and go during a run.

YAML: a list of URLs, or of mappings as under `operation.endpoints`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from explore_async.config import yaml_text
from explore_async.errors import ConfigError
from explore_async.settings.operation import EndpointSettings

LOOK_S = 2.0
"""Seconds between two looks at the file."""

_LIST = TypeAdapter(tuple[EndpointSettings, ...])


def read_endpoints(path: Path) -> tuple[EndpointSettings, ...]:
    """The endpoints of the file. Raises ConfigError where it is not a list of endpoints, or empty."""
    try:
        listed = yaml_text.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except yaml_text.NO_YAML as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{path}: a list of endpoints is expected, with lines such as `- http://host:8000/v1`")
    try:
        return _LIST.validate_python(listed)
    except ValidationError as error:
        from explore_async.config.faults import faults_of

        first = faults_of(error, EndpointSettings)[0]
        number, *field = first.place
        where = f", {'.'.join(field)}" if field else ""
        raise ConfigError(f"{path}: endpoint {int(number) + 1}{where}: {first.text}") from error


async def changes(path: Path) -> AsyncIterator[tuple[EndpointSettings, ...] | ConfigError]:
    """Yields the endpoints of the file each time it has changed, or the error in it. Never ends."""
    seen = _state(path)
    while True:
        await asyncio.sleep(LOOK_S)
        if (now := _state(path)) != seen:
            seen = now
            try:
                yield await asyncio.to_thread(read_endpoints, path)
            except ConfigError as error:
                yield error


def _state(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
