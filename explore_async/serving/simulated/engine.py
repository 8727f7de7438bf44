"""A model of continuous batching, as vLLM does it. Pure: the caller sets the time.

All requests of the batch get one token per step. A step takes longer the more requests there are; the prompt of a new
request is read between two steps and delays all of them; requests that do not fit wait by priority. When the KV cache
is full, the request that came last loses its place and is read again later. Blocks shared by prompts are not modelled:
each request pays for its whole context in the cache, and in time for the part of its prompt that is not `cached`.

Between two events nothing changes, so time jumps from event to event: the cost of simulating a request does not depend
on its number of tokens.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Profile:
    """The speed of an engine. Times are in seconds.

    A step with n requests takes `step_s + n * request_s`; a prompt token takes `prefill_s`.
    """

    slots: int
    """Most requests in a batch (`max_num_seqs`)."""
    step_s: float
    request_s: float
    prefill_s: float
    kv_tokens: int
    """Tokens that the KV cache holds."""

    def with_slots(self, slots: int) -> Profile:
        return Profile(slots, self.step_s, self.request_s, self.prefill_s, self.kv_tokens)

    def tokens_per_s(self, requests: int, prompt_tokens: float = 0.0, answer_tokens: float = 1.0) -> float:
        """Output tokens per second with `requests` in the batch. For each completion of `answer_tokens` a prompt of
        `prompt_tokens`, which are not cached, is read.
        """
        step_s = self.step_s + requests * self.request_s
        return requests / (step_s + requests * prompt_tokens / answer_tokens * self.prefill_s)


@dataclass(slots=True, eq=False)
class _Job:
    number: int
    priority: int
    prompt_tokens: int
    cached_tokens: int
    answer_tokens: int
    made: int = 0
    """Tokens of the completion, up to the step `since`."""
    since: int = 0
    running: bool = False
    preemptions: int = 0
    admitted_at: float | None = None
    first_at: float | None = None

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, self.number


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    number: int
    at: float
    admitted_at: float
    first_at: float
    """Time of its first token."""
    preemptions: int


@dataclass(slots=True, eq=False)
class Engine:
    """One engine. Call `submit` and `cancel` at the time of the event, and `advance` with any later time."""

    profile: Profile
    now: float = 0.0
    generation_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    _step: int = 0
    _debt_s: float = 0.0
    """Time that the prompts of admitted requests still need."""
    _cache: int = 0
    """Tokens of the KV cache taken by running requests."""
    _jobs: dict[int, _Job] = field(default_factory=dict)
    _ends: list[tuple[int, int]] = field(default_factory=list)
    """(step of its last token, number) of running requests, and of some that no longer run."""
    _queue: list[tuple[int, int]] = field(default_factory=list)
    _running: int = 0
    _begun: list[_Job] = field(default_factory=list)
    """Jobs that run and have no token yet, and some that run no longer."""

    @property
    def running(self) -> int:
        return self._running

    @property
    def waiting(self) -> int:
        return len(self._jobs) - self._running

    @property
    def kv_usage(self) -> float:
        return min(1.0, self._cache / self.profile.kv_tokens)

    def resize(self, slots: int) -> None:
        """Changes the number of slots; running requests beyond it may finish."""
        self.profile = self.profile.with_slots(slots)

    def submit(
        self, number: int, *, prompt_tokens: int, answer_tokens: int, cached_tokens: int = 0, priority: int = 0
    ) -> None:
        """A request arrives now. Its number identifies it and breaks ties: the smaller came first."""
        job = _Job(number, priority, prompt_tokens, min(cached_tokens, prompt_tokens), max(1, answer_tokens))
        self._jobs[number] = job
        heapq.heappush(self._queue, job.rank)
        self._admit_waiting()

    def cancel(self, number: int) -> None:
        """The client is gone, and its place is free. Nothing happens if the request has finished."""
        job = self._jobs.pop(number, None)
        if job is not None and job.running:
            self._leave(job)
            self._admit_waiting()

    def made(self, number: int) -> int:
        """Tokens of the request's completion so far; 0 when it has not begun, or is no longer known."""
        job = self._jobs.get(number)
        return 0 if job is None else job.made + (self._step - job.since if job.running else 0)

    def next_at(self) -> float | None:
        """Time when the next request finishes if no other arrives; None when no request runs."""
        self._forget_stale_ends()
        if not self._ends:
            return None
        return self.now + self._debt_s + min(self._ends[0][0] - self._step, self._steps_that_fit()) * self._step_s()

    def next_token_at(self) -> float | None:
        """Time of the next token of the running requests if no other request arrives; None when none runs."""
        return self.now + self._debt_s + self._step_s() if self._running else None

    def advance(self, now: float) -> list[FinishedRequest]:
        """Advances to `now`. Returns the requests that finished until then, in order. A step in progress is kept."""
        finished: list[FinishedRequest] = []
        while True:
            self._admit_waiting()
            self._forget_stale_ends()
            if not self._ends:
                self.now = max(self.now, now)
                return finished
            if (paid := min(self._debt_s, now - self.now)) > 0:
                self.now += paid
                self._debt_s -= paid
            fit = self._steps_that_fit()
            if fit == 0:
                self._preempt()
                continue
            step_s = self._step_s()
            steps = min(self._ends[0][0] - self._step, fit)
            reach = int((now - self.now) / step_s + 1e-9)
            if self._debt_s > 0 or reach < steps:
                if self._debt_s <= 0 and reach > 0:
                    self._decode(reach, step_s)
                return finished
            self._decode(steps, step_s)
            while self._ends and self._ends[0][0] <= self._step:
                end, number = heapq.heappop(self._ends)
                job = self._jobs.get(number)
                if job is not None and job.running and job.since + job.answer_tokens - job.made == end:
                    self._leave(job)
                    del self._jobs[number]
                    assert job.admitted_at is not None, "it ran"
                    assert job.first_at is not None, "it has tokens"
                    finished.append(FinishedRequest(number, self.now, job.admitted_at, job.first_at, job.preemptions))

    def _step_s(self) -> float:
        return self.profile.step_s + self._running * self.profile.request_s

    def _steps_that_fit(self) -> int:
        """Steps until the cache is full; a single request always has room."""
        if self._running <= 1:
            return 1 << 60
        return max(0, (self.profile.kv_tokens - self._cache) // self._running)

    def _decode(self, steps: int, step_s: float) -> None:
        for job in self._begun:
            if job.running:
                job.first_at = self.now + step_s
        self._begun.clear()
        self._step += steps
        self.now += steps * step_s
        self.generation_tokens += steps * self._running
        self._cache += steps * self._running

    def _admit_waiting(self) -> None:
        while self._queue and self._running < self.profile.slots:
            job = self._jobs.get(self._queue[0][1])
            if job is None or job.running:  # cancelled
                heapq.heappop(self._queue)
                continue
            context = job.prompt_tokens + job.made
            if self._running and self._cache + context + self._running + 1 > self.profile.kv_tokens:
                return
            heapq.heappop(self._queue)
            cached = job.cached_tokens if job.made == 0 else 0
            self._debt_s += (context - cached) * self.profile.prefill_s
            if job.made == 0:
                self.prompt_tokens += job.prompt_tokens
                self.cached_tokens += cached
            if job.admitted_at is None:
                job.admitted_at = self.now
            if job.first_at is None:
                self._begun.append(job)
            job.running, job.since = True, self._step
            self._running += 1
            self._cache += context
            heapq.heappush(self._ends, (self._step + job.answer_tokens - job.made, job.number))

    def _leave(self, job: _Job) -> None:
        job.made += self._step - job.since
        job.running = False
        self._running -= 1
        self._cache -= job.prompt_tokens + job.made

    def _preempt(self) -> None:
        """Takes the cache from the request that is served last; it waits, and is read again with the tokens it made."""
        last = max((job for job in self._jobs.values() if job.running), key=lambda job: job.rank)
        self._leave(last)
        self.preemptions += 1
        last.preemptions += 1
        heapq.heappush(self._queue, last.rank)

    def _forget_stale_ends(self) -> None:
        """Removes the ends of requests that were cancelled or preempted."""
        while self._ends:
            end, number = self._ends[0]
            job = self._jobs.get(number)
            if job is not None and job.running and job.since + job.answer_tokens - job.made == end:
                return
            heapq.heappop(self._ends)
