"""The card of an exported dataset: README.md with a YAML header, as hubs of datasets read it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explore_async.curation.card_facts import (
    citation,
    covering,
    dates,
    done,
    figures,
    limitations,
    making,
    score_rows,
    writer,
)
from explore_async.curation.card_text import escape, fenced, json_block, section, table, yaml_text
from explore_async.curation.collections.collection import Collection, below
from explore_async.curation.export_files import AXOLOTL, LLAMA_FACTORY
from explore_async.curation.language_codes import language_code
from explore_async.errors import DataError
from explore_async.settings.recipe import KnownTexts
from explore_async.settings.run_settings import RecipeConfig
from explore_async.terminal.counts import counted

_TASKS_LISTED = 500
_LONGEST_SHOWN = 1_500
_SHOWN = 3
_MOST_HELD = 64
"""Rows that a card shows, and that are held to choose them from."""
_TRAINERS = {AXOLOTL: "Axolotl", LLAMA_FACTORY: "LLaMA-Factory"}
"""By the names of their configs."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_COLUMNS = {
    "id": "id of the example",
    "task_id": "id of its task: the path in the tree, by numbers",
    "task_path": "names of the tasks from the root of the tree to its own",
    "instruction": "the instruction",
    "input": "the input that the instruction is about; may be empty",
    "output": "the answer",
    "request": "digest of the request that the example, or its output, came from",
    "instruction_request": "digest of the request that its instruction came from",
    "system": "the system prompt that its output was asked for with; empty or missing without one",
    "passage": "the passage that its request showed: its file, and its number there",
    "topic": "the topic that its request asked for; missing where it had none",
    "style": "the style that its request asked for; missing where it had none",
    "facets": "the value of each criterion that its request asked for; missing where its task has none",
    "scores": "the scores that the judge gave to the output, from 1 to 5, by aspect",
    "judge_request": "digest of the request for these scores",
    "earlier_output": "the answer in place of which a model gave the output",
    "answers": "all answers to the instruction that were scored or passed the filters; the output is one of them",
    "vote": "the answer that is the output, and the number of answers with its final answer",
    "reasoning_content": "what the model thought before it wrote the output",
    "messages": "the conversation, for a chat template",
    "conversations": "the conversation, in the form of ShareGPT",
    "prompt": "the conversation up to the answer",
    "completion": "the answer, which is trained on",
    "mark": "good or bad, where a reader has said so",
    "mark_note": "the reason of the reader",
    "source": "the name of the dataset that the example was merged from",
    "source_id": "its id there",
}


class ShownRows:
    """Some of the rows that it takes, spread evenly over all of them, in bounded memory."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, Any]] = []
        self._every = 1
        self._taken = 0

    def take(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            if self._taken % self._every == 0:
                self._rows.append(row)
                if len(self._rows) > _MOST_HELD:
                    self._rows = self._rows[::2]
                    self._every *= 2
            self._taken += 1

    def some(self) -> list[Mapping[str, Any]]:
        """A few of them, in their order: the first one and others far from it."""
        return self._rows[:: -(-len(self._rows) // _SHOWN)] if self._rows else []


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOptions:
    """The facts of an export that its source cannot tell."""

    splits: Mapping[str, str]
    """The file of each split, relative to the card."""
    exported: int
    shape: str
    license_name: str
    how: str
    """The selection of the examples, in words."""
    shown: Sequence[Mapping[str, Any]]
    """Rows to show."""
    repository: str
    """The name to load the data by: of a repository, or of the folder."""
    model_revision: str
    has_script: bool
    configs: Sequence[str]
    """Names of the configs of trainers beside the card."""
    marked: Counter[str]
    """Number of exported examples with each mark."""
    scores: Mapping[str, Mapping[str, int]]
    """Number of exported examples with each score of a judge, by aspect; empty without one."""


def make_card(source: Collection, options: CardOptions) -> str:
    """The text of the card. Raises DataError for figures in a form that no run or analysis writes."""
    try:
        parts = [f"---\n{yaml_text(_header(source, options))}---\n", *_body(source, options)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{source.path}: its figures are not in the form that a run or `analyze` writes: {error!r}"
        ) from error
    return "\n".join(parts).rstrip("\n") + "\n"


def _header(source: Collection, options: CardOptions) -> dict[str, Any]:
    recipe = source.recipe
    header: dict[str, Any] = {
        "license": options.license_name,
        "pretty_name": source.name,
        "task_categories": ["text-generation"],
        "size_categories": [next((size for most, size in _SIZES if options.exported < most), "n>1M")],
        "tags": ["synthetic", "instruction-tuning", "explore-instruct"] if recipe else ["instruction-tuning"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": path} for split, path in options.splits.items()],
            }
        ],
    }
    if recipe:
        header |= {"language_creators": ["machine-generated"], "source_datasets": ["original"]}
    is_other = source.is_simulated or source.coverage.get("other_language")
    if not is_other and (code := language_code(str(recipe.get("language", "")))):
        header["language"] = [code]
    return header


def _body(source: Collection, options: CardOptions) -> Iterator[str]:
    recipe = source.recipe
    yield f"# {escape(source.name)}\n"
    if source.is_simulated:
        yield "**Written by a simulated server, without any model: for practice, never for training.**\n"
    if recipe.get("description"):
        yield f"{escape(recipe['description'])}\n"
    yield f"{counted(options.exported, 'example')}, {options.how}, in the format `{options.shape}`.\n"
    if recipe:
        asked = escape(recipe.get("language") or "")
        is_other = source.is_simulated or source.coverage.get("other_language")
        language = f" in {asked}" if asked and not is_other else ""
        when = f" ({days})" if (days := dates(source)) else ""
        yield (
            f"They were written{language} by {escape(writer(source))}{when}, which explored its "
            "domain as a tree of tasks ([Explore-Instruct](https://arxiv.org/abs/2310.09168)), with explore_async "
            f"{escape(source.config.get('explore_async', ''))}.\n"
        )
        if source.is_simulated and asked:
            yield f"The recipe asks for texts in {asked}; a simulated server puts English words together at random.\n"
    yield from section("Examples", map(json_block, map(_shortened, options.shown)))
    yield from section("Columns", _columns(options.shown))
    yield from section("How to load it", _loading(options))
    if recipe:
        yield from section("How it was made", table(making(source, options.model_revision)))
        yield from section("What came of it", table(figures(source.stats)))
    if options.scores:
        yield from section("The judge's scores of these examples", _table(score_rows(options.scores)))
    if coverage := source.coverage:
        yield from section("What it covers", table(covering(coverage)))
    if source.config and not source.is_run:
        yield from section("What was done since", table(done(source.config)))
    scored = bool(options.scores)
    yield from section("Limitations", limitations(source, options.exported, options.marked, scored=scored))
    yield from section("Citation", citation(source, options.repository.rpartition("/")[0]))
    yield from section("Tasks", _tasks(source))
    if recipe:
        yield from section("Making it again", _again(recipe))


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table whose first row has the names of the columns; all but the first are numbers."""
    (first, *names), *others = rows
    yield f"| {first} | {' | '.join(names)} |\n|---|{'---:|' * len(names)}"
    yield from (f"| {' | '.join([escape(aspect), *numbers])} |" for aspect, *numbers in others)
    yield ""


def _shortened(value: Any) -> Any:
    """A value of JSON whose long texts end early."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_SHOWN else f"{value[:_LONGEST_SHOWN]} […]"
    if isinstance(value, Mapping):
        return {str(name): _shortened(item) for name, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list | tuple) else value


def _columns(shown: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kinds: dict[str, str] = {}
    for row in shown:
        kinds |= {name: _kind(value) for name, value in row.items() if value is not None or name not in kinds}
    if kinds:
        yield "| column | type | content |\n|---|---|---|"
        yield from (
            f"| {escape(name)} | {kind} | {_COLUMNS.get(name, 'as in its source')} |" for name, kind in kinds.items()
        )
        yield ""


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null or a text"
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list() | tuple():
            inner = next((item for item in value if item is not None), None)
            return f"list of {_kind(inner)}" if inner is not None else "list"
        case Mapping():
            return f"object ({', '.join(escape(name) for name in value)})"
    return "other"


def _loading(options: CardOptions) -> Iterator[str]:
    call = f"load_dataset({options.repository!r}, split={next(iter(options.splits))!r})"
    yield fenced(f"from datasets import load_dataset\n\ndata = {call}\nprint(data[0])", "python")
    if options.has_script:
        yield (
            "`train.py` fine-tunes a model on it with TRL, with the settings of the Explore-Instruct paper. First it "
            "says how many examples are too long.\n"
        )
    if options.configs:
        names = ", ".join(f"`{name}`" for name in options.configs)
        trainers = [name for file, name in _TRAINERS.items() if file in options.configs]
        yield f"{names}: configs of {' and '.join(trainers)}, in which you name the model.\n"


def _tasks(source: Collection) -> Iterator[str]:
    nodes = [node for root in source.trees() for node in below(root)]
    rows = [
        (escape("  " * node["depth"] + node["name"]), escape(node["origin"]), node["kept"], node["dropped"])
        for node in nodes
        if node["id"] not in source.pruned
    ]
    yield "| task | by | kept | dropped |\n|---|---|---:|---:|"
    yield from (f"| {name} | {origin} | {kept} | {dropped} |" for name, origin, kept, dropped in rows[:_TASKS_LISTED])
    if len(rows) > _TASKS_LISTED:
        yield f"\n… and {len(rows) - _TASKS_LISTED} more."
    if len(rows) < len(nodes):
        yield f"\nPruned: {counted(len(nodes) - len(rows), 'task')} with a name that repeats another."
    yield ""


def _again(recipe: Mapping[str, Any]) -> Iterator[str]:
    if revised := recipe.get("revised"):
        commands = ", ".join(f"`explore-async {escape(str(command))}`" for command in revised)
        yield (
            "A run made the instructions, and its examples were revised since, by " + commands + ". "
            "`explore-async run` with the recipe below makes examples in the same way, and not the same ones.\n"
        )
        yield fenced(yaml_text(_published(recipe)), "yaml")
        return
    yield (
        "The data is a function of the recipe and the model's completions: `explore-async run` with the recipe below "
        "makes it again, byte for byte where the completions are the same.\n"
    )
    yield fenced(yaml_text(_published(recipe)), "yaml")


def _published(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as a config: without our own notes in it, and without the folders of this machine."""
    against = [_named(one) if isinstance(one, Mapping) else one for one in recipe.get("against") or []]
    config = {name: value for name, value in recipe.items() if name in RecipeConfig.model_fields}
    domains = [_with_named_files(domain) for domain in recipe.get("domains") or []]
    return {**config, **({"against": against} if against else {}), **({"domains": domains} if domains else {})}


def _with_named_files(domain: Mapping[str, Any]) -> Mapping[str, Any]:
    files = [{**_named(file), "field": file.get("field", "text")} for file in domain.get("files") or []]
    return {**domain, "files": files} if files else domain


def _named(known: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: value for name, value in known.items() if name in KnownTexts.model_fields}
    return {**named, "path": str(known.get("path", "")).rstrip("/").rpartition("/")[2]}
