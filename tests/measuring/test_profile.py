"""A profile from a measurement: the engine that is measured is the engine that plans are made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from explore_async.errors import DataError
from explore_async.measuring.profile import measured_profile
from explore_async.serving.simulated.engine import Engine, Profile
from explore_async.serving.simulated.profiles import PROFILES

PROMPT, ANSWER, ROUNDS = 300, 120, 6


def measured(profile: Profile, in_flight: int, *, metrics: bool = True) -> dict[str, Any]:
    """What `bench` would write about an engine of this profile, with so many requests of equal size in flight."""
    engine, now, sent, live = Engine(profile), 0.0, [], 0
    ttft_s: list[float] = []
    usage = running = waiting = readings = 0.0
    while live or len(sent) < ROUNDS * in_flight:
        while live < in_flight and len(sent) < ROUNDS * in_flight:
            engine.submit(len(sent), prompt_tokens=PROMPT, answer_tokens=ANSWER)
            sent.append(now)
            live += 1
        if live == in_flight:
            running, waiting, readings = running + engine.running, waiting + engine.waiting, readings + 1
        at = engine.next_at()
        assert at is not None
        now = at
        usage = max(usage, engine.kv_usage)
        finished = engine.advance(now)
        ttft_s += [one.first_at - sent[one.number] for one in finished]
        live -= len(finished)
    tokens, completed = engine.generation_tokens, len(ttft_s)
    gauges = {
        "running": {"mean": running / readings}, "waiting": {"mean": waiting / readings}, "kv_usage": {"most": usage}, "prefix_hit_share": 0.0,
    }  # fmt: skip
    return {
        "concurrency": in_flight, "completed": completed, "endpoints": [{}], "output_tokens_per_s": tokens / now,
        "steady_output_tokens_per_s": None, "prompt_tokens": PROMPT * completed, "output_tokens": ANSWER * completed,
        "ttft_ms": {"p50": 1000 * sorted(ttft_s)[completed // 2]}, "server": gauges if metrics else None,
    }  # fmt: skip


def written(path: Path, *levels: dict[str, Any]) -> Path:
    path.write_bytes(orjson.dumps({"levels": levels}))
    return path


@pytest.mark.parametrize("name", ["h100-qwen3-8b", "a100-llama-3-8b", "rtx-4090-llama-3-8b"])
@pytest.mark.parametrize("metrics", [True, False])
def test_a_measured_engine_makes_a_profile_of_its_speed(tmp_path: Path, name: str, metrics: bool) -> None:
    """With the levels of a sweep, with metrics of the engine and without: what the profile makes at the measured levels
    and between them is what the engine made, to a tenth.
    """
    profile = PROFILES[name]
    levels = [measured(profile, in_flight, metrics=metrics) for in_flight in (1, 4, 16, 64)]
    found = measured_profile(written(tmp_path / "bench.json", *levels))
    for in_flight in (1, 8, 32, 64):
        true = profile.tokens_per_s(in_flight, PROMPT, ANSWER)
        assert found.tokens_per_s(in_flight, PROMPT, ANSWER) == pytest.approx(true, rel=0.1)
    assert found.slots == 64


def test_a_full_engine_tells_its_size(tmp_path: Path) -> None:
    """Where requests wait, the slots are those that ran; the cache is as large as its use says."""
    profile = Profile(slots=24, step_s=0.01, request_s=0.0004, prefill_s=0.00003, kv_tokens=60_000)
    levels = [measured(profile, in_flight) for in_flight in (1, 8, 64)]
    found = measured_profile(written(tmp_path / "bench.json", *levels))
    assert found.slots == 24
    assert found.kv_tokens == pytest.approx(60_000, rel=0.25)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b'{"levels": []}', b'{"levels": [{"completed": 3}]}', b'{"levels": [{"completed": 0}]}', b"5", b"\xff"],
)  # fmt: skip
def test_what_is_no_measurement_is_an_error_of_the_file(tmp_path: Path, content: bytes) -> None:
    """Named, with what to do."""
    path = tmp_path / "bench.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bench\.json: (not a result|a profile needs)"):
        measured_profile(path)
    with pytest.raises(DataError, match=r"nowhere\.json"):
        measured_profile(tmp_path / "nowhere.json")


def test_one_level_is_too_few(tmp_path: Path) -> None:
    """A line needs two points."""
    with pytest.raises(DataError, match="two levels"):
        measured_profile(written(tmp_path / "bench.json", measured(PROFILES["h100-qwen3-8b"], 4)))
