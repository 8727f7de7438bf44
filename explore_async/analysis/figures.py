"""Pictures of an analysis for a paper, each as SVG and PNG. matplotlib draws them from the document alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import cos, radians, sin
from typing import TYPE_CHECKING, Any, TypeAlias

from explore_async.errors import ConfigError
from explore_async.terminal.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SetDocument: TypeAlias = Mapping[str, Any]
"""The figures of data dataset, as the document has them."""

_COLOURS = ("#3b6fe0", "#e0783b", "#2f9e6b", "#b455c9", "#c9a227", "#d24d6b")
_LONGEST_NAME = 32
_PNG_DPI = 300
_LEAST_NAMED = 0.009
"""Share of the ring; narrower wedges have no room for a name."""
_STYLE: Any = {
    "svg.hashsalt": "explore_async",  # the same figures make the same file
    "svg.fonttype": "none",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "figure.constrained_layout.use": True,
}


def draw_figures(document: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """File names and contents. Raises ConfigError where matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("figures need matplotlib: pip install 'explore-async[analysis]'") from error
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the font lacks the script: SVG keeps the text
        for name, size, draw in _drawings(document["sets"]):
            figure = Figure(figsize=size)
            draw(figure)
            for suffix, how in ((".svg", {"metadata": {"Date": None, "Creator": None}}), (".png", {"dpi": _PNG_DPI})):
                content = io.BytesIO()
                figure.savefig(content, format=suffix[1:], **how)
                yield name + suffix, content.getvalue()


def _drawings(sets: Sequence[SetDocument]) -> Iterator[tuple[str, tuple[float, float], Callable[[Figure], None]]]:
    several = len(sets) > 1
    for number, data in enumerate(sets, start=1):
        ending = f"-{number}" if several else ""
        if data["verb_noun"]["sunburst"]:
            yield f"verb-noun{ending}", (4.5, 4.5), partial(_sunburst, data)
            yield f"pairs{ending}", (3.4, 3.4), partial(_top_pairs, data)
    if any(data["verb_noun"]["occurrences"] for data in sets):
        yield "occurrences", (3.4, 2.6), partial(_occurrences, sets)
        yield "rarefaction", (3.4, 2.6), partial(_rarefaction, sets)
    if any(data["verb_noun"]["by_coverage"] for data in sets):
        yield "coverage", (3.4, 2.6), partial(_by_coverage, sets)
    yield "overlap", (6.8, 2.6), partial(_overlap, sets)
    yield "lengths", (6.8, 2.4), partial(_lengths, sets)
    if any(data["cost"] for data in sets):
        yield "cost", (6.8, 2.6), partial(_cost, sets)


def _sunburst(data: SetDocument, figure: Figure) -> None:
    """The most frequent root verbs (inner) with their most frequent objects (outer)."""
    import matplotlib as mpl

    axes = figure.add_subplot()
    shades = mpl.color_sequences["tab20"]
    rows = data["verb_noun"]["sunburst"]
    verbs = [(row["verb"], sum(count for _, count in row["nouns"])) for row in rows]
    nouns = [noun for row in rows for noun in row["nouns"]]
    inner = [shades[number % len(shades)] for number in range(len(rows))]
    outer = [(*shade, 0.55) for shade, row in zip(inner, rows, strict=True) for _ in row["nouns"]]
    _ring(axes, verbs, inner, radius=0.66, width=0.42)
    _ring(axes, nouns, outer, radius=1.0, width=0.34)
    axes.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))


def _ring(axes: Axes, parts: Sequence[tuple[str, int]], colours: Sequence[Any], *, radius: float, width: float) -> None:
    """Writes each name along its wedge, never upside down, and leaves it out where there is no room."""
    edge = {"width": width, "edgecolor": "white", "linewidth": 0.6}
    drawn = axes.pie(
        [n for _, n in parts], radius=radius, colors=colours, wedgeprops=edge, startangle=90, counterclock=False
    )
    for wedge, (name, count) in zip(drawn[0], parts, strict=True):
        if count <= _LEAST_NAMED * sum(n for _, n in parts):
            continue
        angle = (wedge.theta1 + wedge.theta2) / 2
        x, y = ((radius - width / 2) * turned(radians(angle)) for turned in (cos, sin))
        axes.text(
            x, y, _plain(name, 14), rotation=angle if x >= 0 else angle + 180, rotation_mode="anchor",
            ha="center", va="center", fontsize=6,
        )  # fmt: skip


def _top_pairs(data: SetDocument, figure: Figure) -> None:
    axes = figure.add_subplot()
    top = data["verb_noun"]["top"][:20][::-1]
    axes.barh([_plain(f"{verb} {noun}") for verb, noun, _ in top], [n for *_, n in top], color=_COLOURS[0])
    axes.set_xlabel("occurrences")
    axes.grid(visible=False, axis="y")


def _occurrences(sets: Sequence[SetDocument], figure: Figure) -> None:
    axes = figure.add_subplot()
    for name, colour, data in _named(sets):
        counts = data["verb_noun"]["occurrences"]
        axes.plot([n for n, _ in counts], [n for _, n in counts], "o-", ms=2.5, lw=0.6, color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="occurrences", ylabel="pairs of verb and noun")
    _legend(figure, sets)


def _rarefaction(sets: Sequence[SetDocument], figure: Figure) -> None:
    axes = figure.add_subplot()
    for name, colour, data in _named(sets):
        curve = data["verb_noun"]["rarefaction"]
        sizes, kinds = [at["size"] for at in curve], [at["kinds"] for at in curve]
        axes.plot(sizes, kinds, color=colour, lw=1.2, label=name)
        low, high = ([at["kinds"] + sign * 2 * at["error"] for at in curve] for sign in (-1, 1))
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="instructions with a pair", ylabel="different pairs", ylim=(0, None), xlim=(0, None))
    _legend(figure, sets)


def _by_coverage(sets: Sequence[SetDocument], figure: Figure) -> None:
    """What is extrapolated is dashed."""
    axes = figure.add_subplot()
    for name, colour, data in _named(sets):
        curve = data["verb_noun"]["by_coverage"]
        shares, kinds = [at["coverage"] for at in curve], [at["kinds"] for at in curve]
        inside = sum(not at["extrapolated"] for at in curve)
        axes.plot(shares[:inside], kinds[:inside], color=colour, lw=1.2, label=name)
        axes.plot(shares[max(inside - 1, 0) :], kinds[max(inside - 1, 0) :], "--", color=colour, lw=1)
        low, high = ([at["kinds"] + sign * 2 * at["error"] for at in curve] for sign in (-1, 1))
        axes.fill_between(shares, low, high, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="estimated coverage of the pairs", ylabel="different pairs", ylim=(0, None), xlim=(0, 1))
    _legend(figure, sets)


def _overlap(sets: Sequence[SetDocument], figure: Figure) -> None:
    nearest, pairs = figure.subplots(1, 2)
    for name, colour, data in _named(sets):
        for axes, counts in ((nearest, data["overlap"]["greatest"]["histogram"]), (pairs, data["overlap"]["pairs"])):
            whole = sum(counts) or 1
            edges = [at / len(counts) for at in range(len(counts) + 1)]
            axes.stairs([n / whole for n in counts], edges, fill=True, color=colour, alpha=0.5, label=name)
    nearest.set(xlabel="ROUGE-L with the nearest other", ylabel="share of instructions", xlim=(0, 1))
    pairs.set(xlabel="ROUGE-L of a pair", ylabel="share of pairs", xlim=(0, 1), yscale="log")
    _legend(figure, sets)


def _lengths(sets: Sequence[SetDocument], figure: Figure) -> None:
    for axes, field in zip(figure.subplots(1, 3), ("instruction", "input", "output"), strict=True):
        for name, colour, data in _named(sets):
            counts = data["lengths"][field]["histogram"]
            whole = sum(n for _, n in counts) or 1
            axes.step([at for at, _ in counts], [n / whole for _, n in counts], where="post", color=colour, label=name)
        axes.set(xlabel=f"words of the {field}", ylim=(0, None), xlim=(0, None))
    figure.axes[0].set_ylabel("share")
    _legend(figure, sets)


def _cost(sets: Sequence[SetDocument], figure: Figure) -> None:
    for axes, of, what in zip(
        figure.subplots(1, 2), ("kept", "pairs"), ("kept examples", "different pairs"), strict=True
    ):
        for name, colour, data in _named(sets):
            axes.plot(
                [at["equivalent"] for at in data["cost"]], [at[of] for at in data["cost"]], color=colour, label=name
            )
        axes.set(xlabel="decode-equivalent tokens", ylabel=what, ylim=(0, None), xlim=(0, None))
    _legend(figure, sets)


def _plain(text: str, most: int = _LONGEST_NAME) -> str:
    return printable(text, most).replace("$", r"\$")  # else it would begin a formula


def _named(sets: Sequence[SetDocument]) -> Iterator[tuple[str, str, SetDocument]]:
    for number, data in enumerate(sets):
        yield _plain(data["name"]), _COLOURS[number % len(_COLOURS)], data


def _legend(figure: Figure, sets: Sequence[SetDocument]) -> None:
    if len(sets) > 1:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=7)
