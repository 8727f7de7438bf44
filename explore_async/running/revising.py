"""The library functions that revise examples which exist: `answer` and `rate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec

from explore_async.config.load import load_revision
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.running.observer import Observer
from explore_async.running.result import RunResult
from explore_async.running.revision import revise
from explore_async.running.start import Mode, in_new_loop

_P = ParamSpec("_P")


async def answer_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    endpoint: str | Sequence[str] | None = None,
    model: str | None = None,
    concurrency: int | None = None,
    answers: int | None = None,
    vote: bool = False,
    unfiltered: bool = False,
    template: Literal["chat", "alpaca"] = "chat",
    system: str | None = None,
    judge: bool = False,
    threshold: float | None = None,
    seed: int | None = None,
    overrides: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
) -> RunResult:
    """Has a model answer all instructions of the source anew, into the directory `out`, or goes on with that.

    `answers` to each instruction; `vote`: the output has the final answer of most of them. `unfiltered`: no filter of
    outputs drops an answer. `template`: alpaca asks without a chat template. `system`: their system prompt, in place of
    that of each row. `judge`: each answer is scored; one with a score below `threshold` is dropped. `overrides` are
    those of `--set`, one or several. The other arguments are those of `load`, `filter` and `run`. Raises an
    ExploreError where it cannot begin or go on.
    """
    collection = collection_of(source, columns)
    settings = load_revision(
        "answer",
        collection.recipe,
        overrides,
        endpoint=endpoint,
        concurrency=concurrency,
        model=model,
        seed=seed,
        answers_per_instruction=answers,
        vote=vote or None,
        unfiltered=unfiltered,
        alpaca=template == "alpaca",
        system=system,
        judge={"threshold": threshold} if judge or threshold is not None else None,
    )
    return await revise(collection, settings, out, mode=mode, observer=observer, handle_signals=handle_signals)


async def rate_data(
    source: DataSource,
    out: str | os.PathLike[str],
    *,
    endpoint: str | Sequence[str] | None = None,
    model: str | None = None,
    concurrency: int | None = None,
    threshold: float | None = None,
    seed: int | None = None,
    overrides: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
) -> RunResult:
    """Has a model score all answers of the source, into the directory `out`, or goes on with that; see `answer`."""
    collection = collection_of(source, columns)
    settings = load_revision(
        "rate",
        collection.recipe,
        overrides,
        endpoint=endpoint,
        concurrency=concurrency,
        model=model,
        seed=seed,
        judge={"threshold": threshold},
    )
    return await revise(collection, settings, out, mode=mode, observer=observer, handle_signals=handle_signals)


def _sync(work: Callable[_P, Coroutine[Any, Any, RunResult]], name: str) -> Callable[_P, RunResult]:
    @wraps(work)
    def to_end(*args: _P.args, **kwargs: _P.kwargs) -> RunResult:
        return in_new_loop(lambda: work(*args, **kwargs), name)

    return to_end


answer_sync = _sync(answer_data, "answer")
"""`answer` for a program without an event loop; see `run_sync`."""
rate_sync = _sync(rate_data, "rate")
"""`rate` for a program without an event loop; see `run_sync`."""
