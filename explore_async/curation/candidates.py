"""The examples that a filter judges: of a run all that its completions hold, kept or not; of other data all examples.

The order is that of the run's commits. Completions that the run did not use come last: the surplus of tasks that had
their quota, and requests that were in flight at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, Node
from explore_async.errors import DataError
from explore_async.exploration.kinds import KINDS, brings_examples
from explore_async.exploration.parsing import Unreadable, parse_examples, parse_instructions
from explore_async.exploration.values import SOURCE, Completion, Demonstration
from explore_async.storage.completions import StoredReader
from explore_async.storage.rows import StoredRequest

_COMPLETIONS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example to judge. `example` is None for an item of a completion that could not be read, for this `reason`."""

    task_id: str
    example: ExampleRow | None
    request: str | None
    shown: Sequence[Demonstration] = ()
    """Demonstrations in the prompt of its request, as far as its output may repeat them."""
    reason: str = ""
    excerpt: str = ""
    late: str = ""
    """The reason to drop it although its instruction is new: no answer passes, or the judge's scores are too low."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Said beside that reason."""
    is_shorter: bool = False
    """Its conversation ends before a turn that has no stored outcome."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """Said beside any verdict on it."""
    alone: bool = False
    """Its instruction is judged alone, as its answers have been judged."""


def read_candidates(source: Collection) -> Iterator[Candidate]:
    """The items of a run's completions as this version's parser reads them; of other data the examples. Of a run with
    requests about each instruction, the instructions: see `finishing_again`.
    """
    if source.is_run and source.completions is not None:
        yield from _reparsed(source)
        return
    for example in source.examples():
        yield Candidate(example["task_id"], example, example.get("request"))


def _reparsed(run: Collection) -> Iterator[Candidate]:
    assert run.completions is not None
    paths = {task_id: path for root in run.trees() for task_id, path in _paths(root)}
    prefixes, sources = _committed(run)
    with StoredReader(run.completions) as reader:
        keys = (
            *prefixes,
            *(key for kind in filter(brings_examples, KINDS) for key in reader.keys(kind) if key not in prefixes),
        )
        waiting = iter(keys)
        while some := list(islice(waiting, _COMPLETIONS_AT_ONCE)):
            by_key = reader.get_many(some)
            for key in some:
                if key not in by_key:
                    raise DataError(f"{run.completions}: the completion {key} that decisions.jsonl names is not there")
                stored = by_key[key]
                if (
                    stored.task_id in paths
                ):  # else it came from a recipe whose tree had other tasks, or is another shard's
                    yield from _items(run, stored, prefixes.get(key), paths[stored.task_id], sources.get(key, {}))


def _items(
    run: Collection, stored: StoredRequest, prefix: str | None, path: list[str], source: Mapping[str, str]
) -> Iterator[Candidate]:
    if not brings_examples(stored.kind) or not isinstance(stored.outcome, Completion):
        return
    prompt = "\n".join(message["content"] for message in stored.question["messages"])
    alone = run.recipe.get("responses") == "separate"
    parse = parse_instructions if alone else parse_examples
    seeds = [seed for seed in _seeds(run, stored.task_id) if _is_in(prompt, seed.instruction)] if alone else ()
    for index, item in enumerate(parse(stored.outcome, run.recipe.get("answer_format", "json"))):
        if isinstance(item, Unreadable):
            yield Candidate(stored.task_id, None, stored.key, reason=item.reason, excerpt=item.excerpt)
            continue
        example = {
            "id": f"{prefix or f'{stored.task_id}-{stored.key[:12]}'}.{index}",
            "task_id": stored.task_id,
            "task_path": path,
            "instruction": item.instruction,
            "input": item.input,
            "output": "" if alone else item.output,
            **source,
            "request": stored.key,
        }
        copied = not alone and _is_in(prompt, item.output)
        shown = (Demonstration("", "", item.output),) if copied else seeds
        yield Candidate(stored.task_id, example, stored.key, shown, alone=alone)


def _is_in(prompt: str, text: str) -> bool:
    """True when the prompt has the text, as it is or in its form in prompts that ask for JSON."""
    return text in prompt or orjson.dumps(text).decode()[1:-1] in prompt


def _seeds(run: Collection, task_id: str) -> Iterator[Demonstration]:
    """The examples of the config for the domain of a task."""
    domain = run.recipe["domains"][int(task_id.partition(".")[0])]
    waiting = [domain]
    while waiting:
        place = waiting.pop()
        waiting += place.get("tasks", ())
        for seed in place.get("examples", ()):
            yield Demonstration(seed["instruction"], seed.get("input", ""), seed["output"])


def _committed(run: Collection) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The keys of the completions with judged examples, in the order of their commits, each with the prefix of the ids
    of its examples (empty if none could be read); and what the examples tell of their source, by the same keys.
    """
    prefixes: dict[str, str] = {}
    sources: dict[str, dict[str, str]] = {}
    known: set[str] = set()
    for line in run.decisions():
        key = line.get("request")
        if str(line.get("what")) in {"instruction", "example"} and isinstance(key, str):
            prefix = str(line.get("id") or "").rpartition(".")[0]
            if prefix not in known:  # else it may be the key of an answer to it
                prefixes[key] = prefixes.get(key) or prefix
                known.update(filter(None, [prefix]))
            if "passage" in line or "facets" in line:
                sources[key] = {name: line[name] for name in SOURCE if name in line}
    return prefixes, sources


def _paths(node: Node, above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    path = (*above, node["name"])
    if "shard" not in node:  # its examples are those of another shard
        yield node["id"], list(path)
    for child in node["children"]:
        yield from _paths(child, path)
