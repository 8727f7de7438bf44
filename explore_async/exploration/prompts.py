"""Renders requests for the model. Templates are Jinja2 in a sandbox, each with a `[system]` and a `[user]` part; one
for answers may be a `[text]` part instead, which goes to the model as it is, without a chat template.

The constant parts of a prompt come first and the most variable ones last, so that a server's prefix cache serves them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from explore_async.errors import ConfigError
from explore_async.exploration import checks, passages, prompt_values
from explore_async.exploration.kinds import ANSWER, GENERATE, RequestKind, kinds_of
from explore_async.exploration.prompt_values import GLOBALS, of_recipe
from explore_async.exploration.values import (
    TEXT,
    ChatRequest,
    Demonstration,
    Facet,
    Form,
    Message,
    Prompt,
    Request,
    Task,
)
from explore_async.settings.recipe import Recipe

_LATEST_KEPT: Final = 1024
_PART = re.compile(r"^\[(system|user|(?<=\A\[)text)\]\n", re.MULTILINE)

_TO_SHOW: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("tasks", "facets", "examples"), ("task", "count")),
    "answers": ("instruction",),
    "scores": ("instruction", "output"),
}
"""Names without which a prompt cannot say what it is about, by what its kind brings."""
_FAULTS = (
    *(TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
    *(RecursionError, MemoryError),
)
"""Errors that a template can raise: it is a small program, and not ours."""


def _as_json(demonstrations: Sequence[Demonstration], *, inputs: bool, outputs: bool = True) -> str:
    """Demonstrations as JSON on one line, in the form of completions: models imitate the form that they see."""
    fields = ("instruction", *(["input"] if inputs else []), *(["output"] if outputs else []))
    items = [{name: getattr(shown, name) for name in fields} for shown in demonstrations]
    return orjson.dumps({"examples" if outputs else "instructions": items}).decode()


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a template. `constant`: its text where it uses no value of a prompt."""

    role: str
    template: Template
    constant: str | None

    def text(self, values: Mapping[str, Any]) -> str:
        if self.constant is not None:
            return self.constant
        text = self.template.render(values)
        return text if self.role == TEXT else text.strip()


@dataclass(frozen=True, slots=True)
class _Root:
    """The root task of a domain before anything is explored; see prompt_values.TaskView."""

    recipe: Recipe
    domain: int

    @property
    def task(self) -> Task:
        return Task(str(self.domain), self.recipe.domains[self.domain].name, "", None, 0, "seed")

    @property
    def demonstrations(self) -> tuple[Demonstration, ...]:
        shown = self.recipe.domains[self.domain].examples[: self.recipe.generation.demonstrations]
        return tuple(Demonstration(one.instruction, one.input, one.output) for one in shown)

    def shown_at(self, turn: int) -> tuple[Demonstration, ...]:
        del turn
        return self.demonstrations

    @property
    def facets(self) -> tuple[Facet, ...]:
        return ()

    @property
    def room(self) -> int:
        return self.recipe.exploration.breadth_at(0)

    def child_names(self) -> tuple[str, ...]:
        return ()

    def criteria(self) -> tuple[str, ...]:
        return ()

    def explored(self) -> tuple[tuple[int, str], ...]:
        return ()


def _length(request: ChatRequest) -> int:
    return sum(len(message["content"]) for message in request.messages)


class PromptBook:
    """Renders requests with the templates, sampling and answer format of a recipe. Holds no state of a run."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
        )
        environment.filters["as_json"] = _as_json
        environment.globals.update(of_recipe(recipe))
        self._joint: PromptBook | None = None
        self._kinds = kinds_of(recipe)
        self.doubts: list[str] = []
        """A sentence for each template of the user's that leaves out what its prompts are about. A run may go on."""
        self._templates = {kind.name: self._compiled(environment, kind) for kind in self._kinds.values()}
        self._latest: dict[tuple[str, str], tuple[Mapping[str, Any], tuple[Message, ...]]] = {}
        """The values and messages of the latest prompt of a template about a task: often the next has the same."""
        self._sampling = {kind.name: getattr(recipe.sampling, kind.sampling).body() for kind in self._kinds.values()}

    def _compiled(self, environment: ImmutableSandboxedEnvironment, kind: RequestKind) -> tuple[_Part, ...]:
        own = next((text for name, text in self._recipe.prompts.items() if name == kind.name), "")
        pieces = _PART.split(own or kind.template.read_text(encoding="utf-8"))
        if len(pieces) < 3 or pieces[0].strip():  # noqa: PLR2004 - [before, role, text, role, text, …]
            raise ConfigError(f"prompts: {kind.template.name} has to begin with a line [system] or [user]")
        if TEXT in pieces[1::2] and (kind.name != ANSWER.name or len(pieces) > 3 or self._recipe.turns > 1):  # noqa: PLR2004
            raise ConfigError(
                f"prompts: {kind.template.name} has a part [{TEXT}]; only answer.j2 may, as its only part, in a recipe "
                "without turns"
            )
        parts, names = [], set[str]()
        for role, text in zip(pieces[1::2], pieces[2::2], strict=True):
            try:
                template = environment.from_string(text)
                template.render(kind.trial)
                template.render({name: type(value)() for name, value in kind.trial.items()} | {"count": 1})
            except _FAULTS as error:
                known = ", ".join(sorted([*kind.trial, *GLOBALS]))
                fault = str(error) or "it asks for more memory than there is"
                raise ConfigError(
                    f"prompts: {kind.template.name}, part [{role}]: {fault} (names to use: {known})"
                ) from error
            used = find_undeclared_variables(environment.parse(text))
            names |= used
            constant = None if used & kind.trial.keys() else template.render(kind.trial).strip()
            parts.append(_Part(role, template, constant))
        if kind.brings == "examples" and "passage" not in names and any(one.files for one in self._recipe.domains):
            raise ConfigError(
                f"prompts: {kind.template.name} does not show {{{{ passage }}}}, and a domain has files: add it to the "
                "template, as `explore-async init --prompts` writes it, or remove the files"
            )
        if kind.brings == "examples" and "facets" not in names and self._recipe.exploration.facets:
            raise ConfigError(
                f"prompts: {kind.template.name} does not show {{{{ facets }}}}, and exploration.facets is set: add it "
                "to the template, as `explore-async init --prompts` writes it, or set it to 0"
            )
        if own:
            self.doubts += self._doubt(kind, names)
        return tuple(parts)

    def _doubt(self, kind: RequestKind, names: set[str]) -> Iterator[str]:
        is_flat = self._recipe.exploration.depth == 0
        if is_flat and kind.brings == "tasks":
            return
        left_out = [name for name in _TO_SHOW.get(kind.brings, ()) if name not in names]
        if is_flat and "task" in left_out:
            left_out.remove("task")  # it is the domain
        if left_out:
            shown = " and ".join(f"{{{{ {name} }}}}" for name in left_out)
            same = "; the prompts of all tasks are alike" if "task" in left_out else ""
            yield f"prompts: {kind.template.name} does not show {shown}, which the model then does not know{same}"

    def messages(self, prompt: Prompt) -> tuple[Message, ...]:
        about = (prompt.template, prompt.values["task"])
        values, messages = self._latest.get(about, (None, ()))
        if values != prompt.values:
            texts = [(part.role, part.text(prompt.values)) for part in self._templates[prompt.template]]
            leaves_out = prompt.template == ANSWER.name  # a system prompt that is empty
            said = [{"role": role, "content": text} for role, text in texts if text or not leaves_out]
            messages = (*said, *prompt.values.get("history", ()))
            if len(self._latest) >= _LATEST_KEPT:
                self._latest.clear()
            self._latest[about] = prompt.values, messages
        return messages

    def render(self, request: Request) -> ChatRequest:
        if request.kind == checks.KIND:
            return checks.render(self._recipe, request)
        recipe, kind = self._recipe, self._kinds[request.kind]
        count: int = request.prompt.values["count"]
        return ChatRequest(
            model=recipe.model_of(kind.name),
            messages=self.messages(request.prompt),
            sampling=self._sampling[kind.name],
            seed=request.seed,
            sends_seed=recipe.seed is not None,
            answer_schema=kind.schema(recipe, count) if recipe.answer_format == "json" else None,
            extra_body=recipe.extra_body,
        )

    def as_joint(self, request: Request) -> ChatRequest | None:
        """The same request as a recipe with joint responses asks it: a completion that is stored for it serves as well,
        as its instructions do. None where there is no such request.
        """
        if request.kind != GENERATE.name or self._recipe.responses == "joint":
            return None
        if not all(shown.output for shown in request.prompt.values["demonstrations"]):
            return None  # they come from a request for instructions alone
        if self._joint is None:
            self._joint = PromptBook(self._recipe.model_copy(update={"responses": "joint"}))
        return self._joint.render(request)

    def forms(self) -> tuple[Form, ...]:
        """The forms of the run's requests: for each model, sampling, schema and order of roles the longest of the
        requests that the run begins with.
        """
        forms: dict[tuple[object, ...], Form] = {}
        for kind in self._kinds.values():
            if kind.brings == "tasks" and self._recipe.exploration.depth == 0:
                continue
            for domain in range(len(self._recipe.domains)):
                form = Form(self.first(kind, domain), kind.sampling)
                roles = tuple(message["role"] for message in form.request.messages)
                group = (form.request.model, kind.sampling, kind.brings, roles)
                if group not in forms or _length(form.request) > _length(forms[group].request):
                    forms[group] = form
        return tuple(forms.values())

    def first(self, kind: RequestKind, domain: int) -> ChatRequest:
        """A request about the root task of a domain, or about one of its own examples, with as many items as any."""
        root = _Root(self._recipe, domain)
        values = {**prompt_values.about(self._recipe, root), **kind.fill(self._recipe, root, 1)}
        if kind.brings == "examples":
            values |= passages.longest(self._recipe, domain)
        return self.render(Request(0, 0, kind.name, root.task.id, 1, Prompt(kind.name, values), seed=0))
