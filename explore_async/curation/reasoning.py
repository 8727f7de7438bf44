"""The reasoning behind examples: what the model thought before the completions that they came from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from explore_async.curation.collections.collection import Collection, ExampleRow
from explore_async.curation.collections.conversations import REASONING
from explore_async.errors import DataError
from explore_async.exploration.parsing import thoughts_of
from explore_async.exploration.values import Completion
from explore_async.storage.completions import StoredReader

_AT_ONCE = 500


def with_reasoning(examples: Iterator[ExampleRow], source: Collection) -> Iterator[ExampleRow]:
    """The examples, each with the reasoning of its completion where the model thought. All of one completion have the
    same. Raises DataError where the completions are not there.
    """
    if source.completions is None:
        raise DataError(f"{source.path}: there are no stored completions (completions.sqlite), and so no reasoning")
    answer_format = source.recipe.get("answer_format", "json")
    with StoredReader(source.completions) as reader:
        while some := list(islice(examples, _AT_ONCE)):
            stored = reader.get_many(list({key for example in some if (key := example.get("request"))}))
            thoughts = {
                key: thoughts_of(request.outcome, None if request.kind == "answer" else answer_format)
                for key, request in stored.items()
                if isinstance(request.outcome, Completion)
            }
            for example in some:
                found = thoughts.get(example.get("request") or "")
                yield {**example, REASONING: found} if found else example
