"""The speed of models on GPUs, from published measurements of vLLM. Each row has the figures as they were published.

What is not published is estimated from the shape of the model and the data sheet of the GPU: the time to read a prompt,
and the tokens that fit into the memory that the weights leave of nine tenths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from explore_async.serving.simulated.engine import Profile


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A data sheet: bytes per second, operations per second in bf16 without sparsity, bytes."""

    bandwidth: float
    flops: float
    memory: float


_H100: Final = _Gpu(3.35e12, 990e12, 80e9)
_A100: Final = _Gpu(2.04e12, 312e12, 80e9)
_L40S: Final = _Gpu(0.864e12, 362e12, 48e9)
_RTX_6000_ADA: Final = _Gpu(0.96e12, 364e12, 48e9)
_RTX_4090: Final = _Gpu(1.008e12, 165e12, 24e9)
_RTX_5090: Final = _Gpu(1.792e12, 210e12, 32e9)

_USABLE: Final = 0.9
_ANCHOR_SLOTS: Final = 256


def _h100(tokens_per_s: float, *, weights: float, active: float, kv_bytes: float) -> Profile:
    """One H100 that makes `tokens_per_s` output tokens per second at 256 requests, as datatrove publishes it.

    A single request waits for the active weights (billions of parameters, two bytes each, at three quarters of the
    memory's speed); a prompt token takes two operations per parameter, at half the peak speed.
    """
    step_s = 2e9 * active / (0.75 * _H100.bandwidth)
    return Profile(
        slots=_ANCHOR_SLOTS,
        step_s=step_s,
        request_s=1 / tokens_per_s - step_s / _ANCHOR_SLOTS,
        prefill_s=2e9 * active / (0.5 * _H100.flops),
        kv_tokens=_kv_tokens(_H100, weights=weights, kv_bytes=kv_bytes),
    )


def _llama_3_8b(gpu: _Gpu, *, tpot_s: float, seconds: float) -> Profile:
    """Llama 3 8B in bf16, as AccelMark publishes it: one request alone takes `tpot_s` for a token; 100 requests at
    once, with 25,600 tokens in prompts and 34,800 in completions of at most 512, take `seconds`.

    A prompt token takes two operations per parameter, at seven tenths of the peak speed.
    """
    prefill_s = 2e9 * 7.5 / (0.7 * gpu.flops)
    request_s = (seconds - 25_600 * prefill_s - 512 * tpot_s) / (34_800 - 512)
    return Profile(
        slots=_ANCHOR_SLOTS,
        step_s=tpot_s - request_s,
        request_s=request_s,
        prefill_s=prefill_s,
        kv_tokens=_kv_tokens(gpu, weights=8.03, kv_bytes=131_072),
    )


def _kv_tokens(gpu: _Gpu, *, weights: float, kv_bytes: float) -> int:
    """`weights` in billions of two bytes, `kv_bytes` of a token from the shape of the model."""
    return int((_USABLE * gpu.memory - 2e9 * weights) / kv_bytes)


PROFILES: Final = {
    # Output tokens/s per GPU with vLLM 0.15: huggingface/datatrove, examples/inference/benchmark.
    "h100-qwen3-0.6b": _h100(14_069, weights=0.6, active=0.6, kv_bytes=114_688),
    "h100-qwen3-1.7b": _h100(12_313, weights=1.7, active=1.7, kv_bytes=114_688),
    "h100-qwen3-4b": _h100(8_086, weights=4.0, active=4.0, kv_bytes=147_456),
    "h100-qwen3-8b": _h100(6_443, weights=8.2, active=8.2, kv_bytes=147_456),
    "h100-qwen3-14b": _h100(4_549, weights=7.4, active=7.4, kv_bytes=81_920),  # half of a pair of GPUs
    "h100-qwen3-30b-a3b": _h100(5_310, weights=30.5, active=3.3, kv_bytes=98_304),
    "h100-gpt-oss-20b": _h100(14_671, weights=6.9, active=1.2, kv_bytes=49_152),  # four bits a weight
    "h100-gpt-oss-120b": _h100(6_117, weights=31.0, active=1.7, kv_bytes=73_728),
    # Suite A, interactive and offline: FreedomIntelligence/AccelMark, results/verified, at 5797fc4 (May 2026).
    "h100-llama-3-8b": _llama_3_8b(_H100, tpot_s=0.00774, seconds=6.8),  # vLLM 0.7.3
    "a100-llama-3-8b": _llama_3_8b(_A100, tpot_s=0.01077, seconds=8.9),  # 80 GB, vLLM 0.20.1
    "rtx-6000-ada-llama-3-8b": _llama_3_8b(_RTX_6000_ADA, tpot_s=0.01921, seconds=19.2),  # vLLM 0.7.3
    # The chip of the RTX 6000 Ada with slower memory: its figures, in the proportion of the memory's speeds.
    "l40s-llama-3-8b": _llama_3_8b(_L40S, tpot_s=0.01921 * 0.96 / 0.864, seconds=19.2 * 0.96 / 0.864),
    "rtx-4090-llama-3-8b": _llama_3_8b(_RTX_4090, tpot_s=0.02013, seconds=24.1),  # vLLM 0.7.3
    "rtx-5090-llama-3-8b": _llama_3_8b(_RTX_5090, tpot_s=0.01022, seconds=10.0),  # vLLM 0.19.1
}
