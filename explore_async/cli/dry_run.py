"""`run --dry-run`: shows a prompt of each kind and the size of the run. It asks and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from explore_async.cli.output import print_json
from explore_async.curation.passage_files import unused_fields, with_passages
from explore_async.exploration.prompt_values import examples_to_ask_for
from explore_async.planning.expectation import (
    CHARACTERS_PER_TOKEN,
    ExpectedShare,
    expect,
    expected_share,
    sample_prompts,
    warnings,
    window_warning,
)
from explore_async.running.checking import require_programs
from explore_async.serving.servers.launch import slots_of
from explore_async.settings.operation import ASSUMED_SLOTS, assumed_slots
from explore_async.settings.recipe import Recipe
from explore_async.settings.run_settings import REPLACE_ME, RunSettings
from explore_async.terminal.console import StderrConsole
from explore_async.terminal.counts import counted
from rouge_kernels import compilation_told

_COMPILING = (
    "compiling the code of the ROUGE-L filter that a dry run needs, once for this installation: about 20 s on an idle "
    "machine; the first run compiles the rest"
)


def preview(settings: RunSettings, console: Console, *, as_json: bool) -> None:
    require_programs(settings.checks)
    settings = with_passages(settings)
    recipe = settings.resolved(model="(the model served)")
    with compilation_told(lambda: StderrConsole().print(_COMPILING)):
        prompts = sample_prompts(recipe)
        expected = expect(recipe, prompts)
        share = expected_share(recipe)
        odd = warnings(recipe, expected)
    server, endpoints = settings.operation.server, settings.operation.endpoints
    slots = slots_of(server) if server is not None else assumed_slots(endpoints)
    if narrow := window_warning(recipe.window, slots or ASSUMED_SLOTS, expected.requests):
        odd.append(narrow)
    if places := settings.places_to_fill():
        odd.insert(0, f"{', '.join(places)}: {REPLACE_ME} still stands there, and `run` refuses the config before")
    if unused := settings.unused_systems():
        odd.insert(0, f"{', '.join(unused)}: it needs responses: separate, and `run` refuses the config without")
    if unused := unused_fields(settings):
        odd.insert(0, f"{', '.join(unused)}: a file of text has no fields, and `run` refuses the config with one")
    if as_json:
        passages = {domain.name: len(domain.passages) for domain in recipe.domains if domain.passages}
        of_files = {"passages": passages} if passages else {}
        of_shard = {"shard": asdict(share)} if share is not None else {}
        print_json({"expected": asdict(expected), **of_shard, **of_files, "warnings": odd, "prompts": prompts})
        return
    for kind, chat_request in prompts.items():
        console.print(Text(f"── {kind} ", style="bold"))
        for message in chat_request.messages:
            content = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in message["content"])
            console.print(Text(f"[{message['role']}]\n{content}\n"), soft_wrap=True)
    per_request, opening = recipe.generation.per_request, examples_to_ask_for(recipe.generation, 0)
    if opening < per_request:
        console.print(
            f"The first request of a task asks for {counted(opening, 'example')}, so that its sub-tasks do not wait "
            f"long; the later ones ask for up to {per_request} (generation.per_request).\n",
            soft_wrap=True,
        )
    console.print(Text("── the run, if completions hold all that is asked for and nothing is dropped", style="bold"))
    if (budget := recipe.targets.only_budget) is not None:
        console.print(f"for {budget:,} tokens:")
    console.print(
        f"{counted(expected.tasks, 'task')}, {counted(expected.examples, 'example')}, "
        f"{counted(expected.requests, 'request')},\n"
        f"about {expected.prompt_tokens:,} prompt and {expected.completion_tokens:,} completion tokens "
        f"({CHARACTERS_PER_TOKEN} characters a token)"
    )
    if share is not None:
        console.print(Text(_of_shard(share)), soft_wrap=True)
    for line in _of_passages(recipe, expected.generates):
        console.print(Text(line), soft_wrap=True)
    for warning in odd:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _of_shard(share: ExpectedShare) -> str:
    top = ""
    if share.shared_tasks:
        top = (
            f"; every shard explores the top of the trees alike, {counted(share.shared_tasks, 'task')} with about "
            f"{counted(share.shared_requests, 'request')}, whose completions they share"
        )
    budget = "" if share.token_budget is None else f", {share.token_budget:,} tokens"
    return (
        f"of these shard {share.index} of {share.of} has {counted(share.tasks, 'task')}, "
        f"{counted(share.examples, 'example')}{budget}{top}"
    )


def _of_passages(recipe: Recipe, generates: int) -> Iterator[str]:
    """The passages of each domain, and how often each is shown."""
    for domain in recipe.domains:
        if passages := len(domain.passages):
            requests = -(-generates // len(recipe.domains))
            least, more = divmod(requests, passages)
            times = f"{least:,} or {least + 1:,}" if more else f"{least:,}"
            yield (
                f"{domain.name}: {counted(passages, 'passage')} from its files; each is shown in {times} of about "
                f"{counted(requests, 'request')} for examples"
            )
