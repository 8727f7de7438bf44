"""The performer between the driver and the store."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import recipe

from explore_async import performing
from explore_async.driver import Stopped
from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion
from explore_async.performing import Performer
from explore_async.pulse import Pulse
from explore_async.storage.completions import CompletionStore


async def test_a_stop_does_not_wait_for_all_that_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of stored answers, some are still committed after a stop, and then it is over: the next start has them."""
    monkeypatch.setattr(performing, "_COMMITTING_S", 0.2)
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    requests = [replace(first, ordinal=n, due=n, seed=n) for n in range(300)]
    async with CompletionStore(tmp_path / "c.sqlite") as store:
        for request in requests:
            question = prompts.render(request)
            await store.put(question.key, request, question, Completion("x", "stop", 1, 1))
        performer = Performer(store, prompts, None, Pulse())
        async with asyncio.TaskGroup() as group:
            performer.open(group)
            results = [performer.start(request) for request in requests]
            for result in results[:100]:
                await result
            performer.stop()
            committed = 0
            with contextlib.suppress(Stopped):
                for result in results[100:]:
                    await result
                    await asyncio.sleep(0.01)
                    committed += 1
            await performer.close(abandon=False)
    assert 0 < committed < 100
