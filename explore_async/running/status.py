"""The status of a run: snapshots while it is on, its statistics at the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, inf

from explore_async.exploration.kinds import KINDS, brings_examples
from explore_async.running.backend import Backend
from explore_async.running.cures import Cures
from explore_async.running.endpoint_speeds import RATE_OVER_S, EndpointSpeeds
from explore_async.running.endpoint_status import EndpointChanges, EndpointStatus, statuses
from explore_async.running.language_notice import LanguageNotice
from explore_async.running.observer import HELD_UP_S, Phase, Snapshot, Steps, awaited, compares, duration, kept_in_words
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer, PerformerStatistics
from explore_async.running.result import Ending, RequestsThisTime, RunStats
from explore_async.running.run_source import RunSource
from explore_async.running.starts import Start, Total, now_in_utc
from explore_async.running.tally import Tally
from explore_async.running.time_left import Pace, Promise, Work, remaining_s, time_left_s
from explore_async.running.window_use import WindowUse
from explore_async.serving.endpoints.values import PoolStatistics
from explore_async.settings.recipe import SIMULATED
from explore_async.terminal.counts import counted

_ABOUT_TASKS = {name for name, kind in KINDS.items() if kind.brings in {"tasks", "facets", "examples"}}
"""The kinds of requests that are about no kept instruction."""
_SECONDS_BETWEEN_UNSERVED = 60.0
_FIRST_PACE_S = 1.0
_SLOWEST_COVERED = 3
"""Slow completions, one after another, for which the pace is measured."""
_PACE_KNOWN_FROM = 0.5
"""The share of the planned tasks that are there when the pace of a run that explores says something of the rest."""


class RunStatus:
    """Reads the parts of a run and changes none of them. Its clock begins with it."""

    def __init__(
        self,
        explorer: RunSource,
        tally: Tally,
        backend: Backend,
        own_time: OwnTime,
        *,
        wall_time_s: float | None = None,
    ) -> None:
        self._explorer = explorer
        self._recipe = explorer.recipe
        self._digest = explorer.digest  # takes some milliseconds where there are many seeds
        self._tally = tally
        self._backend = backend
        self._own_time = own_time
        self._wall_time_s = wall_time_s
        self._begin = now_in_utc()
        self._began = time.monotonic()
        self._now = asyncio.get_running_loop().time
        self._changes = EndpointChanges()
        self._window_use = WindowUse(explorer.recipe.window)
        self._told: Phase | None = None
        self._unserved: list[str] = []
        self._unserved_told: dict[str, float] = {}
        self._promise = Promise()
        self._pace_known = False
        self.performer: Performer | None = None
        """None until the store of completions is open."""
        self.stored = 0
        """Outcomes that were stored when this start began."""
        self.stopping = False
        self.language = LanguageNotice(self._recipe)
        self._language_told = ""
        self.preparing = ""
        """Work of this process that all judging waits for, in words; empty where there is none."""

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def _speeds(self) -> EndpointSpeeds:
        assert self.performer is not None
        return self.performer.speeds

    def changes(self) -> Iterator[str]:
        """Lines on what has changed since the call before: the phase, the states of endpoints. Called every second."""
        assert self.performer is not None
        phase = self._phase(self.performer.statistics())
        if phase != self._told:
            self._told = phase
            yield from self._news(phase)
        now = self._now()
        if self._language_advice != self._language_told:
            self._language_told = self._language_advice
            yield self._language_told
        if (pool := self._backend.statistics()) is not None:
            capacity, slots = self._backend.capacity, self._backend.slots
            self._window_use.look(self.performer.statistics(), capacity=capacity, slots=slots)
            for endpoint in pool.endpoints:
                sent = endpoint.answered + endpoint.failed_attempts + endpoint.in_flight
                self._speeds.look(endpoint.url, sent=sent, in_flight=endpoint.in_flight, now=now)
            yield from self._changes.of(statuses(pool, self._speeds, now), now)
            yield from self._newly_unserved(now)

    def _newly_unserved(self, now: float) -> Iterator[str]:
        """Models that no endpoint serves since the call before; each at most once a minute."""
        lines = self._backend.unserved()
        for line in lines:
            told_at = self._unserved_told.get(line, -inf)
            if line not in self._unserved and now - told_at >= _SECONDS_BETWEEN_UNSERVED:
                self._unserved_told[line] = now
                yield f"{line}: these requests wait"
        self._unserved = lines

    def _news(self, phase: Phase) -> Iterator[str]:
        if phase == "replaying":
            yield f"{self.stored:,} stored completions are replayed; nothing is asked meanwhile"
        elif phase == "exploring":
            planned = counted(self._explorer.planned_tasks, "task")
            yield f"exploring: at most {planned}, fewer where a task brings fewer sub-tasks than it may have"
        elif phase == "generating":
            yield f"the trees are complete: {counted(self._tally.tasks.total(), 'task')}; generating"
        elif phase == "revising":
            wanted, tasks = self._explorer.wanted, self._explorer.planned_tasks
            if compares(self._recipe):
                yield counted(wanted, "question")
            else:
                yield f"{counted(wanted, 'example')} in {counted(tasks, 'task')}"

    def snapshot(self) -> Snapshot:
        assert self.performer is not None
        now = self._now()
        pool, performer = self._backend.statistics(), self.performer.statistics()
        endpoints = () if pool is None else statuses(pool, self._speeds, now)
        rate = self._speeds.rate(now)
        phase = self._phase(performer)
        left_s = self._left_s(phase, performer, endpoints)
        is_kept = left_s is None or self._promise.is_kept(left_s, now)
        check = self._awaited_check()
        return Snapshot(
            tally=self._tally,
            performer=performer,
            limit=self._backend.limit,
            elapsed_s=self._elapsed_s,
            phase=phase,
            steps=self._steps(phase),
            left_s=left_s if is_kept and not check else None,
            is_overdue=not is_kept and not check,
            patience_s=self.performer.patience_s,
            head=self.performer.head_of_line(),
            check=check,
            preparing=self.preparing,
            explored=self._explorer.explored,
            wanted=self._explorer.wanted,
            unfinished=self._explorer.unfinished,
            awaited=awaited(self._recipe),
            kept_in_words=kept_in_words(self._recipe),
            of_questions=compares(self._recipe),
            answers_per_s=rate.answers_per_s,
            tokens_per_s=rate.tokens_per_s,
            endpoints=endpoints,
            trouble=self._trouble(pool, performer, endpoints),
            engines="" if pool is None else pool.engines,
            in_flight=0 if pool is None else pool.in_flight,
            own_time=self._own_time.figures(),
        )

    def _awaited_check(self) -> str:
        assert self.performer is not None
        name, waited_s = self.performer.awaited_check() or ("", 0.0)
        return f"waiting for the check {name} ({duration(waited_s)} so far)" if waited_s >= HELD_UP_S else ""

    def stop_line(self) -> str:
        """The requests in flight when the run stops, and how long they are waited for."""
        pool, patience_s = self._backend.statistics(), None if self.performer is None else self.performer.patience_s
        if pool is None or not pool.in_flight or patience_s is None:
            return "stopping: no request is in flight"
        return (
            f"stopping: {counted(pool.in_flight, 'request')} in flight, waited for at most {ceil(patience_s):,} s; "
            "completions that come until then are stored; a second signal stops at once"
        )

    def _phase(self, performer: PerformerStatistics) -> Phase:
        if self.stopping:
            return "stopping"
        if self.stored and not performer.asked:
            return "connecting" if self.performer is not None and self.performer.has_begun_asking else "replaying"
        return self._explorer.stage

    def _steps(self, phase: Phase) -> Steps:
        if phase == "replaying":
            return Steps(self._tally.requests.total(), self.stored, "stored completions")
        if phase == "exploring" or (phase == "connecting" and self._explorer.stage == "exploring"):
            return Steps(self._tally.tasks.total(), self._explorer.planned_tasks, "tasks", at_most=True)
        return Steps(self._tally.kept, self._explorer.wanted, kept_in_words(self._recipe))

    def _left_s(
        self, phase: Phase, performer: PerformerStatistics, endpoints: tuple[EndpointStatus, ...]
    ) -> float | None:
        if phase == "stopping":
            return None
        left_s = None
        if phase != "exploring" or self._steps(phase).share >= _PACE_KNOWN_FROM:
            left_s = self._work_left_s(performer, endpoints)
        if self._wall_time_s is None:
            return left_s
        until_s = max(0.0, self._wall_time_s - self._elapsed_s)
        return until_s if left_s is None else min(left_s, until_s)

    def _work_left_s(self, performer: PerformerStatistics, endpoints: tuple[EndpointStatus, ...]) -> float | None:
        assert self.performer is not None
        requests = self._tally.requests
        work = Work(
            committed=requests.total(),
            generated=sum(count for kind, count in requests.items() if brings_examples(kind)),
            waiting=performer.waiting,
            kept=self._tally.kept,
            wanted=self._explorer.wanted,
            per_request=self._recipe.generation.per_request,
            tokens=self._explorer.tokens,
            token_budget=self._explorer.token_budget,
            steps=self._recipe.steps_of_instruction,
            rounds=self._recipe.steps_of_instruction // self._recipe.answers_per_instruction,
            found=self._tally.instructions if self._explorer.stage != "revising" else self._explorer.wanted,
            unfinished=self._explorer.unfinished,
            finds=self._explorer.stage != "revising",
            stepped=sum(count for kind, count in requests.items() if kind not in _ABOUT_TASKS),
        )
        now = self._now()
        if not self._pace_known:  # else a slow endpoint that joins would make it unknown again
            self._pace_known = self._speeds.asking_s(now) >= max(_FIRST_PACE_S, self.performer.latency_s)
        if not self._pace_known:
            return None  # the first completions are on their way
        if self._explorer.stage == "exploring" and 2 * sum(one.in_flight for one in endpoints) < self._backend.limit:
            return None  # a tree that waits for names says nothing of the pace of what follows
        is_draining = not performer.pending and performer.asking < self._backend.capacity
        return time_left_s(work, self._pace(endpoints, now, is_draining=is_draining))

    def _pace(self, endpoints: tuple[EndpointStatus, ...], now: float, *, is_draining: bool) -> Pace:
        used = [endpoint for endpoint in endpoints if endpoint.state not in {"out", "left"}]
        busy = [endpoint for endpoint in used if endpoint.in_flight]
        oldest_s = {} if self.performer is None else self.performer.oldest_s()
        slow_s = {endpoint.url: self._speeds.slow_s(endpoint.url) for endpoint in used}
        awaited_s = {url: remaining_s(age_s, slow_s[url]) for url, age_s in oldest_s.items() if url in slow_s}
        slowest_s = max((*slow_s.values(), *(awaited_s[url] + oldest_s[url] for url in awaited_s)), default=0.0)
        over_s = max(RATE_OVER_S, _SLOWEST_COVERED * slowest_s)
        return Pace(
            answers_per_s=self._speeds.answers_per_s([endpoint.url for endpoint in used], now, over_s=over_s),
            in_flight=sum(endpoint.in_flight for endpoint in busy),
            usual_s=self._speeds.usual_s(),
            slowest_s=slowest_s,
            window=self._recipe.window,
            draining_s=self._draining_s(busy, awaited_s, now),
            is_draining=is_draining,
        )

    def _draining_s(self, busy: Sequence[EndpointStatus], awaited_s: Mapping[str, float], now: float) -> float:
        """Until what is in flight is answered. At an endpoint that is much slower than others a request takes no longer
        than one that is sent again, as the last ones are.
        """
        at_most = dict.fromkeys(awaited_s, inf)
        if awaited_s and self._recipe.wanted_models:
            usual_s = self._speeds.usual_s()
            rivals = [self._backend.rivals(model) for model in self._recipe.wanted_models]
            at_most = {url: max(one.at_most_s(url, usual_s) for one in rivals) for url in awaited_s}
        within_s = {endpoint.url: self._speeds.answered_within_s(endpoint.url, now) for endpoint in busy}
        urls = {*awaited_s, *within_s}
        each = (min(at_most.get(url, inf), max(awaited_s.get(url, 0.0), within_s.get(url, 0.0))) for url in urls)
        return max(each, default=0.0)

    def _trouble(
        self, pool: PoolStatistics | None, performer: PerformerStatistics, endpoints: tuple[EndpointStatus, ...]
    ) -> str:
        if pool is None:
            return ""
        at_endpoints = [endpoint.trouble for endpoint in endpoints if endpoint.trouble]
        limits = self._limits(pool, performer)
        return (
            "; ".join([*limits, *self._backend.unserved(), *at_endpoints]) or self._cut_advice or self._language_advice
        )

    def _limits(self, pool: PoolStatistics, performer: PerformerStatistics) -> Iterator[str]:
        """What keeps requests from endpoints that would take them: one cause at most."""
        if self._own_time.is_late and not self.preparing:
            yield (
                "this process is too busy to keep up with the servers: ask for more examples in a request "
                "(generation.per_request), or split the domains over several runs"
            )
        elif pool.held_back:
            yield f"the endpoints have room, but this process may have {self._backend.limit} connections at once"
        elif self._window_use.holds_back(performer, self._backend.capacity):
            yield from filter(None, [self._window_use.figures().advice])

    @property
    def _simulated(self) -> bool:
        return self._tally.simulated or SIMULATED in self._recipe.wanted_models

    @property
    def _language_advice(self) -> str:
        return self.language.words(simulated=self._simulated)

    @property
    def _cut_advice(self) -> str:
        return Cures(self._recipe).of_cuts(self._tally.requests, self._tally.cut, simulated=self._simulated)

    @property
    def _usage_advice(self) -> str:
        if not (number := self._tally.without_usage):
            return ""
        return (
            f"{counted(number, 'completion')} came without usage from the server: {Cures(self._recipe).of_no_usage()}"
        )

    def start(self, ending: Ending | None) -> Start | None:
        """This start so far, for the history of the run; None where it asked for nothing."""
        performer = None if self.performer is None else self.performer.statistics()
        pool = self._backend.statistics()
        if performer is None or pool is None or not performer.asked:
            return None
        latencies = {endpoint.url: self._speeds.latencies(endpoint.url) for endpoint in pool.endpoints}
        return Start.now(
            begin=self._begin,
            seconds=self._elapsed_s,
            ending=ending,
            replayed=performer.replayed,
            asked=performer.asked,
            asked_twice=performer.asked_twice,
            pool=pool,
            latencies=latencies,
        )

    @property
    def _has_nothing_to_do(self) -> bool:
        has_target = self._recipe.targets.only_budget is None  # else its aim depends on what it has brought
        return bool(self._recipe.shard) and has_target and self._explorer.explored and not self._explorer.wanted

    def stats(self, ending: Ending | None, total: Total | None) -> RunStats:
        """`ending`: None while the run goes on. `total`: over all starts."""
        performer = None if self.performer is None else self.performer.statistics()
        pool = self._backend.statistics()
        latencies = {}
        if pool is not None and performer is not None:
            figures = {endpoint.url: self._speeds.latencies(endpoint.url).figures() for endpoint in pool.endpoints}
            latencies = {url: of_url for url, of_url in figures.items() if of_url is not None}
        return RunStats(
            digest=self._digest,
            model=self._recipe.model,
            models=self._recipe.models,
            simulated=self._simulated,
            cut_advice=self._cut_advice,
            usage_advice=self._usage_advice,
            language_advice=self._language_advice,
            window=self._window_use.figures(),
            ending=ending,
            nothing_to_do=self._has_nothing_to_do,
            counts=self._tally.counts(
                surplus=self._explorer.surplus(),
                unfinished=self._explorer.unfinished,
                passages=self._explorer.passages(),
            ),
            not_judged=0 if performer is None else performer.waiting,
            begin=self._begin,
            end=now_in_utc(),
            seconds=round(self._elapsed_s, 3),
            own_time=self._own_time.figures(),
            this_time=None
            if performer is None
            else RequestsThisTime(performer.replayed, performer.asked, performer.asked_twice),
            endpoints=pool if pool is None or ending is None else pool.without_engines(),
            latencies=latencies,
            times_median={} if performer is None else self._speeds.times_median(),
            target=self._explorer.target,
            all_starts=total,
        )
