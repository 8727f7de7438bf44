"""The key that an endpoint gets, and the authority of its certificate, read from variables and files.

A key is never in a message, and never in a value that has a repr. All functions read the disk: call them in a thread.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from urllib.parse import quote

import orjson

from explore_async.errors import ConfigError
from explore_async.serving.home import expanded
from explore_async.settings.operation import OPENAI_API_KEY, EndpointSettings

SHORTEST_SECRET = 16
"""Characters. A model may write a shorter key ("EMPTY", "token-abc123") by chance."""
_LARGEST_KEY_FILE = 16_384
_OPEN_TO_OTHERS = 0o077
_MASK = b"***"


def read_key(endpoint: EndpointSettings) -> str | None:
    """The key, None when the endpoint needs none. Raises ConfigError that names the variable or the file."""
    if endpoint.api_key_file is not None:
        path = expanded(endpoint.api_key_file)
        key, source = _private_text(path, endpoint.url).strip(), str(path)
        missing = f"{endpoint.url} needs a key, and {source} is empty"
    elif endpoint.api_key_env is not None:
        key, source = os.environ.get(endpoint.api_key_env, "").strip(), endpoint.api_key_env
        missing = f"{endpoint.url} needs a key: set the environment variable {source}"
    else:
        return None
    if not key:
        raise ConfigError(missing)
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"The key in {source} has characters that an HTTP header cannot carry, such as a line break")
    return key


def _private_text(path: Path, url: str) -> str:
    """The text of a plain file that no other user may read or write."""
    try:
        # a pipe would wait for its writer
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"The key of {url}: {path} is not a plain file")
            if status.st_mode & _OPEN_TO_OTHERS:
                raise ConfigError(f"The key of {url}: other users can read or change {path}; run `chmod 600` on it")
            return file.read(_LARGEST_KEY_FILE).decode("latin-1")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        raise ConfigError(f"The key of {url}: {path} cannot be read: {reason}") from error


def key_advice(endpoint: EndpointSettings) -> str:
    """Advice for a key that was rejected."""
    if where := endpoint.api_key_file or endpoint.api_key_env:
        return f"Check the key in {where}"
    if os.environ.get(OPENAI_API_KEY):
        return f"{OPENAI_API_KEY} goes to OPENAI_BASE_URL alone: --api-key-env {OPENAI_API_KEY} sends it here, too"
    return "Name the variable that holds one in api_key_env, or the file in api_key_file"


def read_authority(endpoint: EndpointSettings) -> ssl.SSLContext | None:
    """The context that verifies its certificate, None for the system's authorities. Raises ConfigError."""
    if endpoint.ca_file is None:
        return None
    path = expanded(endpoint.ca_file)
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"{endpoint.url}: ca_file {path} holds no certificate in PEM format") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "this cannot be a path"
        raise ConfigError(f"{endpoint.url}: ca_file {path} cannot be read: {reason}") from error


def missing_authorities() -> str:
    """The value of SSL_CERT_FILE where it names a file that does not exist, which OpenSSL passes over; else empty."""
    named = os.environ.get("SSL_CERT_FILE", "")
    return named if named and not Path(named).exists() else ""


class KeyMask:
    """Owns a key and removes it from texts of servers: some repeat the key that they reject."""

    __slots__ = ("_forms", "_is_secret")

    def __init__(self, key: str | None) -> None:
        in_json = orjson.dumps(key or "")[1:-1]
        forms = {(key or "").encode(), in_json, in_json.replace(b"/", rb"\/"), quote(key or "", safe="").encode()}
        self._forms = sorted(forms - {b""}, key=len, reverse=True)
        self._is_secret = len(key or "") >= SHORTEST_SECRET

    def mask_message(self, raw: bytes) -> bytes:
        """The text without the key, also a short key."""
        for form in self._forms:
            raw = raw.replace(form, _MASK)
        return raw

    def mask_body(self, raw: bytes) -> bytes:
        """The body without the key, unless the key is so short that a model may write it."""
        return self.mask_message(raw) if self._is_secret else raw
