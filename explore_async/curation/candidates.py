"""The examples that a filter chooses from: of a run everything that its answers held, kept or not; of other data all.

An answer is taken up where the run committed it, so the order is the run's own. Answers that the run had no more use
for (the surplus of tasks that had their quota, what was under way at the end) come last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import orjson

from explore_async.curation.collections.collection import Collection, ExampleRow, Node
from explore_async.errors import DataError
from explore_async.exploration.kinds import KINDS, brings_examples
from explore_async.exploration.parsing import Unreadable, parse_examples
from explore_async.exploration.values import Completion
from explore_async.storage.completions import StoredReader
from explore_async.storage.rows import StoredRequest

_ANSWERS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Candidate:
    """`example` None: an item of an answer that could not be read, for this `reason`. `copied`: its output stands in
    the prompt that it answers.
    """

    task_id: str
    example: ExampleRow | None
    request: str | None
    copied: bool = False
    reason: str = ""
    excerpt: str = ""


def candidates(source: Collection) -> Iterator[Candidate]:
    """Of a run that still has its answers, from these, as the parser of today reads them; else the examples."""
    if source.is_run and source.completions is not None:
        yield from _reparsed(source)
        return
    for example in source.examples():
        yield Candidate(example["task_id"], example, example.get("request"))


def _reparsed(run: Collection) -> Iterator[Candidate]:
    assert run.completions is not None
    paths = {task_id: path for root in run.trees() for task_id, path in _paths(root)}
    prefixes = _committed(run)
    with StoredReader(run.completions) as reader:
        keys = (
            *prefixes,
            *(key for kind in filter(brings_examples, KINDS) for key in reader.keys(kind) if key not in prefixes),
        )
        waiting = iter(keys)
        while some := list(islice(waiting, _ANSWERS_AT_ONCE)):
            found = reader.get_many(some)
            for key in some:
                if key not in found:
                    raise DataError(f"{run.completions}: the answer {key} that decisions.jsonl names is not there")
                answer = found[key]
                if answer.task_id in paths:  # else it was asked under a recipe whose tree had other tasks
                    yield from _items(run, answer, prefixes.get(key), paths[answer.task_id])


def _items(run: Collection, answer: StoredRequest, prefix: str | None, path: list[str]) -> Iterator[Candidate]:
    if not brings_examples(answer.kind) or not isinstance(answer.outcome, Completion):
        return
    prompt = "\n".join(message["content"] for message in answer.question["messages"])
    for index, item in enumerate(parse_examples(answer.outcome, run.recipe.get("answer_format", "json"))):
        if isinstance(item, Unreadable):
            yield Candidate(answer.task_id, None, answer.key, reason=item.reason, excerpt=item.excerpt)
            continue
        example = {
            "id": f"{prefix or f'{answer.task_id}-{answer.key[:12]}'}.{index}",
            "task_id": answer.task_id,
            "task_path": path,
            "instruction": item.instruction,
            "input": item.input,
            "output": item.output,
            "request": answer.key,
        }
        in_json = orjson.dumps(item.output).decode()[1:-1]  # as demonstrations stand in prompts that ask for JSON
        yield Candidate(answer.task_id, example, answer.key, copied=item.output in prompt or in_json in prompt)


def _committed(run: Collection) -> dict[str, str]:
    """The keys of the answers that the run judged something of, in the order of their commit, each with what the ids
    of its examples begin with (empty if none could be read).
    """
    prefixes: dict[str, str] = {}
    for line in run.decisions():
        key = line.get("request")
        if line.get("what") == "example" and isinstance(key, str):
            prefixes[key] = prefixes.get(key) or str(line.get("id") or "").rpartition(".")[0]
    return prefixes


def _paths(node: Node, above: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    path = (*above, node["name"])
    yield node["id"], list(path)
    for child in node["children"]:
        yield from _paths(child, path)
