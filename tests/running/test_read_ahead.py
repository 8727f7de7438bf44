"""Look-ups of stored outcomes, before the driver needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from support.scripted import recipe

from explore_async.exploration.explorer import Explorer
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import Completion, Outcome
from explore_async.running.own_time import OwnTime
from explore_async.running.read_ahead import LookUp, ReadAhead

BATCH = 500


class _Counting:
    """A store that counts the keys it is asked for."""

    def __init__(self, outcomes: dict[str, Outcome]) -> None:
        self.outcomes = outcomes
        self.asked = 0

    async def get_many(self, keys: Sequence[str]) -> dict[str, Outcome]:
        self.asked += len(keys)
        return {key: self.outcomes[key] for key in keys if key in self.outcomes}


async def test_nothing_is_looked_up_once_all_that_is_stored_is_found() -> None:
    """Each stored outcome is found wherever its request comes; a store without any is never asked."""
    prompts = await asyncio.to_thread(PromptBook, recipe())
    first = (await asyncio.to_thread(Explorer, recipe())).next_request()
    assert first is not None
    requests = [replace(first, ordinal=n, due=n, seed=n) for n in range(4 * BATCH)]
    done = Completion("x", "stop", 1, 1)
    for stored, asked in (((), 0), ((0, 3), BATCH), ((3, BATCH + 1), 2 * BATCH), ((4 * BATCH - 1,), 4 * BATCH)):
        store = _Counting({prompts.render(requests[n]).key: done for n in stored})
        found: list[LookUp] = []
        ahead = ReadAhead(store, prompts.render, found.append, OwnTime(), stored=len(stored))
        for request in requests:
            ahead.add(request)
        reading = asyncio.create_task(ahead.keep_reading())
        while len(found) < len(requests):
            await asyncio.sleep(0)
        reading.cancel()
        assert [look_up.request for look_up in found] == requests
        assert tuple(n for n, look_up in enumerate(found) if look_up.outcome is not None) == stored
        assert store.asked == asked
