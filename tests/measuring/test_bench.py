"""`explore-async bench` from end to end."""

from __future__ import annotations

import re
import signal
from typing import Any

import orjson
import pytest
from support.cli import CONFIG, config, explore, finished, in_process, launch
from support.scripted import recipe_config
from support.streaming_server import DONE, FINISH, event, paced, raw, streaming, text, usage

from explore_async.errors import EndpointError
from explore_async.measuring.bottleneck import BUSY_SHARE, LATE_MS
from explore_async.measuring.figures import LevelFigures
from explore_async.measuring.sweep import Sweep, SweepPlan
from explore_async.serving.endpoints import admission
from explore_async.settings.operation import EndpointSettings

SPREAD = dict.fromkeys(("mean", "p50", "p90", "p99"), float)
GAUGE = {"mean": float, "most": float}
LEVEL = {
    "concurrency": int, "in_flight": int, "asked": int, "completed": int, "errors": dict, "first_errors": dict,
    "kinds": dict, "seconds": float, "prompt_tokens": int, "output_tokens": int, "without_usage": int,
    "output_tokens_per_s": float, "steady_output_tokens_per_s": float, "total_tokens_per_s": float, "requests_per_s": float,
    "ttft_ms": SPREAD, "tpot_ms": SPREAD, "itl_ms": SPREAD, "e2e_ms": SPREAD,
    "server": {"running": GAUGE, "waiting": GAUGE, "kv_usage": GAUGE, "preemptions": float, "prefix_hit_share": float},
    "client": {"cpu_share": float, "loop_lag_p99_ms": float},
    "endpoints": [{"url": str, "completed": int, "output_tokens_per_s": float}],
    "bottleneck": str, "reason": str,
}  # fmt: skip
DOCUMENT = {
    "version": str, "ended": str, "finished": bool, "model": str,
    "simulated": bool, "config": str, "seed": int, "max_tokens": int,
    "levels": [LEVEL], "recommended_concurrency": int,
}  # fmt: skip
MAY_BE_NULL = {
    "server",
    "running",
    "waiting",
    "kv_usage",
    "prefix_hit_share",
    "max_tokens",
    "tpot_ms",
    "steady_output_tokens_per_s",
}


def check(value: Any, shape: Any, name: str = "") -> None:
    """Exactly these fields, of these types."""
    if value is None:
        assert name in MAY_BE_NULL, name
    elif isinstance(shape, dict):
        assert set(value) == set(shape), name
        for key, part in shape.items():
            check(value[key], part, key)
    elif isinstance(shape, list):
        for item in value:
            check(item, shape[0], name)
    else:
        assert type(value) is shape or (shape is float and type(value) is int), name


class Silent:
    def phase(self, text: str) -> None: ...

    def advanced(self, concurrency: int, ended: int, number: int, tokens_per_s: float) -> None: ...

    def measured(self, level: LevelFigures) -> None: ...


async def sweep(*urls: str, **changes: Any) -> Sweep:
    plan = {
        "endpoints": tuple(EndpointSettings(url=url) for url in urls), "model": None, "recipe": recipe_config(), "concurrency": (4,),
        "requests": 8, "seconds": 10.0, "max_tokens": None, "seed": 1, **changes,
    }  # fmt: skip
    swept = Sweep(SweepPlan(**plan), Silent())
    await swept.run()
    return swept


async def test_the_command_measures_a_simulated_server(tmp_path):
    """The document has the documented fields, its figures fit together, and it lies in the file with a plot beside."""
    server = await launch("serve", "--engine", "simulated", "--port", "0", "--slots", "8", "--latency", "0.2")
    try:
        assert server.stderr is not None
        url = re.search(rb"http://\S+", await server.stderr.readline()).group().decode()
        out = tmp_path / "bench.json"
        arguments = ("--config", config(tmp_path), "--concurrency", "2,16", "--requests", "4", "--seed", "5")
        result = await explore("bench", url, *arguments, "--max-tokens", "200", "--out", out, "--json")
    finally:
        server.send_signal(signal.SIGTERM)
        await finished(server)
    assert result.code == 0, result.stderr
    found = result.json
    check(found, DOCUMENT)
    assert orjson.loads(out.read_bytes()) == found
    assert out.with_suffix(".svg").exists() or "matplotlib" in result.stderr
    assert (found["finished"], found["model"], found["seed"], found["max_tokens"]) == (True, "simulated", 5, 200)
    few, many = found["levels"]
    for one, number in ((few, 6), (many, 48)):
        assert one["asked"] == one["completed"] == sum(one["kinds"].values()) == number
        assert one["errors"] == {}
        assert one["output_tokens_per_s"] == pytest.approx(one["output_tokens"] / one["seconds"])
        assert one["total_tokens_per_s"] > one["output_tokens_per_s"]
        assert one["ttft_ms"]["mean"] < one["e2e_ms"]["mean"]
        assert one["e2e_ms"]["p50"] <= one["e2e_ms"]["p90"] <= one["e2e_ms"]["p99"]
    busy = many["client"]["cpu_share"] >= BUSY_SHARE or many["client"]["loop_lag_p99_ms"] >= LATE_MS
    assert many["bottleneck"] == ("client" if busy else "queue")
    assert few["server"]["running"]["most"] <= many["server"]["running"]["most"] <= 8  # as often as one looked
    assert found["recommended_concurrency"] == 16
    reason = "this process" if busy else r"[\d.]+\s+requests\s+waited"
    for shown in ("concurrency", "time to first token", "bottleneck", rf"{many['bottleneck']}: {reason}"):
        assert re.search(shown, result.stderr)


async def test_figures_are_those_of_the_servers_pace():
    """12 completions of 40 tokens, 4 at a time, each of 0.1 s + 9 x 0.02 s: no time is less than the server took, the
    times fit together, and two endpoints take even shares.
    """
    async with streaming(paced(0.1, 0.02, 10, 40)) as one, streaming(paced(0.1, 0.02, 10, 40)) as other:
        found = (await sweep(one)).levels[0]
        both = (await sweep(one, other, requests=12)).levels[0]
    assert found.seconds > 3 * 0.27
    assert found.output_tokens_per_s == pytest.approx(480 / found.seconds)
    assert found.ttft_ms.p50 > 98
    assert found.e2e_ms.p50 > 270
    streamed_ms = found.e2e_ms.mean - found.ttft_ms.mean
    assert found.tpot_ms.mean == pytest.approx(streamed_ms / 39)
    assert found.itl_ms.mean * 9 == pytest.approx(streamed_ms, rel=0.5)
    assert found.itl_ms.mean * 9 <= streamed_ms + 1e-6
    assert [one.completed for one in both.endpoints] == [12, 12]
    assert both.in_flight == 8
    assert found.server is None


async def test_ramps_do_not_count():
    """A level of 4 at a time, whose last request is alone for a long time: the whole rate sinks, the steady rate is that
    of the time when all 4 were under way.
    """
    steady = paced(0.05, 0.02, 6, 30)
    scripts = [steady] * 23 + [paced(3.0, 0.02, 6, 30)]
    async with streaming(*[steady] * 3, *scripts) as url:  # three to warm up
        found = (await sweep(url, requests=24)).levels[0]
    assert found.completed == 24
    assert found.output_tokens_per_s == pytest.approx(24 * 30 / found.seconds)
    assert found.steady_output_tokens_per_s > 1.5 * found.output_tokens_per_s
    assert found.steady_output_tokens_per_s < 4 * 30 / 0.15 * 1.2
    assert found.rate == found.steady_output_tokens_per_s


async def test_a_level_between_is_measured_last():
    """Three levels of a server that is no faster with 16 than with 4 find one between the best and the one below it."""
    async with streaming(paced(0.05, 0.01, 3, 9)) as url:
        swept = await sweep(url, requests=6, concurrency=(1, 8), between=True)
    levels = [level.concurrency for level in swept.levels]
    assert levels == sorted(levels)
    assert set(levels) >= {1, 8}
    assert len(levels) <= 3


async def test_what_the_engine_says_of_itself_is_read_while_the_level_is_whole():
    """Gauges of vLLM's page; counters that do not move give no share of hits."""
    page = (
        "vllm:num_requests_running 3\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.5\n"
        "vllm:prefix_cache_queries_total 10\nvllm:prefix_cache_hits_total 5\n"
    )
    async with streaming(paced(0.4, 0.01, 3, 3), metrics=page) as url:
        server = (await sweep(url, requests=4)).levels[0].server
    assert server is not None
    assert (server.running.mean, server.waiting.mean, server.kv_usage.most) == (3, 2, 0.5)
    assert server.prefix_hit_share is None


async def test_errors_are_counted_by_kind_and_measured_apart():
    """What is answered counts; what breaks off, with the first of its kind shown, does not."""
    fine = raw(event(text("a")), event(text("b")), event(FINISH), event(usage(5, 2)), DONE, pause_s=0.005)
    broken = raw(event(text("a")), event({"error": {"message": "out of memory"}}), pause_s=0.005)
    async with streaming(fine, fine, fine, broken, fine) as url:  # three to warm up
        found = (await sweep(url, requests=20, concurrency=(1,))).levels[0]
    assert (found.completed, found.errors) == (16, {"broken_stream": 4})
    assert "out of memory" in found.first_errors["broken_stream"]
    assert (found.output_tokens, found.prompt_tokens) == (32, 80)


async def test_a_level_ends_in_time():
    """No request begins after its seconds, and what is not done by twice that is given up; a level without a single
    answer is the last.
    """
    fine = paced(0.0, 0.0, 2, 2)
    async with streaming(fine, fine, fine, paced(3600, 1, 2, 2), paced(3600, 1, 2, 2)) as url:
        swept = await sweep(url, seconds=1.5, requests=2, concurrency=(1, 2))
    assert len(swept.levels) == 1
    assert 3 <= swept.levels[0].seconds < 300
    assert swept.levels[0].errors == {"unfinished": 1}


async def test_what_no_request_can_pass_ends_the_sweep_at_once(monkeypatch: pytest.MonkeyPatch):
    """The first warm-up says so, as an error that names the endpoint; and all endpoints have to be there and serve the
    model.
    """
    monkeypatch.setattr(admission, "CONNECT_PATIENCE_S", 0.2)
    async with streaming(raw(event({"error": {"message": "no such grammar"}}), pause_s=0)) as url:
        with pytest.raises(EndpointError, match="no such grammar"):
            await sweep(url)
        with pytest.raises(EndpointError, match="leave it out"):
            await sweep(url, "http://127.0.0.1:9")
        with pytest.raises(EndpointError, match="does not serve 'other'"):
            await sweep(url, model="other")


async def test_a_named_model_needs_no_list_of_models():
    """Where /models fails, the model that the user names is asked for."""
    async with streaming(paced(0.0, 0.0, 1, 1), lists_models=False) as url:
        assert (await sweep(url, model="m", concurrency=(1,), requests=1)).levels[0].completed


async def test_an_interrupted_sweep_shows_what_it_has(tmp_path):
    """Ctrl-C in the second level: the first is shown and written, and the code is 130."""
    path = config(tmp_path, CONFIG)
    async with streaming(paced(0.01, 0.01, 5, 5)) as url:
        out = tmp_path / "bench.json"
        process = await launch(
            "bench", url, "--config", path, "--concurrency", "4,5", "--requests", "8", "--out", out, "--json"
        )
        assert process.stderr is not None
        line = await process.stderr.readline()
        assert b"concurrency 4:" in line
        process.send_signal(signal.SIGINT)
        result = await finished(process)
    assert result.code == 130, result.stderr
    assert "Traceback" not in result.stderr
    assert [level["concurrency"] for level in result.json["levels"]] == [4]
    assert result.json["finished"] is False
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("http://127.0.0.1:9",), 6, "No endpoint answers"),
        (("ftp://x",), 2, "http://"),
        (("http://127.0.0.1:9", "--concurrency", "1,x"), 2, "8,32"),
        (("http://127.0.0.1:9", "--config", "nope"), 2, "no such file or preset"),
        (("http://127.0.0.1:9", "--out", "x.svg"), 2, ".json"),
        (("http://127.0.0.1:9", "--out", "no-such-folder/x.json"), 4, "no such folder"),
        (("http://127.0.0.1:9", "--api-key-env", "NO_SUCH_KEY"), 2, "NO_SUCH_KEY"),
        (("http://127.0.0.1:9", "http://127.0.0.1:9/v1"), 2, "twice"),
        (("--config", "quickstart"), 2, "name an endpoint"),
    ],
)
def test_bad_input_has_its_code(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, told: str):
    """With a message that says what to do."""
    monkeypatch.setattr(admission, "CONNECT_PATIENCE_S", 0.2)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    result = in_process("bench", *arguments)
    assert (result.code, told in result.stderr) == (code, True), result.stderr
