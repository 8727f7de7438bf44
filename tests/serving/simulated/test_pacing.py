"""The times of streamed tokens, on a virtual clock."""

from __future__ import annotations

import asyncio

import pytest

from explore_async.planning.clock import run_virtually
from explore_async.serving.simulated.engine import Profile
from explore_async.serving.simulated.pacing import (
    LEAST_TICK_S,
    BatchedPace,
    DrawnPace,
    EngineRequest,
    Latency,
    Pace,
    Served,
    StreamProgress,
)
from explore_async.serving.simulated.profiles import PROFILES

PROFILE = Profile(slots=4, step_s=0.01, request_s=0.001, prefill_s=0.0001, kv_tokens=100_000)


def request(number: int, *, prompt_tokens: int = 1000, answer_tokens: int = 20) -> EngineRequest:
    return EngineRequest(number.to_bytes(16), f"prompt{number}", prompt_tokens, answer_tokens)


async def streamed(pace: Pace, wanted: EngineRequest) -> tuple[list[tuple[float, int]], Served]:
    """The moments at which tokens were reported, with their number, and the end."""
    more, loop = asyncio.Event(), asyncio.get_running_loop()
    progress = StreamProgress(more)
    serving = asyncio.ensure_future(pace.serve(wanted, progress))
    serving.add_done_callback(lambda _: progress.report(wanted.answer_tokens))
    moments: list[tuple[float, int]] = []
    while progress.tokens < wanted.answer_tokens:
        await more.wait()
        more.clear()
        moments.append((loop.time(), progress.tokens))
    return moments, await serving


@pytest.mark.parametrize("name", [None, *PROFILES])
def test_the_first_token_comes_when_the_prompt_is_read(name: str | None) -> None:
    """A lone request gets its first token after its prefill and one step, and one more with each step."""
    profile = PROFILE if name is None else PROFILES[name]

    async def run() -> tuple[list[tuple[float, int]], Served]:
        return await streamed(BatchedPace(profile), request(1))

    moments, served = run_virtually(run())
    step_s = profile.step_s + profile.request_s
    first_s = 1000 * profile.prefill_s + step_s
    assert moments[0] == (pytest.approx(first_s, abs=LEAST_TICK_S), 1 if step_s > LEAST_TICK_S else moments[0][1])
    assert served.first_at == pytest.approx(first_s)
    assert served.finished_at == moments[-1][0] == pytest.approx(first_s + 19 * step_s)
    for at, tokens in moments:
        assert tokens == pytest.approx(1 + (at - first_s) / step_s, abs=1e-6 + (step_s < LEAST_TICK_S))


def test_streams_see_what_the_metrics_say() -> None:
    """Under load, each first token is seen at the time that the engine notes, which the queue and prompts delay."""

    async def run() -> list[tuple[list[tuple[float, int]], Served]]:
        pace = BatchedPace(PROFILE)
        return await asyncio.gather(*(streamed(pace, request(number)) for number in range(12)))

    for moments, served in run_virtually(run()):
        assert moments[0][0] == pytest.approx(served.first_at, abs=1e-6)
        assert served.arrived_at <= served.admitted_at + 1e-9 <= served.first_at <= served.finished_at


def test_a_drawn_latency_is_spread_over_its_tokens() -> None:
    """Without a profile the tokens come evenly over the drawn time."""

    async def run() -> tuple[list[tuple[float, int]], Served]:
        return await streamed(DrawnPace(1, Latency(mean_s=2.0)), request(1))

    moments, served = run_virtually(run())
    assert served.finished_at == pytest.approx(2.0)
    assert moments == [(pytest.approx(0.1 * tokens, abs=1e-6), tokens) for tokens in range(1, 21)]
