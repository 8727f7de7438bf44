"""The operation of a run: the settings that do not change a byte of the data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from explore_async.settings.base import Argument, FromText, Settings
from explore_async.settings.local_paths import ON_THIS_MACHINE, LocalPath

WINDOW_PER_SLOT = 8
"""Least window for each request that the endpoints take at once. With less, one slow completion leaves them idle."""
ASSUMED_SLOTS = 256
"""Requests that an endpoint is assumed to process at once, where its concurrency is found out: vLLM's default."""
OPENAI_API_KEY = "OPENAI_API_KEY"
"""The variable of OpenAI's clients for a key. It goes to no endpoint that is not theirs or named for it."""
_SHORTEST_KEY = 20
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]{1,60}:[0-9]{1,5}(/v1/?)?")
"""A URL without its beginning. It may be shown: no key looks so."""

NO_SECRETS = (
    "must hold no credentials and no query, as URLs are shown and written down: put the key in an environment variable "
    "and name that in api_key_env, or in a file and name that in api_key_file"
)


def may_hold_secrets(url: str) -> bool:
    """True when a URL has, or seems to have, a user, a password or a token in it."""
    return "@" in url or "?" in url


def _http_url(url: str) -> str:
    if may_hold_secrets(url):
        raise ValueError(f"it {NO_SECRETS}")
    if not url.startswith(("http://", "https://")):
        hint = f": write http://{url}" if _HOST_AND_PORT.fullmatch(url) else ""
        raise ValueError(f"an endpoint is an http:// or https:// URL{hint}")
    return url


def _variable_name(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("this is the NAME of the environment variable that holds the key, not the key itself")
    if name is not None and _is_like_a_key(name):
        raise ValueError("this looks like a key: give the NAME of an environment variable that holds it, in capitals")
    return name


def _is_like_a_key(name: str) -> bool:
    """True for long mixed names: keys such as hf_… and gsk_… could be names of variables, too."""
    mixed = any(c.islower() for c in name) and any(c.isupper() or c.isdigit() for c in name)
    return mixed and len(name) >= _SHORTEST_KEY


class EndpointSettings(FromText):
    """An endpoint that a run asks."""

    url: Annotated[str, AfterValidator(_http_url)]
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    """Most requests in flight at this endpoint; auto finds out how many keep its batch full."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Requests go where most slots are free; with a weight of 2, free slots count twice."""
    api_key_env: Annotated[str | None, AfterValidator(_variable_name)] = None
    """Name of the environment variable that holds the key; the key itself is never written anywhere."""
    api_key_file: Annotated[str, Field(min_length=1), ON_THIS_MACHINE] | None = None
    """Or a file with the key that no other user can read. ~ is the home directory."""
    ca_file: Annotated[str, Field(min_length=1), ON_THIS_MACHINE] | None = None
    """Certificates (PEM) of the authorities that vouch for an https:// endpoint, instead of the system's."""
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    model: str | dict[str, str] | None = None
    """The name under which this endpoint serves the run's model, where it differs. Where the run has several models: a
    mapping from the run's names to the names at this endpoint; None means that the names are the same."""

    def part_of(self, processes: int) -> Self:
        """The part that one of so many processes takes: of its concurrency, at least one request, and of its rates."""
        rates = {"requests_per_minute": self.requests_per_minute, "tokens_per_minute": self.tokens_per_minute}
        part: dict[str, float] = {name: rate / processes for name, rate in rates.items() if rate is not None}
        if self.concurrency != "auto":
            part["concurrency"] = max(1, self.concurrency // processes)
        return self.model_copy(update=part)

    @model_validator(mode="after")
    def _one_key(self) -> EndpointSettings:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("api_key_env and api_key_file: give one of them")
        return self


def assumed_slots(endpoints: Iterable[EndpointSettings]) -> int:
    """Requests that the endpoints process at once, as declared or assumed."""
    return sum(ASSUMED_SLOTS if one.concurrency == "auto" else one.concurrency for one in endpoints)


class VllmSettings(Settings):
    """Arguments of vLLM beside the model. `args` go to it as they are."""

    dtype: Argument = "auto"
    tensor_parallel: Annotated[int, Field(ge=1)] = 1
    data_parallel: Annotated[int, Field(ge=1)] = 1
    api_servers: Annotated[int, Field(ge=1)] = 1
    args: tuple[Argument, ...] = ()


class ServerSettings(Settings):
    """A server that the run starts and stops. embedded is llama.cpp; auto takes vLLM where vLLM and a GPU are there."""

    engine: Literal["embedded", "vllm", "auto"] = "embedded"
    model: Argument = "qwen2.5-coder-1.5b"
    """embedded: a model of the registry or a .gguf file; vLLM: a hub name or a folder."""
    slots: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests processed at once, with vLLM by each data-parallel rank. None: 2 embedded, 256 with vLLM."""
    context_tokens: Annotated[int, Field(ge=256)] | None = None
    """Context of one request. None: 2,048 embedded; with vLLM the context length of the model."""
    vllm: VllmSettings = VllmSettings()


class Retries(Settings):
    """Attempts of a request that fails, and the waits between them, in seconds."""

    attempts: Annotated[int, Field(ge=1)] = 5
    """After this many attempts, while other requests succeed, a request counts as failed."""
    first_wait_s: Annotated[float, Field(gt=0)] = 0.5
    longest_wait_s: Annotated[float, Field(gt=0)] = 30.0


class Operation(Settings):
    """The settings that do not change the data."""

    endpoints: tuple[EndpointSettings, ...] = ()
    endpoints_file: LocalPath | None = None
    """A YAML file with a list of endpoints, in place of `endpoints`. It is read again whenever it changes."""
    shared_by: Annotated[int, Field(ge=1)] = 1
    """Processes that ask the endpoints at the same time, as shards do. Each takes its part of the concurrency and the
    rates."""
    server: ServerSettings | None = None
    retries: Retries = Retries()
    stall_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds without any completion after which a run ends and names the cause; it can be resumed."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.95
    """A run ends and names the cause when more than this share of its last 200 requests failed or brought nothing
    readable; it can be resumed. 1: never."""
    wall_time_s: Annotated[float, Field(gt=0)] | None = None
    durability: Literal["normal", "full"] = "normal"
    """normal survives kill -9; full also power loss, at a cost per group of completions."""
    retry_failed: bool = False
    report: bool = True
    """True: a run that has ended writes report.html, about what its data covers."""
    spacy_model: Argument | None = None
    """The spaCy model that parses instructions for the report; None for English."""
