"""The settings of a run, as pydantic models: the recipe decides what the data is, the operation how it is made.

The recipe is digested: two runs with equal recipes and equal answers make equal data. Nothing in the operation may
change a byte of the data. This module reads no file; see explore_async.config.load.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias, get_args

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

Kind: TypeAlias = Literal["lookahead", "backtrack", "generate"]
"""What a request asks for."""

MEANING = 2
"""Raised whenever parsing, filtering or exploring changes what the same answers lead to."""

SIMULATED = "simulated"
"""The model of a server without one. What is made with it is labelled, so that nobody takes it for data."""

SHORTEST_WINDOW = 1
WINDOW_PER_SLOT = 12
WINDOW_PER_FOUND_SLOT = 8
"""With less of the window for each request in flight, one slow answer would leave the servers idle."""
ASSUMED_SLOTS = 256
"""Of an endpoint that is to find out itself how much it takes: vLLM's default."""
LONGEST_LAG = 16
_SHORTEST_KEY = 20


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Argument: TypeAlias = Annotated[str, Field(pattern=r"^[^\x00]+$")]
"""Of a file, or an argument of a program: some text, without the character that ends them there."""


class SeedExample(Settings):
    instruction: Annotated[str, Field(min_length=1)]
    input: str = ""
    output: Annotated[str, Field(min_length=1)]


class SeedTask(Settings):
    """A task that is there from the start, with what is below it. Its examples are shown in its prompts and in those of
    its sub-tasks, and are never written anew.
    """

    name: Annotated[str, Field(min_length=1)]
    reason: str = ""
    examples: tuple[SeedExample, ...] = ()
    tasks: tuple[SeedTask, ...] = ()

    @property
    def height(self) -> int:
        """Levels below this task."""
        return 1 + max(task.height for task in self.tasks) if self.tasks else 0


class Known(Settings):
    """Data that new examples have to differ from: a file, a run directory or a data directory."""

    path: Argument
    """In a config file: relative to its folder."""
    field: Annotated[str, Field(min_length=1)] = "instruction"
    digest: str | None = None
    """Of its texts; the first start settles it. The path may change, the texts may not."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, data: Any) -> Any:
        return {"path": data} if isinstance(data, str) else data


class Domain(Settings):
    """One tree. `name` is the root task; `description` says to the model what belongs to it.

    `topics` and `styles` vary what is asked: each generate request gets one of each, in turn.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    tasks: tuple[SeedTask, ...] = ()
    examples: tuple[SeedExample, ...] = ()
    topics: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()

    def all_examples(self) -> Iterator[SeedExample]:
        """Its own and those of all its tasks."""
        waiting: list[Domain | SeedTask] = [self]
        while waiting:
            one = waiting.pop(0)
            yield from one.examples
            waiting += one.tasks


class Exploration(Settings):
    depth: Annotated[int, Field(ge=0, le=10)] = 2
    """Levels below the root; 0 generates for the root alone (Self-Instruct)."""
    breadth: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (8, 6)
    """Most children of a task, by its depth; the last value holds for all deeper tasks."""
    step: Annotated[int, Field(ge=1, le=50)] = 3
    """Most sub-tasks asked for in one request."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 2
    """A task is not asked for more sub-tasks after this many requests in a row brought nothing new."""
    order: Literal["depth_first", "breadth_first"] = "depth_first"

    @model_validator(mode="before")
    @classmethod
    def _one_breadth_for_all(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("breadth"), int):
            return {**data, "breadth": [data["breadth"]]}
        return data

    @model_validator(mode="after")
    def _some_breadth(self) -> Exploration:
        if not self.breadth:
            raise ValueError("breadth: give at least one number")
        return self

    def breadth_at(self, depth: int) -> int:
        """Most children of a task at `depth`."""
        return 0 if depth >= self.depth else self.breadth[min(depth, len(self.breadth) - 1)]


class Generation(Settings):
    per_request: Annotated[int, Field(ge=1, le=100)] = 10
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 2
    inputs: bool = True
    """Whether examples may have an input beside the instruction. Small models do better without."""
    exhausted_after: Annotated[int, Field(ge=1)] = 3
    """A task is exhausted after this many answers in a row of which less than `exhausted_below` was kept."""
    exhausted_below: Annotated[float, Field(ge=0, le=1)] = 0.1


class Targets(Settings):
    examples: Annotated[int, Field(ge=1)] | None = None
    """Kept examples in all."""
    per_task: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Kept examples of each task; a list gives them by depth, the last for all deeper ones."""
    token_budget: Annotated[int, Field(ge=1)] | None = None
    """Prompt and completion tokens, counted when an answer is committed."""

    @model_validator(mode="after")
    def _some_target(self) -> Targets:
        if self.examples is None and self.per_task is None:
            raise ValueError("give examples, per_task, or both: without either the run has no end")
        if self.per_task == ():
            raise ValueError("per_task: give at least one number")
        return self

    def cap_at(self, depth: int) -> int | None:
        if isinstance(self.per_task, tuple):
            return self.per_task[min(depth, len(self.per_task) - 1)]
        return self.per_task


class Filters(Settings):
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """An instruction whose ROUGE-L F with an earlier one is above this is dropped."""
    task_threshold: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The same for the names of tasks, which are short: one word of four in common weighs a lot."""
    scope: Literal["run", "domain", "task"] = "run"
    tokenizer: Literal["auto", "rouge", "unicode"] = "auto"
    """auto: rouge_score's tokens for English, Unicode words (CJK by character) for other languages."""
    min_instruction_words: Annotated[int, Field(ge=0)] = 3
    max_instruction_words: Annotated[int, Field(ge=1)] = 400
    min_output_words: Annotated[int, Field(ge=0)] = 1
    max_output_words: Annotated[int, Field(ge=1)] = 4000
    max_repetition: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The greatest share of an output's three-word runs that may repeat earlier ones; 1 allows all."""
    refusals: bool = True
    placeholders: bool = True
    missing_inputs: bool = True
    copies: bool = True
    banned_words: tuple[Annotated[str, Field(min_length=1)], ...] = ()


class Sampling(Settings):
    temperature: Annotated[float, Field(ge=0, le=5)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    stop: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The fields as the chat completions format has them."""
        fields: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }
        return {**fields, "stop": list(self.stop)} if self.stop else fields


class Samplings(Settings):
    exploration: Sampling = Sampling()
    generation: Sampling = Sampling(max_tokens=4096)


class Recipe(Settings):
    """All that decides what the data is."""

    meaning: int = MEANING
    name: Annotated[str, Field(pattern=r"^[^/\x00.][^/\x00]*$", max_length=100)] = "run"
    """Also that of the run directory below runs/, so without a slash and not beginning with a dot."""
    description: str = ""
    seed: int = 0
    model: str | None = None
    """The logical model; None until the first start settles it."""
    models: dict[Kind, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Other logical models, for some kinds of requests."""
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]
    against: tuple[Known, ...] = ()
    language: Annotated[str, Field(min_length=1)] = "English"
    answer_format: Literal["json", "text"] = "json"
    exploration: Exploration = Exploration()
    generation: Generation = Generation()
    targets: Targets
    filters: Filters = Filters()
    sampling: Samplings = Samplings()
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    prompts: dict[Kind, str] = Field(default_factory=dict)
    """Template texts that replace the packaged ones. In a config file: the folder that holds them."""
    window: Annotated[int, Field(ge=SHORTEST_WINDOW, le=10_000_000)] | Literal["auto"] = "auto"
    lag: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        names = [domain.name.casefold().strip() for domain in self.domains]
        if len(set(names)) < len(names):
            raise ValueError("domains: each needs a name of its own")
        return self

    @model_validator(mode="after")
    def _seed_tasks_fit(self) -> Recipe:
        depth = self.exploration.depth
        for number, domain in enumerate(self.domains):
            needed = 1 + max((task.height for task in domain.tasks), default=-1)
            if 0 < depth < needed:  # at depth 0 the tasks are left out, to compare with exploration
                raise ValueError(
                    f"domains.{number}.tasks: they go {needed} levels deep, and exploration.depth is {depth}; raise it"
                )
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Recipe:
        try:
            _ = orjson.dumps([[self.model_dump(mode="json")]])  # where it is written it stands deeper
        except TypeError as error:  # a number beyond 64 bits, half a character, a value too deep
            raise ValueError(f"cannot be written as JSON: {error}") from error
        return self

    def model_of(self, kind: Kind) -> str:
        """The logical model that requests of this kind go to."""
        return self.models.get(kind) or self.model or ""

    @property
    def wanted_models(self) -> tuple[str, ...]:
        """All logical models that are named, each once; none where the one served is to be taken."""
        kinds: tuple[Kind, ...] = get_args(Kind)
        return tuple(dict.fromkeys(name for kind in kinds if (name := self.model_of(kind))))

    @property
    def tokenizer(self) -> Literal["rouge", "unicode"]:
        if self.filters.tokenizer != "auto":
            return self.filters.tokenizer
        return "rouge" if self.language.casefold() in {"english", "en"} else "unicode"

    @property
    def digest(self) -> str:
        """Of all but where known texts lie, since only their content matters."""
        content = self.model_dump(mode="json", exclude={"against": {"__all__": {"path"}}})
        return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def resolved(self, *, model: str, slots: int) -> Recipe:
        """With everything settled that the first start settles: the model, the window and the lag."""
        window = max(WINDOW_PER_SLOT * slots, SHORTEST_WINDOW) if self.window == "auto" else self.window
        lag = self.lag if self.lag is not None else max(1, min(LONGEST_LAG, math.ceil(window / 4)))
        return self.model_copy(update={"model": self.model or model, "window": window, "lag": lag})


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
    checkpoint_every: Annotated[int, Field(ge=1)] = 20_000
    """Examples judged from one checkpoint to the next: about the most that the next start judges again."""
    retry_failed: bool = False
    report: bool = True
    """Whether a run that has ended writes report.html, of what its data covers."""
    spacy_model: Argument | None = None
    """What that report parses instructions with; None for English."""


class RunSettings(Recipe):
    """What a config file holds: the recipe at the top level, the operation under its own key."""

    operation: Operation = Operation()

    @property
    def recipe(self) -> Recipe:
        return Recipe.model_validate({name: getattr(self, name) for name in Recipe.model_fields})
