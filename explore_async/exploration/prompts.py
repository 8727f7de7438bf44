"""From a request to what the model sees. Templates are Jinja2 in a sandbox; a `[system]` and a `[user]` part each.

What never changes comes first and what changes most comes last, so that a server's prefix cache works for us.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, get_args

import orjson
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from explore_async.errors import ConfigError
from explore_async.exploration.parsing import examples_schema, tasks_schema
from explore_async.exploration.values import (
    AnswerSchema,
    ChatRequest,
    Demonstration,
    Kind,
    Message,
    Prompt,
    Request,
)
from explore_async.settings.recipe import Recipe

_FORM_TOKENS = 8
_PART = re.compile(r"^\[(system|user)\]\n", re.MULTILINE)

_COMMON: dict[str, Any] = {"domain": "a", "description": "b", "task": "c", "reason": "d", "count": 2}
_TRIAL: dict[str, dict[str, Any]] = {
    "lookahead": {**_COMMON, "existing": ("e",)},
    "backtrack": {**_COMMON, "explored": ((0, "f"),)},
    "generate": {**_COMMON, "demonstrations": (Demonstration("g", "h", "i"),), "topic": "j", "style": "k"},
}
"""Every name that a template of each kind may use, with a value to try it on."""
_FAULTS = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(RecursionError, MemoryError),
)
"""What a template can raise: it is a small program, and not ours."""


def packaged_template(kind: Kind) -> str:
    return (files("explore_async.exploration") / "templates" / f"{kind}.j2").read_text(encoding="utf-8")


def _as_json(demonstrations: Sequence[Demonstration], *, inputs: bool) -> str:
    """Demonstrations in the form that answers have, on one line: models write as they see written."""
    fields = ("instruction", "input", "output") if inputs else ("instruction", "output")
    return orjson.dumps(
        {"examples": [{name: getattr(one, name) for name in fields} for one in demonstrations]}
    ).decode()


@dataclass(frozen=True, slots=True)
class _Part:
    """`constant`: its text, where no value of a prompt occurs in it."""

    role: str
    template: Template
    constant: str | None

    def text(self, values: Mapping[str, Any]) -> str:
        return self.template.render(values).strip() if self.constant is None else self.constant


class PromptBook:
    """Renders requests by the recipe's templates, sampling and answer format. Holds no state of a run."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._sampling = {True: recipe.sampling.exploration.body(), False: recipe.sampling.generation.body()}
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
        )
        environment.filters["as_json"] = _as_json
        environment.globals.update(
            language=recipe.language, answer_format=recipe.answer_format, inputs=recipe.generation.inputs
        )
        self._templates = {
            kind: self._compiled(environment, kind, recipe.prompts.get(kind) or packaged_template(kind))
            for kind in get_args(Kind)
        }

    @staticmethod
    def _compiled(environment: ImmutableSandboxedEnvironment, kind: str, source: str) -> tuple[_Part, ...]:
        pieces = _PART.split(source)
        if len(pieces) < 3 or pieces[0].strip():  # noqa: PLR2004 - [before, role, text, role, text, …]
            raise ConfigError(f"prompts: {kind}.j2 has to begin with a line [system] or [user]")
        parts = []
        for role, text in zip(pieces[1::2], pieces[2::2], strict=True):
            try:
                template = environment.from_string(text)
                template.render(_TRIAL[kind])
                template.render({name: type(value)() for name, value in _TRIAL[kind].items()} | {"count": 1})
            except _FAULTS as error:
                known = ", ".join(sorted([*_TRIAL[kind], "language", "answer_format", "inputs"]))
                fault = str(error) or "it asks for more memory than there is"
                raise ConfigError(f"prompts: {kind}.j2, part [{role}]: {fault} (names to use: {known})") from error
            used = find_undeclared_variables(environment.parse(text))
            constant = None if used & _TRIAL[kind].keys() else template.render(_TRIAL[kind]).strip()
            parts.append(_Part(role, template, constant))
        return tuple(parts)

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        return tuple(
            {"role": part.role, "content": part.text(prompt.values)} for part in self._templates[prompt.template]
        )

    def render(self, request: Request) -> ChatRequest:
        recipe = self._recipe
        exploring = request.kind != "generate"
        return ChatRequest(
            model=recipe.model_of(request.kind),
            messages=self.messages(request.prompt),
            sampling=self._sampling[exploring],
            seed=request.seed,
            answer_schema=self._answer_schema(request) if recipe.answer_format == "json" else None,
            extra_body=recipe.extra_body,
        )

    def forms(self) -> tuple[ChatRequest, ...]:
        """For each model a small request in the form of the real ones: their roles, schema and extra fields."""
        recipe = self._recipe
        made: dict[str, ChatRequest] = {}
        for kind in get_args(Kind):
            sampling = self._sampling[kind != "generate"]
            made[recipe.model_of(kind)] = ChatRequest(
                model=recipe.model_of(kind),
                messages=tuple({"role": part.role, "content": "Say yes."} for part in self._templates[kind]),
                sampling={**sampling, "max_tokens": _FORM_TOKENS},
                seed=0,
                answer_schema=tasks_schema(1) if recipe.answer_format == "json" else None,
                extra_body=recipe.extra_body,
            )
        return tuple(made.values())

    def _answer_schema(self, request: Request) -> AnswerSchema:
        count: int = request.prompt.values["count"]
        if request.kind == "generate":
            return examples_schema(count, inputs=self._recipe.generation.inputs)
        return tasks_schema(count)
