"""Models of the JSON documents of a run or data directory, with the fields that are read.

A document is checked where it is read, so that an edited or damaged one is named once, with its fault, and all later
code can rely on it. Other fields are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explore_async.curation.collections.collection import TASK_ID
from explore_async.errors import DataError

Count = Annotated[int, Field(ge=0)]
Counts = dict[str, Count]


class Document(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class TreeNode(Document):
    id: Annotated[str, Field(pattern=TASK_ID)]
    name: str
    reason: str
    origin: str
    depth: Count
    kept: Count
    dropped: Count
    answers: Count
    exhausted: bool
    children: list[TreeNode]
    original: dict[str, Any] = {}
    original_file: dict[str, Any] = {}


class Trees(Document):
    trees: Annotated[list[TreeNode], Field(min_length=1)]


class _Seed(Document):
    instruction: str
    input: str = ""


class _Domain(Document):
    examples: list[_Seed] = []


class _Targets(Document):
    examples: int | None = None


class _Recipe(Document):
    name: str = ""
    description: str = ""
    language: str = ""
    meaning: Count = 0
    model: str | None = None
    models: dict[str, str] | None = None
    answer_format: str = ""
    domains: list[_Domain] = []
    targets: _Targets | None = None
    filters: dict[str, Any] | None = None
    exploration: dict[str, Any] | None = None
    sampling: dict[str, dict[str, Any]] | None = None


class _Written(Document):
    kept: Count = 0
    dropped: Counts = {}


class _Source(Document):
    name: str = ""


class _Filters(Document):
    threshold: float
    scope: str


class _Settings(Document):
    filters: _Filters | None = None


class _Made(Document):
    begin: str = ""
    end: str = ""
    engines: list[str] = []


class Origin(Document):
    """config.json of a run, data.json of other data."""

    recipe: _Recipe | None = None
    name: str = ""
    run: str = ""
    examples: _Written | None = None
    sources: list[_Source] = []
    settings: _Settings | None = None
    made: _Made | None = None


class _Examples(Document):
    read: Count
    kept: Count
    dropped: Counts


class _Tasks(Document):
    total: Count
    with_examples: Count


class _Requests(Document):
    total: Count


class _Tokens(Document):
    prompt: Count = 0
    completion: Count = 0


class _Endpoint(Document):
    engines: list[str]


class _AllStarts(Document):
    starts: Count
    begin: str
    end: str
    seconds: float
    endpoints: list[_Endpoint]


class Stats(Document):
    examples: _Examples | None = None
    tasks: _Tasks | None = None
    requests: _Requests | None = None
    tokens: _Tokens | None = None
    seconds_this_time: float = 0.0
    all_starts: _AllStarts | None = None


class _Pruned(Document):
    id: str


class PrunedTasks(Document):
    tasks: Count
    pruned: list[_Pruned]


class _Estimate(Document):
    value: float
    low: float
    high: float


class _Cost(Document):
    per_1000_generated: dict[str, float | None]
    per_1000_equivalent: dict[str, float | None]


class _Ratio(Document):
    bytes: Count
    mean: float


class _Similarity(Document):
    mean: float | None
    greatest: float | None


class _Shape(Document):
    depth: Count
    balance: float
    siblings: _Similarity
    parent_child: _Similarity


class _Semantic(Document):
    model: str
    compared: Count
    threshold: float
    paraphrases: Count
    vendi: float


class Coverage(Document):
    examples: Count
    pairs_left_out: str | None = None
    other_language: str | None = None
    unique: Count
    mean_occurrences: float
    std_occurrences: float
    chao1: _Estimate | None
    unseen_mass: _Estimate | None
    hill: list[float] | None = Field(default=None, min_length=3, max_length=3)
    coverage: _Estimate | None = None
    overlap_nearest: float
    near_duplicates: float
    compression: dict[str, _Ratio | None] = {}
    shape: _Shape | None = None
    cost: _Cost | None = None
    semantic: _Semantic | None = None


class Decision(Document):
    """A line of evidence on a task or an example."""

    what: str
    id: str
    kept: bool
    reason: str
    task_id: str = ""
    request: str | None = None
    nearest: str | None = None
    score: float = 0.0
    benchmark: str = ""
    ngram: str = ""
    row: int = 0
    text: str = ""


class MarkLine(Document):
    """A line of marks.jsonl. `mark` is null where a mark was taken back."""

    id: str
    mark: Literal["good", "bad"] | None
    note: str
    task_id: str
    instruction: str


def check(document: Mapping[str, Any], model: type[Document], place: Path | str) -> None:
    """Raises DataError with the place and the first fault."""
    try:
        model.model_validate(document)
        orjson.dumps(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{place}: not as explore_async writes it: {where}: {first['msg']}") from error
    except TypeError as error:
        raise DataError(f"{place}: not as explore_async writes it: {error}") from error
