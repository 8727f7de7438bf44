"""Brings kept instructions to examples, by requests of their own: answers, the user's checks, and a judge's scores.

A kept instruction takes a place of its task's quota. Each of its requests is a step, and which step follows depends on
the outcomes of the earlier ones alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

from explore_async.exploration import checks, prompt_values
from explore_async.exploration.account import Account
from explore_async.exploration.final_answers import vote_of
from explore_async.exploration.kinds import ANSWER, FOLLOW_UP, JUDGE, Item
from explore_async.exploration.parsing import AnswerDraft, Checked, ExampleDraft, Scores, Unreadable
from explore_async.exploration.task_state import TaskState
from explore_async.exploration.values import (
    Answer,
    AnswerChecked,
    AnswerJudged,
    AnswerScored,
    Demonstration,
    Event,
    Example,
    ExampleDropped,
    ExampleKept,
    FollowUpJudged,
    InstructionKept,
    Message,
    Request,
    TaskExhausted,
    Verdict,
    example_of,
)
from explore_async.settings.recipe import Recipe

_JUDGEMENTS: Final = 3
"""Times that a judge is asked about an answer before it counts as one that cannot be read."""
TURNS_A_ROUND: Final = 10_000
"""More than the requests of a kind about one round of a conversation."""
_MOST_ANSWERS: Final = 16
"""At least as many as a recipe can have for an instruction."""
_PASSED: Final = Verdict(kept=True, reason="accepted")


class Step(NamedTuple):
    """A request about a kept instruction that is not issued yet. `after`: the due of the one that led to it."""

    kind: str
    about: str
    turn: int
    values: dict[str, Any]
    after: int


@dataclass(slots=True)
class _Answer:
    """An answer to an instruction: `verdict` is None until it is decided."""

    text: str = ""
    verdict: Verdict | None = None
    scores: Mapping[str, int] = field(default_factory=dict)
    checked: int = 0
    """Checks that have looked at it."""

    @property
    def is_kept(self) -> bool:
        return self.verdict is not None and self.verdict.kept


@dataclass(slots=True)
class _Round:
    """A question of the user, and its answers so far. The first is the instruction; later ones have one answer."""

    question: str
    answers: list[_Answer]

    @property
    def is_decided(self) -> bool:
        return all(answer.verdict is not None for answer in self.answers)

    @property
    def best(self) -> int | None:
        """The number of the kept answer with the highest scores, of equal ones the first; None where none is kept."""
        kept = [number for number, answer in enumerate(self.answers) if answer.is_kept]
        return max(kept, key=lambda number: sum(self.answers[number].scores.values()), default=None)


@dataclass(slots=True)
class _Unfinished:
    """A kept instruction with its conversation so far."""

    example: Example
    verdict: Verdict
    rounds: list[_Round]

    def messages(self) -> list[Message]:
        """The conversation from the first question to the last one, or to its answer where that is decided."""
        found: list[Message] = []
        for number, one in enumerate(self.rounds):
            text = "\n\n".join(filter(None, (one.question, "" if number else self.example.input)))
            found.append({"role": "user", "content": text})
            if one.is_decided and one.best is not None:
                found.append({"role": "assistant", "content": one.answers[one.best].text})
        return found


class _Place(NamedTuple):
    """The place of a step in a conversation, and in the turns of requests of its kind about the example."""

    round: int
    number: int
    attempt: int = 0

    @property
    def turn(self) -> int:
        """The same however many answers there are: so more of them ask for no request again."""
        return self.round * TURNS_A_ROUND + self.attempt * _MOST_ANSWERS + self.number


class Places(Protocol):
    """Counts the instructions of each task that are taken on, and what became of them."""

    def began_one(self, account: Account) -> None:
        """An instruction is taken on."""

    def finished_one(self, account: Account, *, kept: bool) -> bool:
        """It is an example, or dropped. Returns True when its task is exhausted by that."""


class Finisher:
    """Owns the kept instructions that are no examples yet, and the steps that wait to be issued.

    `reason_to_drop`: the quality filters, given an example as a draft and the demonstrations of its prompt;
    `reason_to_drop_later`: those for later rounds of a conversation, as drafts. `votes`: of several answers the first
    of those with the final answer of most is the best.
    """

    def __init__(
        self,
        recipe: Recipe,
        places: Places,
        reason_to_drop: Callable[[ExampleDraft, Sequence[Demonstration]], str | None],
        reason_to_drop_later: Callable[[ExampleDraft, Sequence[Demonstration]], str | None],
        *,
        votes: bool = False,
    ) -> None:
        self._recipe = recipe
        self._votes = votes
        self._places = places
        self._reason_to_drop = reason_to_drop
        self._reason_to_drop_later = reason_to_drop_later
        self._unfinished: dict[str, _Unfinished] = {}
        self._waiting: deque[tuple[Step, TaskState]] = deque()

    def __len__(self) -> int:
        """Kept instructions that are no examples yet."""
        return len(self._unfinished)

    @property
    def ready(self) -> bool:
        """True when a step waits to be issued."""
        return bool(self._waiting)

    def take(self) -> tuple[Step, TaskState]:
        """The step to issue now, and its task."""
        return self._waiting.popleft()

    def begin(self, task: TaskState, example: Example, verdict: Verdict, due: int, events: list[Event]) -> None:
        """Takes in an instruction that is new. `due`: of the request that brought it."""
        events.append(InstructionKept(example, verdict))
        self._places.began_one(task.account)
        is_separate = self._recipe.responses == "separate"
        count = self._recipe.answers_per_instruction if is_separate else 1
        answers = [_Answer(example.output) for _ in range(count)]
        one = self._unfinished[example.id] = _Unfinished(example, verdict, [_Round(example.instruction, answers)])
        for number in range(count):
            if is_separate:
                self._ask_answer(task, one, number, due)
            else:
                self._go_on(task, one, number, due)
        if one.rounds[0].is_decided:  # given with the instruction, and nothing looks at it
            self._ask_follow_up(task, one, due)

    def _ask_answer(self, task: TaskState, one: _Unfinished, number: int, due: int) -> None:
        example, place = one.example, _Place(len(one.rounds) - 1, number)
        values = prompt_values.for_answer(self._recipe, task, example.instruction, example.input)
        if history := tuple(one.messages()[1:]):
            values["history"] = history
        self._add(task, one, ANSWER.name, place, values, due)

    def _go_on(self, task: TaskState, one: _Unfinished, number: int, due: int) -> None:
        """The answer has passed so far: the next check looks at it, then the judge, and then it is kept."""
        latest = one.rounds[-1]
        answer, place = latest.answers[number], _Place(len(one.rounds) - 1, number)
        if answer.checked < len(self._recipe.checks):
            values = checks.values_for(self._recipe, task, one.example, answer.text, answer.checked)
            if place.round:
                values["example"]["messages"] = one.messages()
            self._add(task, one, checks.KIND, place._replace(attempt=answer.checked), values, due)
        elif self._recipe.judge is not None:
            self._judge(task, one, place, due)
        else:
            answer.verdict = _PASSED

    def _judge(self, task: TaskState, one: _Unfinished, place: _Place, due: int) -> None:
        question, text = one.example.instruction, one.example.input
        if place.round:
            shown = (f"{message['role'].capitalize()}: {message['content']}" for message in one.messages())
            question, text = "\n\n".join(shown), ""
        answer = one.rounds[place.round].answers[place.number]
        values = prompt_values.for_judge(self._recipe, question, text, answer.text)
        self._add(task, one, JUDGE.name, place, values, due)

    def _ask_follow_up(self, task: TaskState, one: _Unfinished, due: int) -> None:
        values = prompt_values.for_follow_up(one.messages())
        self._add(task, one, FOLLOW_UP.name, _Place(len(one.rounds), 0), values, due)

    def _add(  # noqa: PLR0917 - the parts of a step
        self, task: TaskState, one: _Unfinished, kind: str, place: _Place, values: dict[str, Any], due: int
    ) -> None:
        self._waiting.append((Step(kind, one.example.id, place.turn, values, due), task))

    def commit(self, task: TaskState, request: Request, item: Item | None, events: list[Event]) -> bool:
        """Takes in the outcome of a step. `item`: of its completion; None where there is none. Returns True when the
        instruction becomes no example, so that its place is free again.
        """
        one = self._unfinished[request.about]
        if request.kind == FOLLOW_UP.name:
            self._take_follow_up(task, one, request, item, events)
            return False
        attempt, number = divmod(request.turn % TURNS_A_ROUND, _MOST_ANSWERS)
        place = _Place(len(one.rounds) - 1, number, attempt)
        if request.kind == ANSWER.name:
            self._take_answer(task, one, place, request, item, events)
        elif request.kind == checks.KIND:
            self._take_check(task, one, place, request, item, events)
        else:
            self._take_scores(task, one, place, request, item, events)
        latest = one.rounds[-1]
        if not latest.is_decided:
            return False
        if latest.best is not None and len(one.rounds) < self._recipe.turns:
            self._ask_follow_up(task, one, request.due)
            return False
        return not self._finish(task, one, request, events)

    def _take_follow_up(
        self, task: TaskState, one: _Unfinished, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        """The next question of the user. Where it is none, the conversation ends, and stays an example."""
        reason = "failed" if item is None else None
        if isinstance(item, Unreadable):
            reason = item.reason
        elif isinstance(item, AnswerDraft):
            words = " ".join(item.text.casefold().split())
            if any(words == " ".join(earlier.question.casefold().split()) for earlier in one.rounds):
                reason = "repeated"
            elif len(words.split()) > self._recipe.filters.max_instruction_words:
                reason = "too_long"
        verdict = _PASSED if reason is None else Verdict(kept=False, reason=reason)
        events.append(FollowUpJudged(one.example.id, task.task.id, len(one.rounds), request.ordinal, verdict))
        if verdict.kept and isinstance(item, AnswerDraft):
            one.rounds.append(_Round(item.text, [_Answer()]))
            self._ask_answer(task, one, 0, request.due)
        else:
            self._finish(task, one, request, events)

    def _take_answer(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, place: _Place, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        latest, example = one.rounds[-1], one.example
        answer = latest.answers[place.number]
        reason: str | None = "failed"
        if isinstance(item, Unreadable):
            reason = item.reason
        elif isinstance(item, AnswerDraft):
            answer.text = item.text
            check = self._reason_to_drop_later if place.round else self._reason_to_drop
            draft = ExampleDraft(latest.question, "" if place.round else example.input, item.text)
            reason = check(draft, task.demonstrations)
        verdict = _PASSED if reason is None else Verdict(kept=False, reason=reason)
        events.append(AnswerJudged(example.id, task.task.id, place.number, request.ordinal, verdict, turn=place.round))
        if verdict.kept:
            self._go_on(task, one, place.number, request.due)
        else:
            answer.verdict = verdict

    def _take_check(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, place: _Place, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        answer = one.rounds[-1].answers[place.number]
        name = self._recipe.checks[answer.checked].name
        if isinstance(item, Checked):
            verdict, detail = (_PASSED if item.ok else Verdict(kept=False, reason=f"check:{name}")), item.reason
        else:
            words = (
                item.excerpt if isinstance(item, Unreadable) and item.reason == "unchecked" else "its answer is no JSON"
            )
            verdict, detail = Verdict(kept=False, reason="not_checked"), "" if item is None else words
        about = one.example.id, task.task.id, place.number, request.ordinal
        events.append(AnswerChecked(*about, name, verdict, detail, turn=place.round))
        answer.checked += 1
        if verdict.kept:
            self._go_on(task, one, place.number, request.due)
        else:
            answer.verdict = verdict

    def _take_scores(  # noqa: PLR0917 - the parts of one step
        self, task: TaskState, one: _Unfinished, place: _Place, request: Request, item: Item | None, events: list[Event]
    ) -> None:
        assert self._recipe.judge is not None
        answer, threshold = one.rounds[-1].answers[place.number], self._recipe.judge.threshold
        if isinstance(item, Scores):
            answer.scores = item.of
            enough = threshold is None or min(item.of.values()) >= threshold
            answer.verdict = _PASSED if enough else Verdict(kept=False, reason="low_score")
        elif place.attempt + 1 < _JUDGEMENTS:
            self._judge(task, one, place._replace(attempt=place.attempt + 1), request.due)
            return
        else:
            answer.verdict = Verdict(kept=threshold is None, reason="not_judged")
        about = one.example.id, task.task.id, place.number, request.ordinal
        events.append(AnswerScored(*about, answer.scores, answer.verdict, turn=place.round))

    def _finish(self, task: TaskState, one: _Unfinished, request: Request, events: list[Event]) -> bool:
        """It is an example, by the best answer to its instruction, or dropped for the reason of the first. Returns True
        for an example.
        """
        del self._unfinished[one.example.id]
        first = one.rounds[0]
        best = first.best
        if self._votes and best is not None:
            kept = {number: answer.text for number, answer in enumerate(first.answers) if answer.is_kept}
            best = vote_of(kept).number
        if best is not None:
            answers = tuple(
                Answer(number, answer.text, answer.scores)
                for number, answer in enumerate(first.answers)
                if answer.is_kept or answer.scores
            )
            messages = () if self._recipe.turns == 1 else tuple(one.messages())
            if messages and messages[-1]["role"] == "user":  # its answer did not pass
                messages = messages[:-1]
            example = replace(one.example, output=first.answers[best].text, answers=answers, messages=messages)
            events.append(ExampleKept(example, one.verdict, best))
        else:
            answer = first.answers[0]
            assert answer.verdict is not None
            task.dropped += 1
            example = replace(one.example, output=answer.text)
            events.append(ExampleDropped(task.task.id, request.ordinal, answer.verdict, example))
        if self._places.finished_one(task.account, kept=best is not None):
            events.append(TaskExhausted(task.task.id))
        return best is not None

    # -- checkpoints

    def state(self) -> dict[str, Any]:
        """The state that `restore` needs, as JSON holds it. It shares nothing with what later commits change."""

        def copied(one: _Unfinished) -> _Unfinished:
            rounds = [replace(each, answers=list(map(replace, each.answers))) for each in one.rounds]
            return replace(one, rounds=rounds)

        return {
            "unfinished": list(map(copied, self._unfinished.values())),
            "waiting": [[step.kind, task.account.index, *step[1:]] for step, task in self._waiting],
        }

    def restore(self, state: Mapping[str, Any], tasks: Sequence[TaskState]) -> None:
        """Brings a new one to this state. `tasks` by number, all restored."""
        for fields in state["unfinished"]:
            rounds = [
                _Round(one["question"], [_answer(answer) for answer in one["answers"]]) for one in fields["rounds"]
            ]
            one = _Unfinished(example_of(fields["example"]), Verdict(**fields["verdict"]), rounds)
            self._unfinished[one.example.id] = one
        for name, index, about, turn, values, after in state["waiting"]:
            self._waiting.append((Step(name, about, turn, values, after), tasks[index]))


def _answer(fields: Mapping[str, Any]) -> _Answer:
    verdict = fields["verdict"]
    return _Answer(fields["text"], None if verdict is None else Verdict(**verdict), fields["scores"], fields["checked"])
