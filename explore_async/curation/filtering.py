"""`explore-async filter` and `merge`: which examples stay, judged anew by filters of one's choice. No model is asked.

ROUGE-L is greedy in the examples' order: each is compared with what was kept before it, of the whole, of its domain or
of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from explore_async.curation.candidates import Candidate, candidates
from explore_async.curation.collections.collection import Collection, Example, Node
from explore_async.curation.collections.data_directory import DataDirectory, described, writing_data
from explore_async.curation.collections.open import opened
from explore_async.curation.collections.run_data import RunData
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.filters import Corpora, quality_check
from explore_async.exploration.parsing import ExampleDraft
from explore_async.exploration.values import Demonstration, Verdict
from explore_async.settings.recipe import Filters
from rouge_kernels import TOKENIZERS

BATCH = 8192
_NO_LIMIT = 2**40
ROUGE_ONLY = Filters(
    min_instruction_words=0,
    max_instruction_words=_NO_LIMIT,
    min_output_words=0,
    max_output_words=_NO_LIMIT,
    max_repetition=1,
    refusals=False,
    placeholders=False,
    missing_inputs=False,
    copies=False,
)
"""For data that was made elsewhere: no opinion on quality, unless one is asked for."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """How a filter went. `before` counts the examples of the source, `candidates` all that was judged."""

    out: Path
    before: int
    candidates: int
    kept: int
    dropped: Mapping[str, int]
    """By reason."""


def filters_of(source: Collection, changes: Mapping[str, Any]) -> Filters:
    """The source's own filters with these changes: those of the run's recipe, or ROUGE-L alone. Raises ConfigError."""
    own = source.recipe.get("filters")
    base = dict(own) if own else ROUGE_ONLY.model_dump()
    try:
        return Filters.model_validate({**base, **changes})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"filters: {faults}") from error


def filter_collection(
    source: Collection, out: Path, changes: Mapping[str, Any], *, made_by: str = "filter", told: Callable[[int], None]
) -> Filtered:
    """Writes a data directory with what passes. `changes`: settings of `filters:`; `told` gets how many were judged."""
    filters = filters_of(source, changes)
    seeds = _seeds(source)
    with writing_data(out, [source]) as directory:
        judge = Judge(filters, _tokenizer(source, filters), seeds, directory)
        trees = source.trees()
        for batch in _batches(candidates(source)):
            judge.take(batch)
            told(judge.judged)
        description = described(made_by, [source], {"filters": filters.model_dump(mode="json")})
        directory.finish(trees, description, pruned=source.pruned)
        before = sum(_kept(root) for root in trees)
        return Filtered(out, before, judge.judged, directory.kept.total(), dict(directory.reasons))


def merge_collections(
    sources: Sequence[Collection], out: Path, filters: Filters, *, told: Callable[[int], None]
) -> Filtered:
    """Writes one data directory: the trees side by side, every example with the source and the id that it had."""
    names = _distinct([source.name for source in sources])
    with writing_data(out, sources) as directory:
        all_trees = [source.trees() for source in sources]
        no_seeds: list[list[str]] = [[] for trees in all_trees for _ in trees]
        judge = Judge(filters, _tokenizer(sources[0], filters), no_seeds, directory)
        forest: list[Node] = []
        for source, name, trees in zip(sources, names, all_trees, strict=True):
            numbers = {root["id"]: str(len(forest) + index) for index, root in enumerate(trees)}
            forest += [_renumbered(root, numbers) for root in trees]
            for batch in _batches(_moved(source, name, numbers)):
                judge.take(batch)
                told(judge.judged)
        settings = {"filters": filters.model_dump(mode="json"), "names": names}
        directory.finish(forest, described("merge", sources, settings))
        return Filtered(out, judge.judged, judge.judged, directory.kept.total(), dict(directory.reasons))


def reparse(path: Path, out: Path, *, told: Callable[[int], None]) -> Filtered:
    """The examples of a run's stored answers, read and filtered anew. DataError where it has none."""
    run = RunData.read(path)
    if run.completions is None or not run.is_run:
        raise DataError(f"{path}: there are no stored answers (completions.sqlite) to read")
    return filter_collection(run, out, {}, made_by="reparse", told=told)


def merge_files(
    paths: Sequence[Path],
    out: Path,
    *,
    threshold: float,
    tokenizer: str,
    columns: Mapping[str, str],
    told: Callable[[int], None],
) -> Filtered:
    """`merge_collections` of whatever lies there; `columns` are those of files of rows."""
    if len(paths) < 2:  # noqa: PLR2004 - two or more
        raise ConfigError("merge takes two sources or more")
    if tokenizer not in TOKENIZERS:
        raise ConfigError(f"--tokenizer {tokenizer}: it is one of {', '.join(TOKENIZERS)}")
    if not 0 < threshold <= 1:
        raise ConfigError(f"--threshold {threshold}: it lies above 0 and is 1 at most")
    sources = [opened(path, None if path.is_dir() else columns) for path in paths]
    filters = ROUGE_ONLY.model_copy(update={"threshold": threshold, "tokenizer": tokenizer})
    return merge_collections(sources, out, filters, told=told)


@dataclass(slots=True)
class Judge:
    """Owns what was kept so far, and hands every candidate on to the directory with its verdict."""

    filters: Filters
    tokenizer: str
    seeds: Sequence[Sequence[str]]
    directory: DataDirectory
    judged: int = 0
    _corpora: Corpora = field(init=False)
    _judges_quality: bool = field(init=False)
    _reason: Callable[[ExampleDraft, Sequence[Demonstration]], str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._corpora = Corpora(self.filters, self.tokenizer, self.seeds)
        compared = {"threshold", "task_threshold", "scope", "tokenizer"}
        self._judges_quality = self.filters.model_dump(exclude=compared) != ROUGE_ONLY.model_dump(exclude=compared)
        self._reason = quality_check(self.filters, TOKENIZERS[self.tokenizer])

    def take(self, batch: Sequence[Candidate]) -> None:
        verdicts = [self._quality(one) for one in batch]
        groups: dict[int, list[int]] = {}
        for position, (one, verdict) in enumerate(zip(batch, verdicts, strict=True)):
            if verdict is None:
                groups.setdefault(id(self._corpora.of(one.task_id)), []).append(position)
        for members in groups.values():
            texts = [(str(example["instruction"]), str(example["id"])) for _, example in _of(batch, members)]
            admitted = self._corpora.of(batch[members[0]].task_id).admit_all(texts)
            for position, verdict in zip(members, admitted, strict=True):
                verdicts[position] = verdict
        for one, verdict in zip(batch, verdicts, strict=True):
            assert verdict is not None
            self._write(one, verdict)
        self.judged += len(batch)

    def _quality(self, one: Candidate) -> Verdict | None:
        if one.example is None:
            return Verdict(kept=False, reason=one.reason)
        if not self._judges_quality:  # which takes longer than ROUGE-L
            return None
        draft = ExampleDraft(one.example["instruction"], one.example["input"], one.example["output"])
        shown = (Demonstration("", "", draft.output),) if one.copied else ()
        reason = self._reason(draft, shown)
        return None if reason is None else Verdict(kept=False, reason=reason)

    def _write(self, one: Candidate, verdict: Verdict) -> None:
        if verdict.kept:
            assert one.example is not None
            self.directory.keep(one.example)
        else:
            self.directory.drop(one.task_id, verdict.reason)
        line: dict[str, Any] = {"what": "example", "id": None, "task_id": one.task_id}
        if one.example is None:
            line["excerpt"] = one.excerpt
        else:
            line["id"] = one.example["id"]
            if not verdict.kept:
                line["instruction"] = one.example["instruction"]
        line |= {"kept": verdict.kept, "reason": verdict.reason}
        if verdict.nearest is not None:
            line |= {"score": verdict.score, "nearest": verdict.nearest}
        self.directory.decide({**line, "request": one.request})


def _of(batch: Sequence[Candidate], members: Sequence[int]) -> Iterator[tuple[int, Example]]:
    for position in members:
        example = batch[position].example
        assert example is not None
        yield position, example


def _batches(ones: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    waiting = iter(ones)
    while batch := list(islice(waiting, BATCH)):
        yield batch


def _seeds(source: Collection) -> list[list[str]]:
    """The seed instructions of each domain, which a run's examples are compared with too."""
    domains = source.recipe.get("domains", [])
    seeds = [[one["instruction"] for one in domain.get("examples", [])] for domain in domains]
    return seeds or [[] for _ in source.trees()]


def _tokenizer(source: Collection, filters: Filters) -> str:
    """As the recipe of a run decides it."""
    if filters.tokenizer != "auto":
        return filters.tokenizer
    language = source.recipe.get("language", "English")
    return "rouge" if str(language).casefold() in {"english", "en"} else "unicode"


def _kept(node: Node) -> int:
    return int(node["kept"]) + sum(_kept(child) for child in node["children"])


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, one = 1, name
        while one in found:
            number += 1
            one = f"{name} {number}"
        found.append(one)
    return found


def _renumbered(node: Node, numbers: Mapping[str, str]) -> dict[str, Any]:
    children = [_renumbered(child, numbers) for child in node["children"]]
    return {**node, "id": _moved_id(node["id"], numbers), "children": children}


def _moved_id(task_id: str, numbers: Mapping[str, str]) -> str:
    root, dot, rest = task_id.partition(".")
    return f"{numbers[root]}{dot}{rest}"


def _moved(source: Collection, name: str, numbers: Mapping[str, str]) -> Iterator[Candidate]:
    pruned = source.pruned
    for example in source.examples():
        if example["task_id"] in pruned:
            continue
        old = str(example["id"])
        task_id = _moved_id(example["task_id"], numbers)
        rest = old.removeprefix(str(example["task_id"]))
        moved = {**example, "id": f"{task_id}{rest}" if rest != old else f"{task_id}-{old}", "task_id": task_id}
        yield Candidate(task_id, {"source": name, "source_id": old, **moved}, example.get("request"))
