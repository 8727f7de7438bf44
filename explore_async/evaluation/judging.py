"""The library function that has judges compare two datasets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from explore_async.config.given import as_list
from explore_async.config.load import load_comparison
from explore_async.curation.collections.open import DataSource, collection_of
from explore_async.evaluation.comparison import ComparisonResult, compare
from explore_async.running.observer import Observer
from explore_async.running.start import Mode, in_new_loop


async def judge_data(
    a: DataSource,
    b: DataSource,
    out: str | os.PathLike[str],
    *,
    endpoint: str | Sequence[str] | None = None,
    judges: str | Sequence[str] = (),
    concurrency: int | None = None,
    by: str | None = None,
    seed: int | None = None,
    overrides: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    mode: Mode = "resume",
    observer: Observer | None = None,
    handle_signals: bool = False,
) -> ComparisonResult:
    """Has models compare the answers of `a` and `b` to each question that both answer, into the directory `out`, or
    goes on with that.

    `judges`: the models; without any, the one that the endpoint serves. `by`: the column with the class of a question.
    The other arguments are those of `answer`. Raises an ExploreError where it cannot begin or go on.
    """
    settings = load_comparison(
        overrides, endpoint=endpoint, concurrency=concurrency, judges=as_list(judges) or None, by=by, seed=seed
    )
    one, other = collection_of(a, columns), collection_of(b, columns)
    return await compare(one, other, settings, out, mode=mode, observer=observer, handle_signals=handle_signals)


def judge_sync(
    a: DataSource,
    b: DataSource,
    out: str | os.PathLike[str],
    *,
    endpoint: str | Sequence[str] | None = None,
    judges: str | Sequence[str] = (),
    concurrency: int | None = None,
    by: str | None = None,
    seed: int | None = None,
    overrides: str | Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    mode: Mode = "resume",
    observer: Observer | None = None,
) -> ComparisonResult:
    """`judge` for a program without an event loop; see `run_sync`."""
    return in_new_loop(
        lambda: judge_data(
            a,
            b,
            out,
            endpoint=endpoint,
            judges=judges,
            concurrency=concurrency,
            by=by,
            seed=seed,
            overrides=overrides,
            columns=columns,
            mode=mode,
            observer=observer,
        ),
        "judge",
    )
