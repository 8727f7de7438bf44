"""The explorer: which request is worth asking now, and what its outcome leads to. Sans-IO and deterministic.

Its two verbs are `next_request` and `commit`. What it does depends on the recipe and on the outcomes committed, in the
order of their due; never on time. See docs/architecture.md for why exploration has a part of the window of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from explore_async.exploration.allocation import Account, Allocation
from explore_async.exploration.choice import draw, sample
from explore_async.exploration.filters import Corpora, Corpus, quality_check
from explore_async.exploration.parsing import Proposal, Unreadable, parse_examples, parse_tasks
from explore_async.exploration.tree import Node, Tree
from explore_async.exploration.values import (
    Completion,
    Demonstration,
    Event,
    Example,
    ExampleKept,
    ExampleRejected,
    Failure,
    Kind,
    Origin,
    Outcome,
    Prompt,
    Request,
    RequestFailed,
    Task,
    TaskAdded,
    TaskExhausted,
    TaskRejected,
    Verdict,
)
from explore_async.settings import Domain, Recipe, SeedExample, SeedTask

StopReason = Literal["target", "token_budget", "complete"]

_MOST_CHARACTERS_IN_A_NAME = 200
_SEEDS = 2**31  # llama.cpp reads 32 bits and takes the highest value for "any"


@dataclass(slots=True, eq=False)
class _Subject:
    """A task as the explorer knows it: where it stands, what its prompts show, what it has brought."""

    domain: int
    node: Node
    account: Account
    demonstrations: tuple[Demonstration, ...]
    opening: tuple[Demonstration, ...] = ()
    """Its own seeds and what its first answer held: what its children are shown. Independent of the corpus, so of the
    target.
    """
    asked: dict[Kind, int] = field(default_factory=dict)
    waiting: deque[Example] = field(default_factory=deque)
    dropped: int = 0


class Explorer:
    """Owns the trees, the accounts and the corpora of a run. `recipe` must be resolved (model, window, lag)."""

    def __init__(self, recipe: Recipe, known: Sequence[tuple[str, str]] = ()) -> None:
        """`known`: texts, each with its id, that instructions have to differ from: those of `recipe.against`."""
        assert isinstance(recipe.window, int)
        assert recipe.lag is not None
        self.recipe = recipe
        self.tokens = 0
        self.stopped: StopReason | None = None
        self._window = recipe.window
        self._lag = recipe.lag
        self._exploring_places = max(1, recipe.window // 4)
        self._ordinal = 0
        self._exploring: dict[int, int] = {}  # ordinal of what is outstanding -> its domain
        self._generating: set[int] = set()
        self._allocation = Allocation(recipe.targets, recipe.generation)
        self._subjects: list[_Subject] = []
        self._by_id: dict[str, _Subject] = {}
        self._with_waiting: dict[int, _Subject] = {}
        self._seed_events: list[Event] = []
        seeds = [[example.instruction for example in domain.all_examples()] for domain in recipe.domains]
        self._corpora = Corpora(recipe.filters, recipe.tokenizer, seeds, known)
        self._trees: list[Tree] = []
        self._names: list[Corpus] = []
        for index, domain in enumerate(recipe.domains):
            self._plant(index, domain)
        self._reason_to_drop = quality_check(recipe.filters, self._names[0].tokenize)
        self._replan()

    # -- asking

    @property
    def explored(self) -> bool:
        """Whether all trees are complete."""
        return all(tree.finished for tree in self._trees)

    @property
    def kept(self) -> int:
        return self._allocation.kept

    def seed_events(self) -> list[Event]:
        """What there is before the first answer."""
        return list(self._seed_events)

    def next_request(self) -> Request | None:
        """What is worth asking now, given all that is committed and issued; None when that is nothing.

        Exploration (openings, lookaheads, backtracks) may hold a quarter of the window and generation the rest, or all
        of it once the trees are complete. So exploration goes its own way, whatever is generated beside it.
        """
        if self.stopped is not None:
            return None
        if len(self._exploring) < self._exploring_places:
            domain = self._domain_to_explore()
            if domain is not None:
                kind, node = self._trees[domain].take()
                return self._issue(kind, self._by_id[node.task.id], self._lag, exploring=True)
        reserved = 0 if self.explored else self._exploring_places
        if len(self._generating) < self._window - reserved:
            account = self._allocation.next()
            if account is not None:
                return self._issue("generate", self._subjects[account.index], self._window, exploring=False)
        return None

    def _domain_to_explore(self) -> int | None:
        """The one with the fewest asks outstanding, the first of these: several trees grow side by side."""
        outstanding = list(self._exploring.values())
        ready = [domain for domain, tree in enumerate(self._trees) if tree.ready]
        return min(ready, key=outstanding.count, default=None)

    def _issue(self, kind: Kind, subject: _Subject, lag: int, *, exploring: bool) -> Request:
        ordinal = self._ordinal
        self._ordinal += 1
        if exploring:
            self._exploring[ordinal] = subject.domain
        else:
            self._generating.add(ordinal)
        turn = self._allocation.issued(subject.account) if kind == "generate" else subject.asked.get(kind, 0)
        subject.asked[kind] = turn + 1
        return Request(
            ordinal=ordinal,
            due=ordinal + lag,
            kind=kind,
            task_id=subject.node.task.id,
            turn=turn,
            prompt=Prompt(kind, self._prompt_values(kind, subject, turn)),
            seed=draw(self.recipe.seed, kind, subject.node.task.id, turn) % _SEEDS,
        )

    def _prompt_values(self, kind: Kind, subject: _Subject, turn: int) -> dict[str, Any]:
        domain = self.recipe.domains[subject.domain]
        node = subject.node
        is_root = node.parent is None
        values: dict[str, Any] = {
            "domain": domain.name,
            "description": domain.description,
            "task": node.task.name,
            "reason": "" if is_root else node.task.reason,
        }
        if kind == "lookahead":
            values["existing"] = tuple(child.task.name for child in node.children)
        elif kind == "backtrack":
            values["explored"] = tuple((level, below.task.name) for level, below in node.below())
        if kind != "generate":
            return {**values, "count": min(self.recipe.exploration.step, node.room)}
        return {
            **values,
            "demonstrations": subject.demonstrations,
            "topic": self._in_turn("topic", domain.topics, node.task.id, turn),
            "style": self._in_turn("style", domain.styles, node.task.id, turn + turn // max(1, len(domain.topics))),
            "count": self._generation_size(turn),
        }

    def _generation_size(self, turn: int) -> int:
        """Examples to ask for. A task's first answer holds up its children: what they are shown, and one more."""
        generation = self.recipe.generation
        if turn == 0:
            return min(generation.per_request, generation.demonstrations + 1)
        return generation.per_request

    def _in_turn(self, what: str, choices: tuple[str, ...], task_id: str, turn: int) -> str:
        if not choices:
            return ""
        return choices[(draw(self.recipe.seed, what, task_id) + turn) % len(choices)]

    # -- taking in

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """What the outcome leads to, in order. Called once for each request, by rising (due, ordinal)."""
        exploring = self._exploring.pop(request.ordinal, None) is not None
        self._generating.discard(request.ordinal)
        subject = self._by_id[request.task_id]
        events: list[Event] = []
        if isinstance(outcome, Failure):
            events.append(RequestFailed(request.task_id, request.kind, request.ordinal, outcome))
        else:
            self.tokens += outcome.prompt_tokens + outcome.completion_tokens
        if request.kind == "generate":
            self._take_examples(subject, request, outcome, events, opening=exploring)
        else:
            self._take_tasks(subject, request, outcome, events)
        if self._replan():
            self._judge_waiting(events)
        self._stop_where_due()
        return events

    def _take_tasks(self, subject: _Subject, request: Request, outcome: Outcome, events: list[Event]) -> None:
        origin: Origin = "lookahead" if request.kind == "lookahead" else "backtrack"
        tree, node = self._trees[subject.domain], subject.node
        asked_for = min(int(request.prompt.values["count"]), node.room)
        added: list[Node] = []
        parsed = parse_tasks(outcome, self.recipe.answer_format) if isinstance(outcome, Completion) else []
        for item in parsed:
            name = item.excerpt if isinstance(item, Unreadable) else item.name
            verdict = self._judge_task(subject, item, room=asked_for - len(added))
            if verdict.kept and isinstance(item, Proposal):
                child = tree.add_child(node, item.name, item.reason, origin)
                added.append(child)
                events.append(self._welcome(subject.domain, child, request.ordinal))
            else:
                events.append(TaskRejected(node.task.id, name, request.ordinal, verdict))
        tree.answered(node, brought=added)

    def _judge_task(self, subject: _Subject, item: Proposal | Unreadable, *, room: int) -> Verdict:
        if isinstance(item, Unreadable):
            return Verdict(kept=False, reason=item.reason)
        if len(item.name) > _MOST_CHARACTERS_IN_A_NAME:
            return Verdict(kept=False, reason="too_long")
        if room <= 0:
            return Verdict(kept=False, reason="surplus")
        task_id = f"{subject.node.task.id}.{len(subject.node.children)}"
        return self._names[subject.domain].admit(item.name, task_id)

    def _take_examples(
        self, subject: _Subject, request: Request, outcome: Outcome, events: list[Event], *, opening: bool
    ) -> None:
        task_id = subject.node.task.id
        parsed = parse_examples(outcome, self.recipe.answer_format) if isinstance(outcome, Completion) else []
        judged = 0
        fit: list[Example] = []
        for index, item in enumerate(parsed):
            if isinstance(item, Unreadable):
                verdict = Verdict(kept=False, reason=item.reason)
                events.append(ExampleRejected(task_id, request.ordinal, verdict, None, item.excerpt))
                judged += 1
                continue
            example = Example(
                f"{task_id}-{request.turn}.{index}",
                task_id,
                request.ordinal,
                item.instruction,
                item.input,
                item.output,
            )
            reason = self._reason_to_drop(item, subject.demonstrations)
            if reason is None:
                fit.append(example)
            else:
                events.append(ExampleRejected(task_id, request.ordinal, Verdict(kept=False, reason=reason), example))
                judged += 1
        subject.dropped += judged
        subject.waiting.extend(fit)
        kept_before, waiting_before = subject.account.kept, len(subject.waiting)
        self._judge(subject, events)
        judged += waiting_before - len(subject.waiting)
        if self._allocation.settled(
            subject.account, judged=judged if fit else max(judged, 1), kept=subject.account.kept - kept_before
        ):
            events.append(TaskExhausted(task_id))
        if opening:
            first = (Demonstration(one.instruction, one.input, one.output) for one in fit)
            subject.opening = (*subject.opening, *first)
            self._trees[subject.domain].opened(subject.node)

    def _judge(self, subject: _Subject, events: list[Event]) -> None:
        """Decides waiting examples, in order, up to the task's quota."""
        corpus = self._corpora.of(subject.node.task.id)
        account = subject.account
        while subject.waiting and (room := self._allocation.room(account)) > 0:
            examples = [subject.waiting.popleft() for _ in range(min(room, len(subject.waiting)))]
            verdicts = corpus.admit_all([(example.instruction, example.id) for example in examples])
            for example, verdict in zip(examples, verdicts, strict=True):
                if verdict.kept:
                    self._allocation.kept_one(account)
                    events.append(ExampleKept(example, verdict))
                else:
                    subject.dropped += 1
                    events.append(ExampleRejected(example.task_id, example.request_ordinal, verdict, example))
        if subject.waiting:
            self._with_waiting[account.index] = subject
        else:
            self._with_waiting.pop(account.index, None)

    def _judge_waiting(self, events: list[Event]) -> None:
        """The quota has risen: what waited for that comes before anything new is asked."""
        for index in sorted(self._with_waiting):
            subject = self._with_waiting[index]
            self._judge(subject, events)
            self._allocation.requeue(subject.account)

    # -- the shape of the run

    def _plant(self, index: int, domain: Domain) -> None:
        """A domain's tree with its root and seed tasks."""
        settings = self.recipe.exploration
        opens = tuple(self.recipe.targets.cap_at(depth) != 0 for depth in range(settings.depth + 1))
        tree = Tree(Task(str(index), domain.name, domain.description, None, 0, "seed"), settings, opens=opens)
        self._trees.append(tree)
        self._names.append(Corpus(self.recipe.filters.task_threshold, self.recipe.tokenizer))
        waiting: deque[tuple[Node, SeedTask | None]] = deque([(tree.root, None)])
        while waiting:
            node, seed = waiting.popleft()
            self._names[index].add([(node.task.name, node.task.id)])
            self._seed_events.append(self._welcome(index, node, None, seed.examples if seed is not None else ()))
            below = () if settings.depth == 0 else domain.tasks if seed is None else seed.tasks
            waiting.extend((tree.add_child(node, one.name, one.reason, "seed"), one) for one in below)
        tree.start()

    def _welcome(
        self, domain: int, node: Node, request_ordinal: int | None, own: Sequence[SeedExample] = ()
    ) -> TaskAdded:
        """Opens the account of a new task and fixes, for good, what its prompts show."""
        parent = self._by_id[node.parent.task.id] if node.parent is not None else None
        given = _demonstrations(own)
        seeds = _demonstrations(self.recipe.domains[domain].examples)
        subject = _Subject(
            domain,
            node,
            self._allocation.open(node.task.depth),
            sample(
                given or (*(parent.opening if parent is not None else ()), *seeds),
                self.recipe.generation.demonstrations,
                *(self.recipe.seed, "demonstrations", node.task.id),
            ),
            opening=given,
        )
        self._subjects.append(subject)
        self._by_id[node.task.id] = subject
        return TaskAdded(node.task, request_ordinal)

    def _replan(self) -> bool:
        planned = [sum(depths) for depths in zip(*(tree.planned() for tree in self._trees), strict=True)]
        return self._allocation.plan(planned, explored=self.explored)

    def _stop_where_due(self) -> None:
        budget = self.recipe.targets.token_budget
        if self._allocation.target_reached:
            self.stopped = "target"
        elif budget is not None and self.tokens >= budget:
            self.stopped = "token_budget"
        elif self.explored and not self._exploring and not self._generating and self._allocation.next() is None:
            self.stopped = "complete"

    def surplus(self) -> int:
        """Examples that were read and are not judged, their task having its quota."""
        return sum(len(subject.waiting) for subject in self._with_waiting.values())

    def trees(self) -> list[dict[str, Any]]:
        """The trees as nested dicts, each task with what it has brought so far."""

        def document(node: Node) -> dict[str, Any]:
            task, subject = node.task, self._by_id[node.task.id]
            return {
                "id": task.id,
                "name": task.name,
                "reason": task.reason,
                "origin": task.origin,
                "depth": task.depth,
                "kept": subject.account.kept,
                "dropped": subject.dropped,
                "answers": subject.account.answered,
                "exhausted": subject.account.exhausted,
                "children": [document(child) for child in node.children],
            }

        return [document(tree.root) for tree in self._trees]


def _demonstrations(examples: Sequence[SeedExample]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(one.instruction, one.input, one.output) for one in examples)
