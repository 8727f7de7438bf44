"""The recipe of a run: it decides what the data is.

The recipe is digested: two runs with equal recipes and equal completions make equal data. This module reads no file;
explore_async.config.load does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from operator import mul
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeAlias

import orjson
from pydantic import BeforeValidator, Field, JsonValue, PrivateAttr, field_validator, model_validator

from explore_async.settings.base import FromText, Settings, check_writable, misfit
from explore_async.settings.local_paths import LocalPath
from explore_async.settings.strategies import StrategyName

Kind: TypeAlias = Literal["lookahead", "backtrack", "facets", "generate", "answer", "follow_up", "judge"]
"""The kind of a request: what it asks for."""

ASPECTS: Final[Mapping[str, str]] = {
    "correct": "facts, steps, code and results in the answer are right",
    "complete": "the answer does all that the instruction asks, and does not break off",
    "on_task": "the instruction belongs to the task, and the answer to the instruction",
    "natural": "a person could have asked this, and could have been answered like this",
}
"""The aspects that a judge scores, with their meaning."""

REASON: Final = "reason"
"""The key of a judge's reply beside the aspects: why it gave these scores."""

MEANING = 4
"""Version of the rules: raise it when parsing, filtering or exploring makes other data of the same completions."""
MEANINGS = range(2, MEANING + 1)
"""The versions that this version of explore_async still follows: a run goes on by the rules that it began with."""

_TODAYS_UNICODE = 3
"""The version of the rules that brought the `unicode` tokenizer of today."""

_HAS_FACETS = 4
"""The version of the rules that brought facets."""

COVERED: Final = 0.8
"""The coverage of a task at which it stops, where the recipe says nothing else."""

SIMULATED = "simulated"
"""The model name of a simulated server. Everything made with it is labelled, so that no user takes it for data."""
_FUNCTION: Final = r"^([\w.]+:[\w.]+|[\w.-]+|)$"
_SHARD: Final = r"^([1-9][0-9]{0,4}/[1-9][0-9]{0,4})?$"


def _is_empty(value: object) -> bool:
    """For a field that recipes of earlier versions do not have: where it is empty, it changes neither them nor their
    digests.
    """
    return not value


class SeedExample(Settings):
    """An example that a user gives: prompts show it, and it never becomes part of the dataset."""

    instruction: Annotated[str, Field(min_length=1)]
    input: str = ""
    output: Annotated[str, Field(min_length=1)]


class SeedTask(Settings):
    """A task that is in the tree from the start, with its sub-tasks. Its examples are demonstrations in its prompts and
    in those of its sub-tasks; they are never part of the dataset.
    """

    name: Annotated[str, Field(min_length=1)]
    reason: str = ""
    examples: tuple[SeedExample, ...] = ()
    tasks: tuple[SeedTask, ...] = ()

    @property
    def height(self) -> int:
        """Levels below this task."""
        return 1 + max(task.height for task in self.tasks) if self.tasks else 0


class KnownTexts(FromText):
    """Data that new examples have to differ from: a file, a run directory or a data directory."""

    path: LocalPath
    """In a config file: relative to its folder."""
    field: Annotated[str, Field(min_length=1)] = "instruction"


class ResolvedKnownTexts(KnownTexts):
    """Known texts as a recipe holds them: the path may change, the texts may not."""

    digest: str | None = None
    """Digest of the texts; None where they have not been read."""


class Passage(NamedTuple):
    """A part of a user's text. `name`: of its file, with its number there, from 1 ("notes.md#12")."""

    name: str
    text: str


DEFAULT_FIELD: Final = "text"


class DomainFile(FromText):
    """Text of the user's that examples are to be about: a file, or a folder of files."""

    path: LocalPath
    """In a config file: relative to its folder."""
    field: Annotated[str, Field(min_length=1)] = DEFAULT_FIELD
    """Of JSON lines: the field that holds the text."""
    digest: Annotated[str | None, Field(exclude_if=_is_empty)] = None
    """Digest of the passages and their names; None where they have not been read. explore_async computes it."""
    _passages: tuple[Passage, ...] = PrivateAttr(default=())

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Those that were read; no setting, and not in the recipe's JSON."""
        return self._passages

    def holding(self, passages: tuple[Passage, ...], digest: str) -> Self:
        """The same after its passages have been read."""
        held = self.model_copy(update={"digest": digest})
        held._passages = passages  # noqa: SLF001 - its own class
        return held


class Domain(Settings):
    """One tree. `name` is the root task; `description` tells the model what belongs to it.

    `topics` and `styles` vary the prompts: each generate request gets one of each, in turn.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    tasks: tuple[SeedTask, ...] = ()
    examples: tuple[SeedExample, ...] = ()
    topics: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    files: Annotated[tuple[DomainFile, ...], Field(exclude_if=_is_empty)] = ()
    """Each generate request shows a passage of these, every one before any comes again."""
    system: Annotated[str, Field(exclude_if=_is_empty)] = ""
    """The system prompt that answers of their own are asked for with (`responses: separate`). It stands in the rows."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """Of all its files, as far as they have been read."""
        return tuple(passage for file in self.files for passage in file.passages)

    def all_examples(self) -> Iterator[SeedExample]:
        """The examples of the domain and of all its tasks."""
        waiting: list[Domain | SeedTask] = [self]
        while waiting:
            node = waiting.pop(0)
            yield from node.examples
            waiting += node.tasks


_Breadth: TypeAlias = Annotated[int, Field(ge=1, le=1000)]


def _in_list(breadth: Any) -> Any:
    return [breadth] if isinstance(breadth, int) else breadth


class Exploration(Settings):
    """The shape of the trees."""

    strategy: Annotated[StrategyName, Field(exclude_if=lambda given: given == "explore_instruct")] = "explore_instruct"
    """A name for a set of switches: those that a config leaves open (see `settings.strategies`)."""
    depth: Annotated[int, Field(ge=0, le=10)] = 2
    """Levels below the root; 0 generates for the root alone (Self-Instruct)."""
    breadth: Annotated[
        tuple[_Breadth, ...], BeforeValidator(_in_list, json_schema_input_type=_Breadth | tuple[_Breadth, ...])
    ] = (8, 6)
    """Most children of a task, by its depth; the last value holds for all deeper tasks."""
    step: Annotated[int, Field(ge=1, le=50)] = 3
    """Most sub-tasks of one request."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 2
    """A task gets no more sub-tasks after this many requests in a row brought nothing new."""
    order: Literal["depth_first", "breadth_first"] = "depth_first"
    lookahead: Annotated[Literal["names", "criterion"], Field(exclude_if=lambda given: given == "names")] = "names"
    """names: a request for sub-tasks brings names. criterion: it first brings the criterion by which they divide their
    task, so that together they cover it and none overlaps another; a lookahead then asks for the whole division.
    """
    facets: Annotated[int, Field(ge=0, le=8, exclude_if=_is_empty)] = 0
    """Criteria by which the exercises of a task differ, which a request names with their values before the first
    examples; each request for examples then asks for one combination. 0: none are asked for.
    """

    @model_validator(mode="after")
    def _some_breadth(self) -> Exploration:
        if not self.breadth:
            raise misfit("breadth", "give at least one number")
        return self

    def breadth_at(self, depth: int) -> int:
        """Most children of a task at `depth`."""
        return 0 if depth >= self.depth else self.breadth[min(depth, len(self.breadth) - 1)]


class Generation(Settings):
    """Requests for examples."""

    per_request: Annotated[int, Field(ge=1, le=100)] = 10
    """Examples in one request. sampling.generation.max_tokens has to hold them all."""
    demonstrations: Annotated[int, Field(ge=0, le=20)] = 2
    """Examples that each prompt shows."""
    inputs: bool = True
    """True: examples may have an input beside the instruction. Small models do better without."""
    exhausted_after: Annotated[int, Field(ge=1)] = 3
    """A task is exhausted after this many completions in a row of which less than `exhausted_below` was kept, if they
    were asked for 1 / `exhausted_below` examples at least.
    """
    exhausted_below: Annotated[float, Field(ge=0, le=1)] = 0.1
    demonstrations_from: Annotated[Literal["opening", "pool"], Field(exclude_if=lambda given: given == "opening")] = (
        "opening"
    )
    """opening: a task's prompts show the same examples, of the first completion of the task above. pool: they also show
    what the task has kept, as far as it was there some requests before.
    """
    policy: Annotated[Literal["uniform", "yield"], Field(exclude_if=lambda given: given == "uniform")] = "uniform"
    """uniform: the task with the fewest examples comes first. yield: the one that can be expected to bring most new
    examples for its tokens, by what is committed.
    """
    covered_at: Annotated[float, Field(gt=0, le=1, exclude_if=lambda given: given == COVERED)] = COVERED
    """With `policy: yield`: a task stops when the next instruction is of a kind that came before with this probability,
    as estimated. 1: no task stops for that.
    """


class Judging(Settings):
    """A model scores each example from 1 to 5 on each aspect."""

    threshold: Annotated[float, Field(ge=1, le=5)] | None = 3
    """An example with a score below this, on any aspect, is dropped. None: scores drop nothing."""
    aspects: Annotated[
        dict[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], str], Field(min_length=1, max_length=10)
    ] = Field(default_factory=lambda: dict(ASPECTS))
    """The aspects that it scores: names, each with its meaning."""


def refuse_taken_aspects(judge: Judging | None) -> None:
    """Raises ValueError for an aspect with the name of another key of a reply. A recipe that exists may have one."""
    if judge is not None and REASON in judge.aspects:
        raise misfit(
            f"judge.aspects.{REASON}", "the judge's reply has a key of this name; give the aspect another name"
        )


def _no_line(command: Any) -> Any:
    if isinstance(command, str):
        parts = ", ".join(orjson.dumps(part).decode() for part in command.split())
        raise ValueError(f"write the program and each of its arguments as an item of a list: [{parts}]")  # noqa: TRY004
    return command


def _function_name(name: Any) -> Any:
    if isinstance(name, str) and not re.match(_FUNCTION, name):
        raise ValueError("write module:function, or the name of an entry point of the group explore_async.checks")
    return name


class Check(Settings):
    """A program of the user's that passes an example or drops it. It reads examples as JSON lines from its standard
    input, and answers each with a line {"ok": true or false, "reason": "..."}.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    """Also in the reason of what it drops: check:NAME."""
    command: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_no_line)] = ()
    """The program with its arguments."""
    function: Annotated[str, BeforeValidator(_function_name), Field(pattern=_FUNCTION)] = ""
    """Instead of a command: `module:function`, or the name of an entry point of the group `explore_async.checks`. It
    gets an example as a dict, and returns true or false, or these with a reason.
    """
    version: str = ""
    """Another version is another check: its verdicts are made anew."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60
    """Seconds for one example."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.function):
            raise ValueError("give a command or a function")
        return self


class Targets(Settings):
    """The size of the dataset: at least one of them."""

    examples: Annotated[int, Field(ge=1)] | None = None
    """Number of kept examples, in all."""
    per_task: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Number of kept examples of each task. A list gives it by depth; its last value holds for all deeper tasks."""
    token_budget: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompts and completions, counted when a request is committed. Without another target, the run keeps as
    many examples as they bring.
    """

    @model_validator(mode="after")
    def _some_target(self) -> Targets:
        if self.examples is None and self.per_task is None and self.token_budget is None:
            raise ValueError("give examples, per_task or token_budget: without any the run has no end")
        if self.per_task == ():
            raise misfit("per_task", "give at least one number")
        return self

    @property
    def only_budget(self) -> int | None:
        """The token budget, where there is no other target."""
        return self.token_budget if self.examples is None and self.per_task is None else None

    def cap_at(self, depth: int) -> int | None:
        if isinstance(self.per_task, tuple):
            return self.per_task[min(depth, len(self.per_task) - 1)]
        return self.per_task


class Filters(Settings):
    """The conditions under which an example or a task is kept."""

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """An instruction whose ROUGE-L F with an earlier one is above this is dropped."""
    task_threshold: Annotated[float, Field(gt=0, le=1)] = 0.75
    """The same for the names of tasks, which are short: one common word of four weighs a lot."""
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
    language: Annotated[bool, Field(exclude_if=lambda checked: not checked)] = False
    """True drops examples that are clearly in another language than the recipe's. Left out of the recipe's JSON where
    it is off, so that recipes from before it keep their digest."""
    banned_words: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    required_words: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], Field(exclude_if=lambda words: not words)
    ] = ()
    """An instruction has at least one of these. Left out of the recipe's JSON where there are none."""


def tokenizer_for(setting: str, language: str, meaning: int = MEANING) -> str:
    """The name of the tokenizer that a recipe with this setting and this language has, by this version of the rules."""
    is_english = language.casefold() in {"english", "en"}
    name = setting if setting != "auto" else "rouge" if is_english else "unicode"
    return "unicode-1" if name == "unicode" and meaning < _TODAYS_UNICODE else name


class Sampling(Settings):
    """Sampling parameters of the requests of one stage. What is None is not sent: some servers refuse a field."""

    temperature: Annotated[float, Field(ge=0, le=5)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = 1024
    max_completion_tokens: Annotated[int | None, Field(ge=1, exclude_if=_is_empty)] = None
    """Sent instead of `max_tokens` where it is given: some servers know only this name of the limit."""
    stop: tuple[str, ...] = ()

    @property
    def limit(self) -> int | None:
        """The most tokens of a completion; None leaves it to the server."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def limit_name(self) -> str:
        """The setting that holds the limit."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    def limited(self, tokens: int) -> Self:
        """The same with this limit."""
        return self.model_copy(update={self.limit_name: tokens})

    def body(self) -> dict[str, Any]:
        """The fields as the chat completions format has them."""
        fields: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens if self.max_completion_tokens is None else None,
            "max_completion_tokens": self.max_completion_tokens,
            "stop": list(self.stop) or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


_ANSWERS: Final = Sampling(max_tokens=2048)
_JUDGING: Final = Sampling(temperature=0.0, max_tokens=512)


class Samplings(Settings):
    """Sampling parameters by stage."""

    exploration: Sampling = Sampling()
    generation: Sampling = Sampling(max_tokens=4096)
    answers: Annotated[Sampling, Field(exclude_if=lambda given: given == _ANSWERS)] = _ANSWERS
    judging: Annotated[Sampling, Field(exclude_if=lambda given: given == _JUDGING)] = _JUDGING


class RecipeFields(Settings):
    """The settings that a recipe has, resolved or not."""

    name: Annotated[str, Field(pattern=r"^[^/\x00.][^/\x00]*$", max_length=100)] = "run"
    """Also that of the run directory below runs/, so without a slash and not beginning with a dot."""
    description: str = ""
    seed: int | None = 0
    """Another seed, another dataset. null: drawn as always, and no seed is sent, for servers that refuse one."""
    model: str | None = None
    """The logical model; None takes the one that the endpoints serve at the first start."""
    models: dict[Kind, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Other logical models, for some kinds of requests."""
    domains: Annotated[tuple[Domain, ...], Field(min_length=1)]
    """Each is a tree of tasks."""
    against: tuple[KnownTexts, ...] = ()
    """Data that a new example must not be a near-duplicate of: files, run directories, imported data."""
    language: Annotated[str, Field(min_length=1)] = "English"
    """The language of the data: any."""
    answer_format: Literal["json", "text"] = "json"
    """json: guided by a schema. text: plain text with markers, which takes fewer tokens."""
    exploration: Exploration = Exploration()
    generation: Generation = Generation()
    responses: Annotated[Literal["joint", "separate"], Field(exclude_if=lambda given: given == "joint")] = "joint"
    """joint: a generate request brings instructions with their outputs. separate: it brings instructions alone, and
    each one that is kept is answered in a request of its own.
    """
    answers_per_instruction: Annotated[int, Field(ge=1, le=16, exclude_if=lambda given: given == 1)] = 1
    """Answers to each instruction with `responses: separate`. The best one is the output, and the others that pass the
    filters stand beside it.
    """
    turns: Annotated[int, Field(ge=1, le=20, exclude_if=lambda given: given == 1)] = 1
    """Questions of the user in a conversation: each kept example goes on with what the user would ask next."""
    judge: Annotated[Judging | None, Field(exclude_if=_is_empty)] = None
    """A model scores each example, and those below a threshold are dropped; {} has the usual aspects and threshold.
    None: no model judges.
    """
    checks: Annotated[tuple[Check, ...], Field(exclude_if=_is_empty)] = ()
    """Programs of the user's that look at each example before it is kept, in this order."""
    targets: Targets
    filters: Filters = Filters()
    sampling: Samplings = Samplings()
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Goes to the server unchanged: settings of the chat template, options of the engine."""
    prompts: dict[Kind, str] = Field(default_factory=dict)
    """Template texts that replace the packaged ones. In a config file: the folder that holds them."""
    window: Annotated[int, Field(ge=1, le=10_000_000)] | Literal["auto"] = "auto"
    """The most requests that are not yet committed. auto: 32,768, enough for 4,096 in flight."""
    lag: Annotated[int, Field(ge=1)] | None = None
    shard: Annotated[str, Field(pattern=_SHARD, exclude_if=_is_empty)] = ""
    """I/N: the I-th of N parts of the run, from 1; `merge` joins them. Empty: the whole run."""

    @field_validator("shard", mode="before")
    @classmethod
    def _is_part(cls, value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(_SHARD, value):
            if re.fullmatch(r"[0-9]+/[0-9]+", value):
                raise ValueError("the number of the shard and that of all shards are from 1 to 99999")
            raise ValueError("write it as I/N, the number of the shard and of all shards: 2/8")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [domain.name.casefold().strip() for domain in self.domains]
        if len(set(names)) < len(names):
            raise misfit("domains", "two have the same name; give each a name of its own")
        return self

    @model_validator(mode="after")
    def _seed_tasks_fit(self) -> Self:
        depth = self.exploration.depth
        for number, domain in enumerate(self.domains):
            needed = 1 + max((task.height for task in domain.tasks), default=-1)
            if 0 < depth < needed:  # at depth 0 the tasks are left out, to compare with exploration
                raise misfit(
                    f"domains.{number}.tasks",
                    f"they are {needed} levels deep, but exploration.depth is {depth}; raise it",
                )
        return self

    @model_validator(mode="after")
    def _shards_fit(self) -> Self:
        index, shards = self.shard_numbers
        most, examples = max(self.most_tasks), self.targets.examples
        if index > shards:
            raise misfit("shard", f"{index} of {shards} is not one of them; they are numbered from 1 to {shards}")
        if most < shards:
            raise misfit(
                "shard",
                f"there are at most {most} tasks on one level of the trees, and each shard needs one; "
                f"use at most {most} shards, or raise exploration.breadth",
            )
        if examples is not None and examples < shards:
            raise misfit("shard", f"targets.examples is {examples}, less than one example for each of {shards} shards")
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        check_writable(self.model_dump(mode="json"))
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.responses == "joint" and self.answers_per_instruction > 1:
            raise misfit("answers_per_instruction", "more than one needs responses: separate")
        if len({check.name for check in self.checks}) < len(self.checks):
            raise misfit("checks", "two have the same name; give each a name of its own")
        if unused := [kind for kind in self.models if kind not in self.kinds]:
            settings = {
                "answer": "responses: separate", "follow_up": "turns: 2", "facets": "exploration.facets: 4"
            }  # fmt: skip
            needed = settings.get(unused[0], "judge: {}")
            raise misfit(f"models.{unused[0]}", f"this run has no such requests; they need {needed}")
        return self

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of requests that the run can have."""
        used: dict[Kind, bool] = {
            "lookahead": True,
            "backtrack": True,
            "facets": self.exploration.facets > 0,
            "generate": True,
            "answer": self.responses == "separate" or self.turns > 1,
            "follow_up": self.turns > 1,
            "judge": self.judge is not None,
        }
        return tuple(kind for kind, is_used in used.items() if is_used)

    @property
    def shard_numbers(self) -> tuple[int, int]:
        """The number of its shard, from 1, and the number of shards; (1, 1) of a whole run."""
        index, _, shards = self.shard.partition("/")
        return (int(index), int(shards)) if shards else (1, 1)

    @property
    def most_tasks(self) -> list[int]:
        """The most tasks that all trees may have, by depth."""
        breadths = map(self.exploration.breadth_at, range(self.exploration.depth))
        return list(accumulate((len(self.domains), *breadths), mul))

    @property
    def steps_of_instruction(self) -> int:
        """Requests that an instruction needs, once it is kept, to become an example."""
        answers = self.answers_per_instruction if self.responses == "separate" else 0
        looks = len(self.checks) + (self.judge is not None)
        return answers + max(1, answers) * looks + (self.turns - 1) * (2 + looks)

    def model_of(self, kind: str) -> str:
        """The logical model that requests of this kind go to."""
        return next((model for name, model in self.models.items() if name == kind), self.model or "")

    @property
    def wanted_models(self) -> tuple[str, ...]:
        """All logical models that have a name, each once; empty where the endpoints' own model is taken."""
        return tuple(dict.fromkeys(name for kind in self.kinds if (name := self.model_of(kind))))

    @property
    def tokenizer(self) -> str:
        """The name of the tokenizer among those of `rouge_kernels`."""
        return tokenizer_for(self.filters.tokenizer, self.language)


class _Rules(Settings):
    """The first key of a recipe in config.json."""

    meaning: int = MEANING
    """Version of the rules that this data is made by."""


class Recipe(RecipeFields, _Rules):
    """All that decides what the data is. Its model, window and lag are those of the first start."""

    model: str
    """The logical model; empty where `models` names one for each kind of request."""
    against: tuple[ResolvedKnownTexts, ...] = ()
    window: Annotated[int, Field(ge=1)]
    lag: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _rules_have_facets(self) -> Self:
        if self.exploration.facets and self.meaning < _HAS_FACETS:
            raise misfit("exploration.facets", "this run began by rules that have none; begin a new run")
        return self

    @property
    def tokenizer(self) -> str:
        return tokenizer_for(self.filters.tokenizer, self.language, self.meaning)

    @property
    def digest(self) -> str:
        """Digest of all but the paths of known texts and files, since only their content matters. In hexadecimal."""
        paths = {"__all__": {"path"}}
        content = self.model_dump(mode="json", exclude={"against": paths, "domains": {"__all__": {"files": paths}}})
        return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
