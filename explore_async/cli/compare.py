"""The command compare: people judge the answers of two sources, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.options import BadRowOption, ColumnOption, JsonOption, local_path, path_or_url
from explore_async.cli.output import path_text, print_json, say, telling_replaced
from explore_async.cli.runs_under_way import tell_of_runs_under_way
from explore_async.errors import ConfigError
from explore_async.web import COMPARE_PORT, LOOPBACK

if TYPE_CHECKING:
    from explore_async.evaluation.blind import BlindPairs
    from explore_async.evaluation.pairing import Pairs
    from explore_async.evaluation.rater_figures import Agreement, Rated, RaterFigures
    from explore_async.evaluation.rater_verdicts import Verdicts

_LONGEST_NAME = 40
_WHAT = "a run directory, a directory that answer, import … wrote, or a file of rows"


def compare(  # noqa: PLR0917 - an option each
    a: Annotated[Path, typer.Argument(metavar="A", parser=path_or_url, help=_WHAT)],
    b: Annotated[Path, typer.Argument(metavar="B", parser=path_or_url, help="the same of another model")],
    show_results: Annotated[
        bool, typer.Option("--results", help="print wins, ties and losses of A, and agreement")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            parser=path_or_url,
            help="write the verdicts with their texts: .jsonl, .json, .csv, .tsv",
        ),
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(
            "--verdicts",
            metavar="FILE",
            parser=local_path,
            help="the file of verdicts (default: compare-A-B.jsonl beside A)",
        ),
    ] = None,
    most: Annotated[int | None, typer.Option(min=1, help="the most questions that a rater is asked")] = None,
    seed: Annotated[int | None, typer.Option(help="another seed gives another random order (default: 0)")] = None,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port")] = COMPARE_PORT,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="listen there, so that other machines reach the page, too")
    ] = LOOPBACK,
    open_it: Annotated[bool, typer.Option("--open", help="open the page in the browser")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let people judge in the browser which of two answers is better, without names. The same command goes on."""
    from explore_async.curation.collections.columns import parse_columns
    from explore_async.curation.collections.open import open_one_of
    from explore_async.curation.files.writers import check_format
    from explore_async.evaluation.blind import blind_pairs
    from explore_async.evaluation.pairing import paired
    from explore_async.evaluation.rater_figures import figures_of_raters
    from explore_async.evaluation.rater_verdicts import Verdicts

    if as_json and not show_results:
        raise ConfigError("--json: only --results has figures to print")
    if export is not None:
        check_format(export, "--export", tables=True)
    columns = parse_columns(column or ())
    skips = on_bad_row == "skip"
    one, other = (open_one_of(path, columns, skip_bad_rows=skips) for path in (a, b))
    kept = Verdicts(verdicts or _default_file(a, b))
    tell_of_runs_under_way(a, b)
    joined = paired(one, other)
    pairs = blind_pairs(joined.found, kept.seed_or(seed))
    counts = _counts(pairs, joined)
    for line in _about(counts):
        say(line)
    if export is not None:
        _export(export, pairs, kept, (a, b))
    if show_results:
        found = figures_of_raters(pairs, kept.of)
        _tell(found, a, b)
        if as_json:
            files = {"a": path_text(a), "b": path_text(b), "verdicts": path_text(kept.path)}
            print_json({**files, "questions": counts, **found.document()})
    elif export is None:
        _serve(pairs, kept, most=most, host=host, port=port, open_it=open_it)


def _serve(pairs: BlindPairs, kept: Verdicts, *, most: int | None, host: str, port: int, open_it: bool) -> None:
    import asyncio

    from explore_async.web.compare import Comparison, serve
    from explore_async.web.view_process import from_elsewhere, open_browser

    if pairs.identical == len(pairs.by_id):
        raise ConfigError("all answers are identical: there is nothing to judge")

    def announce(url: str) -> None:
        say(f"compare at {url} (Ctrl-C stops){from_elsewhere(url) if host == LOOPBACK else ''}")
        if host != LOOPBACK:
            say("whoever reaches this address can read the texts and give verdicts: there is no password")
        say(f"verdicts are kept in {kept.path}")
        if open_it:
            open_browser(url)

    with kept.writing():
        asyncio.run(serve(Comparison(pairs, kept, most), address=host, port=port, announce=announce))
    count = sum(map(len, kept.of.values()))
    say(f"{count:,} verdicts are in {kept.path}; the same command goes on, --results shows the figures")


def _default_file(a: Path, b: Path) -> Path:
    from explore_async.storage.places import is_remote

    first, second = a.resolve(), b.resolve()
    if is_remote(first):
        raise ConfigError(f"{a}: verdicts are kept on this machine; name their file by --verdicts")
    names = (path.name if path.is_dir() else path.name.partition(".")[0] for path in (first, second))
    return first.parent / f"compare-{'-'.join(names)}.jsonl"


def _export(path: Path, pairs: BlindPairs, kept: Verdicts, sources: tuple[Path, Path]) -> None:
    from explore_async.curation.collections.output_places import check_not_read, check_outside_data
    from explore_async.curation.files.writers import content_of
    from explore_async.evaluation.rater_figures import EXPORTED, exported
    from explore_async.storage.whole_files import made, write_whole

    check_not_read("--export", path, [kept.path, *sources])
    check_outside_data("--export", path)
    rows = list(exported(pairs, kept.of))
    with telling_replaced(path), made(path.parent):
        write_whole(path, content_of(rows, path, EXPORTED))
    say(f"{path}: {len(rows):,} verdicts")


def _counts(pairs: BlindPairs, joined: Pairs) -> dict[str, int]:
    only_a, only_b = joined.only
    both = {"both": len(pairs.by_id), "identical": pairs.identical, "repeated": pairs.repeated}
    return {**both, "only_a": only_a, "only_b": only_b}


def _about(counts: Mapping[str, int]) -> Iterator[str]:
    """The questions, and what is left out of them."""
    same = (
        f"; {counts['identical']:,} have the same answer in both: a tie, and nobody is asked"
        if counts["identical"]
        else ""
    )
    yield f"{counts['both']:,} questions have an answer in both{same}"
    reasons = {"only_a": "only A answers", "only_b": "only B answers", "repeated": "with the same texts as another"}
    if told := ", ".join(f"{counts[name]:,} {why}" for name, why in reasons.items() if counts[name]):
        yield f"left out: {told}"


def _tell(found: RaterFigures, a: Path, b: Path) -> None:
    if not found.by_rater:
        say("no verdicts yet: start `compare` without --results")
    else:
        for line in _table(found):
            typer.echo(line)
        say(f"A is {a}, B is {b}; win is A's. all: each question once, by most of its raters")
        say(_agreement(found.agreement, len(found.by_rater)))
    if found.elsewhere:
        say(f"{found.elsewhere:,} verdicts are on other texts than these, and are left out")


def _table(found: RaterFigures) -> Iterator[str]:
    from explore_async.cli.judge import rate_text
    from explore_async.terminal.text import printable

    rows: list[tuple[str, Rated, float | None]] = [("all", found.together, None)]
    rows += [
        (f"by {printable(name, _LONGEST_NAME)}", one, found.left_won[name]) for name, one in found.by_rater.items()
    ]
    width = max(len(name) for name, *_ in rows)
    yield f"{'':{width}}  {'judged':>7}  {'win:tie:lose':>14}  {'win rate':>19}  {'beat rate':>19}  left won"
    for name, rated, left_won in rows:
        standing = rated.standing
        counts = f"{standing.win}:{standing.tie}:{standing.lose}"
        rates = f"{rate_text(standing.win_rate)}  {rate_text(standing.beat_rate)}"
        yield f"{name:{width}}  {rated.judged:>7,}  {counts:>14}  {rates}  {_share(left_won):>8}"


def _agreement(agreement: Agreement, raters: int) -> str:
    if not agreement.questions:
        return "agreement cannot be estimated: no question has verdicts of two raters"
    said = (
        f"agreement of {raters} raters on {agreement.questions:,} questions: {_share(agreement.equal)} equal verdicts"
    )
    if raters == 2:  # noqa: PLR2004 - Cohen's kappa is of two
        said += f", Cohen's kappa {_figure(agreement.kappa)}"
    return f"{said}, Krippendorff's alpha {_figure(agreement.alpha)}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _figure(value: float | None) -> str:
    return "cannot be estimated" if value is None else f"{value:.3f}"
