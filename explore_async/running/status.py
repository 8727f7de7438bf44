"""The status of a run: snapshots while it is on, its statistics at the end."""

from __future__ import annotations

import time

from explore_async.exploration.explorer import Explorer
from explore_async.running.backend import Backend
from explore_async.running.observer import Snapshot
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer
from explore_async.running.result import Ending, RequestsThisTime, RunStats
from explore_async.running.tally import Tally, cut_advice
from explore_async.settings.recipe import SIMULATED


class RunStatus:
    """Reads the parts of a run and changes none of them. Its clock begins with it."""

    def __init__(self, explorer: Explorer, tally: Tally, backend: Backend, own_time: OwnTime) -> None:
        self._explorer = explorer
        self._recipe = explorer.recipe
        self._digest = explorer.recipe.digest  # takes some milliseconds where there are many seeds
        self._tally = tally
        self._backend = backend
        self._own_time = own_time
        self._began = time.monotonic()
        self.performer: Performer | None = None
        """None until the store of completions is open."""

    @property
    def digest(self) -> str:
        return self._digest

    def snapshot(self) -> Snapshot:
        assert self.performer is not None
        pool = self._backend.statistics()
        performer = self.performer.statistics()
        return Snapshot(
            tally=self._tally,
            performer=performer,
            capacity=self._backend.capacity,
            elapsed_s=time.monotonic() - self._began,
            explored=self._explorer.explored,
            trouble=self._trouble(),
            engines="" if pool is None else pool.engines,
            in_flight=performer.in_flight if pool is None else pool.in_flight,
            own_time=self._own_time.figures(),
        )

    def _trouble(self) -> str:
        pool = self._backend.statistics()
        if pool is None:
            return ""
        if self._own_time.is_late:
            return (
                "this process is too busy to keep up with the servers: ask for more examples in a request "
                "(generation.per_request), or split the domains over several runs"
            )
        if pool.held_back:
            return (
                f"the endpoints have room, but a window of {self._recipe.window} allows {self._backend.capacity} "
                "requests at once: start a run with a wider --window"
            )
        at_endpoints = "; ".join(endpoint.trouble for endpoint in pool.endpoints if endpoint.trouble)
        return at_endpoints or cut_advice(self._tally.requests, self._tally.cut)

    def stats(self, ending: Ending) -> RunStats:
        performer = None if self.performer is None else self.performer.statistics()
        return RunStats(
            digest=self._digest,
            model=self._recipe.model,
            models=self._recipe.models,
            simulated=self._tally.simulated or SIMULATED in self._recipe.wanted_models,
            ending=ending,
            counts=self._tally.counts(surplus=self._explorer.surplus()),
            seconds=round(time.monotonic() - self._began, 3),
            own_time=self._own_time.figures(),
            this_time=None
            if performer is None
            else RequestsThisTime(performer.replayed, performer.asked, performer.asked_twice),
            endpoints=self._backend.statistics(),
        )
