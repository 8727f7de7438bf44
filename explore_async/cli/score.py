"""`explore-async score`: accuracy of answers to mathematical questions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.loading import loading
from explore_async.cli.options import BadRowOption, ColumnOption, JsonOption, QuietOption, path_or_url
from explore_async.cli.output import all_or_nothing, path_text, print_json, say, telling_replaced
from explore_async.cli.runs_under_way import tell_of_runs_under_way

_QUESTION_SHOWN = 60

if TYPE_CHECKING:
    from explore_async.evaluation.maths_figures import Standing
    from explore_async.evaluation.scoring import ScoredAnswers, ScoreResult


def score(  # noqa: PLR0917 - an option each
    answers: Annotated[
        list[Path],
        typer.Argument(
            metavar="ANSWERS...",
            parser=path_or_url,
            help="what answer wrote, or a file with answers; several are compared",
        ),
    ],
    questions: Annotated[
        Path,
        typer.Option(
            "--questions", metavar="FILE", parser=path_or_url, help="the questions with their reference answers"
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="COLUMN", help="the column with the reference answer (default: the row's answer)"
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by", metavar="COLUMN", help="a column of groups; repeatable (default: level, subject, type, if there)"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", parser=path_or_url, help="write what was found of each sample: .jsonl or .json"
        ),
    ] = None,
    column: ColumnOption = None,
    on_bad_row: BadRowOption = "stop",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the accuracy of answers to mathematical questions, by math-verify (extra: maths), with intervals."""
    with loading():
        import asyncio

        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_one_of
        from explore_async.curation.collections.output_places import check_not_read, check_outside_data
        from explore_async.curation.files.writers import check_format
        from explore_async.evaluation.maths_equality import need_extra
        from explore_async.evaluation.scoring import score as score_answers
        from explore_async.terminal.reporter import Reporter

    need_extra()
    if out is not None:
        check_format(out, "--out", tables=False)
        check_not_read("--out", out, [questions, *answers])
        check_outside_data("--out", out)
    columns, skips = parse_columns(column or ()), on_bad_row == "skip"
    tell_of_runs_under_way(*answers, quiet=quiet)
    source, *sets = (open_one_of(path, columns, skip_bad_rows=skips) for path in (questions, *answers))
    with all_or_nothing(), Reporter(quiet=quiet) as reporter:

        def progress(done: int, total: int) -> None:
            reporter.update("questions compared", done=done, total=total)

        result = asyncio.run(score_answers(source, sets, reference=reference, by=by, on_progress=progress))
    if out is not None:
        _write(result, out)
    for note in dict.fromkeys(note for one in (source, *sets) if one.bad_rows for note in one.notes):
        say(note, quiet=quiet)
    for line in _about(result):
        say(line, quiet=quiet)
    if as_json:
        print_json(result.document() | ({} if out is None else {"out": path_text(out)}))
    else:
        for line in lines_of(result):
            typer.echo(line)


def lines_of(result: ScoreResult) -> Iterator[str]:
    """The figures for people: a table of rates, with a line for each set of answers and each group."""
    from explore_async.cli.judge import rate_text
    from explore_async.terminal.text import printable

    def row(name: str, standing: Standing) -> tuple[str, str, list[str]]:
        most = max(standing.majority, default=None)
        rates = [standing.accuracy, standing.exact_match]
        rates += [] if most is None else [standing.majority[most], standing.passed[most]]
        return name, f"{standing.questions:,}", list(map(rate_text, rates))

    rows: list[tuple[str, str, list[str]]] = []
    for one in result.answers:
        rows.append(row(printable(one.name, 40), one.figures.standing))
        for column, groups in one.figures.by.items():
            rows += [row(f"  {printable(f'{column} {value}', 40)}", standing) for value, standing in groups.items()]
    width = max(len(name) for name, *_ in rows)
    most = max(one.figures.samples for one in result.answers)
    names = ["accuracy", "exact match", *([f"maj@{most}", f"pass@{most}"] if most > 1 else [])]
    yield f"{'':{width}}  questions  " + "  ".join(f"{name:>19}" for name in names)
    for name, count, rates in rows:
        yield f"{name:{width}}  {count:>9}  " + "  ".join(rates)
    for one in result.answers:
        yield from _more_of(one, result.answers[0].name)


def _more_of(one: ScoredAnswers, first: str) -> Iterator[str]:
    from explore_async.terminal.text import printable

    name, standing = printable(one.name, 40), one.figures.standing
    for what, rates in (("maj", standing.majority), ("pass", standing.passed)):
        if rates:
            yield f"{name}: " + ", ".join(f"{what}@{k} {rate.value:.1%}" for k, rate in rates.items())
    if (less := one.against_first) is not None:
        yield (
            f"{name} minus {printable(first, 40)}: accuracy {less.value:+.1%} ({less.low:+.1%} to {less.high:+.1%}), "
            "by the same questions"
        )


def _about(result: ScoreResult) -> Iterator[str]:
    from explore_async.terminal.text import printable

    if result.without_reference:
        yield f"{result.without_reference:,} questions without a reference answer are left out"
    for one in result.answers:
        samples = len(result.questions) * one.figures.samples
        if (most := one.most_answered) is not None:
            yield (
                f"{one.path}: the question {most.id}, {printable(repr(most.key[0]), _QUESTION_SHOWN)}, has "
                f"{one.figures.samples:,} answers, so as many are expected to each question; is a row there twice?"
            )
        for number, what in (
            (one.figures.unanswered, f"of {samples:,} answers are missing, and count as wrong"),
            (one.figures.undecided, "answers came to no end in math-verify, and count as wrong"),
            (one.others, "rows answer none of the questions, and are left out"),
        ):
            if number:
                yield f"{one.path}: {number:,} {what}"


def _write(result: ScoreResult, path: Path) -> None:
    from explore_async.curation.files.writers import content_of
    from explore_async.storage.whole_files import made, write_whole

    with telling_replaced(path), made(path.parent):
        write_whole(path, content_of(result.rows(), path))
