"""Readings of /metrics pages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from explore_async.serving.endpoints.engine_metrics import EngineMetrics, read_metrics

_VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:num_preemptions_total{engine="0",model_name="a } brace"} 4.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:generation_tokens_total{engine="0",model_name="m"} 900.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 640.0
"""


def test_ranks_are_added_and_the_fullest_cache_is_told() -> None:
    """Two data-parallel ranks make one reading; lines with longer names and creation times are none of it."""
    assert read_metrics(_VLLM) == EngineMetrics(
        running=15,
        waiting=2,
        kv_usage=0.5,
        preemptions=4,
        generation_tokens=900,
        prompt_tokens=1.5e6,
        prefix_queries=1000,
        prefix_hits=640,
    )


def test_llama_cpp() -> None:
    """What llama.cpp does not count is 0."""
    page = "llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\nllamacpp:tokens_predicted_total 77\n"
    assert read_metrics(page) == EngineMetrics(2, 1, 0, 0, 77, 0, 0, 0)


@given(st.text())
def test_any_page_is_a_reading_or_none(page: str) -> None:
    """No page of whatever server raises."""
    assert read_metrics(page) is None
    assert read_metrics("vllm:num_requests_running NaN\n" + page) is None


def test_values_that_are_no_counts_are_passed_over() -> None:
    """NaN, infinities and negative numbers never reach whoever divides by them."""
    page = _VLLM + 'vllm:num_requests_running{engine="2"} NaN\nvllm:num_requests_waiting{engine="2"} -3\n'
    assert read_metrics(page) == read_metrics(_VLLM)


def test_absurd_values_are_none():
    """What no engine can mean is left out: sums and files would not hold it."""
    page = "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:generation_tokens_total "
    for value in ("NaN", "+Inf", "-1", "1e308"):
        reading = read_metrics(page + value)
        assert reading is not None
        assert reading.generation_tokens == 0
