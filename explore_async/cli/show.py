"""`explore-async tree` and `show`: a run in the terminal, finished or in progress. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from explore_async.curation.collections.collection import below
from explore_async.curation.collections.copies import Copied
from explore_async.curation.collections.documents import Decision, check
from explore_async.curation.collections.evidence import (
    EvidenceRows,
    evidence_document,
    find_dropped,
    find_evidence,
    find_request,
    request_document,
)
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.collections.shown_turns import shown_turns
from explore_async.curation.collections.steps import Step
from explore_async.curation.paraphrases import PARAPHRASE
from explore_async.errors import ConfigError, DataError
from explore_async.exploration.kinds import label_of
from explore_async.exploration.values import SOURCE, Completion
from explore_async.storage.rows import StoredRequest
from explore_async.terminal.counts import counted
from explore_async.terminal.text import printable, printable_lines

_DUPLICATE = "duplicate"
"""The reason that every run knows."""
_NO_KEY = "-"
_LONGEST_NAME = 100
_LONGEST_EXCERPT = 300
_TEXTS = ("instruction", "input", "output")
_REASONS = {
    "truncated": "the completion did not end by itself: see its finish reason",
    "low_score": "the judge gave a score below the threshold",
    PARAPHRASE: "it says the same as one before it in other words",
    "not_judged": "the judge gave no scores that could be read",
    "not_checked": "a check of yours gave no answer",
    "failed": "the request for its answer failed for good",
    "unanswered": "it has no output to score",
}


def tree(run: RunData, console: Console, *, depth: int | None = None) -> None:
    """Prints each task with its kept examples, those of its branch, and the share that was kept."""
    for root in run.trees():
        console.print(_branch(root, depth))


def _branch(root: Mapping[str, Any], depth: int | None) -> Tree:
    def add(node: Mapping[str, Any], above: Tree | None) -> Tree:
        label = _label(node)
        branch = Tree(label) if above is None else above.add(label)
        if depth is None or node["depth"] < depth:
            for child in node["children"]:
                add(child, branch)
        elif node["children"]:
            branch.add(Text(f"… {counted(sum(1 for _ in below(node)) - 1, 'task')}", style="dim"))
        return branch

    return add(root, None)


def _label(node: Mapping[str, Any]) -> Text:
    label = Text(f"{node['id']} ", style="dim")
    label.append(printable(node["name"], _LONGEST_NAME), style="cyan" if label_of(node["origin"]) else "default")
    if "shard" in node:
        return label.append(f"  in shard {node['shard']}", style="dim")
    read = node["kept"] + node["dropped"]
    label.append(f"  {node['kept']} kept", style="bold")
    if node["children"]:
        label.append(f", {sum(task['kept'] for task in below(node))} in the branch", style="dim")
    if read:
        label.append(f", {node['kept'] / read:.0%} of {read} read", style="dim")
    for mark in (label_of(node["origin"]), "exhausted" if node["exhausted"] else ""):
        if mark:
            label.append(f", {mark}", style="dim")
    return label


def show(run: RunData, item_id: str, console: Console) -> None:
    """Prints a task or an example by its id, with the decision, its reason, the prompt and the completion; or a request
    by its key. Raises DataError where the run has none of them.
    """
    with _damage(run, item_id):
        evidence = _find(run, item_id)
        if isinstance(evidence, StoredRequest):
            _show_request(evidence, console)
            return
        decision = evidence.decision
        if decision is None:
            rows = _task(evidence.task) if evidence.example is None else _taken_over(evidence.example)
        else:
            check(decision, Decision, f"{run.path / 'decisions.jsonl'}, {item_id}")
            subject = _task(evidence.task) if decision["what"] == "task" else _example(decision, evidence)
            example = evidence.example or {}
            subject = chain(subject, [("earlier output", example.get("earlier_output"))])
            subject = chain(subject, _scores("scores", example.get("scores")))
            copied = [] if evidence.copied is None else [("output is", _copied(evidence.copied))]
            rows = chain(subject, _decision(decision, evidence.nearest), copied)
        for name, value in rows:
            _print(console, name, value)
        if evidence.mark is not None:
            _print(console, "marked", ": ".join(filter(None, (evidence.mark.mark, evidence.mark.note))))
        if evidence.steps:
            _show_steps(evidence.steps, console)
        elif evidence.stored is not None:
            _show_request(evidence.stored, console)


def show_document(run: RunData, item_id: str) -> dict[str, Any]:
    """The same for JSON."""
    with _damage(run, item_id):
        evidence = _find(run, item_id)
        return (
            request_document(evidence) if isinstance(evidence, StoredRequest) else evidence_document(evidence, item_id)
        )


def dropped_document(run: RunData, reason: str | None) -> dict[str, Any]:
    """All that was dropped for this reason, None for any, and the number of each reason; for JSON.

    Raises ConfigError for a reason that is not among those of the run.
    """
    with _damage(run, "what was dropped"):
        dropped = find_dropped(run, reason)
        if reason not in {None, _DUPLICATE, *dropped.counts} and dropped.counts:
            known = ", ".join(map(printable, dropped.counts))
            raise ConfigError(
                f"--dropped {reason}: nothing in {run.path} was dropped for it; the reasons are {known}, or all"
            )
        return {"dropped": dropped.rows, "counts": dropped.counts, "tasks": dropped.tasks}


def show_dropped(run: RunData, document: Mapping[str, Any], console: Console) -> None:
    """Prints what was dropped: the text, the reason, and the nearest text where there is one."""
    with _damage(run, "what was dropped"):
        for row in document["dropped"]:
            _show_dropped(row, console)


def dropped_counts(document: Mapping[str, Any]) -> str:
    """Everything that was dropped, in a few words: examples and tasks apart, as in stats.json."""
    tasks = document["tasks"]
    examples = {reason: count - tasks.get(reason, 0) for reason, count in document["counts"].items()}
    parts = []
    for what, counts in (("example", examples), ("task", tasks)):
        if number := sum(counts.values()):
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
            parts.append(f"{counted(number, what)} ({reasons})")
    return "; ".join(parts) or "nothing"


def _show_dropped(row: Mapping[str, Any], console: Console) -> None:
    """Begins with what `show` finds: the id, or the key of the request that brought what has no id."""
    head = Text(printable(str(row.get("id") or row.get("request") or _NO_KEY)), style="dim")
    console.print(head + Text(f"  {_what(row)}, {_reason(row)}", style="bold"), soft_wrap=True)
    text = row.get("instruction") or row.get("name") or row.get("excerpt") or ""
    console.print(Text(f"  {printable(text, _LONGEST_EXCERPT)}"), soft_wrap=True)
    for answer in row.get("answers", ()):
        said = ": ".join([str(answer.get("reason")), *(value for _, value in _scores("", answer.get("scores")))])
        output = printable(answer.get("output") or "", _LONGEST_EXCERPT)
        about = printable(f"answer {answer['answer']} ({said})")
        console.print(Text(f"  {about}: {output}", style="dim"), soft_wrap=True)
        if why := answer.get("why"):
            console.print(Text(f"    because: {printable(why, _LONGEST_EXCERPT)}", style="dim"), soft_wrap=True)
    if near := row.get("text") or row.get("nearest_text"):
        console.print(Text(f"  near: {printable(near, _LONGEST_EXCERPT)}", style="dim"), soft_wrap=True)
    if (parts := row.get("copied")) is not None:
        copied = printable(_copied(Copied(**parts)), _LONGEST_EXCERPT)
        console.print(Text(f"  output: {copied}", style="dim"), soft_wrap=True)


def _what(row: Mapping[str, Any]) -> str:
    if row.get("id"):
        return str(row["what"])
    place = f"below {row['parent']}" if row.get("parent") else f"of task {row['task_id']}" if row.get("task_id") else ""
    return printable(f"{row['what']} {place}".rstrip())


def _reason(row: Mapping[str, Any]) -> str:
    nearest = row.get("nearest") or (f"{row['benchmark']}, row {row.get('row')}" if "benchmark" in row else None)
    score = f", {_measure(row)} {row['score']:.3f}" if "score" in row else ""
    return printable(f"{row['reason']}{score}{f' with {nearest}' if nearest else ''}")


def _measure(row: Mapping[str, Any]) -> str:
    return "cosine" if row["reason"] == PARAPHRASE else "ROUGE-L F"


@contextmanager
def _damage(run: RunData, what: str) -> Iterator[None]:
    """Names evidence that has another form than a run writes."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{run.path}: the evidence of {what} is damaged or not from a run: {error!r}") from error


def _find(run: RunData, item_id: str) -> EvidenceRows | StoredRequest:
    evidence = find_evidence(run, item_id) or find_request(run, item_id)
    if evidence is None:
        raise DataError(
            f"{run.path}: no task and no example has the id {item_id!r}, and no request has this key; "
            "`explore-async tree` lists the tasks, and each line of dataset.jsonl and decisions.jsonl has an id"
        )
    return evidence


def _taken_over(example: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """An example from elsewhere, without a decision."""
    yield "id", example["id"]
    yield "task_path", " > ".join(example["task_path"])
    yield from shown_turns(example) or ((name, example[name]) for name in _TEXTS)


def _task(node: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    if node is not None:
        yield "task", f"{node['id']}: {node['name']}"
        yield "reason", node["reason"]
        yield "by", node["origin"]
        yield "criterion", node.get("criterion")
        for criterion, values in node.get("facets", {}).items():
            yield "facet", f"{criterion}: {', '.join(values)}"
        yield "examples", f"{node['kept']} kept, {node['dropped']} dropped, of {counted(node['answers'], 'completion')}"
        yield "sub-tasks", ", ".join(f"{child['id']} {child['name']}" for child in node["children"])


def _example(decision: Mapping[str, Any], evidence: EvidenceRows) -> Iterator[tuple[str, Any]]:
    row = decision if evidence.example is None or not decision["kept"] else evidence.example
    if evidence.draft is not None:
        row = {**row, **asdict(evidence.draft)}
    yield "example", decision["id"]
    yield "task", " > ".join(row.get("task_path") or evidence.task_path) or decision["task_id"]
    if evidence.example is not None and (turns := shown_turns(evidence.example)):
        yield from turns
        return
    for name in (*SOURCE, "system", *_TEXTS, "excerpt"):
        yield name, _facets(row.get(name)) if name == "facets" else row.get(name)
    if decision["what"] == "instruction":
        yield "waits", "it is no example yet: it waits for an answer or a verdict"


def _facets(facets: Sequence[Mapping[str, str]] | None) -> str | None:
    return "; ".join(f"{facet['criterion']}: {facet['value']}" for facet in facets) if facets else None


def _decision(decision: Mapping[str, Any], nearest: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    verdict = "kept" if decision["kept"] else "dropped"
    meaning = f" ({said})" if (said := _REASONS.get(decision["reason"])) else ""
    yield "decision", f"{verdict}: {decision['reason']}{meaning}"
    if "benchmark" in decision:
        score = f"ROUGE-L F {decision['score']:.3f}" if "score" in decision else f"in common: {decision['ngram']}"
        yield "close to", f"{decision['benchmark']}, row {decision['row']} ({score}): {decision['text']}"
    if nearest_id := decision.get("nearest"):
        yield "score", f"{_measure(decision)} {decision['score']:.3f} with the nearest"
        yield "nearest", f"{nearest_id}: {nearest['instruction']}" if nearest is not None else nearest_id


def _scores(name: str, scores: object) -> Iterator[tuple[str, Any]]:
    """A judge's, where there are some."""
    if isinstance(scores, Mapping) and scores:
        yield name, ", ".join(f"{aspect} {score}" for aspect, score in scores.items())


def _show_steps(steps: Sequence[Step], console: Console) -> None:
    """The requests that made an example, in their order, each with its verdict."""
    for step in steps:
        line = step.line
        what = {
            "scores": "judge of answer",
            "preference": f"{line.get('judge')} in the order {line.get('order')}",
            "check": f"check {line.get('check')} of answer",
        }.get(step.what, step.what)
        number = f" {line['answer']}" if "answer" in line else ""
        number += f" in turn {line['turn']}" if "turn" in line else ""
        verdict = line.get("preferred") or "passed" if line.get("kept") else f"dropped: {line.get('reason')}"
        console.print(Text(f"\n{printable(f'{what}{number}')}, {printable(verdict)}", style="bold underline"))
        for name, value in chain(_scores("scores", step.scores), [("its reason", step.why)]):
            _print(console, name, value)
        if step.stored is not None:
            _show_request(step.stored, console)


def _copied(copied: Copied) -> str:
    return f"a copy of {copied.said}: {copied.text}"


def _show_request(stored: StoredRequest, console: Console) -> None:
    """The prompt and the completion, or the failure."""
    _print(console, "request", f"{stored.key} ({stored.kind})")
    for message in stored.question["messages"]:
        _print(console, printable(message["role"]), message["content"], below=True)
    outcome = stored.outcome
    if isinstance(outcome, Completion):
        _print(console, "reasoning", outcome.reasoning, below=True)
        _print(console, "completion", outcome.text or "(empty)", below=True)
        _print(console, "finish reason", outcome.finish_reason)
        tokens = f"{outcome.prompt_tokens} read ({outcome.cached_tokens} cached), {outcome.completion_tokens} written"
        _print(console, "tokens", f"{tokens}, in {outcome.latency_s:.1f} s at {outcome.endpoint}")
    else:
        _print(console, "failed", f"{outcome.kind}: {outcome.detail}", below=True)


def _print(console: Console, name: str, value: Any, *, below: bool = False) -> None:
    """Prints a name and its value, with the line breaks and the indentation of the value. A value of several lines
    stands below its name; `below` puts one line there too.
    """
    if value in (None, ""):
        return
    lines = printable_lines(str(value))
    body = "".join(f"\n  {line}" for line in lines) if below or len(lines) > 1 else f"  {lines[0]}"
    console.print(Text(name, style="bold") + Text(body, style="not bold"), soft_wrap=True)
