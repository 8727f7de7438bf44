"""The commands train and likelihood, which need the extra `train`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from explore_async.cli.choices import BadRow, Preset, TemplateName, TooLong, Training
from explore_async.cli.loading import loading
from explore_async.cli.options import (
    ColumnOption,
    JsonOption,
    MarkedOption,
    QuietOption,
    SourceArgument,
    local_path,
    path_or_url,
)
from explore_async.cli.output import MADE_UP, path_text, print_json, say
from explore_async.cli.runs_under_way import tell_of_runs_under_way
from explore_async.errors import EXIT_SIGINT, EXIT_SIGTERM, ConfigError

if TYPE_CHECKING:
    from explore_async.training.likelihood import Likelihood
    from explore_async.training.training import Outcome

_RevisionOption = Annotated[
    str, typer.Option("--model-revision", metavar="REVISION", help="the revision of a model on a hub")
]


def train(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="the model to train: a folder, or its name on a hub")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=local_path, help="the folder for the trained model")
    ],
    preset: Annotated[
        Preset, typer.Option(help="chat: the model's chat template and LoRA; paper: as Explore-Instruct was trained")
    ] = "chat",
    method: Annotated[
        Training | None, typer.Option(help="train an adapter, or all weights (default: as the preset)")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="the share of examples to hold out (default: 0.05, none with --held-out)"),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out", metavar="FILE", parser=path_or_url, help="rows to measure the loss on, and not to train on"
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.001, help="the number of times that each row is learned (default: 3)")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="the number of steps, in place of --epochs")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="at its height (default: 2e-5 for all weights, 2e-4 for LoRA)")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="the number of rows in a step (default: chat 16, paper 128)")
    ] = None,
    device_batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="the most rows that a device takes at once; changes memory and speed alone"),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="the most tokens of a row (default: chat 2048, paper 512)")
    ] = None,
    too_long: Annotated[
        TooLong, typer.Option(help="what to do with longer rows: stop and count them, cut their end, or leave them out")
    ] = "stop",
    lora_rank: Annotated[int | None, typer.Option(min=1, help="the rank of LoRA (default: 16)")] = None,
    adapter: Annotated[bool, typer.Option("--adapter", help="save the adapter alone, not the whole model")] = False,
    every: Annotated[
        int | None,
        typer.Option(min=1, help="steps between two measurements and checkpoints (default: a tenth of all)"),
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed holds out other rows and takes them in another order")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="another setting of TRL's SFTConfig; repeatable"),
    ] = None,
    column: ColumnOption = None,
    marked: MarkedOption = "not-bad",
    model_revision: _RevisionOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count rows, tokens and steps, and train nothing")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fine-tune a model on the answers of a dataset. The same command again goes on where it stopped."""
    from explore_async.cli.options import check_exclusive

    check_exclusive(epochs=epochs is not None, steps=steps is not None)
    check_exclusive(validation=validation is not None, held_out=held_out is not None)
    if lora_rank is not None and method == "full":
        raise ConfigError("--lora-rank: only --method lora has one")
    with loading():
        from explore_async.config.load import assignments
        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_collection
        from explore_async.terminal.reporter import Reporter
        from explore_async.training.extra import is_main_process
        from explore_async.training.recipe import HELD_OUT
        from explore_async.training.training import Wanted
        from explore_async.training.training import train as train_model
        from explore_async.training.watch import Watch

    columns, quiet = parse_columns(column or ()), quiet or not is_main_process()
    tell_of_runs_under_way(source, quiet=quiet)
    data = open_collection(source, columns)
    if data.is_simulated:
        say(MADE_UP, quiet=quiet)
    share = validation if validation is not None else 0.0 if held_out is not None else HELD_OUT
    wanted = Wanted(
        model=model,
        model_revision=model_revision,
        preset=preset,
        method=method,
        lora_rank=lora_rank,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        too_long=too_long,
        epochs=epochs,
        steps=steps,
        every=every,
        seed=seed,
        marked=marked,
        validation=share,
        adapter=adapter,
        more=assignments(overrides or ()),
        at_once=device_batch_size,
    )
    with Reporter(quiet=quiet) as reporter, _asked_to_stop() as asked:

        def progress(text: str, done: int, total: int) -> None:
            reporter.update(text, done=done, total=total)

        outcome = train_model(
            data,
            None if held_out is None else open_collection(held_out),
            out,
            wanted,
            Watch(say=reporter.say, progress=progress, is_stopping=lambda: bool(asked)),
            command=sys.argv[1:],
            only_count=dry_run,
        )
    if not is_main_process():
        return
    if dry_run:
        say(f"{outcome.steps:,} steps; nothing was trained")
        if as_json:
            print_json({"out": path_text(out), "steps": outcome.steps})
        return
    _trained(outcome, out, asked, as_json=as_json, quiet=quiet)


def likelihood(  # noqa: PLR0917 - an option each
    source: SourceArgument,
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL", help="a folder with a model, or its name on a hub; repeat to compare"),
    ],
    template: Annotated[
        TemplateName, typer.Option(help="auto: the chat template of each model, or Alpaca's where it has none")
    ] = "auto",
    max_length: Annotated[
        int | None, typer.Option(min=8, help="the most tokens of a row (default: as many as the model takes)")
    ] = None,
    too_long: Annotated[BadRow, typer.Option(help="stop at rows that are longer, or skip them")] = "stop",
    column: ColumnOption = None,
    model_revision: _RevisionOption = "",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how likely models find the answers of rows, with an interval. Several are compared with the first."""
    with loading():
        from explore_async.cli.output import all_or_nothing
        from explore_async.curation.collections.columns import parse_columns
        from explore_async.curation.collections.open import open_collection
        from explore_async.terminal.reporter import Reporter
        from explore_async.training.likelihood import measure

    columns = parse_columns(column or ())
    tell_of_runs_under_way(source, quiet=quiet)
    data = open_collection(source, columns)
    with all_or_nothing(), Reporter(quiet=quiet) as reporter:

        def progress(text: str, done: int, total: int) -> None:
            reporter.update(text, done=done, total=total)

        found = measure(
            data,
            model,
            revision=model_revision,
            template=None if template == "auto" else "alpaca",
            max_length=max_length,
            skip_too_long=too_long == "skip",
            say=reporter.say,
            on_progress=progress,
        )
    _measured(found, as_json=as_json)


def _trained(outcome: Outcome, out: Path, asked: list[int], *, as_json: bool, quiet: bool) -> None:
    if outcome.result is None:
        say(f"stopped after step {outcome.step} of {outcome.steps}; the same command goes on from there")
        sys.exit(EXIT_SIGTERM if signal.SIGTERM in asked else EXIT_SIGINT)
    result = outcome.result
    if (held_out := result["held_out"]) is not None:
        before, after, change = (held_out[name] for name in ("before", "after", "difference"))
        low, high = change["interval"]
        say(
            f"held-out loss {before['value']:.3f} before, {after['value']:.3f} after: {change['value']:+.3f} "
            f"[{low:+.3f}, {high:+.3f}], of {held_out['rows']:,} rows",
            quiet=quiet,
        )
    say(f"{result['steps']:,} steps in {result['seconds']:,.0f} s: {out}", quiet=quiet)
    if as_json:
        print_json({"out": path_text(out), **result})


def _measured(found: Likelihood, *, as_json: bool) -> None:
    for one in found.models:
        say(
            f"{one.model}: {one.loss.text()} nats a token, {one.bits_per_byte.text()} bits a byte, of "
            f"{len(one.places):,} rows"
        )
    for comparison in found.comparisons:
        loss = "" if comparison.loss is None else f"{comparison.loss.text(signed=True)} nats a token, "
        bits = comparison.bits_per_byte.text(signed=True)
        say(f"{comparison.model} minus {comparison.against}: {loss}{bits} bits a byte")
    if as_json:
        print_json(
            {
                "rows": found.data.rows,
                "rows_digest": found.data.digest,
                "unanswered": found.unanswered,
                "models": [one.document() for one in found.models],
                "comparisons": [one.document() for one in found.comparisons],
            }
        )


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """The signals that came: the first ends the training after its step, with a checkpoint, the second at once."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if came:
            say("stopped; the same command goes on from the last checkpoint")
            sys.exit(EXIT_SIGTERM if number == signal.SIGTERM else EXIT_SIGINT)
        came.append(number)
        say("stops after this step, with a checkpoint; once more stops at once")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
