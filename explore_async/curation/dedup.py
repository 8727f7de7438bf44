"""Near-duplicates among texts in memory: each text is compared with the texts kept before it. Pure: knows no files."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Generic, TypeVar

import numpy as np

from explore_async.config.given import as_list
from explore_async.curation.common_options import as_names, check_threshold, tokenizer_named
from explore_async.curation.files.fields import FieldError, group_of, text_of
from explore_async.curation.tokenizers import check_tokenizer, tokenizer_of_sources
from explore_async.errors import ConfigError, DataError
from rouge_kernels import IDENTICAL, Admission, DedupIndex

BATCH = 8192
"""Texts judged at once: enough to keep all threads busy, few enough to show progress and to stop soon."""
_FEW = 4
"""The most kept texts of a group that has no index of its own. Each batch with texts of the group makes one for it."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Duplicate(Generic[Item]):
    """A dropped item, and the text that it duplicates."""

    index: int
    """Its position among the items, from 0."""
    item: Item
    score: float
    """ROUGE-L F with the nearest text, above the threshold."""
    nearest: int | None
    """Position of the nearest item; None where the nearest text is one of `against`."""
    nearest_text: str


@dataclass(frozen=True, slots=True)
class DedupResult(Generic[Item]):
    """The items that were kept, in their order, and the others with their evidence."""

    kept: tuple[Item, ...]
    kept_indices: tuple[int, ...]
    """Positions of the kept items, from 0."""
    dropped: tuple[Duplicate[Item], ...]


def dedup(
    items: Iterable[Item],
    threshold: float | None = 0.7,
    *,
    fields: str | Sequence[str] = ("instruction",),
    tokenizer: str = "auto",
    group_by: str | None = None,
    against: str | Iterable[str] = (),
) -> DedupResult[Item]:
    """Drops each item whose ROUGE-L F with an item kept before it is above the threshold, as `dedup_files` does.

    Items are texts, or rows of which `fields` are compared (several are joined by line breaks). A row is a dictionary,
    or an object with such attributes, as the examples of a dataset.

    A threshold of None drops only texts with the same tokens. `group_by`: a column; rows are compared within equal
    values only. `against`: texts that count as kept before the first item. `tokenizer`: rouge, unicode, or auto, which
    takes the one that the letters of the texts call for. Raises ConfigError for the options, DataError for a row
    without the fields.

    >>> result = dedup(["Plant a tree.", "Plant a tree, please.", "Sing a song."])
    >>> result.kept
    ('Plant a tree.', 'Sing a song.')
    >>> [(duplicate.index, duplicate.nearest, round(duplicate.score, 2)) for duplicate in result.dropped]
    [(1, 0, 0.86)]
    """
    if isinstance(items, str):
        raise ConfigError("dedup compares the texts of a list, and this is one text")
    fields = as_names(fields, "fields")
    known = as_list(against)
    if known and group_by is not None:
        raise ConfigError("against and group_by exclude one another: known texts have no groups")
    check_tokenizer(tokenizer)
    listed = list(items)
    texts, groups = _texts_and_groups(listed, fields, group_by)
    new_index = index_factory(threshold, tokenizer_of_sources(tokenizer, [texts, known]))
    nearest, score = (
        _nearest(new_index, texts, known) if group_by is None else _nearest_of_group(new_index, texts, groups)
    )
    kept = [position for position, ordinal in enumerate(nearest) if ordinal < 0]
    dropped = []
    for position, ordinal in enumerate(nearest):
        if ordinal >= 0:
            own = kept[ordinal - len(known)] if ordinal >= len(known) else None
            text = known[ordinal] if own is None else texts[own]
            dropped.append(Duplicate(position, listed[position], score[position], own, text))
    return DedupResult(tuple(listed[position] for position in kept), tuple(kept), tuple(dropped))


def _nearest(
    new_index: Callable[[], DedupIndex], texts: Sequence[str], known: Sequence[str]
) -> tuple[list[int], list[float]]:
    """For each text the ordinal of the kept text that it duplicates (known texts first; -1: none), and the score."""
    index = new_index()
    for begin in range(0, len(known), BATCH):
        index.add(known[begin : begin + BATCH])
    return _joined(index.admit(texts[begin : begin + BATCH]) for begin in range(0, len(texts), BATCH))


def _nearest_of_group(
    new_index: Callable[[], DedupIndex], texts: Sequence[str], groups: Sequence[str]
) -> tuple[list[int], list[float]]:
    index = GroupedIndex(new_index)
    cuts = range(0, len(texts), BATCH)
    return _joined(index.admit(texts[begin : begin + BATCH], groups[begin : begin + BATCH]) for begin in cuts)


def _joined(admissions: Iterable[Admission]) -> tuple[list[int], list[float]]:
    nearest: list[int] = []
    score: list[float] = []
    for admission in admissions:
        nearest += admission.nearest.tolist()
        score += admission.score.tolist()
    return nearest, score


def _texts_and_groups(
    items: Sequence[object], fields: Sequence[str], group_by: str | None
) -> tuple[list[str], list[str]]:
    texts, groups = [], []
    for position, item in enumerate(items):
        row = _row_of(item, fields, group_by)
        try:
            texts.append(text_of(row, fields))
            groups.append("" if group_by is None else group_of(row, group_by))
        except FieldError as error:
            raise DataError(f"item {position}: {error}") from error
    return texts, groups


def _row_of(item: object, fields: Sequence[str], group_by: str | None) -> Mapping[str, Any]:
    if isinstance(item, str):
        return {fields[0]: item}
    if isinstance(item, Mapping):
        return item
    names = [*fields, *([] if group_by is None else [group_by])]
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


def index_factory(threshold: float | None, tokenizer: str) -> Callable[[], DedupIndex]:
    """Makes empty indexes; a threshold of None takes only texts with the same tokens for duplicates."""
    tokenize = tokenizer_named(tokenizer)
    if threshold is None:
        return lambda: DedupIndex(IDENTICAL, tokenize)
    check_threshold(threshold)
    return lambda: DedupIndex(threshold, tokenize)


class GroupedIndex:
    """Owns the kept texts of each group: a text is compared with those of its own group only.

    `nearest` is a position among the kept texts of all groups, in the order in which they came. An index takes
    some 10 kB. So a group with few texts has one only while a batch is judged, and only its texts stay in memory.
    """

    def __init__(self, new_index: Callable[[], DedupIndex]) -> None:
        self._new_index = new_index
        self._indexes: dict[str, DedupIndex] = {}
        self._texts: dict[str, list[str]] = {}
        self._ordinals: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def admit(self, texts: Sequence[str], groups: Sequence[str]) -> Admission:
        """Decides as if each text were admitted by itself, in whatever calls they come."""
        members: defaultdict[str, list[int]] = defaultdict(list)
        for i, group in enumerate(groups):
            members[group].append(i)
        nearest, lcs = (np.full(len(texts), -1, dtype=np.int64) for _ in range(2))
        score = np.full(len(texts), np.nan, dtype=np.float64)
        for group, where in members.items():
            of_group = [texts[i] for i in where]
            if len(where) == 1 and group not in self._ordinals:  # the first text of a group is kept
                self._texts[group] = of_group
                continue
            admission = self._admitted(group, of_group)
            nearest[where], lcs[where], score[where] = admission.nearest, admission.lcs, admission.score
        kept = nearest < 0
        ordinals = self._size - 1 + np.cumsum(kept)
        self._size += int(np.count_nonzero(kept))
        for i, group in enumerate(groups):
            of_kept = self._ordinals[group]
            if kept[i]:
                of_kept.append(int(ordinals[i]))
            else:
                nearest[i] = of_kept[nearest[i]]
        return Admission(kept=kept, nearest=nearest, lcs=lcs, score=score)

    def _admitted(self, group: str, texts: Sequence[str]) -> Admission:
        if (index := self._indexes.get(group)) is not None:
            return index.admit(texts)
        few = self._texts.pop(group, [])
        index = self._new_index()
        index.add(few)
        admission = index.admit(texts)
        few += compress(texts, admission.kept.tolist())
        if len(few) > _FEW:
            self._indexes[group] = index
        else:
            self._texts[group] = few
        return admission
