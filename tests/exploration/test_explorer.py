"""The explorer: order, quotas, frozen prompts, targets and evidence."""

from __future__ import annotations

import random
from collections import Counter

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.naive import depth_first
from support.scripted import WIDE_WORDS, Driven, answer, recipe

from explore_async.exploration.play import play
from explore_async.exploration.values import (
    ChatRequest,
    Completion,
    Event,
    ExampleDropped,
    ExampleKept,
    Failure,
    Outcome,
    Request,
    TaskAdded,
    TaskDropped,
    TaskExhausted,
)
from explore_async.running.driver import StoredOutcome


def names(rng: random.Random, count: int) -> Completion:
    tasks = [{"name": " ".join(rng.choices(WIDE_WORDS, k=5)), "reason": "r"} for _ in range(count)]
    return Completion(orjson.dumps({"tasks": tasks}).decode(), "stop", 1, 1)


@settings(max_examples=60, deadline=None)
@given(
    breadths=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    step=st.integers(1, 4),
    attempts=st.integers(1, 3),
    luck=st.integers(0, 10_000),
)
def test_at_window_one_the_order_is_depth_first(breadths: list[int], step: int, attempts: int, luck: int) -> None:
    """Requests about sub-tasks, issued one at a time, are those of a recursive depth-first search, also where they bring
    nothing.
    """
    yields = random.Random(luck)
    brought: dict[tuple[str, str, int], int] = {}
    times: Counter[tuple[str, str]] = Counter()

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        if request.kind == "generate":
            return answer(chat_request, request)
        most = int(request.prompt.values["count"])
        count = yields.choice([0, most, yields.randint(0, most)])
        brought[request.kind, request.task_id, times[request.kind, request.task_id]] = count
        times[request.kind, request.task_id] += 1
        return names(random.Random(chat_request.key), count) if count else Completion('{"tasks": []}', "stop", 1, 1)

    run = Driven(
        recipe(
            window=1,
            exploration={"depth": len(breadths), "breadth": breadths or [1], "step": step, "attempts": attempts},
            targets={"examples": 10_000},
            generation={"per_request": 1, "exhausted_after": 1},
            filters={"task_threshold": 1.0},
        ),
        outcome,
    )
    for _ in play(run, lambda request: run.perform(request).outcome):
        if run.explorer.explored:
            break

    replayed: Counter[tuple[str, str]] = Counter()

    def recorded(kind: str, task: str, asked_for: int) -> int:
        number = replayed[kind, task]
        replayed[kind, task] += 1
        assert brought[kind, task, number] <= asked_for
        return brought[kind, task, number]

    expected = depth_first(breadths, step=step, attempts=attempts, brought=recorded)
    assert [(one.kind, one.task_id) for one in run.issued if one.kind != "generate"] == expected


@pytest.mark.parametrize("order", ["depth_first", "breadth_first"])
@pytest.mark.parametrize("window", [2, 8, 64, 1000])
def test_a_backtrack_comes_only_after_a_finished_child(window: int, order: str) -> None:
    """At any window a backtrack's prompt holds at least one child whose whole sub-tree was committed before."""
    run = Driven(recipe(window=window, exploration={"depth": 3, "breadth": [4, 3, 2], "step": 2, "order": order}))
    committed: set[str] = set()
    tree = run.explorer._forest.trees[0]
    issue, finished_at_issue = run.explorer.next_request, []

    def watched() -> Request | None:
        request = issue()
        if request is not None and request.kind == "backtrack":
            node = tree.nodes[request.task_id]
            whole = [child for child in node.children if child.finished]
            finished_at_issue.append(len(whole))
            assert request.prompt.values["explored"] == tuple((level, b.task.name) for level, b in node.below())
        return request

    run.explorer.next_request = watched  # type: ignore[method-assign]
    run.run()
    assert finished_at_issue
    assert all(finished_at_issue)
    assert {event.task.origin for event in run.events if isinstance(event, TaskAdded)} == {"lookahead", "backtrack"}
    assert not committed


def test_breadth_first_looks_ahead_by_level() -> None:
    """Breadth-first, every task of a level is looked ahead at before any of the next level that existed with it."""
    run = Driven(recipe(window=1, exploration={"depth": 3, "breadth": [2, 2, 2], "step": 2, "order": "breadth_first"}))
    run.run()
    depths = [request.task_id.count(".") for request in run.issued if request.kind == "lookahead"]
    assert depths == sorted(depths)
    assert depths == [0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("window", [1, 3, 16, 64, 500])
def test_timing_changes_nothing(window: int) -> None:
    """The driver commits the same outcomes in the same order whatever the delays and the number of slots."""
    settings = recipe(window=window, exploration={"depth": 2, "breadth": [3, 2], "step": 2})
    reference = Driven(settings).run()
    assert reference.explorer.stopped == "target"
    for concurrency, shuffle in ((1, 1), (7, 2), (64, 3), (500, 4)):
        other = Driven(settings).drive(most_delay_s=0.003, concurrency=concurrency, shuffle=shuffle)
        assert other.keys == reference.keys
        assert other.events == reference.events
        assert other.explorer.trees() == reference.explorer.trees()


@pytest.mark.parametrize("window", [4, 64, 5000])
def test_quotas_hold_and_every_task_is_reached(window: int) -> None:
    """However wide the window, the root takes no more than its share and every task of the tree gets examples."""
    run = Driven(
        recipe(
            window=window,
            exploration={"depth": 2, "breadth": [4, 3]},
            targets={"examples": 170},
            generation={"per_request": 2},
        )
    ).run()
    kept = Counter(event.example.task_id for event in run.events if isinstance(event, ExampleKept))
    tasks = set(run.explorer._forest.by_id)
    assert len(tasks) == 17
    assert set(kept) == tasks
    assert kept["0"] <= 10
    assert max(kept.values()) <= 10
    assert run.explorer.kept == 170


def test_the_target_is_met_exactly_when_answers_hold_more() -> None:
    """Completions with more examples than the quota leave a surplus. It is decided when the quota rises."""
    run = Driven(
        recipe(
            window=40,
            exploration={"depth": 1, "breadth": [5]},
            targets={"examples": 47},
            generation={"per_request": 10},
        )
    ).run()
    assert run.explorer.kept == 47
    read = sum(request.prompt.values["count"] for request in run.commits if request.kind == "generate")
    judged = sum(isinstance(event, ExampleKept | ExampleDropped) for event in run.events)
    assert read == judged + run.explorer.surplus()


@pytest.mark.parametrize(("per_request", "sizes"), [(10, [3, 6, 10, 10]), (2, [2, 2, 2]), (40, [3, 6, 18, 40])])
def test_openings_are_short_and_requests_grow(per_request: int, sizes: list[int]) -> None:
    """A task's first answer, which its children wait for, is asked for one example more than they are shown, and a later
    one for at most twice as many as all before it, up to those configured: whatever the target is.
    """
    for target in (20, 80):
        run = Driven(
            recipe(
                exploration={"depth": 1, "breadth": [1]},
                targets={"per_task": target},
                generation={"per_request": per_request, "demonstrations": 2},
            )
        ).run()
        asked = [one.prompt.values["count"] for one in run.commits if one.kind == "generate" and one.task_id == "0"]
        assert asked[: len(sizes)] == sizes[: len(asked)]
        assert set(asked[len(sizes) :]) <= {per_request}


@pytest.mark.parametrize("window", [8, 24, 96, 400])
def test_a_higher_target_serves_every_stored_answer(window: int) -> None:
    """A run with twice the target asks every request of the smaller one, word for word: nothing is paid twice."""
    small = Driven(recipe(window=window, targets={"examples": 100})).run()
    large = Driven(recipe(window=window, targets={"examples": 200})).run()
    assert set(small.keys) <= set(large.keys)
    assert large.explorer.kept == 200


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("target", [{"per_task": 6}, {"examples": 120}])
def test_prompts_are_frozen_when_verdicts_change(seed: int, target: dict[str, int]) -> None:
    """Another threshold for instructions asks the same first requests about every task: where fewer examples are
    dropped, none is new.
    """
    patient = {"per_request": 3, "exhausted_after": 1000}
    strict, lenient = (
        Driven(recipe(seed=seed, targets=target, generation=patient, filters={"threshold": threshold})).run()
        for threshold in (0.25, 0.9)
    )
    assert set(lenient.keys) <= set(strict.keys)


@pytest.mark.parametrize("window", [1, 100, 20_000])
def test_the_tree_is_complete_early(window: int) -> None:
    """The tree of a full-size preset is complete within a tenth of the run's commits, however wide the window."""
    run = Driven(
        recipe(
            window=window,
            exploration={"depth": 2, "breadth": [8, 6], "step": 3},
            targets={"per_task": 500},
            generation={"per_request": 10},
            filters={"scope": "task", "threshold": 1.0},
        )
    ).run()
    assert run.explorer.kept == 57 * 500
    assert run.explored_at is not None
    assert run.explored_at <= len(run.commits) / 10


def test_a_run_ends_when_every_task_has_its_quota() -> None:
    """It waits for no request that can bring nothing: the last completion that it takes in brings an example."""
    settings = recipe(window=500, targets={"per_task": 23}, generation={"per_request": 5}, filters={"threshold": 1.0})
    run = Driven(settings).run()
    last = max(event.example.request_ordinal for event in run.events[-10:] if isinstance(event, ExampleKept))
    assert run.explorer.stopped == "complete"
    assert run.explorer.kept == run.explorer.wanted
    assert run.commits[-1].ordinal == last
    assert run.explorer.outstanding


def test_depth_zero_is_self_instruct() -> None:
    """With depth 0 the root alone is generated for, until the target."""
    run = Driven(recipe(exploration={"depth": 0}, targets={"examples": 30})).run()
    assert {request.kind for request in run.issued} == {"generate"}
    assert run.explorer.kept == 30


def test_a_task_without_news_is_exhausted() -> None:
    """Three completions in a row with nothing new exhaust a task; its share goes to the others."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        if request.kind == "generate" and request.task_id == "0":
            return answer(chat_request, request, words=["same"])
        return answer(chat_request, request)

    run = Driven(recipe(exploration={"depth": 1, "breadth": [3]}, targets={"examples": 40}), outcome).run()
    assert TaskExhausted("0") in run.events
    kept = Counter(event.example.task_id for event in run.events if isinstance(event, ExampleKept))
    assert kept["0"] <= 3
    assert run.explorer.kept == 40


@pytest.mark.parametrize(("per_request", "copies"), [(1, 10), (4, 3), (10, 3)])
def test_few_examples_do_not_exhaust_a_task(per_request: int, copies: int) -> None:
    """Three completions exhaust a task only if they had room for ten examples: with one example each, three copies in a
    row are chance.
    """
    settings = recipe(
        window=1,
        exploration={"depth": 0},
        targets={"examples": 10_000},
        generation={"per_request": per_request, "exhausted_after": 3},
    )

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        return answer(chat_request, request, words=["same"])

    run = Driven(settings, outcome).run()
    assert run.explorer.stopped == "complete"
    assert run.explorer.kept == 0
    assert len(run.commits) == copies


@pytest.mark.parametrize(
    ("changes", "poor"),
    [
        ({"targets": {"examples": 60}}, False),
        ({"targets": {"per_task": [3, 2]}, "exploration": {"depth": 1, "breadth": [4]}}, False),
        ({"targets": {"examples": 500, "per_task": 4}, "exploration": {"depth": 1, "breadth": [4]}}, False),
        ({"targets": {"per_task": 20}, "exploration": {"depth": 1, "breadth": [4]}}, True),
    ],
)
def test_the_explorer_knows_what_it_goes_for(changes: dict[str, object], *, poor: bool) -> None:
    """At each commit the planned tasks bound those that are there, and the wanted examples those that are kept; at the
    end both are equal, also where tasks run dry before their caps.
    """

    class Looking(Driven):
        def publish(self, request: Request, stored: StoredOutcome, events: list[Event]) -> None:
            super().publish(request, stored, events)
            assert self.explorer.planned_tasks >= len(self.explorer.tasks())
            assert self.explorer.wanted >= self.explorer.kept

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        return answer(chat_request, request, words=["same"] if poor and request.kind == "generate" else WIDE_WORDS)

    explorer = Looking(recipe(**changes), outcome).run().explorer
    assert explorer.stopped in {"target", "complete"}
    assert explorer.wanted == explorer.kept
    if explorer.stopped == "complete":
        assert explorer.planned_tasks == len(explorer.tasks())


def test_failures_are_data() -> None:
    """A run whose every generate request fails ends by itself, its tree explored and its tasks exhausted."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        return Failure("rejected", "no", 1) if request.kind == "generate" else answer(chat_request, request)

    run = Driven(recipe(), outcome).run()
    assert run.explorer.stopped == "complete"
    assert run.explorer.kept == 0
    assert run.explorer.explored


def test_barren_exploration_ends() -> None:
    """A model that proposes nothing is asked `attempts` times, then the root alone is generated for."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        return (
            answer(chat_request, request)
            if request.kind == "generate"
            else Completion("I would rather not.", "stop", 1, 1)
        )

    run = Driven(recipe(exploration={"attempts": 3}, targets={"examples": 12}), outcome).run()
    assert [request.kind for request in run.issued if request.kind != "generate"] == ["lookahead"] * 3
    assert run.explorer.kept == 12


def test_token_budget_stops_the_run() -> None:
    """Tokens are counted at commit, so a budget stops every run of a recipe at the same place."""
    runs = [
        Driven(recipe(targets={"examples": 500, "token_budget": 3000})).drive(most_delay_s=0.002, concurrency=c)
        for c in (3, 50)
    ]
    assert [run.explorer.stopped for run in runs] == ["token_budget"] * 2
    assert runs[0].keys == runs[1].keys
    assert 3000 <= runs[0].explorer.tokens < 3200


def test_seeds_are_in_the_corpus_and_never_in_the_dataset() -> None:
    """An example that repeats a seed is dropped, with the seed as its evidence."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        if request.kind != "generate" or request.turn:
            return answer(chat_request, request)
        seed = [{"instruction": "Say when to prune the roses", "input": "", "output": "In late winter it is best."}]
        return Completion(orjson.dumps({"examples": seed}).decode(), "stop", 1, 1)

    run = Driven(recipe(), outcome).run()
    rejected = [event for event in run.events if isinstance(event, ExampleDropped)]
    assert rejected[0].verdict.nearest == "seed:0.0"
    assert rejected[0].verdict.score == pytest.approx(10 / 11)
    assert all("prune" not in event.example.instruction for event in run.events if isinstance(event, ExampleKept))


def test_names_are_compared_over_the_whole_tree() -> None:
    """A sub-task proposed under another parent is dropped, with the task that it repeats as evidence."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        if request.kind == "generate":
            return answer(chat_request, request)
        tasks = [{"name": f"Plant {what} in spring", "reason": ""} for what in ("tulip bulbs", "two apple trees")]
        return Completion(orjson.dumps({"tasks": tasks}).decode(), "stop", 1, 1)

    run = Driven(recipe(exploration={"depth": 2, "breadth": [2, 2], "step": 2}), outcome).run()
    added = [event.task.id for event in run.events if isinstance(event, TaskAdded)]
    dropped = [event for event in run.events if isinstance(event, TaskDropped)]
    assert added == ["0.0", "0.1"]
    assert dropped
    assert {event.verdict.nearest for event in dropped} == {"0.0", "0.1"}


@pytest.mark.parametrize(("scope", "kept_of_second"), [("run", 0), ("domain", 3), ("task", 3)])
def test_scopes_of_the_corpus(scope: str, kept_of_second: int) -> None:
    """Two domains share one corpus under `run` and have their own under `domain` and `task`."""

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        rng = random.Random(request.turn)
        examples = [
            {"instruction": " ".join(rng.sample(WIDE_WORDS, 8)), "input": "", "output": "yes"} for _ in range(3)
        ]
        return Completion(orjson.dumps({"examples": examples}).decode(), "stop", 1, 1)

    domains = [{"name": "Cook"}, {"name": "Sew"}]
    run = Driven(
        recipe(domains=domains, exploration={"depth": 0}, targets={"per_task": 3}, filters={"scope": scope}, window=1),
        lambda chat_request, request: (
            outcome(chat_request, request) if request.turn == 0 else Failure("rejected", "", 1)
        ),
    ).run()
    kept = Counter(event.example.task_id for event in run.events if isinstance(event, ExampleKept))
    assert kept["0"] == 3
    assert kept["1"] == kept_of_second


def test_tasks_in_tasks_are_there_from_the_start() -> None:
    """A tree in the recipe is planted whole, each task is shown its own examples, a sub-task that is found later those
    of its parent; none of them is written anew, and exploration goes on below and beside them.
    """
    own = [{"instruction": f"Mend the {what}", "output": "Done."} for what in ("gate", "fence")]
    tasks = [{"name": "Repairs", "examples": own, "tasks": [{"name": "Wooden things", "tasks": []}]}, {"name": "Paths"}]
    domains = [{"name": "Look after a garden", "tasks": tasks}]
    run = Driven(recipe(domains=domains, exploration={"depth": 2, "breadth": [4, 3]})).run()
    added = [event.task for event in run.events if isinstance(event, TaskAdded)]
    (root,) = run.explorer.trees()
    assert [event.task.id for event in run.explorer.seed_events()] == ["0", "0.0", "0.1", "0.0.0"]
    assert [child["name"] for child in root["children"][:2]] == ["Repairs", "Paths"]
    assert root["children"][0]["children"][0]["name"] == "Wooden things"
    assert {task.id for task in added} >= {"0.2", "0.0.1", "0.1.0"}
    first = {request.task_id: request for request in reversed(run.issued) if request.kind == "generate"}
    for task in ("0.0", "0.0.0"):
        shown = [one.instruction for one in first[task].prompt.values["demonstrations"]]
        assert sorted(shown) == ["Mend the fence", "Mend the gate"]
    assert not first["0.1"].prompt.values["demonstrations"]
    assert run.explorer.stopped == "target"
    assert run.explorer._judge.corpora.of("0").admit("Mend the gate", "x").nearest == "seed:0.0"


def test_a_tree_deeper_than_the_exploration_is_refused() -> None:
    """The message names the level that is needed."""
    domains = [{"name": "a", "tasks": [{"name": "b", "tasks": [{"name": "c", "tasks": [{"name": "d"}]}]}]}]
    with pytest.raises(ValidationError, match=r"are 3 levels deep, but exploration\.depth is 2"):
        recipe(domains=domains)
    assert recipe(domains=domains, exploration={"depth": 0}).domains


@pytest.mark.parametrize("scope", ["run", "domain", "task"])
def test_what_is_known_already_is_dropped_in_every_scope(scope: str) -> None:
    """An example near a known text is dropped with that text as its evidence; all else is as without it, for what was
    dropped leaves no trace in the corpus.
    """
    settings = recipe(filters={"scope": scope}, exploration={"depth": 1, "breadth": [3]}, targets={"per_task": 9})
    plain = Driven(settings).run()
    kept = [event.example for event in plain.events if isinstance(event, ExampleKept)]
    known = [(one.instruction + " indeed", f"against:0.{n}") for n, one in enumerate(kept[:8], start=1)]
    run = Driven(settings, known=known).run()
    dropped = {
        event.example.id: event.verdict for event in run.events if isinstance(event, ExampleDropped) and event.example
    }
    for number, one in enumerate(kept[:8], start=1):
        assert dropped[one.id].nearest == f"against:0.{number}"
    left = {event.example.id for event in run.events if isinstance(event, ExampleKept)}
    assert {one.id for one in kept[8:]} & left
    assert not {one.id for one in kept[:8]} & left


def test_several_domains_grow_side_by_side() -> None:
    """Each domain has a tree of its own under its own id, and all get examples."""
    domains = [{"name": "Cook at home"}, {"name": "Sew clothes"}, {"name": "Repair bicycles"}]
    run = Driven(
        recipe(domains=domains, exploration={"depth": 1, "breadth": [2]}, targets={"examples": 54}, window=48)
    ).run()
    kept = Counter(event.example.task_id.partition(".")[0] for event in run.events if isinstance(event, ExampleKept))
    assert kept == {"0": 18, "1": 18, "2": 18}


def test_a_wide_window_is_affordable() -> None:
    """A window of 100,000 issues as many requests as tasks may have, without rendering or copying what they share."""
    domains = [{"name": f"Domain {number}", "examples": recipe().domains[0].examples} for number in range(100)]
    run = Driven(recipe(window=100_000, targets={"examples": 10_000_000}, exploration={"depth": 0}, domains=domains))
    requests = []
    while (request := run.explorer.next_request()) is not None:
        requests.append(request)
    assert len(requests) == 100 * (4096 // 100)
    shared = {id(request.prompt.values["demonstrations"]) for request in requests}
    assert len(shared) == 100


def test_a_planted_chinese_duplicate_is_dropped() -> None:
    """With Chinese as the language a near-duplicate is found by its characters, with its score as evidence."""
    texts = ["写一首关于春天的短诗，要提到雨水。", "写一首关于春天的短诗，要提到雨声。", "比较两种茶的味道和颜色。"]

    def outcome(chat_request: ChatRequest, request: Request) -> Outcome:
        examples = [{"instruction": text, "input": "", "output": "好的，这就是答案。"} for text in texts]
        return Completion(orjson.dumps({"examples": examples}).decode(), "stop", 1, 1)

    settings = recipe(language="Chinese", exploration={"depth": 0}, targets={"examples": 5}, window=1)
    run = Driven(settings, outcome).run()
    first = [event for event in run.events if isinstance(event, ExampleKept | ExampleDropped)][:3]
    assert [event.verdict.kept for event in first] == [True, False, True]
    assert first[1].verdict.nearest == "0-0.0"
    assert first[1].verdict.score == pytest.approx(14 / 15)
