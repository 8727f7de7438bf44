"""The summary at the end of a run: the reason of its end, its results, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from explore_async.cli.output import MADE_UP
from explore_async.exploration.checks import KIND as CHECK
from explore_async.exploration.items import UNREADABLE
from explore_async.exploration.kinds import KINDS, label_of
from explore_async.exploration.scores import mean_score
from explore_async.running.cures import FITTING, RETRY_FAILED
from explore_async.running.endpoint_status import SLOW_FROM
from explore_async.running.observer import duration
from explore_async.running.result import FINISHED, RunResult, RunStats
from explore_async.running.tally import RequestCounts
from explore_async.serving.endpoints.values import EndpointStatistics
from explore_async.terminal.counts import counted
from explore_async.terminal.text import printable

_ENDINGS = {
    "target": "the target is reached",
    "complete": "every task has its examples or is exhausted",
    "token_budget": "the token budget is used up",
    "wall_time": "the wall time is over; the same command continues the run",
    "interrupted": "interrupted; the same command continues the run",
    "terminated": "terminated; the same command continues the run",
    "offline": "the next completion to judge is not stored; without --offline the run asks for it and continues",
}
_JUDGED = {
    "low_score": "dropped by the judge's scores",
    "not_judged": "dropped as the judge could not be read",
}
_FILES = (
    ("dataset.jsonl", "the examples, one per line"),
    ("tree.json", "the tree of tasks"),
    ("decisions.jsonl", "the reason why each task and example was kept or dropped"),
)
_FILES_OF_QUESTIONS = (
    ("dataset.jsonl", "the questions with their verdicts, one per line"),
    ("decisions.jsonl", "each verdict with the key of its request"),
)
_TASKS_SHOWN = 40
_EXAMPLES_SHOWN = 3
_ENDPOINTS_SHOWN = 8
_LONGEST_TEXT = 400
_LONGEST_PATH = 10_000


@dataclass(frozen=True)
class Words:
    """The words of a summary that depend on the kind of work."""

    complete: str = _ENDINGS["complete"]
    """The end of work that no target ends."""
    failed: str = "their examples are missing"
    """The fate of requests that failed."""
    of_questions: bool = False
    """The work is about questions, not about tasks and examples."""


RUN = Words()


def show(result: RunResult, console: Console, words: Words = RUN) -> None:
    stats = result.stats
    endings = {**_ENDINGS, "complete": words.complete}
    console.print()
    if not words.of_questions:
        console.print(_tree(result))
        for line in _samples(result):
            console.print(line)
    console.print(_table(stats, words))
    if stats.simulated:
        console.print(Text(MADE_UP, style="bold yellow"))
    console.print(Text(f"Ended: {endings.get(result.ending, result.ending)}."))
    show_run = f"explore-async show {printable(str(result.directory), _LONGEST_PATH)}"
    if stats.misses_target:
        console.print(Text(_missed(stats, show_run), style="bold yellow"), soft_wrap=True)
    if stats.ending in {"target", "complete"}:
        for failures in _failures(stats.requests, words.failed, show_run):
            console.print(Text(failures), soft_wrap=True)
    if advice := stats.cut_advice:
        console.print(Text(f"{advice[0].upper()}{advice[1:]} (--adopt takes the change over).", style="yellow"))
    if advice := stats.usage_advice:
        console.print(Text(f"{advice}.", style="yellow"), soft_wrap=True)
    if advice := stats.language_advice:
        console.print(Text(f"{advice}.", style="bold yellow"), soft_wrap=True)
    if advice := stats.window.advice:
        console.print(Text(f"{advice[0].upper()}{advice[1:]}.", style="yellow"))
    for reason, what in _JUDGED.items():
        if count := stats.examples.dropped.get(reason):
            listed = f"{show_run} --dropped {reason}"
            console.print(
                Text(f"{counted(count, 'example')} {what}: `{listed}` has the judge's words."), soft_wrap=True
            )
    if not result.kept and not words.of_questions:
        console.print(Text("No example was kept: decisions.jsonl has the reasons.", style="bold yellow"))
    for name, content in (
        *(_FILES_OF_QUESTIONS if words.of_questions else _FILES),
        ("stats.json", "these numbers and more"),
        ("run.log", "what happened, with times"),
    ):
        path = printable(str(result.directory / name), _LONGEST_PATH)
        console.print(Text(f"  {path}", style="bold") + Text(f"  {content}"), soft_wrap=True)


def _tree(result: RunResult) -> Tree:
    """The first tasks of each tree with the number of kept examples."""
    document = orjson.loads((result.directory / "tree.json").read_bytes())
    shown = Tree("[bold]tasks[/] (examples kept)")
    left = _TASKS_SHOWN

    def grow(branch: Tree, node: dict[str, Any]) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            branch = _add_task(branch, node)
        for child in node["children"]:
            grow(branch, child)

    for root in document["trees"]:
        grow(shown, root)
    if left < 0:
        shown.add(f"… and {-left} more: explore-async tree {escape(printable(str(result.directory)))}")
    return shown


def _add_task(branch: Tree, node: dict[str, Any]) -> Tree:
    name = escape(printable(node["name"]))
    label = label_of(node["origin"])
    return branch.add(f"[cyan]{name}[/] (by {label}, {node['kept']})" if label else f"{name} ({node['kept']})")


def _samples(result: RunResult) -> list[Text]:
    """A few examples from different places of the dataset."""
    path = result.directory / "dataset.jsonl"
    if not result.kept:
        return []
    step = max(1, result.kept // _EXAMPLES_SHOWN)
    lines: list[Text] = []
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number % step == 0 and len(lines) < _EXAMPLES_SHOWN:
                example = orjson.loads(line)
                text = Text("\n" + printable(example["task_path"][-1]), style="bold")
                for field in ("instruction", "input", "output"):
                    if example[field]:
                        text.append(f"\n  {field}: ", style="dim not bold")
                        text.append(printable(example[field], _LONGEST_TEXT), style="not bold")
                lines.append(text)
    return lines


def _table(stats: RunStats, words: Words) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    tasks, examples, requests, tokens = stats.tasks, stats.examples, stats.requests, stats.tokens
    origins = ", ".join(f"{tasks.by_origin[name]} {name}" for name in ("seed", *KINDS) if name in tasks.by_origin)
    table.add_row("", "")
    if words.of_questions:
        table.add_row("questions", f"{examples.kept} compared")
    else:
        with_examples = f"{tasks.with_examples} with examples{_reasons(tasks.dropped)}"
        table.add_row("tasks", f"{tasks.total} ({origins}), {with_examples}")
    if examples.instructions:
        table.add_row("instructions", f"{examples.instructions} new{_unfinished(stats)}")
    if examples.answers:
        failing = {reason: count for reason, count in examples.answers.items() if reason != "accepted"}
        table.add_row("answers", f"{examples.answers.get('accepted', 0)} passed the filters{_reasons(failing)}")
    if examples.scores:
        means = ", ".join(f"{aspect} {mean_score(counts):.2f}" for aspect, counts in examples.scores.items())
        table.add_row("scores", f"the judge's mean, from 1 to 5: {means}")
    if examples.not_scored:
        table.add_row("", f"{counted(examples.not_scored, 'answer')} without scores: the judge could not be read")
    surplus = f", {examples.surplus} more than their tasks needed" if examples.surplus else ""
    if not words.of_questions:
        table.add_row("examples", f"{examples.kept} kept{_reasons(examples.dropped)}{surplus}")
    shown = ", ".join(f"{reason} {count}" for reason, count in requests.failed.items())
    failed = f", {requests.total_failed} failed ({shown})" if requests.failed else ""
    kinds = ", ".join(
        f"{requests.by_kind[name]} {name}"
        for name in dict.fromkeys([*KINDS, *requests.by_kind])
        if name in requests.by_kind and name != CHECK
    )
    by_kind = f" ({kinds})" if examples.answers or examples.scores else ""
    checks = requests.by_kind.get(CHECK, 0)
    checked = f", and {counted(checks, 'verdict')} of checks on this machine" if checks else ""
    filtered = f", {stats.counts.filtered} ended by the server's content filter" if stats.counts.filtered else ""
    judged = f"{requests.total - checks} judged{by_kind}{filtered}{checked}"
    table.add_row("requests", f"{judged}{failed}{_not_judged(stats)}")
    table.add_row(
        "tokens",
        f"{tokens.prompt:,} read ({tokens.cached:,} from the prefix cache), {tokens.completion:,} written",
    )
    if thoughts := stats.reasoning.completions:
        known = f", {stats.reasoning.tokens:,} tokens of those written" if stats.reasoning.tokens else ""
        table.add_row(
            "reasoning", f"in {counted(thoughts, 'completion')}, {stats.reasoning.characters:,} characters{known}"
        )
    endpoints = stats.endpoints.endpoints if stats.endpoints is not None else ()
    for endpoint in endpoints[:_ENDPOINTS_SHOWN]:
        at_this_start = " at this start" if stats.all_starts is not None and stats.all_starts.starts > 1 else ""
        table.add_row("endpoint", escape(printable(f"{_endpoint(endpoint, stats)}{at_this_start}", _LONGEST_TEXT)))
    if more := len(endpoints[_ENDPOINTS_SHOWN:]):
        table.add_row("", f"and {counted(more, 'more endpoint')}")
    for endpoint in endpoints:
        if _had_no_part(endpoint):
            continue
        if trouble := endpoint.trouble or (requests.failed and endpoint.last_error):
            table.add_row("trouble", escape(printable(trouble, _LONGEST_TEXT)))
    replayed = stats.this_time.replayed if stats.this_time is not None else 0
    again = f", {counted(replayed, 'completion')} replayed" if replayed else ""
    table.add_row("time", f"{duration(stats.seconds)} in this process{again}{_all_starts(stats)}")
    return table


def _missed(stats: RunStats, show_run: str) -> str:
    """The examples that are missing, and the most frequent reason, with what helps. `show_run`: the command that shows
    it.
    """
    examples = stats.examples
    says = f"The target is missed: {examples.kept:,} of {stats.target:,} examples are kept."
    if not examples.dropped:
        return says
    reason, count = max(examples.dropped.items(), key=lambda item: item[1])
    dropped = (
        f"Dropped as {reason}: {count:,} of {examples.total_dropped:,}; `{show_run} --dropped {reason}` shows them."
    )
    if reason not in UNREADABLE:
        return f"{says} {dropped}"
    return (
        f"{says} {dropped} If the server was at fault, --fresh asks for everything again when it is mended, and sets "
        "this run aside; the same command asks for nothing."
    )


def _failures(requests: RequestCounts, then: str, show_run: str) -> Iterator[str]:
    """The requests that failed for good, and the advice against it. `then`: what follows from it in the data;
    `show_run`: the command that shows it.
    """
    failed = requests.failed
    if overflows := failed.get("context_overflow", 0):
        yield (
            f"{counted(overflows, 'request')} did not fit into the model's context, and {then}. "
            f"{FITTING}; "
            f"the same command with {RETRY_FAILED} then sends them again."
        )
    for check, count in requests.unchecked.items():
        fault = printable(requests.check_faults[check], _LONGEST_TEXT)
        are = "is" if count == 1 else "are"
        yield (
            f"The check {check} gave no verdict on {counted(count, 'answer')}, which {are} dropped"
            f"{f'. The latest reason: {fault}' if fault else ''}. `{show_run} --dropped not_checked` lists them; "
            f"when it is mended, the same command with {RETRY_FAILED} asks it again."
        )
    if (others := sum(failed.values()) - overflows - sum(requests.unchecked.values())) > 0:
        yield (
            f"{counted(others, 'request')} failed for good, and {then}: the same command with "
            f"{RETRY_FAILED} sends them again."
        )


def _endpoint(endpoint: EndpointStatistics, stats: RunStats) -> str:
    words = [f"{counted(endpoint.answered, 'completion')}"]
    if (latency := stats.latencies.get(endpoint.url)) is not None:
        words.append(f"half of them within {latency.p50:.3g} s, 90 % within {latency.p90:.3g} s")
        if (times := stats.times_median.get(endpoint.url, 0.0)) >= SLOW_FROM:
            words.append(f"{times:.1f} times the median of the other endpoints")
    if endpoint.failed_attempts:
        words.append(f"{counted(endpoint.failed_attempts, 'attempt')} failed")
    if _had_no_part(endpoint):
        words.append("the run ended before it had answered the first small requests")
    return f"{endpoint.url}: {', '.join(words)}"


def _had_no_part(endpoint: EndpointStatistics) -> bool:
    """True where its check was not over at the end of the run, and nothing was wrong with it until then."""
    return not (endpoint.left or endpoint.checked or endpoint.is_silent or endpoint.last_error)


def _unfinished(stats: RunStats) -> str:
    if not (number := stats.examples.unfinished):
        return ""
    then = "" if stats.ending in FINISHED else ": the next start goes on with them"
    return f", {number} without a verdict at the end{then}"


def _not_judged(stats: RunStats) -> str:
    if not stats.not_judged:
        return ""
    completions = counted(stats.not_judged, "completion")
    if stats.ending in FINISHED:
        return f"; came before the end and not needed: {completions}"
    return f"; {completions} stored and not judged yet: the next start asks for what comes before them, and judges them"


def _all_starts(stats: RunStats) -> str:
    """The requests that were sent, beside the completions that came: a start that ends gives up those in flight."""
    total = stats.all_starts
    if total is None or not total.asked:
        return ""
    sent = f"{counted(total.asked, 'request')} sent, {counted(total.answered, 'completion')} received"
    if total.starts <= 1:
        is_of_this = stats.this_time is None or stats.this_time.asked
        return f"; {sent}" if is_of_this else f"; in the start that asked: {sent}"
    return f"; {duration(total.seconds)} in all {total.starts} starts: {sent}"


def _reasons(dropped: Mapping[str, int]) -> str:
    if not dropped:
        return ""
    shown = ", ".join(f"{reason} {count}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1]))
    return f", {sum(dropped.values())} dropped ({shown})"
