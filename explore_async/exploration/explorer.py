"""The explorer: which request is worth asking now, and what its outcome leads to. Sans-IO and deterministic.

Its two verbs are `next_request` and `commit`. What it does depends on the recipe and on the outcomes committed, in the
order of their due; never on time. See docs/architecture.md for why exploration has a part of the window of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, Literal

from explore_async.exploration.allocation import Allocation
from explore_async.exploration.choice import sample
from explore_async.exploration.filters import Corpora, Corpus, quality_check
from explore_async.exploration.parsing import ProposedTask, Unreadable, parse_examples, parse_tasks
from explore_async.exploration.task_state import RequestBuilder, TaskState, restored_values
from explore_async.exploration.tree import Node, Tree
from explore_async.exploration.values import (
    Completion,
    Demonstration,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    Failure,
    Kind,
    Origin,
    Outcome,
    Request,
    RequestFailed,
    Task,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
    Verdict,
)
from explore_async.settings.recipe import Domain, Recipe, SeedExample, SeedTask

StopReason = Literal["target", "token_budget", "complete"]

_MOST_CHARACTERS_IN_A_NAME = 200
_RESTORED_AT_ONCE = 4096


class Explorer:
    """Owns the trees, the accounts and the corpora of a run. `recipe` must be resolved (model, window, lag)."""

    def __init__(self, recipe: Recipe, known: Sequence[tuple[str, str]] = ()) -> None:
        """`known`: texts, each with its id, that instructions have to differ from: those of `recipe.against`."""
        assert recipe.lag is not None
        self.recipe = recipe
        self.tokens = 0
        self.stopped: StopReason | None = None
        self.window = recipe.window
        self._lag = recipe.lag
        self._exploring_places = max(1, recipe.window // 4)
        self._ordinal = 0
        self._questions = RequestBuilder(recipe)
        self._exploring: dict[int, Request] = {}  # what is outstanding, by its ordinal
        self._generating: dict[int, Request] = {}
        self._exploring_in = [0] * len(recipe.domains)
        self._allocation = Allocation(recipe.targets, recipe.generation)
        self._subjects: list[TaskState] = []
        self._by_id: dict[str, TaskState] = {}
        self._with_waiting: dict[int, TaskState] = {}
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
    def is_over(self) -> bool:
        """True when nothing more is going to be asked or committed."""
        return self.stopped is not None or not (
            self._exploring
            or self._generating
            or any(tree.ready for tree in self._trees)
            or self._allocation.next() is not None
        )

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
                return self._issue(kind, self._by_id[node.task.id], exploring=True)
        reserved = 0 if self.explored else self._exploring_places
        if len(self._generating) < self.window - reserved:
            account = self._allocation.next()
            if account is not None:
                return self._issue("generate", self._subjects[account.index], exploring=False)
        return None

    def _domain_to_explore(self) -> int | None:
        """The one with the fewest asks outstanding, the first of these: several trees grow side by side."""
        ready = [domain for domain, tree in enumerate(self._trees) if tree.ready]
        return min(ready, key=self._exploring_in.__getitem__, default=None)

    def _issue(self, kind: Kind, subject: TaskState, *, exploring: bool) -> Request:
        ordinal = self._ordinal
        self._ordinal += 1
        turn = self._allocation.issued(subject.account) if kind == "generate" else subject.asked.get(kind, 0)
        subject.asked[kind] = turn + 1
        values = self._questions.values(kind, subject, turn)
        return self._outstanding(kind, subject, turn, values, ordinal=ordinal, exploring=exploring)

    def _outstanding(
        self, kind: Kind, subject: TaskState, turn: int, values: dict[str, Any], *, ordinal: int, exploring: bool
    ) -> Request:
        """A request with these values, noted as one that is not answered yet."""
        lag = self._lag if exploring else self.window
        request = self._questions.request(kind, subject, turn, values, ordinal=ordinal, lag=lag)
        if exploring:
            self._exploring[ordinal] = request
            self._exploring_in[subject.domain] += 1
        else:
            self._generating[ordinal] = request
        return request

    # -- taking in

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """What the outcome leads to, in order. Called once for each request, by rising (due, ordinal)."""
        subject = self._by_id[request.task_id]
        exploring = self._exploring.pop(request.ordinal, None) is not None
        if exploring:
            self._exploring_in[subject.domain] -= 1
        self._generating.pop(request.ordinal, None)
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

    def _take_tasks(self, subject: TaskState, request: Request, outcome: Outcome, events: list[Event]) -> None:
        origin: Origin = "lookahead" if request.kind == "lookahead" else "backtrack"
        tree, node = self._trees[subject.domain], subject.node
        asked_for = min(int(request.prompt.values["count"]), node.room)
        added: list[Node] = []
        parsed = parse_tasks(outcome, self.recipe.answer_format) if isinstance(outcome, Completion) else []
        for item in parsed:
            name = item.excerpt if isinstance(item, Unreadable) else item.name
            verdict = self._judge_task(subject, item, room=asked_for - len(added))
            if verdict.kept and isinstance(item, ProposedTask):
                child = tree.add_child(node, item.name, item.reason, origin)
                added.append(child)
                events.append(self._welcome(subject.domain, child, request.ordinal))
            else:
                events.append(TaskDropped(node.task.id, name, request.ordinal, verdict))
        tree.answered(node, brought=added)

    def _judge_task(self, subject: TaskState, item: ProposedTask | Unreadable, *, room: int) -> Verdict:
        if isinstance(item, Unreadable):
            return Verdict(kept=False, reason=item.reason)
        if len(item.name) > _MOST_CHARACTERS_IN_A_NAME:
            return Verdict(kept=False, reason="too_long")
        if room <= 0:
            return Verdict(kept=False, reason="surplus")
        task_id = f"{subject.node.task.id}.{len(subject.node.children)}"
        return self._names[subject.domain].admit(item.name, task_id)

    def _take_examples(
        self, subject: TaskState, request: Request, outcome: Outcome, events: list[Event], *, opening: bool
    ) -> None:
        task_id = subject.node.task.id
        parsed = parse_examples(outcome, self.recipe.answer_format) if isinstance(outcome, Completion) else []
        judged = 0
        fit: list[Example] = []
        for index, item in enumerate(parsed):
            if isinstance(item, Unreadable):
                verdict = Verdict(kept=False, reason=item.reason)
                events.append(ExampleDropped(task_id, request.ordinal, verdict, None, item.excerpt))
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
                events.append(ExampleDropped(task_id, request.ordinal, Verdict(kept=False, reason=reason), example))
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

    def _judge(self, subject: TaskState, events: list[Event]) -> None:
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
                    events.append(ExampleDropped(example.task_id, example.request_ordinal, verdict, example))
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
        subject = TaskState(
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

    # -- going on from a checkpoint

    @property
    def outstanding(self) -> list[Request]:
        """What is issued and not committed, in the order of issue."""
        return sorted((*self._exploring.values(), *self._generating.values()), key=attrgetter("ordinal"))

    def tasks(self) -> list[Event]:
        """All tasks there are, in the order in which they came in."""
        return [TaskAdded(subject.node.task, None) for subject in self._subjects]

    def state(self) -> dict[str, Any]:
        """What `restore` needs beside the recipe and the examples kept, as JSON holds it."""
        return {
            "ordinal": self._ordinal,
            "tokens": self.tokens,
            "stopped": self.stopped,
            "level": self._allocation.level,
            "trees": [tree.state() for tree in self._trees],
            "subjects": [subject.state() for subject in self._subjects],
            "exploring": [self._note_of(request) for request in self._exploring.values()],
            "generating": [
                [one.ordinal, self._by_id[one.task_id].account.index, one.turn] for one in self._generating.values()
            ],
        }

    def _note_of(self, request: Request) -> list[Any]:
        """What the prompt of a lookahead or backtrack says of the tree, which has grown since, goes along."""
        values = request.prompt.values
        told = {name: values[name] for name in ("count", "existing", "explored") if name in values}
        index = self._by_id[request.task_id].account.index
        return [request.ordinal, request.kind, index, request.turn, request.kind != "generate" and told]

    def restore(self, state: dict[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new explorer to where another of the same recipe was at `state`, having kept these, in this order.

        From there on both ask, decide and tell the same. `kept` needs no ordinals.
        """
        for one in state["subjects"][len(self._subjects) :]:
            parent = self._by_id[one["parent"]]
            node = self._trees[parent.domain].add_child(parent.node, one["name"], one["reason"], one["origin"])
            self._welcome(parent.domain, node, None)
            self._names[parent.domain].add([(node.task.name, node.task.id)])
        for subject, one in zip(self._subjects, state["subjects"], strict=True):
            subject.restore(one)
        for tree, one in zip(self._trees, state["trees"], strict=True):
            tree.restore(one)
        self._with_waiting = {subject.account.index: subject for subject in self._subjects if subject.waiting}
        self._allocation.restore(state["level"])
        self._ordinal, self.tokens, self.stopped = state["ordinal"], state["tokens"], state["stopped"]
        for ordinal, kind, index, turn, told in state["exploring"]:
            subject = self._subjects[index]
            values = restored_values(told) if told else self._questions.values(kind, subject, turn)
            self._outstanding(kind, subject, turn, values, ordinal=ordinal, exploring=True)
        for ordinal, index, turn in state["generating"]:
            subject = self._subjects[index]
            values = self._questions.values("generate", subject, turn)
            self._outstanding("generate", subject, turn, values, ordinal=ordinal, exploring=False)
        examples = iter(kept)
        while some := list(islice(examples, _RESTORED_AT_ONCE)):
            for corpus, those in groupby(some, lambda example: self._corpora.of(example.task_id)):
                corpus.add([(example.instruction, example.id) for example in those])

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
