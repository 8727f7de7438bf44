"""`explore-async tree`, `show` and `stats`: a run in the terminal, finished or under way. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from explore_async.curation.collections.collection import below
from explore_async.curation.collections.documents import Decision, check
from explore_async.curation.collections.run_data import RunData
from explore_async.errors import DataError
from explore_async.exploration.values import Completion
from explore_async.storage.completions import read_stored
from explore_async.terminal.text import printable

_LONGEST_NAME = 100
_LONGEST_VALUE = 10_000
_EXAMPLE_FIELDS = ("id", "task_path", "instruction", "input", "output")


def tree(run: RunData, console: Console, *, depth: int | None = None) -> None:
    """Each task with its kept examples, those of its whole branch, and the share that was kept."""
    for root in run.trees():
        console.print(_branch(root, depth))


def _branch(root: Mapping[str, Any], depth: int | None) -> Tree:
    def grown(node: Mapping[str, Any], above: Tree | None) -> Tree:
        label = _label(node)
        branch = Tree(label) if above is None else above.add(label)
        if depth is None or node["depth"] < depth:
            for child in node["children"]:
                grown(child, branch)
        elif node["children"]:
            branch.add(Text(f"… {sum(1 for _ in below(node)) - 1} tasks", style="dim"))
        return branch

    return grown(root, None)


def _label(node: Mapping[str, Any]) -> Text:
    label = Text(f"{node['id']} ", style="dim")
    label.append(printable(node["name"], _LONGEST_NAME), style="cyan" if node["origin"] == "backtrack" else "default")
    read = node["kept"] + node["dropped"]
    label.append(f"  {node['kept']} kept", style="bold")
    if node["children"]:
        label.append(f", {sum(one['kept'] for one in below(node))} in the branch", style="dim")
    if read:
        label.append(f", {node['kept'] / read:.0%} of {read} read", style="dim")
    for mark in ("backtracking" if node["origin"] == "backtrack" else "", "exhausted" if node["exhausted"] else ""):
        if mark:
            label.append(f", {mark}", style="dim")
    return label


def show(run: RunData, wanted: str, console: Console) -> None:
    """A task or an example by its id: what it is, what was decided and why, the prompt and the raw answer; or a request
    by its key. Raises DataError where the run has none of them.
    """
    try:
        _show(run, wanted, console)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{run.path}: the evidence of {wanted} is not what a run writes: {error!r}") from error


def _show(run: RunData, wanted: str, console: Console) -> None:
    decision = next((line for line in run.decisions() if line.get("id") == wanted), None)
    if decision is None and (_request(run, wanted, console) if run.is_run else _undecided(run, wanted, console)):
        return
    if decision is None:
        raise DataError(
            f"{run.path}: no task and no example has the id {wanted!r}, nor a request that key; `explore-async tree` "
            "lists the tasks, and each line of dataset.jsonl and decisions.jsonl has its id"
        )
    check(decision, Decision, f"{run.path / 'decisions.jsonl'}, {wanted}")
    rows = _task(run, wanted) if decision["what"] == "task" else _example(run, decision)
    for name, value in (*rows, *_decision(run, decision)):
        _print(console, name, value)
    if key := decision.get("request"):
        _request(run, str(key), console)


def _undecided(run: RunData, wanted: str, console: Console) -> bool:
    """A task or an example that was taken over from elsewhere, without evidence; whether there is one."""
    example = _kept(run, wanted)
    rows = list(_task(run, wanted)) if example is None else [(name, example[name]) for name in _EXAMPLE_FIELDS]
    for name, value in rows:
        _print(console, name, " > ".join(value) if isinstance(value, list) else value)
    return bool(rows)


def _task(run: RunData, wanted: str) -> Iterator[tuple[str, Any]]:
    node = next((node for root in run.trees() for node in below(root) if node["id"] == wanted), None)
    if node is not None:
        yield "task", f"{node['id']}: {node['name']}"
        yield "reason", node["reason"]
        yield "by", node["origin"]
        yield "examples", f"{node['kept']} kept, {node['dropped']} dropped, of {node['answers']} answers"
        yield "sub-tasks", ", ".join(f"{child['id']} {child['name']}" for child in node["children"])


def _example(run: RunData, decision: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    kept = _kept(run, decision["id"]) if decision["kept"] else None
    row = decision if kept is None else kept
    yield "example", decision["id"]
    yield "task", " > ".join(row.get("task_path", [])) or decision["task_id"]
    for name in ("instruction", "input", "output", "excerpt"):
        yield name, row.get(name)


def _kept(run: RunData, wanted: str) -> Mapping[str, Any] | None:
    return next((row for row in run.examples() if row["id"] == wanted), None)


def _decision(run: RunData, decision: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "decision", f"{'kept' if decision['kept'] else 'dropped'}: {decision['reason']}"
    if "benchmark" in decision:
        score = f"ROUGE-L F {decision['score']:.3f}" if "score" in decision else f"in common: {decision['ngram']}"
        yield "close to", f"{decision['benchmark']}, row {decision['row']} ({score}): {decision['text']}"
    if nearest := decision.get("nearest"):
        yield "score", f"ROUGE-L F {decision['score']:.3f} with the nearest"
        neighbour = _kept(run, nearest)
        yield "nearest", f"{nearest}: {neighbour['instruction']}" if neighbour is not None else nearest


def _request(run: RunData, key: str, console: Console) -> bool:
    """Prompt and answer; whether they are stored."""
    stored = None if run.completions is None else read_stored(run.completions, key)
    if stored is None:
        return False
    _print(console, "request", f"{key} ({stored.kind})")
    for message in stored.question["messages"]:
        _print(console, printable(message["role"]), message["content"], whole=True)
    outcome = stored.outcome
    if isinstance(outcome, Completion):
        _print(console, "answer", outcome.text, whole=True)
        tokens = f"{outcome.prompt_tokens} read ({outcome.cached_tokens} cached), {outcome.completion_tokens} written"
        _print(console, "tokens", f"{tokens}, in {outcome.latency_s:.1f} s at {outcome.endpoint}")
    else:
        _print(console, "failed", f"{outcome.kind}: {outcome.detail}", whole=True)
    return True


def _print(console: Console, name: str, value: Any, *, whole: bool = False) -> None:
    """`whole`: with its line breaks, and only what could steer a terminal replaced."""
    if value in (None, ""):
        return
    if whole:
        body = "".join(f"\n  {printable(line, most=len(line) + 1)}" for line in str(value).split("\n"))
    else:
        body = f"  {printable(str(value), _LONGEST_VALUE)}"
    console.print(Text(name, style="bold") + Text(body, style="not bold"), soft_wrap=True)
