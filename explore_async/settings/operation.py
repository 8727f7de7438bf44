"""The operation of a run: how the data is made. Nothing here may change a byte of the data."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from explore_async.settings.base import Argument, Settings

WINDOW_PER_FOUND_SLOT = 8
"""With less of the window for each request in flight, one slow answer would leave the servers idle."""
ASSUMED_SLOTS = 256
"""Of an endpoint that is to find out itself how much it takes: vLLM's default."""
_SHORTEST_KEY = 20

NO_SECRETS = (
    "must hold no credentials and no query, as URLs are shown and written down: put the key in an environment variable "
    "and name that in api_key_env, or in a file and name that in api_key_file"
)


def may_hold_secrets(url: str) -> bool:
    """Whether a URL has, or may be meant to have, a user, a password or a token in it."""
    return "@" in url or "?" in url


def _http_url(url: str) -> str:
    if may_hold_secrets(url):
        raise ValueError(f"it {NO_SECRETS}")
    if not url.startswith(("http://", "https://")):
        raise ValueError("an endpoint is an http:// or https:// URL")
    return url


def _variable_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("this is the NAME of the environment variable that holds the key, not the key itself")
    if name is not None and _is_like_a_key(name):
        raise ValueError("this looks like a key: give the NAME of an environment variable that holds it, in capitals")
    return name


def _is_like_a_key(name: str) -> bool:
    """Keys such as hf_… and gsk_… could be names of variables."""
    mixed = any(c.islower() for c in name) and any(c.isupper() or c.isdigit() for c in name)
    return mixed and len(name) >= _SHORTEST_KEY


class EndpointSettings(Settings):
    """An endpoint that a run asks."""

    url: Annotated[str, AfterValidator(_http_url)]
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    """Most requests in flight there; auto finds out how many keep its batch full."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Of two endpoints with equally many free slots, the one of twice the weight counts as having twice as many."""
    api_key_env: Annotated[str | None, AfterValidator(_variable_name)] = None
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    api_key_file: Annotated[str, Field(min_length=1)] | None = None
    """Or a file that holds it and that nobody else can read. ~ is the home directory."""
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    """Certificates (PEM) of the authorities that vouch for an https:// endpoint, instead of the system's."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    model: str | dict[str, str] | None = None
    """The name under which this endpoint serves the run's model, where it differs. Where the run has several models:
    a mapping from those that are served here to their names here; None takes what it lists under the run's names."""

    @model_validator(mode="before")
    @classmethod
    def _url_alone(cls, data: Any) -> Any:
        return {"url": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_key(self) -> EndpointSettings:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("api_key_env and api_key_file: give one of them")
        return self


class VllmSettings(Settings):
    """What vLLM is started with beside the model; `args` go to it as they are."""

    dtype: Argument = "auto"
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    data_parallel: Annotated[int, Field(ge=1)] = 1
    api_servers: Annotated[int, Field(ge=1)] = 1
    args: tuple[Argument, ...] = ()


class ServerSettings(Settings):
    """A server that the run starts and stops. embedded is llama.cpp; auto takes vLLM where it and a GPU are there."""

    engine: Literal["embedded", "vllm", "auto"] = "embedded"
    model: Argument = "qwen2.5-coder-1.5b"
    """embedded: a model of the registry or a .gguf file; vLLM: a hub name or a folder."""
    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests answered at once, with vLLM by each data-parallel rank. None: 2 embedded, 256 with vLLM."""
    context_tokens: Annotated[int, Field(ge=256)] | None = None
    """Of one request. None: 2,048 embedded, what the model has with vLLM."""
    vllm: VllmSettings = VllmSettings()


class Retries(Settings):
    """The attempts of a request, and the waits between them."""

    attempts: Annotated[int, Field(ge=1)] = 5
    """A request that failed this often while others succeeded is given up and counted as failed."""
    first_wait_s: Annotated[float, Field(gt=0)] = 0.5
    longest_wait_s: Annotated[float, Field(gt=0)] = 30.0


class Operation(Settings):
    """How the data is made: nothing here changes it."""

    endpoints: tuple[EndpointSettings, ...] = ()
    endpoints_file: Argument | None = None
    """A YAML list of endpoints instead, read again whenever it changes."""
    server: ServerSettings | None = None
    retries: Retries = Retries()
    stall_s: Annotated[float, Field(gt=0)] = 600.0
    """A run without a single answer for this long, in seconds, ends with the cause; it can be resumed."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A run of whose last 200 answers more than this share failed or held nothing readable ends with the cause; it can
    be resumed. 1: never."""
    wall_time_s: Annotated[float, Field(gt=0)] | None = None
    durability: Literal["normal", "full"] = "normal"
    """normal survives kill -9; full also power loss, at a cost per group of answers."""
    retry_failed: bool = False
    report: bool = True
    """Whether a run that has ended writes report.html, of what its data covers."""
    spacy_model: Argument | None = None
    """What that report parses instructions with; None for English."""
