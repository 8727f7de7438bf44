"""The explorer decides which request is worth asking next, and what its outcome leads to. Sans-IO and deterministic.

Its two verbs are `next_request` and `commit`. It depends on the recipe and on the outcomes committed, in the order of
their due; never on time. docs/architecture.md explains why exploration has a part of the window of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from explore_async.exploration import checks, facets
from explore_async.exploration.allocation import Allocation
from explore_async.exploration.choice import sample
from explore_async.exploration.corpus import Corpus
from explore_async.exploration.earlier_strategy import EarlierExploreInstruct
from explore_async.exploration.harvest import cost_of
from explore_async.exploration.judging import ExampleJudge
from explore_async.exploration.kinds import FACETS, GENERATE, Item, RequestKind, kinds_of
from explore_async.exploration.node import Node
from explore_async.exploration.outstanding import OutstandingRequests
from explore_async.exploration.parsing import ProposedTask, Unreadable
from explore_async.exploration.pool import Pool
from explore_async.exploration.rules import Lane, rules_of
from explore_async.exploration.sharding import ShardOfRun
from explore_async.exploration.spending import Spending
from explore_async.exploration.strategy import Strategy, StrategyFactory
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.turns import TURNS, TurnPolicy
from explore_async.exploration.values import (
    Demonstration,
    Event,
    Example,
    ExampleKept,
    FacetsNamed,
    Failure,
    Outcome,
    Request,
    RequestFailed,
    Task,
    TaskAdded,
    TaskDropped,
    Verdict,
    split_of,
)
from explore_async.settings.recipe import Domain, Recipe, SeedExample, SeedTask

StopReason = Literal["target", "token_budget", "complete"]

_MOST_CHARACTERS_IN_A_NAME = 200


class Explorer:
    """Owns the trees, the accounts and the corpora of a run."""

    def __init__(
        self,
        recipe: Recipe,
        known: Sequence[tuple[str, str]] = (),
        *,
        strategy: StrategyFactory | None = None,
        turns: TurnPolicy | None = None,
    ) -> None:
        """`known`: texts, each with its id, that instructions have to differ from: those of `recipe.against`.

        `strategy` grows the tree of each domain, by default that of Explore-Instruct; `turns` says which task is
        generated for next, by default as the recipe's policy has it.
        """
        self.recipe = recipe
        self.window = recipe.window
        self.tokens = 0
        self.stopped: StopReason | None = None
        self._rules = rules_of(recipe)
        self._spending = Spending.of(recipe)
        """The account of the tokens, where the run is given tokens alone."""
        self._requests = OutstandingRequests(recipe, self._rules.lags, self._rules.ahead)
        self._allocation = Allocation(
            recipe.targets,
            recipe.generation,
            self._rules.forecast,
            turns or TURNS[recipe.generation.policy](),
            fewest_barren=self._rules.fewest_barren,
        )
        self._judge = ExampleJudge(recipe, self._allocation, known)
        self._finisher = self._judge.finisher
        self._kinds = kinds_of(recipe)
        self._generate = self._kinds[GENERATE.name]
        self._has_pools = recipe.generation.demonstrations_from == "pool"
        self._most_generating = self._rules.most_generating
        self._tasks: list[TaskState] = []
        self._by_id: dict[str, TaskState] = {}
        self._seed_events: list[Event] = []
        self._trees: dict[int, Strategy] = {}
        """By the number of the domain; a shard may have some of the domains only."""
        self._names: dict[int, Corpus] = {}
        self._plan: list[int] = []
        """The tasks that each depth is going to have, as of the latest commit."""
        self._to_open: deque[TaskState] = deque()
        """Tasks whose opening can be issued."""
        self._shard = ShardOfRun(recipe)
        self.token_budget = recipe.targets.token_budget
        for index, domain in enumerate(recipe.domains):
            if self._shard.explores(str(index)):
                self._plant(index, domain, strategy or self._rules.strategy)
        self._take_share()
        self._deal_where_due(0, [])
        self._replan()

    # -- asking

    @property
    def digest(self) -> str:
        """Digest of all that decides what the data is. In hexadecimal."""
        return self.recipe.digest

    @property
    def stage(self) -> Literal["exploring", "generating"]:
        return "generating" if self.explored else "exploring"

    @property
    def explored(self) -> bool:
        """True when all trees are complete."""
        return self._shard.is_dealt and all(tree.finished for tree in self._trees.values())

    @property
    def is_over(self) -> bool:
        """True when nothing more is going to be issued or committed."""
        return self.stopped is not None or self._is_complete()

    def _is_complete(self) -> bool:
        """True when nothing is outstanding and nothing can be issued."""
        can_explore = self._to_open or any(tree.ready for tree in self._trees.values())
        can_finish = self._finisher is not None and self._finisher.ready
        return not (len(self._requests) or can_explore or can_finish or self._allocation.next() is not None)

    @property
    def kept(self) -> int:
        return self._allocation.kept

    @property
    def planned_tasks(self) -> int:
        """The number of tasks that the trees are going to have; an upper bound while they grow."""
        return sum(self._planned())

    @property
    def wanted(self) -> int:
        """The number of examples that the run is going to keep, as far as quotas decide; smaller as tasks run dry."""
        return self._allocation.wanted(self._shard.own(self._planned()))

    def seed_events(self) -> list[Event]:
        """The events that precede the first request."""
        return list(self._seed_events)

    def next_request(self) -> Request | None:
        """Issues the request that is worth asking now, after all that is committed and issued; None when none is.

        The trees and the openings of tasks have a part of the window each, and generation has the rest, or all of it
        once the trees are complete. So a tree depends neither on openings nor on what is generated beside it.
        """
        if self.stopped is not None:
            return None
        room = self.window - (0 if self.explored else self._rules.reserved)
        room -= self._requests.count("generate") + self._requests.count("finish")
        if self._finisher is not None and self._finisher.ready and room > 0:
            return self._outstanding(self._requests.issue_step(*self._finisher.take()))
        if self._spending is not None and self._spending.is_allotted(self.unfinished):
            return None
        if self._to_open and self._requests.count("opening") < self._rules.places["opening"]:
            task = self._to_open.popleft()
            names_facets = FACETS.name in self._kinds and FACETS.name not in task.asked
            return self._issue(FACETS if names_facets else self._generate, task, "opening")
        if self._requests.count("tree") < self._rules.places["tree"]:
            domain = self._domain_to_explore()
            if domain is not None:
                kind, node = self._trees[domain].take()
                return self._issue(kind, self._by_id[node.task.id], "tree")
        if self._spending is not None and self._spending.needs_evidence(self.unfinished):
            return None
        if room > 0 and self._requests.count("generate") < self._most_generating:
            account = self._allocation.next()
            if account is not None:
                return self._issue(self._generate, self._tasks[account.index], "generate")
        return None

    def _domain_to_explore(self) -> int | None:
        """The domain with the fewest exploration requests outstanding, so that several trees grow side by side."""
        ready = [domain for domain, tree in self._trees.items() if tree.ready]
        return min(ready, key=self._requests.trees_in.__getitem__, default=None)

    def _issue(self, kind: RequestKind, task: TaskState, lane: Lane) -> Request:
        turn = task.asked.get(kind.name, 0)
        task.asked[kind.name] = turn + 1
        request = self._requests.issue(kind, task, turn, lane)
        if kind.brings == "examples":
            self._allocation.issued(task.account, request.prompt.values["count"])
        return self._outstanding(request)

    def _outstanding(self, request: Request) -> Request:
        if self._spending is not None:
            self._spending.issued(request)
        return request

    # -- committing

    def commit(self, request: Request, outcome: Outcome) -> list[Event]:
        """Takes in the outcome and returns the events it leads to, in order. Called once for each request, by rising
        (due, ordinal).
        """
        task, kind = self._by_id[request.task_id], self._kinds.get(request.kind)
        lane = self._requests.remove(request, task)
        if self._spending is not None:
            self._spending.committed(request, outcome)
        events: list[Event] = []
        items: Sequence[Item] = ()
        if isinstance(outcome, Failure):
            events.append(RequestFailed(request.task_id, request.kind, request.ordinal, outcome))
        else:
            self.tokens += outcome.prompt_tokens + outcome.completion_tokens
            items = (checks.parse(outcome),) if kind is None else kind.parse(outcome, self.recipe)
        is_about_tasks = kind is not None and kind.brings in {"tasks", "facets"}
        if not is_about_tasks:
            cost = 0 if isinstance(outcome, Failure) else cost_of(outcome)
            self._allocation.spent(task.account, cost, for_examples=not request.about)
        if kind is FACETS:
            task.facets, dropped = facets.taken(items)
            events.append(FacetsNamed(task.task.id, request.ordinal, task.facets, dropped))
            self._to_open.appendleft(task)
        elif is_about_tasks:
            self._take_tasks(task, request, items, events)
        elif self._finisher is not None and request.about:
            if self._finisher.commit(task, request, items[0] if items else None, events):
                self._judge.refill(task, request.due, events)
        else:
            passed = self._judge.take(task, request, items, events)
            if lane != "generate":
                task.opening = (*task.opening, *passed)
                self._opened(task)
        self._deal_where_due(request.due, events)
        if self._replan():
            self._judge.judge_waiting(request.due, events)
        if self._has_pools:
            self._grow_pools(task, request, events)
        self._stop_where_due()
        return events

    def _grow_pools(self, task: TaskState, request: Request, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, ExampleKept) and (pool := self._by_id[event.example.task_id].pool) is not None:
                example = event.example
                pool.add(example.id, Demonstration(example.instruction, example.input, example.output))
        if task.pool is not None and not request.about and request.kind == GENERATE.name:
            task.pool.committed(task.account.answered)

    def _opened(self, task: TaskState) -> None:
        """The opening of the task is committed: its children can be shown its examples."""
        task.opened = True
        tree = self._trees[task.domain]
        if isinstance(tree, EarlierExploreInstruct):
            tree.opened(task.node)
            return
        for child in task.node.children:
            if child.task.origin != "seed":
                self._prepare(self._by_id[child.task.id], task)

    def _take_tasks(self, task: TaskState, request: Request, items: Sequence[Item], events: list[Event]) -> None:
        tree, node = self._trees[task.domain], task.node
        asked_for = min(int(request.prompt.values["count"]), node.room)
        added: list[Node] = []
        for item in items:
            assert isinstance(item, ProposedTask | Unreadable), "a kind that brings tasks parses tasks"
            verdict = self._judge_task(task, item, room=asked_for - len(added))
            if verdict.kept and isinstance(item, ProposedTask):
                child = tree.add_child(node, item, request.kind)
                added.append(child)
                events.append(self._welcome(task.domain, child, request.ordinal))
            else:
                dropped = ProposedTask(item.excerpt) if isinstance(item, Unreadable) else item
                events.append(TaskDropped(node.task.id, dropped.name, request.ordinal, verdict, dropped.criterion))
        tree.answered(node, brought=added)

    def _judge_task(self, task: TaskState, item: ProposedTask | Unreadable, *, room: int) -> Verdict:
        if isinstance(item, Unreadable):
            return Verdict(kept=False, reason=item.reason)
        if len(item.name) > _MOST_CHARACTERS_IN_A_NAME:
            return Verdict(kept=False, reason="too_long")
        if room <= 0:
            return Verdict(kept=False, reason="surplus")
        task_id = f"{task.task.id}.{len(task.node.children)}"
        return self._names[task.domain].admit(item.name, task_id)

    # -- the shape of the run

    def _plant(self, index: int, domain: Domain, strategy: StrategyFactory) -> None:
        """A domain's tree with its root and seed tasks."""
        settings = self.recipe.exploration
        tree = strategy(Task(str(index), domain.name, domain.description, None, 0, "seed"), settings)
        if not self._shard.is_dealt:
            tree.hold(self._shard.level)
        self._trees[index] = tree
        self._names[index] = Corpus(self.recipe.filters.task_threshold, self.recipe.tokenizer)
        waiting: deque[tuple[Node, SeedTask | None]] = deque([(tree.root, None)])
        while waiting:
            node, seed = waiting.popleft()
            self._names[index].add([(node.task.name, node.task.id)])
            self._seed_events.append(self._welcome(index, node, None, seed.examples if seed is not None else ()))
            below = () if settings.depth == 0 else domain.tasks if seed is None else seed.tasks
            waiting.extend(
                (tree.add_child(node, ProposedTask(child.name, child.reason), "seed"), child) for child in below
            )
        tree.start()

    def _welcome(
        self, domain: int, node: Node, request_ordinal: int | None, seeds: Sequence[SeedExample] = ()
    ) -> TaskAdded:
        """Takes in a new task, with its account."""
        parent = self._by_id[node.parent.task.id] if node.parent is not None else None
        gets_none = self.recipe.targets.cap_at(node.task.depth) == 0
        task = TaskState(
            domain,
            node,
            self._allocation.open(
                node.task.depth,
                parent.account if parent is not None else None,
                is_own=self._shard.is_own(node.task.id),
            ),
            opening=_demonstrations(seeds),
            opened=gets_none,
        )
        self._tasks.append(task)
        self._by_id[node.task.id] = task
        if node.task.origin == "seed" or parent is None or parent.opened or not self._rules.opens_beside_tree:
            self._prepare(task, parent)
        return TaskAdded(node.task, request_ordinal)

    def _prepare(self, task: TaskState, parent: TaskState | None) -> None:
        """Fixes, for good, what the prompts of the task show; from now on its opening can be issued."""
        of_domain = _demonstrations(self.recipe.domains[task.domain].examples)
        given = task.opening or (*(parent.opening if parent is not None else ()), *of_domain)
        count, parts = self.recipe.generation.demonstrations, (self.recipe.seed, "demonstrations", task.task.id)
        task.demonstrations = sample(given, count, *parts)
        if self._has_pools:
            task.pool = Pool(given, count, *parts)
        if self._rules.opens_beside_tree and not task.opened and self._shard.opens(task.task.id):
            self._to_open.append(task)

    def _deal_where_due(self, due: int, events: list[Event]) -> None:
        """Deals the sub-trees among the shards when all that lies above them is explored."""
        if self._shard.is_dealt or not all(tree.finished for tree in self._trees.values()):
            return
        self._deal()
        self._judge.judge_waiting(due, events)  # openings of tasks that are its own since now

    def _deal(self) -> None:
        self._shard.deal(list(self._by_id))
        self._take_share()
        own = [task for task in self._tasks if self._shard.is_own(task.task.id)]
        for task in own:
            self._allocation.take_over(task.account)
            if not self._shard.is_top(task.task.depth) and not task.opened and self._is_prepared(task):
                self._to_open.append(task)
        for domain, tree in self._trees.items():
            tree.release([task.node for task in own if task.domain == domain and self._shard.is_root(task.task.id)])

    def _is_prepared(self, task: TaskState) -> bool:
        parent = task.node.parent
        return task.task.origin == "seed" or parent is None or self._by_id[parent.task.id].opened

    def _take_share(self) -> None:
        self._allocation.share_out(self._shard.examples)
        self.token_budget = self._shard.token_budget
        if self._spending is not None and self.token_budget is not None:
            self._spending.budget = self.token_budget

    def _replan(self) -> bool:
        all_opened = not self._to_open and not self._requests.count("opening")
        self._plan = self._shard.own(self._planned())
        return self._allocation.plan(
            self._plan, explored=self.explored, opened=self.explored and all_opened, reach=self._reach()
        )

    def _reach(self) -> int:
        """The examples that a budget without any other target is going to bring; else 0."""
        if self._spending is None:
            return 0
        tasks = len(self._tasks)
        return self._spending.reach(kept=self.kept, tasks=tasks, coming=max(0, sum(self._plan) - tasks))

    def _planned(self) -> list[int]:
        planned = [sum(depths) for depths in zip(*(tree.planned() for tree in self._trees.values()), strict=True)]
        return self._shard.with_undealt(planned)

    def _stop_where_due(self) -> None:
        if self._allocation.target_reached:
            self.stopped = "target"
        elif self.token_budget is not None and self._spent >= self.token_budget:
            self.stopped = "token_budget"
        elif self.explored and (self._is_full() or self._is_complete()):
            self.stopped = "complete"

    @property
    def _spent(self) -> int:
        return self.tokens if self._spending is None else self._spending.spent

    def _is_full(self) -> bool:
        """True when none of the tasks, all of which are there, may keep more."""
        return (
            self._rules.ends_when_full and self._spending is None and self.kept >= self._allocation.wanted(self._plan)
        )

    # -- going on from a checkpoint

    @property
    def outstanding(self) -> list[Request]:
        """The requests that are issued and not committed, in the order of issue."""
        return self._requests.all()

    def tasks(self) -> list[Event]:
        """An event for every task, in the order in which they were added."""
        return [TaskAdded(task.task, None) for task in self._tasks]

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the recipe and the kept examples, as JSON holds it."""
        return {
            "requests": self._requests.state({task.task.id: index for index, task in enumerate(self._tasks)}),
            "tokens": self.tokens,
            "stopped": self.stopped,
            "spending": None if self._spending is None else self._spending.state(),
            "allocation": self._allocation.state(),
            "finisher": None if self._finisher is None else self._finisher.state(),
            "trees": [tree.state() for tree in self._trees.values()],
            "is_dealt": self._shard.is_dealt,
            "subjects": [task.state() for task in self._tasks],
            "to_open": [task.account.index for task in self._to_open],
        }

    def restore(self, state: dict[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new explorer to the `state` of another of the same recipe, which has kept these examples, in order.

        From there on both issue, decide and report the same. `kept` needs no ordinals; where instructions need more
        requests to become examples, it holds all that were new.
        """
        for fields in state["subjects"][len(self._tasks) :]:
            parent = self._by_id[fields["parent"]]
            if not self._shard.is_dealt and not self._shard.is_top(parent.task.depth):
                self._deal()  # the first task below those that are dealt
            tree = self._trees[parent.domain]
            proposed = ProposedTask(*(fields[name] for name in ("name", "reason", "criterion")))
            node = tree.add_child(parent.node, proposed, fields["origin"])
            self._welcome(parent.domain, node, None)
            self._names[parent.domain].add([(node.task.name, node.task.id)])
        if state["is_dealt"] and not self._shard.is_dealt:
            self._deal()
        for task, fields in zip(self._tasks, state["subjects"], strict=True):
            task.restore(fields)
        for tree, fields in zip(self._trees.values(), state["trees"], strict=True):
            tree.restore(fields)
        self._to_open = deque(self._tasks[index] for index in state["to_open"])
        self._allocation.restore(state["allocation"])
        self.tokens, self.stopped = state["tokens"], state["stopped"]
        if self._finisher is not None:
            self._finisher.restore(state["finisher"], self._tasks)
        self._requests.restore(state["requests"], self._tasks)
        if self._spending is not None:
            self._spending.restore(state["spending"], self._requests.all())
        self._judge.restore(self._tasks, kept)

    @property
    def unfinished(self) -> int:
        """Kept instructions that wait for an answer or the judge."""
        return 0 if self._finisher is None else len(self._finisher)

    def passages(self) -> dict[str, int]:
        """The passages of the domains that requests have shown, and the others; empty without any."""
        return self._requests.deck.counts()

    def surplus(self) -> int:
        """The number of examples that are read and not decided, because their task has its quota."""
        return self._judge.surplus()

    def trees(self) -> list[dict[str, Any]]:
        """The trees as nested dicts, each task with the counts of its examples so far."""

        def document(node: Node) -> dict[str, Any]:
            task, account = self._by_id[node.task.id], self._by_id[node.task.id].account
            return {
                "id": node.task.id,
                "name": node.task.name,
                "reason": node.task.reason,
                "origin": node.task.origin,
                **split_of(node.task),
                **({"facets": {one.criterion: list(one.values) for one in task.facets}} if task.facets else {}),
                "depth": node.task.depth,
                "kept": account.kept,
                "dropped": task.dropped,
                "answers": account.answered,
                "exhausted": account.exhausted,
                **self._shard.told(node.task.id),
                "children": [document(child) for child in node.children],
            }

        return [document(tree.root) for tree in self._trees.values()]


def _demonstrations(examples: Sequence[SeedExample]) -> tuple[Demonstration, ...]:
    return tuple(Demonstration(example.instruction, example.input, example.output) for example in examples)
