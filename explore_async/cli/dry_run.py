"""`run --dry-run`: shows a prompt of each kind and the size of the run. It asks and writes nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.kinds import KINDS
from explore_async.exploration.play import play
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion, Request
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import RunSettings

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_TASK = 25
_TOKENS_PER_EXAMPLE = 110
_MOST_REQUESTS = 2_000


@dataclass(frozen=True, slots=True)
class Expectation:
    """Upper bounds: the size of a run if all completions are read whole and nothing is dropped. Tokens: estimates."""

    tasks: int
    examples: int
    requests: int
    prompt_tokens: int
    completion_tokens: int


def preview(settings: RunSettings, console: Console, *, as_json: bool) -> None:
    recipe = settings.resolved(model="(the model served)", slots=128)
    expected = expect(recipe)
    prompts = sample_prompts(recipe)
    if as_json:
        document = {"expected": expected, "prompts": prompts}
        sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
        return
    for kind, chat_request in prompts.items():
        console.print(Text(f"── {kind} ", style="bold"))
        for message in chat_request.messages:
            content = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in message["content"])
            console.print(Text(f"[{message['role']}]\n{content}\n"), soft_wrap=True)
    console.print(Text("── the run, if nothing is dropped", style="bold"))
    console.print(
        f"{expected.tasks:,} tasks, {expected.examples:,} examples, {expected.requests:,} requests,\n"
        f"about {expected.prompt_tokens:,} prompt and {expected.completion_tokens:,} completion tokens "
        f"({_CHARACTERS_PER_TOKEN} characters a token)"
    )


def expect(recipe: Recipe) -> Expectation:
    """The size of the run, by arithmetic on the planned size of the trees."""
    planned = [1]
    for depth in range(recipe.exploration.depth):
        planned.append(planned[-1] * recipe.exploration.breadth_at(depth))
    domains = len(recipe.domains)
    caps = [recipe.targets.cap_at(depth) for depth in range(len(planned))]
    total = recipe.targets.examples
    capped = sum((cap or 0) * count for cap, count in zip(caps, planned, strict=True)) * domains
    examples = capped if total is None else total
    asks = (
        sum(
            count * -(-recipe.exploration.breadth_at(depth) // recipe.exploration.step)
            for depth, count in enumerate(planned[:-1])
        )
        * domains
    )
    tasks = sum(planned) * domains
    each = -(-examples // tasks) if total is not None else 0
    quotas = [min(each, cap) if cap is not None and total is not None else (each or cap or 0) for cap in caps]
    generates = domains * sum(
        count * max(1, -(-quota // recipe.generation.per_request)) for count, quota in zip(planned, quotas, strict=True)
    )
    sizes: dict[str, int] = {"tasks": 0, "examples": 0}
    for kind, chat_request in sample_prompts(recipe).items():
        sizes[KINDS[kind].brings] = _tokens(chat_request)  # of a backtrack, which follows the lookahead
    children = (sum(planned) - 1) * domains
    return Expectation(
        tasks=tasks,
        examples=examples,
        requests=asks + generates,
        prompt_tokens=asks * sizes["tasks"] + generates * sizes["examples"],
        completion_tokens=children * _TOKENS_PER_TASK + generates * recipe.generation.per_request * _TOKENS_PER_EXAMPLE,
    )


def _tokens(chat_request: ChatRequest) -> int:
    return sum(len(message["content"]) for message in chat_request.messages) // _CHARACTERS_PER_TOKEN


def sample_prompts(recipe: Recipe) -> dict[str, ChatRequest]:
    """The first prompt of each kind, in a run whose completions are made of numbered names."""
    recipe = recipe.model_copy(update={"window": 1, "lag": 1})
    render = PromptBook(recipe).render
    prompts: dict[str, ChatRequest] = {}
    wanted = sum(1 for kind in KINDS.values() if recipe.exploration.depth or kind.brings == "examples")
    commits = play(Explorer(recipe), lambda request: Completion(_completion(recipe, request), "stop", 0, 0))
    for request, _, _ in islice(commits, _MOST_REQUESTS):
        if request.kind not in prompts:
            prompts[request.kind] = render(request)
        if len(prompts) == wanted:
            break
    return prompts


def _completion(recipe: Recipe, request: Request) -> str:
    count = int(request.prompt.values["count"])
    if KINDS[request.kind].brings == "examples":
        item: list[dict[str, Any]] = [{"instruction": "-", "input": "", "output": "-"}]
        return orjson.dumps({"examples": item}).decode()
    names = [f"(sub-task {request.task_id}.{request.turn}.{index} of this task)" for index in range(count)]
    if recipe.answer_format == "text":
        return "\n".join(f"### Name: {name}\n### Reason: -\n### End" for name in names)
    return orjson.dumps({"tasks": [{"name": name, "reason": "-"} for name in names]}).decode()
