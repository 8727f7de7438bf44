"""The tables of the experiment from the JSON objects of its steps. Pure, but for reading them.

A difference between two strategies is told from noise where two intervals of 95 % leave out what no difference would
give: the one over seeds, by Student's t of the values of the seeds, and the one over questions, whose ends are the
means of the ends of the seeds' bootstrap intervals. All seeds have the same questions, so that more seeds make only the
first one narrower.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; more than nine are taken as nine."""
EVEN = 0.5
"""The win rate where neither is better."""
COUNTS = ("win", "tie", "lose", "invalid")
INTERVALS = ("over questions", "over seeds", "told from noise")


def results(out: Path, config: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The figures of seeds that have ended: at least one."""
    base, *others = config["strategies"]

    def of_seeds(step: str) -> list[dict[str, Any]]:
        return [read(out / f"seed-{seed}" / f"{step}.json") for seed in seeds]

    coverage, likelihood = of_seeds("coverage"), of_seeds("likelihood")
    scores = of_seeds("scores") if config.get("reference") else []
    order = [base, "untrained", *others]  # the commands compare with the first
    pairs = combinations(config["strategies"], 2)
    return {
        "seeds": list(seeds),
        "domain": config["domain"]["name"],
        "questions": likelihood[0]["rows"],
        "budget": config["budget"],
        "rows": config["rows"],
        "baseline": base,
        "data": {row["arm"]: _data(row["arm"], coverage) for row in coverage[0]["rows"]},
        "likelihood": {name: _likelihood(place, likelihood) for place, name in enumerate(order)},
        "judge": {f"{other} against {one}": _judged(of_seeds(f"judge-{other}-{one}")) for one, other in pairs},
        "mathematics": {name: _accuracy(place, scores) for place, name in enumerate(order if scores else ())},
    }


def _data(arm: str, coverage: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of what the benchmark measured: of each figure its mean, least and greatest value."""
    rows = [row for of_seed in coverage for row in of_seed["rows"] if row["arm"] == arm]
    figures = ("spent", "kept", "share_kept", "pairs", "pairs_at_equal_examples")
    return {
        figure: over_seeds([row[figure][0] for row in rows]) for figure in figures if all(figure in row for row in rows)
    }


def _likelihood(place: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    loss = {"loss": over_seeds([one["models"][place]["loss"]["value"] for one in found])}
    if not place:
        return loss
    return {**loss, "less_baseline": difference([ends(one["comparisons"][place - 1]["loss"]) for one in found])}


def _judged(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    standings = [one["figures"]["standing"] for one in found]
    counts = {count: [standing[count] for standing in standings] for count in COUNTS}
    return {**counts, **{name: rate(standings, name) for name in ("win_rate", "beat_rate")}}


def _accuracy(place: int, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [one["answers"][place] for one in found]
    figures = {
        "accuracy": over_seeds([one["accuracy"]["value"] for one in own]),
        "unanswered": [one["unanswered"] for one in own],
    }
    return figures if not place else {**figures, "less_baseline": difference([ends(one["less_first"]) for one in own])}


def markdown(document: Mapping[str, Any]) -> str:
    """The tables, for people."""
    minus = f"minus {document['baseline']}"
    about = (
        f"Domain: {document['domain']}; {document['questions']:,} questions; seeds: "
        f"{', '.join(map(str, document['seeds']))}. For each seed, each run had {document['budget']:,} "
        f"decode-equivalent tokens, and each model learned {document['rows']:,} rows. A figure is the mean of the "
        "seeds, with the least and the greatest. Intervals are of 95 %; a difference is told from noise where both "
        "leave out 0 (a win rate: 0.50). An answer that reaches its limit of tokens is none: it counts as wrong, and "
        "its question is not judged."
    )
    return "\n".join(
        [
            about,
            "",
            *table(
                ["data", "examples kept", "share kept", "pairs of verb and noun", "pairs at equal numbers"],
                ([name, *_data_cells(row)] for name, row in document["data"].items()),
            ),
            *table(
                ["answers of people", "loss, nats a token: lower is better", minus, *INTERVALS],
                (
                    [name, spread(row["loss"], 3), *compared(row.get("less_baseline"), "{:+.3f}")]
                    for name, row in document["likelihood"].items()
                ),
            ),
            *table(
                ["judged", "win : tie : lose (invalid) of each seed", "beat rate", "win rate", *INTERVALS],
                (
                    [name, *_judge_cells(row), *compared(row["win_rate"], "{:.2f}")]
                    for name, row in document["judge"].items()
                ),
            ),
            *table(
                ["mathematics", "accuracy", "unanswered in each seed", minus, *INTERVALS],
                (
                    [name, *_accuracy_cells(row), *compared(row.get("less_baseline"), "{:+.2f}")]
                    for name, row in document["mathematics"].items()
                ),
            ),
        ]
    )


def _data_cells(row: Mapping[str, Any]) -> list[str]:
    shown = {"kept": 0, "share_kept": 2, "pairs": 0, "pairs_at_equal_examples": 1}
    return [spread(row[figure], digits) if figure in row else "–" for figure, digits in shown.items()]


def _judge_cells(row: Mapping[str, Any]) -> list[str]:
    of_seeds = zip(*(row[count] for count in COUNTS), strict=True)
    counts = "; ".join(f"{win} : {tie} : {lose} ({invalid})" for win, tie, lose, invalid in of_seeds)
    return [counts, "–" if row["beat_rate"] is None else f"{row['beat_rate']['mean']:.2f}"]


def _accuracy_cells(row: Mapping[str, Any]) -> list[str]:
    return [spread(row["accuracy"], 2), "; ".join(map(str, row["unanswered"]))]


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """The mean with the least and the greatest value, and Student's interval; None of one seed."""
    middle, count = mean(values), len(values)
    half = None if count == 1 else STUDENT[min(count - 1, len(STUDENT)) - 1] * stdev(values) / sqrt(count)
    return {
        "mean": middle,
        "range": [min(values), max(values)],
        "over_seeds": None if half is None else [middle - half, middle + half],
    }


def difference(of_seeds: Sequence[tuple[float, float, float]], nothing: float = 0.0) -> dict[str, Any]:
    """Of figures with the ends of their intervals over questions. `nothing`: the value without a difference."""
    figures = over_seeds([value for value, _, _ in of_seeds])
    questions = [mean(low for _, low, _ in of_seeds), mean(high for _, _, high in of_seeds)]
    both = [questions, figures["over_seeds"]]
    told = all(ends is not None and not ends[0] <= nothing <= ends[1] for ends in both)
    return {**figures, "over_questions": questions, "told_from_noise": told}


def rate(standings: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any] | None:
    """None where a seed has no such rate: no verdict could be read, or neither won a question."""
    if any(standing[name] is None for standing in standings):
        return None
    return difference([ends(standing[name]) for standing in standings], EVEN)


def ends(figure: Mapping[str, Any]) -> tuple[float, float, float]:
    """Value and interval, in both forms that the commands write."""
    low, high = figure["interval"] if "interval" in figure else (figure["low"], figure["high"])
    return figure["value"], low, high


def compared(figure: Mapping[str, Any] | None, form: str) -> list[str]:
    """Four cells: the value, both intervals, and whether it is told from noise."""
    if figure is None:
        return ["–"] * 4

    def interval(ends: Sequence[float] | None) -> str:
        return "one seed" if ends is None else f"{form.format(ends[0])} to {form.format(ends[1])}"

    told = "yes" if figure["told_from_noise"] else "no"
    return [form.format(figure["mean"]), interval(figure["over_questions"]), interval(figure["over_seeds"]), told]


def spread(figure: Mapping[str, Any], digits: int) -> str:
    """The mean with the least and the greatest value, where these differ."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (figure["mean"], *figure["range"]))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Nothing where there are no rows."""
    if not (rows := list(rows)):
        return
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_bytes())
    return document
