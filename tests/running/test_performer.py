"""The performer between the driver and the store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.scripted import recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.running import asking, latencies
from explore_async.running import performer as performing
from explore_async.running.driver import RunStopped
from explore_async.running.own_time import OwnTime
from explore_async.running.performer import Performer
from explore_async.serving.endpoints.choice import Rivals
from explore_async.storage.completions import CompletionStore


async def test_a_stop_does_not_wait_for_all_that_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop, some of hundreds of stored outcomes are still committed; the next start commits the rest."""
    monkeypatch.setattr(performing, "_COMMITTING_S", 0.2)
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    requests = [replace(first, ordinal=n, due=n, seed=n) for n in range(300)]
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        for request in requests:
            chat_request = prompts.render(request)
            await store.put(chat_request.key, request, chat_request, Completion("x", "stop", 1, 1))
        performer = Performer(store, prompts.render, None, OwnTime())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            for request in requests:
                performer.start(request)
            for request in requests[:100]:
                await performer.take(request)
            performer.stop()
            committed = 0
            with contextlib.suppress(RunStopped):
                for request in requests[100:]:
                    await performer.take(request)
                    await asyncio.sleep(0.01)
                    committed += 1
            await performer.close(abandon=False)
    assert 0 < committed < 100


class _Hanging:
    """Endpoints that answer the first request at once, with a latency of five seconds, and no other request."""

    capacity = 4

    def __init__(self) -> None:
        self.asked = 0

    async def connect(self) -> None: ...

    def stop(self) -> None: ...

    def rivals(self, _model: str) -> Rivals:
        return Rivals({}, 0.0)

    async def ask(self, *_: object, **__: object) -> Completion:
        self.asked += 1
        if self.asked > 1:
            await asyncio.sleep(3600)
        return Completion("x", "stop", 1, 1, latency_s=5.0)


class _Unequal:
    """Two endpoints of which one, for requests with an odd seed, brings nothing."""

    capacity = 100

    async def connect(self) -> None: ...

    def stop(self) -> None: ...

    async def ask(self, request: ChatRequest, *, on_sent: Callable[[str], None], **_: object) -> Completion:
        assert request.seed is not None
        on_sent("slow" if request.seed % 2 else "quick")
        if request.seed % 2:
            await asyncio.sleep(3600)
        return Completion("x", "stop", 1, 1)


class _Full(_Hanging):
    """Endpoints with slots for two requests, which they do not answer; the third and those after it wait."""

    async def ask(self, *_: object, on_sent: Callable[[str], None], **__: object) -> Completion:
        self.asked += 1
        if self.asked <= 2:
            on_sent("url")
        await asyncio.sleep(3600)
        raise AssertionError


async def test_a_request_that_waits_for_a_slot_is_not_sent(tmp_path: Path) -> None:
    """What counts as asked is what an endpoint got; a stop says for how long such requests are waited for."""
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        performer = Performer(store, prompts.render, (backend := _Full()), OwnTime())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            for number in range(6):
                performer.start(replace(first, ordinal=number, due=number, seed=number))
            taking = group.create_task(performer.take(first))
            async with asyncio.timeout(60):
                while backend.asked < backend.capacity:
                    await asyncio.sleep(0.01)
            told = performer.statistics()
            assert (told.asked, told.asked_twice, told.asking, told.pending) == (2, 0, 4, 2)
            assert performer.patience_s is None
            performer.stop(in_haste=True)
            assert performer.patience_s is not None
            assert 0 <= performer.patience_s <= asking._STOPPING_S
            taking.cancel()
            await performer.close(abandon=True)


async def test_what_all_commits_wait_for_is_asked_though_the_endpoints_take_fewer(tmp_path: Path) -> None:
    """Six requests are under way when room for four of them goes. The one that is due before them is asked at once, and
    no other is.
    """
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    backend = _Full()
    backend.capacity = 6
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        performer = Performer(store, prompts.render, backend, OwnTime())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            for number in range(1, 7):
                performer.start(replace(first, ordinal=number, due=number, seed=number))
            taking = group.create_task(performer.take(replace(first, ordinal=1, due=1, seed=1)))
            async with asyncio.timeout(60):
                while backend.asked < 6:
                    await asyncio.sleep(0.01)
            backend.capacity = 2
            taking.cancel()
            for number in (0, 7):
                performer.start(replace(first, ordinal=10 + number, due=number, seed=10 + number))
            taking = group.create_task(performer.take(replace(first, ordinal=10, due=0, seed=10)))
            async with asyncio.timeout(60):
                while backend.asked < 7:
                    await asyncio.sleep(0.01)
            assert performer.statistics().pending == 1
            taking.cancel()
            await performer.close(abandon=True)


async def test_what_is_stored_and_what_it_waits_for(tmp_path: Path) -> None:
    """While the driver waits for a request at a slow endpoint: the completions that are there, and the requests at that
    endpoint that they wait for; not those beside it, and not those that are due after all that is stored.
    """
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    requests = [replace(first, ordinal=n, due=n, seed=n) for n in (0, 1, 2, 3, 4, 5, 6, 7, 9, 11)]
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        performer = Performer(store, prompts.render, _Unequal(), OwnTime())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            for request in requests:
                performer.start(request)
            assert performer.head_of_line() is None
            await performer.take(requests[0])
            taking = group.create_task(performer.take(requests[1]))
            async with asyncio.timeout(60):
                while performer.statistics().waiting < 3 or performer.head_of_line() is None:  # 2, 4 and 6
                    await asyncio.sleep(0.01)
            head = performer.head_of_line()
            assert head is not None
            assert (head.endpoint, head.requests) == ("slow", 3)  # 1, 3 and 5
            assert set(performer.oldest_s()) == {"slow"}
            taking.cancel()
            performer.give_back()
            assert performer.statistics().waiting == 4
            await performer.close(abandon=True)


@pytest.mark.parametrize(("in_haste", "least_s", "most_s"), [(True, 0.1, 3.9), (False, 4.0, 300)])
async def test_a_stop_in_haste_waits_for_no_slow_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_haste: bool, least_s: float, most_s: float
) -> None:
    """Requests in flight have as long as the slowest latest latency; in haste they have a few seconds."""
    monkeypatch.setattr(asking, "_STOPPING_S", 0.1)
    monkeypatch.setattr(latencies, "_UNKNOWN_S", 0.1)
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    now = asyncio.get_running_loop().time
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        performer = Performer(store, prompts.render, _Hanging(), OwnTime())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            answered, hanging = [replace(first, ordinal=n, due=n, seed=n) for n in range(2)]
            performer.start(answered)
            performer.start(hanging)
            await performer.take(answered)
            began = now()
            performer.stop(in_haste=in_haste)
            with pytest.raises(RunStopped):
                await performer.take(hanging)
            await performer.close(abandon=False)
    assert least_s <= now() - began <= most_s
