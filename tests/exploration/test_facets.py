"""Facets: which combination each request gets, and what a run with them keeps of the promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import orjson
import pytest
from blockbuster import BlockBuster
from hypothesis import given
from hypothesis import strategies as st
from support.cli import in_process
from support.scripted import Driven, answer, recipe
from support.stored_run import serving

from explore_async.analysis.facet_grid import facet_grid
from explore_async.errors import ConfigError
from explore_async.exploration.facets import dealt
from explore_async.exploration.parsing import ProposedFacet, parse_facets
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import (
    ChatRequest,
    Completion,
    ExampleKept,
    Facet,
    FacetsNamed,
    Outcome,
    Request,
    TaskAdded,
)

WITH_FACETS = recipe(exploration={"depth": 1, "breadth": [4], "facets": 3}, targets={"examples": 90})


@given(sizes=st.lists(st.integers(2, 7), min_size=1, max_size=4), turns=st.integers(0, 60), seed=st.integers(0, 5))
def test_the_values_of_a_criterion_take_turns(sizes: list[int], turns: int, seed: int) -> None:
    """None comes twice more often than another, whatever the others do; and a combination depends on task and turn alone."""
    facets = [Facet(f"c{at}", tuple(f"{at}.{value}" for value in range(size))) for at, size in enumerate(sizes)]
    combinations = [dealt(recipe(seed=seed), "0.1", facets, turn) for turn in range(turns)]
    for at, facet in enumerate(facets):
        used = Counter(dict.fromkeys(facet.values, 0))
        used.update(combination[at][1] for combination in combinations)
        assert max(used.values()) - min(used.values()) <= 1
    assert combinations == [dealt(recipe(seed=seed), "0.1", facets, turn) for turn in range(turns)]


def test_the_values_of_two_criteria_do_not_run_along() -> None:
    """Of 36 pairs of values 72 requests have most, where orders that run along would have six."""
    facets = [Facet(name, tuple("abcdef")) for name in ("one", "two")]
    pairs = {tuple(value for _, value in dealt(recipe(), "0", facets, turn)) for turn in range(72)}
    assert len(pairs) > 27


def test_a_task_names_its_facets_before_its_first_examples() -> None:
    """Each task asks once, the tree is the same as without, each prompt ends with its combination, and each example
    says it.
    """
    run = Driven(WITH_FACETS).run()
    named = {event.task_id: event.facets for event in run.events if isinstance(event, FacetsNamed)}
    tasks = [event.task for event in [*run.explorer.seed_events(), *run.events] if isinstance(event, TaskAdded)]
    assert sorted(named) == sorted({task.id for task in tasks})
    plain = Driven(recipe(exploration={"depth": 1, "breadth": [4]}, targets={"examples": 90})).run()
    assert [task for task in tasks if task.depth] == [
        event.task for event in plain.events if isinstance(event, TaskAdded) and event.task.depth
    ]
    seen: dict[str, list[str]] = defaultdict(list)
    for request in run.commits:
        seen[request.task_id].append(request.kind)
        if request.kind == "generate":
            facets = request.prompt.values["facets"]
            assert facets == dealt(WITH_FACETS, request.task_id, named[request.task_id], request.turn)
            last = run.book.render(request).messages[-1]["content"].splitlines()[-1]
            assert last.endswith("; ".join(f"{criterion}: {value}" for criterion, value in facets) + ".")
    for kinds in seen.values():
        about_examples = [kind for kind in kinds if kind in {"facets", "generate"}]
        assert about_examples[0] == "facets"
        assert about_examples.count("facets") == 1
    kept = [event.example for event in run.events if isinstance(event, ExampleKept)]
    assert len(kept) == 90
    for example in kept:
        criteria = {facet.criterion: facet.values for facet in named[example.task_id]}
        assert all(one["value"] in criteria[one["criterion"]] for one in example.source["facets"])


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_the_same_at_any_concurrency(concurrency: int) -> None:
    """The order of completions decides nothing."""
    driven = Driven(WITH_FACETS).drive(most_delay_s=0.002, concurrency=concurrency, shuffle=concurrency)
    assert driven.events == Driven(WITH_FACETS).run().events


def test_a_task_without_readable_facets_goes_on_without() -> None:
    """Its examples come all the same, and the evidence says why."""

    def mute(chat_request: ChatRequest, request: Request) -> Outcome:
        if request.kind == "facets" and request.task_id == "0":
            return Completion("I would rather not.", "stop", 5, 5)
        return answer(chat_request, request)

    run = Driven(WITH_FACETS, mute).run()
    (event,) = (event for event in run.events if isinstance(event, FacetsNamed) and event.task_id == "0")
    assert event.facets == ()
    assert event.dropped == (("I would rather not.", "unparsable"),)
    kept = [event.example for event in run.events if isinstance(event, ExampleKept)]
    assert {bool(example.source) for example in kept if example.task_id == "0"} == {False}
    assert len(kept) == 90


@pytest.mark.parametrize(("answer_format", "text"), [
    ("json", orjson.dumps({"criteria": [
        {"criterion": "The reader", "values": ["a child", "an expert", "A child"]},
        {"criterion": "the length", "values": ["short"]}, {"criterion": "the reader", "values": ["a", "b"]},
        {"criterion": "Form.", "values": "1. a list; 2. a table; 3. prose"}, {"criterion": "more", "values": ["x", "y"]},
    ]}).decode()),
    ("text", ("### Criterion: The reader\n### Values: a child; an expert; A child\n### End\n"
             "### Criterion: the length\n### Values: short\n### End\n### Criterion: the reader\n### Values: a; b\n### End\n"
             "### Criterion: Form.\n### Values:\n- a list\n- a table\n- prose\n### End\n"
             "### Criterion: more\n### Values: x; y\n### End")),
])  # fmt: skip
def test_facets_are_read_as_models_write_them(answer_format: str, text: str) -> None:
    """Values once each, without bullets; a criterion with one value, a second of its name, and what is beyond those
    that were asked for are dropped with a reason.
    """
    items = parse_facets(Completion(text, "stop", 0, 0), "json" if answer_format == "json" else "text", 2)
    facets = [item for item in items if isinstance(item, ProposedFacet)]
    assert [(facet.criterion, len(facet.values)) for facet in facets] == [("The reader", 2), ("Form", 3)]
    assert facets[1].values == ("a list", "a table", "prose")
    assert [item.reason for item in items if not isinstance(item, ProposedFacet)] == [
        "missing_field",
        "surplus",
        "surplus",
    ]


def test_where_there_can_be_none_it_is_said() -> None:
    """A template of one's own that does not show them, and a run that began by earlier rules."""
    with pytest.raises(ConfigError, match="does not show"):
        PromptBook(recipe(exploration={"facets": 2}, prompts={"generate": "[user]\n{{ task }}"}))
    with pytest.raises(ValueError, match="began by rules that have none"):
        recipe().model_validate({**recipe().model_dump(), "meaning": 3, "exploration": {"facets": 2}})


def test_the_grid_counts_what_examples_have() -> None:
    """Filled values and pairs against a plain count, on a whole run; the cells of a task without examples are empty."""
    run = Driven(WITH_FACETS).run()
    kept = [event.example for event in run.events if isinstance(event, ExampleKept)]
    rows = [{"task_id": example.task_id, **example.source} for example in kept if example.task_id != "0.1"]
    trees = run.explorer.trees()
    named = {event.task_id: event.facets for event in run.events if isinstance(event, FacetsNamed)}
    cells = [
        (task, facet.criterion, value) for task, facets in named.items() for facet in facets for value in facet.values
    ]
    used = {(row["task_id"], one["criterion"], one["value"]) for row in rows for one in row["facets"]}
    grid = facet_grid(trees, rows)
    assert grid is not None
    assert (grid["values"], grid["filled_values"]) == (len(cells), len(used))
    assert 0 < grid["filled_pairs"] < grid["pairs"]
    assert [row["examples"] for row in grid["fewest"]] == sorted(row["examples"] for row in grid["fewest"])
    assert {row["task"] for row in grid["fewest"] if not row["examples"]} >= {"0.1"}
    assert facet_grid(Driven(recipe()).run().explorer.trees(), rows) is None


def test_rows_keep_their_facets(tmp_path: Path, blockbuster: BlockBuster) -> None:
    """Through filter, export and reparse; show tells them of an example and of its task; the tree is the one of a run
    without them, whose completions about tasks serve.
    """
    blockbuster.deactivate()  # a run opens and closes its files on the loop
    text = "domains: [{name: Garden}]\nexploration: {depth: 1, breadth: [2]}\ntargets: {examples: 12}\n"
    (tmp_path / "config.yaml").write_text(text + "operation: {report: false}\n")
    run = tmp_path / "run"
    command = ("run", tmp_path / "config.yaml", "--out", run)
    with serving() as url:
        assert in_process(*command, "--endpoint", url).code == 0
        tree = (run / "tree.json").read_bytes()
        options = ("--endpoint", url, "--set", "exploration.facets=3", "--adopt", "--json")
        assert in_process(*command, *options).code == 0
    assert [task["name"] for task in orjson.loads(tree)["trees"][0]["children"]] == [
        task["name"] for task in orjson.loads((run / "tree.json").read_bytes())["trees"][0]["children"]
    ]
    rows = [orjson.loads(line) for line in (run / "dataset.jsonl").read_bytes().splitlines()]
    assert all(row["facets"] for row in rows)
    for stage in ("filter", "reparse"):
        assert in_process(stage, run, "--out", tmp_path / stage).code == 0
        again = [orjson.loads(line) for line in (tmp_path / stage / "dataset.jsonl").read_bytes().splitlines()]
        facets = {row["instruction"]: row["facets"] for row in rows}
        assert {row["instruction"]: row["facets"] for row in again if row["instruction"] in facets} == facets
    first = rows[0]
    shown = in_process("show", run, first["id"]).stdout
    assert f"{first['facets'][0]['criterion']}: {first['facets'][0]['value']}" in " ".join(shown.split())
    assert in_process("show", run, first["task_id"]).code == 0
    assert in_process("export", run, "--out", tmp_path / "out").code == 0
    assert "the value of each criterion" in (tmp_path / "out" / "README.md").read_text()
