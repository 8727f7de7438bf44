"""The endpoints of a command with their keys, as its options and its config name them, or the variables of OpenAI's
clients.

The key in OPENAI_API_KEY goes to the server that OPENAI_BASE_URL names, and without that variable to OpenAI itself. Any
other server gets it only by --api-key-env.
"""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from explore_async.cli.output import say
from explore_async.errors import ConfigError
from explore_async.settings.operation import OPENAI_API_KEY, EndpointSettings, Operation

_BASE_URL: Final = "OPENAI_BASE_URL"
_OPENAI: Final = "https://api.openai.com/v1"


def with_endpoints(operation: Operation, api_key_env: str | None, *, quiet: bool = False) -> Operation:
    """The operation with an endpoint of the environment where it names none, and with keys where it names none.

    `api_key_env`: the value of --api-key-env, which holds for all endpoints. Says what it takes from the environment.
    Raises ConfigError for a variable that holds no URL of an endpoint, and where there is no endpoint for the key.
    """
    endpoints = operation.endpoints
    if not (endpoints or operation.endpoints_file or operation.server) and (url := _of_environment(_BASE_URL)):
        endpoints = (_changed(_BASE_URL, url=url),)
        say(f"the endpoint is {url}, from {_BASE_URL}", quiet=quiet)
    if api_key_env is not None:
        if not endpoints:
            raise ConfigError(
                "--api-key-env needs --endpoint, or endpoints in the config; a list of endpoints in a file "
                "names the key of each"
            )
        keys: dict[str, Any] = {"api_key_env": api_key_env, "api_key_file": None}
        endpoints = tuple(_changed("--api-key-env", **{**dict(endpoint), **keys}) for endpoint in endpoints)
    elif keyed := [endpoint.url for endpoint in endpoints if _gets_key(endpoint)]:
        say(f"{OPENAI_API_KEY} is the key of {', '.join(keyed)}", quiet=quiet)
        key = {"api_key_env": OPENAI_API_KEY}
        endpoints = tuple(
            endpoint.model_copy(update=key) if endpoint.url in keyed else endpoint for endpoint in endpoints
        )
    return operation.model_copy(update={"endpoints": endpoints})


def _changed(source: str, **settings: Any) -> EndpointSettings:
    try:
        return EndpointSettings(**settings)
    except ValidationError as error:
        fault = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source}: {fault}") from None  # a cause would show what may be a key or a password


def _gets_key(endpoint: EndpointSettings) -> bool:
    if endpoint.api_key_env or endpoint.api_key_file or not _of_environment(OPENAI_API_KEY):
        return False
    named, asked = urlsplit(_of_environment(_BASE_URL) or _OPENAI), urlsplit(endpoint.url)
    return (named.scheme, named.netloc.casefold()) == (asked.scheme, asked.netloc.casefold())


def _of_environment(name: str) -> str:
    return os.environ.get(name, "").strip()
