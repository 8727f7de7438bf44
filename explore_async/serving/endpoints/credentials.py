"""What an endpoint is shown, its key, and whom it has to be, its certificate's authority: read where they lie.

A key is never in a message, and never in a value that has a repr. Everything here touches the disk and belongs in a
thread.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from urllib.parse import quote

import orjson

from explore_async.errors import ConfigError
from explore_async.settings.operation import EndpointSettings

SHORTEST_SECRET = 16
"""Characters. A shorter key ("EMPTY", "token-abc123") may well be a word that a model writes."""
_LARGEST_KEY_FILE = 16_384
_OPEN_TO_OTHERS = 0o077
_MASK = b"***"


def read_key(endpoint: EndpointSettings) -> str | None:
    """The key, None where the endpoint needs none. Raises ConfigError, which names the variable or the file."""
    if endpoint.api_key_file is not None:
        path = Path(endpoint.api_key_file).expanduser()
        key, where = _private_text(path, endpoint.url).strip(), str(path)
        missing = f"{endpoint.url} needs a key, and {where} is empty"
    elif endpoint.api_key_env is not None:
        key, where = os.environ.get(endpoint.api_key_env, "").strip(), endpoint.api_key_env
        missing = f"{endpoint.url} needs a key: set the environment variable {where}"
    else:
        return None
    if not key:
        raise ConfigError(missing)
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"The key in {where} holds characters that no HTTP header can carry, such as a line break")
    return key


def _private_text(path: Path, url: str) -> str:
    """What a plain file holds that nobody else may read or write."""
    try:
        # without waiting for whoever writes to it, should it be a pipe
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"The key of {url}: {path} is not a plain file")
            if status.st_mode & _OPEN_TO_OTHERS:
                raise ConfigError(
                    f"The key of {url}: others can read or change {path}; `chmod 600` makes it yours alone"
                )
            return file.read(_LARGEST_KEY_FILE).decode("latin-1")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        raise ConfigError(f"The key of {url}: {path} cannot be read: {reason}") from error


def advice_on_key(endpoint: EndpointSettings) -> str:
    """What to do about a key that was refused."""
    if where := endpoint.api_key_file or endpoint.api_key_env:
        return f"Check the key in {where}"
    return "Name the variable that holds one in api_key_env, or the file in api_key_file"


def read_authority(endpoint: EndpointSettings) -> ssl.SSLContext | None:
    """How its certificate is verified where that is not by the system's authorities. Raises ConfigError."""
    if endpoint.ca_file is None:
        return None
    path = Path(endpoint.ca_file).expanduser()
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"{endpoint.url}: ca_file {path}: no certificate in PEM format in it") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        raise ConfigError(f"{endpoint.url}: ca_file {path} cannot be read: {reason}") from error


class Mask:
    """Owns a key in order to take it out of what others say: some servers repeat the key that they refuse."""

    __slots__ = ("_forms", "_is_secret")

    def __init__(self, key: str | None) -> None:
        in_json = orjson.dumps(key or "")[1:-1]
        forms = {(key or "").encode(), in_json, in_json.replace(b"/", rb"\/"), quote(key or "", safe="").encode()}
        self._forms = sorted(forms - {b""}, key=len, reverse=True)
        self._is_secret = len(key or "") >= SHORTEST_SECRET

    def of_message(self, raw: bytes) -> bytes:
        """Without the key, whatever it is."""
        for form in self._forms:
            raw = raw.replace(form, _MASK)
        return raw

    def of_answer(self, raw: bytes) -> bytes:
        """Without a key that no model writes by itself."""
        return self.of_message(raw) if self._is_secret else raw
