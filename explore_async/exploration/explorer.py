"""The explorer decides which request is worth asking next, and what its outcome leads to. Sans-IO and deterministic.

Its two verbs are `next_request` and `commit`. It depends on the recipe and on the outcomes committed, in the order of
their due; never on time. docs/architecture.md explains why exploration has a part of the window of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from explore_async.exploration import checks, facets
from explore_async.exploration.allocation import Allocation
from explore_async.exploration.forest import Forest
from explore_async.exploration.harvest import cost_of
from explore_async.exploration.judging import ExampleJudge
from explore_async.exploration.kinds import FACETS, GENERATE, Item, RequestKind, kinds_of
from explore_async.exploration.outstanding import OutstandingRequests
from explore_async.exploration.rules import Lane, rules_of
from explore_async.exploration.sharding import ShardOfRun
from explore_async.exploration.spending import Spending
from explore_async.exploration.strategy import StrategyFactory
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
    TaskAdded,
)
from explore_async.settings.recipe import Recipe

StopReason = Literal["target", "token_budget", "complete"]


class Explorer:
    """Owns the parts of a run and its end: the forest, the accounts, the judge of examples and what is outstanding."""

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
        self._plan: list[int] = []
        """The tasks that each depth is going to have, as of the latest commit."""
        self._shard = ShardOfRun(recipe)
        self._forest = Forest(recipe, self._rules, self._allocation, self._shard, strategy or self._rules.strategy)
        self.token_budget = recipe.targets.token_budget
        self._allocation.share_out(self._shard.examples)
        self._take_budget()
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
        return self._shard.is_dealt and self._forest.finished

    @property
    def is_over(self) -> bool:
        """True when nothing more is going to be issued or committed."""
        return self.stopped is not None or self._is_complete()

    def _is_complete(self) -> bool:
        """True when nothing is outstanding and nothing can be issued."""
        can_finish = self._finisher is not None and self._finisher.ready
        return not (len(self._requests) or self._forest.ready or can_finish or self._allocation.next() is not None)

    @property
    def kept(self) -> int:
        return self._allocation.kept

    @property
    def planned_tasks(self) -> int:
        """The number of tasks that the trees are going to have; an upper bound while they grow."""
        return sum(self._forest.planned())

    @property
    def wanted(self) -> int:
        """The number of examples that the run is going to keep, as far as quotas decide; smaller as tasks run dry."""
        return self._allocation.wanted(self._shard.own(self._forest.planned()))

    @property
    def target(self) -> int | None:
        """The examples that the recipe asks for, in a shard its part of them; None where it names no number."""
        return self._shard.examples

    def seed_events(self) -> list[Event]:
        """The events that precede the first request."""
        return list(self._forest.seed_events)

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
        if self._forest.to_open and self._requests.count("opening") < self._rules.places["opening"]:
            task = self._forest.to_open.popleft()
            names_facets = FACETS.name in self._kinds and FACETS.name not in task.asked
            return self._issue(FACETS if names_facets else self._generate, task, "opening")
        if self._requests.count("tree") < self._rules.places["tree"]:
            domain = self._forest.domain_to_explore(self._requests.trees_in)
            if domain is not None:
                kind, node = self._forest.trees[domain].take()
                return self._issue(kind, self._forest.by_id[node.task.id], "tree")
        if self._spending is not None and self._spending.needs_evidence(self.unfinished):
            return None
        if room > 0 and self._requests.count("generate") < self._most_generating:
            account = self._allocation.next()
            if account is not None:
                return self._issue(self._generate, self._forest.tasks[account.index], "generate")
        return None

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
        task, kind = self._forest.by_id[request.task_id], self._kinds.get(request.kind)
        lane = self._requests.remove(request, task)
        if self._spending is not None:
            self._spending.committed(request, outcome)
        events: list[Event] = []
        items: Sequence[Item] = ()
        if isinstance(outcome, Failure):
            events.append(RequestFailed(request.task_id, request.kind, request.ordinal, outcome))
            items = checks.fault(outcome)
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
            self._forest.to_open.appendleft(task)
        elif is_about_tasks:
            self._forest.take(task, request, items, events)
        elif self._finisher is not None and request.about:
            if self._finisher.commit(task, request, items[0] if items else None, events):
                self._judge.refill(task, request.due, events)
        else:
            passed = self._judge.take(task, request, items, events)
            if lane != "generate":
                task.opening = (*task.opening, *passed)
                self._forest.opened(task)
        self._deal_where_due(request.due, events)
        if self._replan():
            self._judge.judge_waiting(request.due, events)
        if self._has_pools:
            self._grow_pools(task, request, events)
        self._stop_where_due()
        return events

    def _grow_pools(self, task: TaskState, request: Request, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, ExampleKept) and (pool := self._forest.by_id[event.example.task_id].pool) is not None:
                example = event.example
                pool.add(example.id, Demonstration(example.instruction, example.input, example.output))
        if task.pool is not None and not request.about and request.kind == GENERATE.name:
            task.pool.committed(task.account.answered)

    # -- the shape of the run

    def _deal_where_due(self, due: int, events: list[Event]) -> None:
        """Deals the sub-trees among the shards when all that lies above them is explored."""
        if self._shard.is_dealt or not self._forest.finished:
            return
        self._forest.deal()
        self._take_budget()
        self._judge.judge_waiting(due, events)  # openings of tasks that are its own since now

    def _take_budget(self) -> None:
        self.token_budget = self._shard.token_budget
        if self._spending is not None and self.token_budget is not None:
            self._spending.budget = self.token_budget

    def _replan(self) -> bool:
        all_opened = not self._forest.to_open and not self._requests.count("opening")
        self._plan = self._shard.own(self._forest.planned())
        return self._allocation.plan(
            self._plan, explored=self.explored, opened=self.explored and all_opened, reach=self._reach()
        )

    def _reach(self) -> int:
        """The examples that a budget without any other target is going to bring; else 0."""
        if self._spending is None:
            return 0
        tasks = len(self._forest.tasks)
        return self._spending.reach(kept=self.kept, tasks=tasks, coming=max(0, sum(self._plan) - tasks))

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
        return [TaskAdded(task.task, None) for task in self._forest.tasks]

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs beside the recipe and the kept examples, as JSON holds it."""
        return {
            "requests": self._requests.state({task.task.id: index for index, task in enumerate(self._forest.tasks)}),
            "tokens": self.tokens,
            "stopped": self.stopped,
            "spending": None if self._spending is None else self._spending.state(),
            "allocation": self._allocation.state(),
            "finisher": None if self._finisher is None else self._finisher.state(),
            **self._forest.state(),
        }

    def restore(self, state: dict[str, Any], kept: Iterable[Example]) -> None:
        """Brings a new explorer to the `state` of another of the same recipe, which has kept these examples, in order.

        From there on both issue, decide and report the same. `kept` needs no ordinals; where instructions need more
        requests to become examples, it holds all that were new.
        """
        self._forest.restore(state)
        self._take_budget()
        self._allocation.restore(state["allocation"])
        self.tokens, self.stopped = state["tokens"], state["stopped"]
        if self._finisher is not None:
            self._finisher.restore(state["finisher"], self._forest.tasks)
        self._requests.restore(state["requests"], self._forest.tasks)
        if self._spending is not None:
            self._spending.restore(state["spending"], self._requests.all())
        self._judge.restore(self._forest.tasks, kept)

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
        return self._forest.documents()
