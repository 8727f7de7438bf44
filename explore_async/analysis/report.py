"""The document of an analysis as an HTML page that needs no network, and as a table for the terminal.

All data goes into the page as JSON, and from there into text nodes: nothing in it is ever read as HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text

from explore_async.errors import ConfigError
from explore_async.exploration.scores import mean_score
from explore_async.terminal.text import printable

_LONGEST_NAME = 40
_NONE = "–"
_PAIRS_SHOWN = 5
_LONGEST_TEXT = 300


def make_page(document: Mapping[str, Any]) -> str:
    """The HTML page. Raises ConfigError where plotly is not installed, whose script goes into the page."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("the report needs plotly: pip install 'explore-async[analysis]'") from error
    template = (files("explore_async.analysis") / "report.html").read_text(encoding="utf-8")
    before, between = template.split("__DATA__")
    middle, after = between.split("__PLOTLY__")
    # "<" could end the script element, and JSON has another way to write it
    data = orjson.dumps(document).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")
    return f"{before}{data}{middle}{get_plotlyjs()}{after}"


def make_table(document: Mapping[str, Any]) -> Table:
    """A table of the main figures, datasets side by side."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("")
    for data in document["sets"]:
        shown.add_column(Text(printable(data["name"], _LONGEST_NAME)), justify="right")
    for name, *values in _lines(document):
        shown.add_row(name, *values)
    return shown


def notes(document: Mapping[str, Any]) -> list[str]:
    """Sentences about what is left out of the table, and about texts in another language than was asked for."""
    left_out = [
        f"{data['name']}: no verb-noun figures: {data['verb_noun']['left_out']}"
        for data in document["sets"]
        if data["verb_noun"]["left_out"]
    ]
    left_out += [
        f"{data['name']}: no estimate of the coverage of pairs: {data['verb_noun']['coverage_left_out']}"
        for data in document["sets"]
        if data["verb_noun"]["coverage_left_out"] and not data["verb_noun"]["left_out"]
    ]
    left_out += [
        f"{data['name']}: {data['cost_per']['note']}"
        for data in document["sets"]
        if data["cost_per"] and data["cost_per"]["note"]
    ]
    return left_out + [
        f"{data['name']}: {data['other_language']}" for data in document["sets"] if data["other_language"]
    ]


def nearest_pairs(document: Mapping[str, Any]) -> Iterator[str]:
    """The pairs that are nearest in meaning and share few words, in three lines each."""
    for data in document["sets"]:
        for pair in data["semantic"]["pairs"][:_PAIRS_SHOWN] if data["semantic"] else ():
            name = printable(data["name"], _LONGEST_NAME)
            yield f"{name}: cosine {pair['cosine']:.3f}, ROUGE-L F {pair['rouge']:.3f}"
            for item_id, text in zip(pair["ids"], pair["texts"], strict=True):
                yield f"  {printable(f'{item_id}  {text}', _LONGEST_TEXT)}"


def _lines(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    sets = document["sets"]

    def line(name: str, *values: str) -> tuple[str, ...]:
        return name, *values

    yield line("examples", *(f"{data['examples']:,}" for data in sets))
    yield line("tasks", *(f"{len(data['tasks']):,}" for data in sets))
    pairs = [None if data["verb_noun"]["left_out"] else data["verb_noun"] for data in sets]

    def of_pairs(name: str, show: Callable[[Mapping[str, Any]], str]) -> tuple[str, ...]:
        return line(name, *(_NONE if of_set is None else show(of_set) for of_set in pairs))

    yield of_pairs("unique pairs of verb and noun", lambda of_set: f"{of_set['unique']:,}")
    yield from _compared(document, (0,))
    yield of_pairs("pairs in effect, Hill order 1; 2", lambda of_set: _effective(of_set["hill"]))
    yield from _compared(document, (1, 2))
    yield of_pairs(
        "occurrences of a pair", lambda of_set: f"{of_set['mean_occurrences']:.2f} ± {of_set['std_occurrences']:.2f}"
    )
    yield of_pairs(
        "without a pair",
        lambda of_set: f"{of_set['without_pair'] / max(1, of_set['without_pair'] + of_set['with_pair']):.1%}",
    )
    for name, key, form in (
        ("share of pairs covered (Chao-Jost)", "coverage", "{:.1%}"),
        ("pairs, seen or not (Chao1)", "chao1", "{:,.0f}"),
        ("next pair is new (Good-Turing)", "unseen_mass", "{:.1%}"),
        ("entropy of pairs, bits", "entropy_bits", "{:.2f}"),
    ):
        yield line(name, *(_interval(data["verb_noun"][key], form) for data in sets))
    yield line("ROUGE-L with the nearest", *(f"{data['overlap']['greatest']['mean']:.3f}" for data in sets))
    yield line("ROUGE-L with all others", *(f"{data['overlap']['mean']['mean']:.3f}" for data in sets))
    yield line("with a near-duplicate", *(f"{data['duplicates']['near']:.1%}" for data in sets))
    yield line("identical instructions", *(f"{data['duplicates']['identical']:,}" for data in sets))
    if any(data["duplicates"]["without_tokens"] for data in sets):
        name = "no a-z, 0-9: not compared" if document["tokenizer"] == "rouge" else "no words: not compared"
        yield line(name, *(f"{data['duplicates']['without_tokens']:,}" for data in sets))
    for field in ("instruction", "output"):
        yield line(f"words of an {field}", *(f"{data['lengths'][field]['mean']:.1f}" for data in sets))
    yield line("compression of instructions; outputs", *(_compressed(data["compression"]) for data in sets))
    for aspect in dict.fromkeys(aspect for data in sets for aspect in data["scores"]):
        means = (mean_score(data["scores"][aspect]) if aspect in data["scores"] else None for data in sets)
        name = f"the judge's mean score, {printable(aspect, _LONGEST_NAME)}"
        yield line(name, *(_NONE if mean is None else f"{mean:.2f}" for mean in means))
    if any(data["shape"] for data in sets):
        yield from _shape([data["shape"] for data in sets])
    if any(data["facets"] for data in sets):
        for what in ("values", "pairs"):
            name = f"{'values' if what == 'values' else 'pairs of values'} of facets with examples"
            yield line(name, *(_filled(data["facets"], what) for data in sets))
    if any(data["semantic"] for data in sets):
        by_meaning = [data["semantic"] for data in sets]
        yield line("cosine with the nearest", *(f"{of_set['nearest']['mean']:.3f}" for of_set in by_meaning))
        yield line(
            f"paraphrases (above {by_meaning[0]['threshold']})", *(f"{one['paraphrases']:,}" for one in by_meaning)
        )
        yield line("tasks with a synonym among them", *(f"{one['names']['synonyms']:,}" for one in by_meaning))
        yield line("different in effect (Vendi)", *(f"{one['vendi']:,.1f}" for one in by_meaning))
    if any(data["cost_per"] for data in sets):
        yield from _cost(sets)


def _compressed(compression: Mapping[str, Any]) -> str:
    ratios = (compression[name] for name in ("instruction", "output"))
    return "; ".join(_NONE if ratio is None else f"{ratio['mean']:.2f}" for ratio in ratios)


def _shape(shapes: Sequence[Mapping[str, Any] | None]) -> Iterator[tuple[str, ...]]:
    """The form of the tree and the similarity of its names; of data without a tree nothing."""

    def alike(key: str) -> Callable[[Mapping[str, Any]], str]:
        def shown(shape: Mapping[str, Any]) -> str:
            of = shape[key]
            return f"{of['mean']:.3f}; {of['greatest']:.3f}" if of["pairs"] else _NONE

        return shown

    for name, show in (
        ("depth of the tree; of a leaf, mean", lambda shape: f"{shape['depth']}; {shape['mean_leaf_depth']:.2f}"),
        (
            "sub-tasks of a task, mean; most",
            lambda shape: f"{shape['children']['mean']:.1f}; {shape['children']['most']}",
        ),
        ("balance of the tree (J1)", lambda shape: f"{shape['balance']:.3f}"),
        ("ROUGE-L of sibling tasks' names, mean; most", alike("siblings")),
        ("ROUGE-L of a task's name and its parent's", alike("parent_child")),
    ):
        yield name, *(_NONE if shape is None else show(shape) for shape in shapes)


def _cost(sets: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """For each example and pair, and for each 1,000 tokens, by generated and by decode-equivalent tokens."""

    def shown(data: Mapping[str, Any], form: str, of: Callable[[Mapping[str, Any], str], float | None]) -> str:
        if (cost := data["cost_per"]) is None:
            return _NONE
        names = ("kept",) if data["verb_noun"]["left_out"] else ("kept", "pairs")
        numbers = (of(cost, name) for name in names)
        return "; ".join(_NONE if number is None else form.format(number) for number in numbers)

    for key, tokens in (("generated", "generated tokens"), ("equivalent", "decode-equivalent tokens")):

        def each(cost: Mapping[str, Any], name: str, key: str = key) -> float | None:
            return cost[key] / cost[name] if cost[name] else None

        def per(cost: Mapping[str, Any], name: str, key: str = key) -> float | None:
            number: float | None = cost[f"per_1000_{key}"][name]
            return number

        yield f"{tokens} an example; a pair", *(shown(data, "{:,.0f}", each) for data in sets)
        yield "  examples; pairs for 1,000 of them", *(shown(data, "{:,.2f}", per) for data in sets)


def _compared(document: Mapping[str, Any], orders: Sequence[int]) -> Iterator[tuple[str, ...]]:
    """Hill numbers of these orders at equal size and at equal coverage."""
    at = document["compared_at"]
    if at is None:
        return

    def shown(figures: Mapping[str, Any] | None) -> str:
        if figures is None:
            return _NONE
        return "; ".join(f"{figures['hill'][order]:,.1f} ± {figures['errors'][order]:.1f}" for order in orders)

    yield f"  in {at['size']:,} with a pair", *map(shown, at["diversity"])
    if at["coverage"] is not None:
        yield f"  where {at['coverage']:.1%} are covered", *map(shown, at["diversity_at_coverage"])


def _filled(facets: Mapping[str, int] | None, what: str) -> str:
    return _NONE if facets is None else f"{facets[f'filled_{what}']:,} of {facets[what]:,}"


def _effective(hill: Sequence[float] | None) -> str:
    return _NONE if hill is None else f"{hill[1]:,.1f}; {hill[2]:,.1f}"


def _interval(estimate: Mapping[str, float] | None, form: str) -> str:
    if estimate is None:  # too few pairs
        return _NONE
    return f"{form.format(estimate['value'])} ({form.format(estimate['low'])}-{form.format(estimate['high'])})"
