"""Brings instructions of a run to examples again, by the outcomes that are stored: as their run would, but perhaps by
other filters or another threshold of its judge. It asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Final

from explore_async.curation.candidates import Candidate, read_candidates
from explore_async.curation.collections.collection import Collection, ExampleRow, Node, below
from explore_async.curation.judging_again import batches_of
from explore_async.exploration import checks
from explore_async.exploration.account import Account
from explore_async.exploration.finishing import TURNS_A_ROUND, Finisher
from explore_async.exploration.kinds import ANSWER, FOLLOW_UP, JUDGE, Item, kinds_of
from explore_async.exploration.node import Node as PlaceInTree
from explore_async.exploration.outstanding import OutstandingRequests
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.quality_filters import quality_check
from explore_async.exploration.rules import rules_of
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    SOURCE,
    AnswerJudged,
    AnswerScored,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    Failure,
    Outcome,
    Request,
    Task,
    Verdict,
)
from explore_async.settings.recipe import Recipe
from explore_async.storage.completions import StoredReader
from explore_async.storage.example_lines import MadeBy, example_line
from rouge_kernels import TOKENIZERS

NOT_SCORED: Final = "not_scored"
_LACKS: Final = {ANSWER.name: "not_answered", FOLLOW_UP.name: "not_answered", JUDGE.name: NOT_SCORED}
LACKING: Final = frozenset({*_LACKS.values(), "no_verdict"})
"""Reasons to drop an instruction: a request that it needs has no stored outcome. No run gives them."""
_AT_ONCE: Final = 500
_NEW: Final = Verdict(kept=True, reason="accepted")


class _Unlimited:
    """Places for any number of instructions: what is stored is asked for already."""

    def began_one(self, account: Account) -> None:
        pass

    def finished_one(self, account: Account, *, kept: bool) -> bool:
        del account, kept
        return False


@dataclass(slots=True)
class _Begun:
    """A candidate on its way. `missing`: the reason why it goes no further; empty while it does."""

    candidate: Candidate
    made_by: MadeBy
    latest: str = ""
    """The key of the request that was looked up last."""
    scores: Mapping[str, int] | None = None
    """The judge's, of the first answer: for its reason an instruction is dropped."""
    end: ExampleKept | ExampleDropped | None = None
    missing: str = ""
    is_shorter: bool = False
    """A later turn of its conversation has no stored outcome."""

    def note(self, events: Sequence[Event], key: str) -> None:
        """Takes in what the outcome of this key led to."""
        self.latest = key
        for event in events:
            match event:
                case AnswerJudged(number=number, turn=0):
                    self.made_by.answers[number] = key
                case AnswerScored(number=number, turn=0, scores=scores):
                    self.made_by.judgements[number] = key
                    self.scores = self.scores if number else scores
                case ExampleKept() | ExampleDropped():
                    self.end = event


class StoredSteps:
    """Owns the tasks of a run. `recipe`: the run's, with the filters and the judge's threshold to go by; `meaning`: the
    version of the rules of the filters.
    """

    def __init__(self, recipe: Recipe, roots: Sequence[Node], reader: StoredReader, meaning: int) -> None:
        self._recipe = recipe
        self._reader = reader
        self._book = PromptBook(recipe)
        self._kinds = kinds_of(recipe)
        self._requests = OutstandingRequests(recipe, rules_of(recipe).lags)
        tokenize = TOKENIZERS[recipe.tokenizer]
        check = partial(quality_check, recipe.filters, tokenize, language=recipe.language, meaning=meaning)
        self._checks = check(), check(instructions=False)
        nodes = [node for root in roots for node in below(root)]
        self._tasks = {node["id"]: _state_of(node, index) for index, node in enumerate(nodes)}

    def finish(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The same, each with what its stored outcomes make of it."""
        begun: dict[str, _Begun] = {}
        finisher = Finisher(self._recipe, _Unlimited(), *self._checks)
        for candidate in candidates:
            if candidate.example is None:
                continue
            row, task = candidate.example, self._tasks[candidate.task_id]
            task.demonstrations = tuple(candidate.shown)
            begun[row["id"]] = _Begun(candidate, MadeBy(candidate.request))
            finisher.begin(task, _example(row), _NEW, 0, [])
        while finisher.ready:
            self._step(finisher, begun)
        return [
            candidate if candidate.example is None else self._finished(begun[candidate.example["id"]])
            for candidate in candidates
        ]

    def _step(self, finisher: Finisher, begun: Mapping[str, _Begun]) -> None:
        """Takes in the stored outcomes of all steps that are due now."""
        steps: list[tuple[Request, TaskState, str]] = []
        while finisher.ready:
            step, task = finisher.take()
            request = self._requests.issue_step(step, task)
            self._requests.remove(request, task)
            steps.append((request, task, self._book.render(request).key))
        remaining = iter(steps)
        while some := list(islice(remaining, _AT_ONCE)):
            stored = self._reader.get_many([key for _, _, key in some])
            for request, task, key in some:
                one, item = begun[request.about], None
                if key in stored:
                    item = self._item(request, stored[key].outcome)
                elif request.turn < TURNS_A_ROUND:
                    one.missing = _LACKS.get(request.kind, "no_verdict")
                    continue
                else:  # the conversation ends there, as it does in a run where the request fails
                    one.is_shorter = True
                events: list[Event] = []
                finisher.commit(task, request, item, events)
                one.note(events, key)

    def _item(self, request: Request, outcome: Outcome) -> Item | None:
        if isinstance(outcome, Failure):
            return None
        if request.kind == checks.KIND:
            return checks.parse(outcome)
        return self._kinds[request.kind].parse(outcome, self._recipe)[0]

    def _finished(self, one: _Begun) -> Candidate:
        candidate, end = one.candidate, one.end
        assert candidate.example is not None
        match end:
            case ExampleKept(example=example, answer=number):
                path, domain = candidate.example["task_path"], self._tasks[candidate.task_id].domain
                row = example_line(example, number, path, self._recipe.domains[domain].system, one.made_by)
                return replace(candidate, example=row, request=row["request"], is_shorter=one.is_shorter)
            case ExampleDropped(verdict=verdict, example=Example(output=output)):
                row = {**candidate.example, "output": output}
                scores = {} if one.scores is None else {"scores": one.scores}
                return replace(candidate, example=row, late=verdict.reason, request=one.latest, evidence=scores)
            case _:
                return replace(candidate, late=one.missing)


def _state_of(node: Node, index: int) -> TaskState:
    task_id = str(node["id"])
    above = task_id.rpartition(".")[0] or None
    task = Task(task_id, node["name"], node["reason"], above, node["depth"], node["origin"])
    path = tuple(map(int, task_id.split(".")))
    return TaskState(path[0], PlaceInTree(task, path, None, breadth=0), Account(index, node["depth"], None))


def _example(row: ExampleRow) -> Example:
    source: dict[str, str] = {name: row[name] for name in SOURCE if name in row}
    return Example(row["id"], row["task_id"], 0, row["instruction"], row["input"], row["output"], source=source)


def finished(run: Collection, recipe: Recipe, meaning: int) -> Iterator[list[Candidate]]:
    """All candidates of a run whose instructions have requests of their own, by batches; `recipe` and `meaning` as for
    `StoredSteps`. Those that lack a stored outcome come last, so that they stand in the way of no other.
    """
    assert run.completions is not None
    lacking: set[str] = set()
    with StoredReader(run.completions) as reader:
        steps = StoredSteps(recipe, run.trees(), reader, meaning)
        for batch in batches_of(read_candidates(run)):
            whole = []
            for candidate in steps.finish(batch):
                if candidate.example is not None and candidate.late in LACKING:
                    lacking.add(candidate.example["id"])
                else:
                    whole.append(candidate)
            yield whole
        again = (one for one in read_candidates(run) if one.example is not None and one.example["id"] in lacking)
        yield from map(steps.finish, batches_of(again))


def by_threshold(candidate: Candidate, threshold: float) -> Candidate:
    """The same by the scores in its row: with the best answer that reaches the threshold, or else to be dropped."""
    row = candidate.example
    if row is None:
        return candidate
    answers = row.get("answers")
    scored = [answer for answer in (answers if isinstance(answers, list) else [row]) if scores_in(answer)]
    if not scored:
        return replace(candidate, late=NOT_SCORED)
    passed = [answer for answer in scored if min(scores_in(answer).values()) >= threshold]
    if not passed:
        return replace(candidate, late="low_score", evidence={"scores": scored[0]["scores"]})
    best = max(passed, key=lambda answer: sum(scores_in(answer).values()))
    if best["output"] == row["output"]:
        return candidate
    chosen = {name: best[name] for name in ("output", "scores", "request") if name in best}
    other = {name: value for name, value in row.items() if name not in {"judge_request", "messages"}}  # of that answer
    return replace(candidate, example={**other, **chosen}, request=chosen.get("request", candidate.request))


def scores_in(answer: object) -> Mapping[str, float]:
    """The judge's scores in a row or in one of its answers; empty where there are none."""
    scores = answer.get("scores") if isinstance(answer, Mapping) else None
    is_sound = isinstance(scores, Mapping) and all(isinstance(score, int | float) for score in scores.values())
    return scores if isinstance(scores, Mapping) and is_sound else {}
