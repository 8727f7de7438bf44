"""The examples that an export takes: which of them are sampled, held out, or left out. Decided by id before any is
written, so that each later reading of the source finds the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from explore_async.curation.collections.collection import Collection, ExampleRow, Mark
from explore_async.curation.collections.conversations import asked_of
from explore_async.curation.collections.marks import mark_of
from explore_async.curation.files.batching import batches, characters_in
from explore_async.curation.sampling import Method, draw_sample, farthest_first, hold_out
from explore_async.errors import ConfigError
from rouge_kernels import TOKENIZERS, DedupIndex

SplitBy: TypeAlias = Literal["example", "task"]
SplitName: TypeAlias = Literal["train", "validation"]
Marked: TypeAlias = Literal["not-bad", "good", "any"]
"""The examples that an export takes, by the marks of readers."""
SPLIT_THRESHOLD = 0.7
"""ROUGE-L F with a validation example above which an example is left out of training."""
BATCH = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample of `size` examples. `cap`: the number of examples above which a task gets no more weight."""

    size: int
    method: Method
    cap: int
    seed: int


@dataclass(frozen=True, slots=True)
class Split:
    """A validation part of this share of the examples; 0 is none."""

    share: float
    by: SplitBy
    seed: int


@dataclass(frozen=True, slots=True)
class Selection:
    """The split of each example of a source."""

    source: Collection
    sample: frozenset[str] | None
    """Ids of the sampled examples; None takes all."""
    validation: frozenset[str]
    near_validation: frozenset[str]
    """Ids that are left out of training, because their instructions are too near to one of validation."""
    in_pruned_tasks: int
    """Number of examples that are left out because their task is pruned."""
    by_mark: frozenset[str]
    """Ids that are left out because of their mark."""
    available: int | None
    """Number of examples that a sample was drawn from; None without a sample."""

    def split_of(self, example: ExampleRow) -> SplitName | None:
        """None for an example that is left out."""
        if example["task_id"] in self.source.pruned or example["id"] in self.by_mark:
            return None
        if self.sample is not None and example["id"] not in self.sample:
            return None
        if example["id"] in self.validation:
            return "validation"
        return None if example["id"] in self.near_validation else "train"

    def examples(self, split: SplitName) -> Iterator[ExampleRow]:
        return (example for example in self.source.examples() if self.split_of(example) == split)

    def count_marks(self) -> Counter[str]:
        """Number of the examples that are taken with each mark."""
        if not (marks := self.source.marks):
            return Counter()
        found = (mark_of(example, marks) for example in self.source.examples() if self.split_of(example) is not None)
        return Counter(mark.mark for mark in found if mark is not None)


def select(source: Collection, sample: Sample | None, split: Split, marked: Marked) -> Selection:
    """Reads the source once for each thing to decide. Holds ids, and the texts of a diverse sample or of validation.

    Raises ConfigError where the share is too small for one validation example.
    """
    pruned = source.pruned
    in_pruned_tasks = sum(example["task_id"] in pruned for example in source.examples()) if pruned else 0
    by_mark = frozenset(left_out_by_mark(source, marked))
    taken = Selection(source, None, frozenset(), frozenset(), in_pruned_tasks, by_mark, None)
    if sample is not None:
        chosen, available = _sampled(taken.examples("train"), sample)
        taken = replace(taken, sample=chosen, available=available)
    if not split.share:
        return taken
    ids = ((str(example["id"]), str(example["task_id"])) for example in taken.examples("train"))
    validation = frozenset(hold_out(ids, split.share, split.by, split.seed))
    if not validation:
        raise ConfigError(f"--validation {split.share}: there are too few examples to hold one out")
    parted = replace(taken, validation=validation)
    return replace(parted, near_validation=frozenset(near_to(parted.examples("validation"), parted.examples("train"))))


def left_out_by_mark(source: Collection, marked: Marked) -> Iterator[str]:
    """Ids of the examples outside of pruned tasks that are not taken because of their mark."""
    marks, pruned = source.marks, source.pruned
    if marked == "any" or (marked == "not-bad" and not marks):
        return
    for example in source.examples():
        if example["task_id"] not in pruned and not _is_wanted(mark_of(example, marks), marked):
            yield example["id"]


def good_not_kept(source: Collection) -> int:
    """The number of good marks on what is no example of the source: it was dropped, or has another text by now."""
    good = {example_id for example_id, mark in source.marks.items() if mark.mark == "good"}
    if good:
        good -= {str(example["id"]) for example in source.examples() if mark_of(example, source.marks) is not None}
    return len(good)


def _is_wanted(mark: Mark | None, marked: Marked) -> bool:
    if marked == "good":
        return mark is not None and mark.mark == "good"
    return mark is None or mark.mark != "bad"


def near_to(held_out: Iterable[ExampleRow], examples: Iterable[ExampleRow]) -> Iterator[str]:
    """Ids of the examples that are near to one that is held out, by all that the user said. A text without tokens is
    near to an equal one.
    """
    tokenize = TOKENIZERS["unicode"]
    index = DedupIndex(SPLIT_THRESHOLD, tokenize)
    without_tokens: set[str] = set()
    for batch in batches(held_out, BATCH, characters_in):
        texts = [asked_of(example) for example in batch]
        index.add(texts)
        without_tokens.update(text for text in texts if text and not tokenize(text))
    for batch in batches(examples, BATCH, characters_in):
        texts = [asked_of(example) for example in batch]
        is_far = index.look_up(texts).kept
        for example, text, far in zip(batch, texts, is_far, strict=True):
            if not far or text in without_tokens:
                yield str(example["id"])


def _sampled(examples: Iterator[ExampleRow], sample: Sample) -> tuple[frozenset[str], int]:
    """The ids of the sample, and the number of examples that it is drawn from."""
    instructions: dict[str, str] = {}
    ids: list[tuple[str, str]] = []
    for example in examples:
        ids.append((example["id"], example["task_id"]))
        if sample.method == "diverse":
            instructions[example["id"]] = example["instruction"]

    def pick(candidates: Sequence[str], wanted: int) -> list[str]:
        texts = [instructions[candidate] for candidate in candidates]
        return [candidates[place] for place in farthest_first(texts, wanted, TOKENIZERS["unicode"])]

    is_diverse = sample.method == "diverse"
    chosen = draw_sample(ids, sample.size, sample.method, sample.seed, sample.cap, pick=pick if is_diverse else None)
    return frozenset(chosen), len(ids)
