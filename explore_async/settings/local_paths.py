"""Paths that have to be on this machine, and the URLs that stand for no such path."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator

from explore_async.errors import ConfigError
from explore_async.settings.base import Argument

URL = re.compile(r"[a-z][a-z0-9+.-]+(::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
"""The beginning of a URL."""
_LOCAL = re.compile(r"(file|local)://", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(?<=://)([^?\s'\"]*)\?[^\s'\"]*")
_REFUSED = "a URL cannot be used here; give a path on a local disk or a shared file system"


def without_secrets(text: str) -> str:
    """The text without passwords and queries of URLs in it: queries may be signatures."""
    return _QUERY.sub(r"\1", _USER.sub("", text))


def path_in(text: str) -> str | None:
    """The path on this machine that the text stands for, which may be a URL such as file:///tmp; None where it is a
    URL of something elsewhere.
    """
    if local := _LOCAL.match(text):
        return text[local.end() :]
    return None if URL.match(text) else text


def local_text(text: str) -> str:
    """The path on this machine. Raises ConfigError for a URL of something elsewhere."""
    if (path := path_in(text)) is None:
        raise ConfigError(f"{without_secrets(text)}: {_REFUSED}")
    return path


def _of_setting(text: str) -> str:
    if (path := path_in(text)) is None:
        raise ValueError(_REFUSED)
    return path


ON_THIS_MACHINE = AfterValidator(_of_setting)
LocalPath: TypeAlias = Annotated[Argument, ON_THIS_MACHINE]
"""A setting that is the path of a file or a folder on this machine."""
