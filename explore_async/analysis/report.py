"""The document of an analysis as one HTML page that needs no network, and as lines in the terminal.

All data goes into the page as JSON and from there into text nodes: nothing in it is ever read as HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from explore_async.errors import ConfigError
from explore_async.terminal.text import printable

_LONGEST_NAME = 40


def page(document: Mapping[str, Any]) -> str:
    """Raises ConfigError where plotly is not installed, whose script goes into the page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("the report needs plotly: pip install 'explore-async[analysis]'") from error
    template = (files("explore_async.analysis") / "report.html").read_text(encoding="utf-8")
    before, between = template.split("__DATA__")
    middle, after = between.split("__PLOTLY__")
    # "<" would end the script element, and JSON has another way to write it
    data = orjson.dumps(document).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f"{before}{data}{middle}{get_plotlyjs()}{after}"


def table(document: Mapping[str, Any]) -> Table:
    """The statistics, data sets side by side."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("")
    for one in document["sets"]:
        shown.add_column(Text(printable(one["name"], _LONGEST_NAME)), justify="right")
    for name, *values in _lines(document):
        shown.add_row(name, *values)
    return shown


def _lines(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    sets = document["sets"]

    def line(name: str, *values: str) -> tuple[str, ...]:
        return name, *values

    yield line("examples", *(f"{one['examples']:,}" for one in sets))
    yield line("tasks", *(f"{len(one['tasks']):,}" for one in sets))
    yield line("unique pairs of verb and noun", *(f"{one['verb_noun']['unique']:,}" for one in sets))
    if (at := document["compared_at"]) is not None:
        values = (f"{one['kinds']:,.1f} ± {one['error']:.1f}" for one in at["unique"])
        yield line(f"  in {at['size']:,} with a pair", *values)
    mean = (f"{one['verb_noun']['mean_occurrences']:.2f} ± {one['verb_noun']['std_occurrences']:.2f}" for one in sets)
    yield line("occurrences of a pair", *mean)
    without = (f"{one['verb_noun']['without_pair'] / max(1, one['examined']):.1%}" for one in sets)
    yield line("without a pair", *without)
    for name, key, form in (
        ("pairs, seen or not (Chao1)", "chao1", "{:,.0f}"),
        ("next pair is new (Good-Turing)", "unseen_mass", "{:.1%}"),
        ("entropy of pairs, bits", "entropy_bits", "{:.2f}"),
    ):
        yield line(name, *(_interval(one["verb_noun"][key], form) for one in sets))
    yield line("ROUGE-L with the nearest", *(f"{one['overlap']['greatest']['mean']:.3f}" for one in sets))
    yield line("ROUGE-L with all others", *(f"{one['overlap']['mean']['mean']:.3f}" for one in sets))
    yield line("with a near-duplicate", *(f"{one['duplicates']['near']:.1%}" for one in sets))
    yield line("identical instructions", *(f"{one['duplicates']['identical']:,}" for one in sets))
    if any(one["duplicates"]["without_tokens"] for one in sets):
        name = "no a-z, 0-9: not compared" if document["tokenizer"] == "rouge" else "no words: not compared"
        yield line(name, *(f"{one['duplicates']['without_tokens']:,}" for one in sets))
    for field in ("instruction", "output"):
        yield line(f"words of an {field}", *(f"{one['lengths'][field]['mean']:.1f}" for one in sets))
    if any(one["cost"] for one in sets):
        ends = [one["cost"][-1] if one["cost"] else None for one in sets]
        yield line("tokens a kept example", *(_ratio(end, "kept") for end in ends))
        yield line("tokens a different pair", *(_ratio(end, "pairs") for end in ends))


def _interval(estimate: Mapping[str, float] | None, form: str) -> str:
    if estimate is None:  # from too little
        return "–"
    return f"{form.format(estimate['value'])} ({form.format(estimate['low'])}-{form.format(estimate['high'])})"


def _ratio(end: Mapping[str, Any] | None, per: str) -> str:
    return "" if end is None or not end[per] else f"{end['tokens'] / end[per]:,.0f}"
