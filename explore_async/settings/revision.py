"""The settings of the commands that revise examples which exist: `answer` and `rate`.

They are digested like a recipe, together with the texts of the examples: equal digests and equal completions make equal
data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self, TypeAlias

import orjson
from pydantic import Field, JsonValue, model_validator

from explore_async.settings.base import Settings, check_writable, misfit
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import (
    MEANING,
    Check,
    Domain,
    Exploration,
    Filters,
    Judging,
    Recipe,
    Sampling,
    Samplings,
    Targets,
    refuse_taken_aspects,
)

MadeBy: TypeAlias = Literal["answer", "rate"]
"""The command: new answers, or scores of those that are there."""

UNFILTERED: Final[Mapping[str, int | bool]] = {
    "min_output_words": 0,
    "max_output_words": 1_000_000_000,
    "max_repetition": 1,
    "refusals": False,
    "placeholders": False,
    "copies": False,
}
"""Filters that drop no output."""

_Kind: TypeAlias = Literal["answer", "judge"]
_DEFAULTS: Final = Samplings()


class RevisionSamplings(Settings):
    """Sampling parameters by stage."""

    answers: Sampling = _DEFAULTS.answers
    judging: Sampling = _DEFAULTS.judging


class RevisionFields(Settings):
    """The settings that a revision has, resolved or not. Those of the same name in a recipe mean the same."""

    made_by: MadeBy
    seed: int | None = 0
    model: str | None = None
    """The logical model that answers, or rates; None takes the one that the endpoints serve at the first start."""
    models: dict[_Kind, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Other logical models, for one of the kinds of requests."""
    language: Annotated[str, Field(min_length=1)] = "English"
    system: str | None = None
    """The system prompt that answers are asked for with. None: that of each row, where it has one."""
    answer_format: Literal["json", "text"] = "json"
    """json: the judge is guided by a schema. text: it is not."""
    answers_per_instruction: Annotated[int, Field(ge=1, le=16)] = 1
    vote: Annotated[bool, Field(exclude_if=lambda given: not given)] = False
    """Of several answers the output is the first of those with the final answer of most."""
    judge: Judging | None = None
    """None: nothing is scored."""
    checks: tuple[Check, ...] = ()
    filters: Filters = Filters()
    """The filters of outputs hold for new answers; instructions are taken as they are."""
    sampling: RevisionSamplings = RevisionSamplings()
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    prompts: dict[_Kind, str] = Field(default_factory=dict)
    """Template texts that replace the packaged ones, answer.j2 and judge.j2. On the command line: their folder."""
    window: Annotated[int, Field(ge=1, le=10_000_000)] = 16_384
    """The most requests, and the most examples, that have no verdict yet."""

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.made_by == "rate" and self.judge is None:
            raise misfit("judge", "rate needs it")
        if self.made_by == "rate" and self.answers_per_instruction > 1:
            raise misfit("answers_per_instruction", "rate asks for no answers")
        if self.vote and self.answers_per_instruction == 1:
            raise misfit("vote", "it needs several answers; give --answers N")
        if self.vote and self.judge is not None:
            raise misfit("vote", "with a judge its scores choose the output; leave out one of both")
        if len({check.name for check in self.checks}) < len(self.checks):
            raise misfit("checks", "two have the same name; give each a name of its own")
        if "judge" in self.models and self.judge is None:
            raise misfit("models.judge", "nothing is judged; --judge has each answer scored")
        if "answer" in self.models and self.made_by == "rate":
            raise misfit("models.answer", "rate asks for no answers")
        return self

    @property
    def kinds(self) -> tuple[_Kind, ...]:
        """The kinds of requests that it has."""
        used: dict[_Kind, bool] = {"answer": self.made_by == "answer", "judge": self.judge is not None}
        return tuple(kind for kind, is_used in used.items() if is_used)

    def model_of(self, kind: _Kind) -> str:
        """The logical model that requests of this kind go to; empty where none is named."""
        return self.models.get(kind) or self.model or ""

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        check_writable(self.model_dump(mode="json"))
        return self


class RevisionSettings(RevisionFields):
    """A revision as a user gives it, and its operation."""

    operation: Operation = Operation()

    @model_validator(mode="after")
    def _aspects_are_free(self) -> Self:
        refuse_taken_aspects(self.judge)
        return self

    def resolved(self, *, model: str, meaning: int, data: RevisedData) -> Revision:
        """The revision with the decisions of the first start, of this data."""
        fields = {name: getattr(self, name) for name in RevisionFields.model_fields}
        return Revision.model_validate({**fields, "model": self.model or model, "meaning": meaning, "data": data})


class RevisedData(Settings):
    """The examples that are revised. Their name and path may change, their texts may not."""

    name: str
    path: str
    examples: int
    texts: str
    """Digest of all that the model sees of them, and of their ids. In hexadecimal."""


class Revision(RevisionFields):
    """All that decides what the data is."""

    model: str
    meaning: int = MEANING
    """Version of the rules that this data is made by."""
    data: RevisedData

    @property
    def digest(self) -> str:
        """Digest of all but the name and the path of the data. In hexadecimal."""
        content = self.model_dump(mode="json", exclude={"data": {"name", "path"}})
        return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def as_recipe(self, domains: Sequence[tuple[str, str]]) -> Recipe:
        """The recipe of a run that would go on like this with an instruction, once it is new. `domains`: the name and
        the description of each tree of the data, which may be any.
        """
        recipe = Recipe(
            meaning=self.meaning,
            seed=self.seed,
            model=self.model,
            models={**self.models},
            domains=(Domain(name="data"),),
            language=self.language,
            answer_format=self.answer_format,
            exploration=Exploration(depth=0),
            responses="separate" if self.made_by == "answer" else "joint",
            answers_per_instruction=self.answers_per_instruction,
            judge=self.judge,
            checks=self.checks,
            targets=Targets(examples=max(1, self.data.examples)),
            filters=self.filters,
            sampling=Samplings(answers=self.sampling.answers, judging=self.sampling.judging),
            extra_body=self.extra_body,
            prompts={**self.prompts},
            window=self.window,
            lag=1,
        )
        system = self.system or ""
        trees = tuple(Domain.model_construct(name=name, description=text, system=system) for name, text in domains)
        return recipe.model_copy(update={"domains": trees, "name": self.data.name})
