"""The settings of `judge`, which has two answers to each question compared.

They are digested like a recipe, together with the texts of the questions and answers: equal digests and equal
completions make equal verdicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

import orjson
from pydantic import Field, JsonValue, model_validator

from explore_async.settings.base import Settings, check_writable, misfit
from explore_async.settings.comparing_recipe import ComparingRecipe
from explore_async.settings.operation import Operation
from explore_async.settings.recipe import MEANING, Domain, Exploration, Sampling, Samplings, Targets

_JUDGING: Final = Samplings().judging
RULES: Final = 3
"""Version of the rules of comparisons: 2 asks nobody about equal answers, pairs equal questions by the ids that
their files have, and has a class for the examples of a run's only domain itself. 3 pairs equal questions of two files
without ids in their order.
"""
FIRST_RULES: Final = 1
NUMBERS_MEET: Final = 2
"""The last rules by which equal questions of two files without ids meet by the numbers of their rows."""


def _is_first(rules: int) -> bool:
    return rules == FIRST_RULES


class ComparisonSamplings(Settings):
    """Sampling parameters by stage."""

    judging: Sampling = _JUDGING


class ComparisonFields(Settings):
    """The settings that a comparison has, resolved or not. Those of the same name in a recipe mean the same."""

    made_by: Literal["judge"] = "judge"
    seed: int | None = 0
    judges: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """The logical models that judge; none takes the one that the endpoints serve at the first start."""
    answer_format: Literal["json", "text"] = "json"
    """json: the judge is guided by a schema. text: it ends with a marked line."""
    by: str | None = None
    """The column with the class of a question. None: `class` or `category`, else its task."""
    sampling: ComparisonSamplings = ComparisonSamplings()
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    window: Annotated[int, Field(ge=1, le=10_000_000)] = 16_384
    """The most requests, and the most questions, that have no verdict yet."""

    @model_validator(mode="after")
    def _judges_differ(self) -> Self:
        if len(set(self.judges)) < len(self.judges):
            raise misfit("judges", "one is there twice; name each model once")
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> Self:
        check_writable(self.model_dump(mode="json"))
        return self


class ComparisonSettings(ComparisonFields):
    """A comparison as a user gives it, and its operation."""

    operation: Operation = Operation()

    def resolved(self, *, judges: tuple[str, ...], meaning: int, rules: int, data: ComparedData) -> Comparison:
        """The comparison with the decisions of the first start, of this data."""
        fields = {name: getattr(self, name) for name in ComparisonFields.model_fields}
        decided = {"judges": self.judges or judges, "meaning": meaning, "rules": rules, "data": data}
        return Comparison.model_validate({**fields, **decided})


class ComparedData(Settings):
    """The two datasets, `a` and `b`. Their names and paths may change, their texts may not."""

    names: tuple[str, str]
    paths: tuple[str, str]
    questions: int
    """Questions that both answer."""
    only: tuple[int, int]
    """Answers of each to questions that the other does not answer."""
    texts: str
    """Digest of all that the judges see of them, and of the ids and classes of the questions. In hexadecimal."""


class Comparison(ComparisonFields):
    """All that decides what the verdicts are."""

    judges: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    meaning: int = MEANING
    """Version of the rules that these verdicts are read by."""
    rules: Annotated[int, Field(ge=1, le=RULES, exclude_if=_is_first)] = FIRST_RULES
    """Version of the rules of comparisons that it began with. Left out of the JSON of those by the first ones."""
    data: ComparedData

    @property
    def digest(self) -> str:
        """Digest of all but the names and the paths of the data. In hexadecimal."""
        content = self.model_dump(mode="json", exclude={"data": {"names", "paths"}})
        return hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()

    def as_recipe(self, classes: Sequence[tuple[str, str]]) -> ComparingRecipe:
        """The recipe that its requests are made by. `classes`: the name of each, and how prompts call it."""
        recipe = ComparingRecipe(
            meaning=self.meaning,
            seed=self.seed,
            model=self.judges[0],
            judges=self.judges,
            asks_about_equal=self.rules == FIRST_RULES,
            domains=(Domain(name="questions"),),
            answer_format=self.answer_format,
            exploration=Exploration(depth=0),
            targets=Targets(examples=max(1, self.data.questions)),
            sampling=Samplings(judging=self.sampling.judging),
            extra_body=self.extra_body,
            window=self.window,
            lag=1,
        )
        domains = tuple(Domain.model_construct(name=name, description=text) for name, text in classes)
        return recipe.model_copy(update={"domains": domains, "name": " and ".join(self.data.names)})
