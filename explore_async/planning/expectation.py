"""The size of a run by arithmetic on the planned size of its trees, and what is odd about it. No model is asked."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from itertools import islice
from typing import Any, Final

import orjson

from explore_async.curation.language_codes import doubt_about_language
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.kinds import KINDS, kinds_of
from explore_async.exploration.levels import level
from explore_async.exploration.play import play
from explore_async.exploration.prompt_values import examples_to_ask_for
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.sharding import Sharding
from explore_async.exploration.values import ChatRequest, Completion, Request
from explore_async.settings.operation import WINDOW_PER_SLOT
from explore_async.settings.recipe import Domain, Generation, Recipe

CHARACTERS_PER_TOKEN: Final = 4
_TOKENS_PER_TASK: Final = 25
_TOKENS_PER_INSTRUCTION: Final = 30
TOKENS_PER_ANSWER: Final = 80
TOKENS_PER_EXAMPLE: Final = _TOKENS_PER_INSTRUCTION + TOKENS_PER_ANSWER
_TOKENS_PER_JUDGEMENT: Final = 60
_TOKENS_PER_CRITERION: Final = 35
_MOST_REQUESTS: Final = 2_000
_TOO_MANY: Final = 1.25
"""Examples that the requests bring, as a multiple of those that are wanted: more is told."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The size of a run where each completion holds the examples that it was asked for, and nothing is dropped: a model
    that brings fewer needs more requests. Tokens: estimates.
    """

    tasks: int
    examples: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    examples_asked_for: int
    """Examples in all completions: more than `examples` where the last request of a task brings more than it needs."""
    generates: int
    """Requests for examples."""
    exploring_tokens: int
    """Tokens of prompts and completions that no example comes from, or only examples beyond those wanted."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def expect(recipe: Recipe, prompts: dict[str, ChatRequest]) -> Expectation:
    """The size of the run. `prompts`: a prompt of each kind, as `sample_prompts` makes them.

    Where it is given tokens alone, its size with as many examples as they bring, but some for each task.
    """
    budget = recipe.targets.only_budget
    if budget is None:
        return _expect(recipe, prompts)

    def with_target(examples: int) -> Expectation:
        targets = recipe.targets.model_copy(update={"examples": examples})
        return _expect(recipe.model_copy(update={"targets": targets}), prompts)

    low, high = 1, max(2, budget)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if with_target(middle).tokens <= budget else (low, middle)
    fits, exceeds = astuple(with_target(low)), astuple(with_target(high))
    room = max(0, budget - with_target(low).tokens) / max(1, with_target(high).tokens - with_target(low).tokens)
    between = Expectation(*(round(less + room * (more - less)) for less, more in zip(fits, exceeds, strict=True)))
    return replace(between, examples=between.examples_asked_for)


def _expect(recipe: Recipe, prompts: dict[str, ChatRequest]) -> Expectation:
    counts = tasks_by_depth(recipe)
    asks = sum(
        count * -(-recipe.exploration.breadth_at(depth) // recipe.exploration.step)
        for depth, count in enumerate(counts[:-1])
    )
    generates, brought = _asked(recipe, recipe.generation)
    examples = wanted(recipe)
    sizes: dict[str, int] = {"tasks": 0, "facets": 0, "examples": 0, "answers": 0, "questions": 0, "scores": 0}
    for kind, chat_request in prompts.items():
        sizes[KINDS[kind].brings] = _tokens(chat_request)  # of a backtrack, which follows the lookahead
    named = (sum(counts) - counts[0]) * _TOKENS_PER_TASK
    opening = examples_to_ask_for(recipe.generation, 0, recipe.meaning)
    each = tokens_of_item(recipe)
    openings = sum(counts) * (sizes["examples"] + opening * each)
    facets = sum(counts) if recipe.exploration.facets else 0
    named_facets = facets * recipe.exploration.facets * _TOKENS_PER_CRITERION
    later = examples * (recipe.turns - 1)
    answers = later + (examples * recipe.answers_per_instruction if recipe.responses == "separate" else 0)
    judgements = 0 if recipe.judge is None else later + examples * recipe.answers_per_instruction
    in_vain = openings * max(0.0, 1 - examples / (sum(counts) * opening))
    return Expectation(
        tasks=sum(counts),
        examples=examples,
        requests=asks + facets + generates + answers + later + judgements,
        prompt_tokens=asks * sizes["tasks"]
        + facets * sizes["facets"]
        + generates * sizes["examples"]
        + answers * sizes["answers"]
        + later * sizes["questions"]
        + judgements * sizes["scores"],
        completion_tokens=named
        + named_facets
        + brought * each
        + answers * TOKENS_PER_ANSWER
        + later * _TOKENS_PER_INSTRUCTION
        + judgements * _TOKENS_PER_JUDGEMENT,
        examples_asked_for=brought,
        generates=generates,
        exploring_tokens=round(asks * sizes["tasks"] + named + facets * sizes["facets"] + named_facets + in_vain),
    )


def warnings(recipe: Recipe, expected: Expectation) -> list[str]:
    """Faults of a plan that a user would want to mend before the run, with the setting that does it."""
    found: list[str] = [doubt] if (doubt := doubt_about_language(recipe.language)) else []
    found += PromptBook(recipe).doubts
    generation = recipe.generation
    budget = recipe.targets.token_budget
    is_too_small = budget is not None and expected.tokens > budget
    if is_too_small and recipe.targets.only_budget is None:
        found.append(
            f"a budget of {budget:,} tokens ends the run before it has its {expected.examples:,} examples, which take "
            f"about {expected.tokens:,}. Raise the budget (targets.token_budget), or lower the other targets"
        )
    elif is_too_small:
        found.append(
            f"a budget of {budget:,} tokens ends the run before each of its {expected.tasks:,} tasks has examples, "
            f"which takes about {expected.tokens:,}. Make the tree smaller (exploration.breadth, exploration.depth), "
            "or raise the budget"
        )
    elif recipe.exploration.depth and expected.exploring_tokens > expected.tokens / 2:
        found.append(
            f"the tree costs more than the data: about {expected.exploring_tokens:,} of {expected.tokens:,} tokens "
            f"explore {expected.tasks:,} tasks for {expected.examples:,} examples. Make it smaller "
            "(exploration.breadth, exploration.depth), or raise the targets"
        )
    elif expected.examples_asked_for > _TOO_MANY * expected.examples:
        found.append(
            f"the requests bring {expected.examples_asked_for:,} examples where {expected.examples:,} are wanted, as "
            f"each brings {generation.per_request} for one task: {_fewer(recipe)}"
        )
    each = max([tokens_of_item(recipe), *(_item_tokens(domain, recipe) for domain in recipe.domains)])
    sampling = recipe.sampling.generation
    room, limit = sampling.limit, f"sampling.generation.{sampling.limit_name}"
    if room is not None and room < each * generation.per_request:
        found.append(
            f"{room:,} tokens ({limit}) leave {room // generation.per_request:,} for each of "
            f"the {generation.per_request} {_item(recipe)}s in a request, and an {_item(recipe)} takes about {each:,}: "
            f"completions are going to be cut. Lower generation.per_request or raise {limit}"
        )
    if full := index_warning(recipe, expected.examples):
        found.append(full)
    return found


def index_warning(recipe: Recipe, examples: int) -> str:
    """A sentence where an index does not hold the texts of this many examples; else empty."""
    from rouge_kernels.prefixes import MOST_TEXTS

    _, shards = recipe.shard_numbers
    indexes = {"run": 1, "domain": len(recipe.domains), "task": sum(tasks_by_depth(recipe))}[recipe.filters.scope]
    if examples <= MOST_TEXTS * shards * indexes:
        return ""
    return (
        f"an index holds at most {MOST_TEXTS:,} texts, which are compared with one another, and {examples:,} examples "
        "are wanted: use shards (--shard), or set filters.scope to domain or task, with an index for each"
    )


def window_warning(window: int, slots: int, requests: int) -> str:
    """A sentence where the window is too narrow to keep this many slots full in a run of these requests; else empty."""
    enough = WINDOW_PER_SLOT * slots
    if window >= min(enough, requests):
        return ""
    return (
        f"a window of {window:,} has about {max(1, window // WINDOW_PER_SLOT):,} requests in flight where completions "
        f"differ much in length, and the endpoints take {slots:,}: --window {enough} would keep them full"
    )


@dataclass(frozen=True, slots=True)
class ExpectedShare:
    """The part of a run that a shard is going to have, with the largest possible trees."""

    index: int
    of: int
    tasks: int
    """Those that it generates for."""
    examples: int
    token_budget: int | None
    shared_tasks: int
    """Tasks of the top of the trees, which every shard explores alike."""
    shared_requests: int
    """Requests about these, whose completions the shards share."""


def expected_share(recipe: Recipe) -> ExpectedShare | None:
    """The share of the recipe's shard; None where it has none."""
    if not recipe.shard:
        return None
    sharding = Sharding(recipe)
    share, counts = sharding.expected(), tasks_by_depth(recipe)
    own = sharding.tasks_of(share)
    examples = sum(count * quota for count, quota in zip(own, _quotas(recipe, counts), strict=True))
    asks = [-(-recipe.exploration.breadth_at(depth) // recipe.exploration.step) for depth in range(sharding.level)]
    beside = 1 + ("facets" in recipe.kinds)  # the opening of each task, and its facets
    return ExpectedShare(
        index=sharding.index,
        of=sharding.shards,
        tasks=sum(own),
        examples=examples if share.examples is None else min(examples, share.examples),
        token_budget=share.token_budget,
        shared_tasks=sum(counts[: sharding.level]),
        shared_requests=sum(count * (beside + ask) for count, ask in zip(counts, asks, strict=False)),
    )


def tasks_by_depth(recipe: Recipe) -> list[int]:
    """The most tasks of all trees at each depth."""
    return recipe.most_tasks


def wanted(recipe: Recipe) -> int:
    """Examples that the recipe asks for, with the largest possible tree; 0 where it is given tokens alone."""
    total = recipe.targets.examples
    counts = tasks_by_depth(recipe)
    in_all = sum(count * quota for count, quota in zip(counts, _quotas(recipe, counts), strict=True))
    return in_all if total is None else min(total, in_all)


def _quotas(recipe: Recipe, counts: list[int]) -> list[int]:
    """The examples of a task at each depth."""
    total = recipe.targets.examples
    caps = [recipe.targets.cap_at(depth) for depth in range(len(counts))]
    if total is None:
        return [cap or 0 for cap in caps]
    height = level(total, zip(caps, counts, strict=True), at_most=False)
    return [height if cap is None else min(cap, height) for cap in caps]


def _asked(recipe: Recipe, generation: Generation) -> tuple[int, int]:
    """Requests for examples, and the examples in their completions, with these settings of generation."""
    counts = tasks_by_depth(recipe)
    requests = brought = 0
    for count, quota in zip(counts, _quotas(recipe, counts), strict=True):
        turn, of_task = 1, examples_to_ask_for(generation, 0, recipe.meaning)
        while of_task < quota:
            size = examples_to_ask_for(generation, turn, recipe.meaning)
            more = 1 if size < generation.per_request else -(-(quota - of_task) // size)
            turn += more
            of_task += more * size
        requests += count * turn
        brought += count * of_task
    return requests, brought


def _fewer(recipe: Recipe) -> str:
    """The setting with which the requests bring few examples too many."""
    for per_request in range(recipe.generation.per_request - 1, 1, -1):
        _, brought = _asked(recipe, recipe.generation.model_copy(update={"per_request": per_request}))
        if brought < (1 + _TOO_MANY) / 2 * wanted(recipe):
            return f"with generation.per_request: {per_request} they would bring {brought:,}"
    return "lower generation.per_request, make the tree smaller (exploration.breadth), or raise the targets"


def tokens_of_item(recipe: Recipe) -> int:
    """The tokens that an example takes in a completion of a generate request: with its output, or without."""
    return TOKENS_PER_EXAMPLE if recipe.responses == "joint" else _TOKENS_PER_INSTRUCTION


def _item(recipe: Recipe) -> str:
    return "example" if recipe.responses == "joint" else "instruction"


def _item_tokens(domain: Domain, recipe: Recipe) -> int:
    """The mean tokens of the domain's own examples, as completions hold them; 0 without any."""
    is_joint = recipe.responses == "joint"
    shown = domain.all_examples()
    lengths = [len(one.instruction + one.input + (one.output if is_joint else "")) for one in shown]
    return sum(lengths) // len(lengths) // CHARACTERS_PER_TOKEN if lengths else 0


def _tokens(chat_request: ChatRequest) -> int:
    return sum(len(message["content"]) for message in chat_request.messages) // CHARACTERS_PER_TOKEN


def sample_prompts(recipe: Recipe) -> dict[str, ChatRequest]:
    """The first prompt of each kind, from a run played with made-up completions; no model is asked."""
    recipe = recipe.model_copy(update={"window": 1, "lag": 1})
    prompts: dict[str, ChatRequest] = {}
    book = PromptBook(recipe)
    own = {kind.name: kind for kind in kinds_of(recipe).values() if recipe.exploration.depth or kind.brings != "tasks"}
    about_tasks = {name for name, kind in own.items() if kind.brings in {"tasks", "facets", "examples"}}
    commits = play(Explorer(recipe), lambda request: Completion(_completion(recipe, request), "stop", 0, 0))
    for request, _, _ in islice(commits, _MOST_REQUESTS):
        if request.kind not in prompts:
            prompts[request.kind] = book.render(request)
        if prompts.keys() >= about_tasks:
            break
    return {**prompts, **{name: book.first(kind, 0) for name, kind in own.items() if name not in about_tasks}}


def _completion(recipe: Recipe, request: Request) -> str:
    count = int(request.prompt.values["count"])
    if KINDS[request.kind].brings == "examples":
        item: list[dict[str, Any]] = [{"instruction": "-", "input": "", "output": "-"}]
        return orjson.dumps({"examples": item}).decode()
    if KINDS[request.kind].brings == "facets":
        return _facets(recipe, count)
    values = request.prompt.values
    first = len(values.get("existing", ())) + sum(level == 0 for level, _ in values.get("explored", ()))
    names = [f"(sub-task {request.task_id}.{first + index})" for index in range(count)]
    criterion = "(criterion)" if recipe.exploration.lookahead == "criterion" else ""
    if recipe.answer_format == "text":
        items = [f"### Name: {name}\n### Reason: -\n### End" for name in names]
        return "\n".join([f"### Criterion: {criterion}"] * bool(criterion) + items)
    document = {"criterion": criterion} if criterion else {}
    return orjson.dumps({**document, "tasks": [{"name": name, "reason": "-"} for name in names]}).decode()


def _facets(recipe: Recipe, count: int) -> str:
    named = [(f"(criterion {number})", [f"(value {number}.{value})" for value in (1, 2)]) for number in range(count)]
    if recipe.answer_format == "text":
        return "\n".join(f"### Criterion: {name}\n### Values: {'; '.join(values)}\n### End" for name, values in named)
    return orjson.dumps({"criteria": [{"criterion": name, "values": values} for name, values in named]}).decode()
