"""`dedup --engine ray`: near-duplicates are found by Ray Data, in partitions that need not fit into one memory.

The texts are read twice: first to be encoded and spread, and then for their verdicts. This process holds a few numbers
for each text, the tokens, and the pairs of near-duplicates; the texts are in Ray's object store, which goes to the disk
when memory is short.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from explore_async.curation.common_options import tokenizer_named
from explore_async.curation.pair_graph import Ints, first_come, homes, pairs_in, rank_of
from explore_async.errors import ConfigError, ServerError
from rouge_kernels import IDENTICAL, Admission, Vocabulary

_PARTITIONS_PER_PROCESSOR = 4
_FEWEST_PARTITIONS = 16
_GROUP = 1 << 32
"""Numbers of tokens of one group and those of the next are this far apart: texts of two groups share none."""


class RayDedup:
    """Takes in all texts in their order, decides, and then tells the verdicts in the same order, like `DedupIndex`."""

    def __init__(self, threshold: float | None, tokenizer: str, partitions: int | None = None) -> None:
        """`partitions`: any number leads to the same verdicts; None takes four for each processor of the cluster."""
        self._threshold = IDENTICAL if threshold is None else threshold
        self._vocabulary = Vocabulary(tokenizer_named(tokenizer))
        self._partitions = partitions
        self._counts = np.zeros(0, dtype=np.int64)
        self._groups: dict[str, int] = {}
        self._lengths: list[Ints] = []
        self._length: Ints = np.zeros(0, dtype=np.int64)
        """Of all texts, in tokens."""
        self._blocks: list[Any] = []
        self._known = self._taken = self._told = 0
        self._verdicts: Admission
        self._places: Ints

    def take(self, texts: Sequence[str], groups: Sequence[str], *, known: bool = False) -> None:
        """Takes in texts. Those that are `known` count as kept, and come first."""
        import pyarrow as pa
        import ray

        encoded = self._vocabulary.encode(texts)
        seen = np.bincount(encoded.ids, minlength=len(self._vocabulary)).astype(np.int64)
        seen[: len(self._counts)] += self._counts
        self._counts = seen
        self._lengths.append(np.diff(encoded.starts))
        block = pa.table(
            {
                "ordinal": np.arange(self._taken, self._taken + len(texts)),
                "group": np.array([self._groups.setdefault(group, len(self._groups)) for group in groups], np.int64),
                "tokens": [encoded.ids[begin:end] for begin, end in pairwise(encoded.starts.tolist())],
            }
        )
        self._blocks.append(ray.put(block))
        self._taken += len(texts)
        self._known += len(texts) if known else 0

    def decide(self) -> None:
        """Finds all pairs, and decides about each text."""
        self._length = np.concatenate([self._length, *self._lengths])
        self._verdicts = first_come(self._length, self._known, self._pairs())
        self._places = np.cumsum(self._verdicts.kept) - 1
        self._blocks.clear()

    def _pairs(self) -> Ints:
        import ray

        processors = int(ray.cluster_resources().get("CPU", 1))
        partitions = self._partitions or max(_FEWEST_PARTITIONS, _PARTITIONS_PER_PROCESSOR * processors)
        rank, threshold = ray.put(rank_of(self._counts)), self._threshold

        def spread(block: Any) -> Any:
            return _spread(block, ray.get(rank), threshold, partitions)

        def meet(block: Any) -> Any:
            return _meet(block, threshold)

        if not self._taken:
            return np.zeros((0, 3), dtype=np.int64)
        spread_texts = ray.data.from_arrow_refs(self._blocks).map_batches(spread, batch_format="pyarrow")
        found = spread_texts.groupby("partition").map_groups(meet, batch_format="pyarrow")
        parts = [
            np.column_stack([batch[name] for name in ("first", "second", "lcs")])
            for batch in found.iter_batches(batch_format="numpy")
            if len(batch.get("first", ()))
        ]
        return np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.int64)

    @property
    def tokens(self) -> int:
        """The tokens of the texts that were told so far."""
        return int(self._length[: self._told].sum())

    def add(self, texts: Sequence[str]) -> None:
        """Passes over known texts, in their order."""
        self._told += len(texts)

    def admit(self, texts: Sequence[str], _groups: Sequence[str] = ()) -> Admission:
        """The verdicts on the next texts. `nearest` is a position among the known and the kept ones."""
        part = slice(self._told, self._told + len(texts))
        self._told += len(texts)
        found = self._verdicts
        ordinals = found.nearest[part]
        nearest = np.where(ordinals < 0, -1, self._places[ordinals])
        return Admission(kept=found.kept[part], nearest=nearest, lcs=found.lcs[part], score=found.score[part])


def _spread(block: Any, rank: Ints, threshold: float, partitions: int) -> Any:
    """A row for each partition of each text: the text as words that stand for its tokens, of its group alone."""
    import pyarrow as pa

    rows: dict[str, list[Any]] = {"partition": [], "ordinal": [], "text": []}
    columns = (block[name].to_numpy(zero_copy_only=False) for name in ("ordinal", "group", "tokens"))
    for ordinal, group, tokens in zip(*columns, strict=True):
        if not len(found := homes(tokens, rank, threshold, partitions)):
            continue
        text = " ".join(map(str, (tokens.astype(np.int64) + group * _GROUP).tolist()))
        rows["partition"] += found.tolist()
        rows["ordinal"] += [ordinal] * len(found)
        rows["text"] += [text] * len(found)
    types = (("partition", pa.int64()), ("ordinal", pa.int64()), ("text", pa.large_string()))
    return pa.table({name: pa.array(rows[name], kind) for name, kind in types})


def _meet(block: Any, threshold: float) -> Any:
    """The pairs of one partition."""
    import pyarrow as pa

    found = pairs_in(block["ordinal"].to_numpy(), block["text"].to_pylist(), threshold)
    return pa.table(dict(zip(("first", "second", "lcs"), found.T.copy(), strict=True)))


@contextmanager
def ray_at_hand() -> Iterator[None]:
    """Joins the cluster of RAY_ADDRESS, or starts Ray on this machine and ends it. Raises ConfigError without ray."""
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'explore-async[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    began = not ray.is_initialized()
    if began:
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    except ray.exceptions.RayError as error:
        what = str(error).strip().splitlines()[-1]
        raise ServerError(
            f"Ray has not ended its work: {what}. explore_async has to be installed on each of its machines"
        ) from error
    finally:
        if began:
            ray.shutdown()
