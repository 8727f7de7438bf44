"""The commands serve and bench: start a server on this machine, measure servers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.choices import Engine, Profile
from explore_async.cli.options import JsonOption, ModelOption, QuietOption
from explore_async.cli.output import print_json, say
from explore_async.cli.signals import terminable
from explore_async.errors import ConfigError


def serve(  # noqa: PLR0917 - an option each
    context: typer.Context,
    engine: Annotated[Engine, typer.Option(help="embedded: llama.cpp on this machine")] = "embedded",
    model: Annotated[
        str, typer.Option(help="embedded: of the registry, or a .gguf file; vllm: a hub name or a folder")
    ] = "qwen2.5-coder-1.5b",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    slots: Annotated[
        int | None, typer.Option(min=1, help="requests answered at once [default: 2, with vllm and simulated 256]")
    ] = None,
    context_tokens: Annotated[int | None, typer.Option("--context", min=256, help="tokens of one request")] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="vllm: GPUs that share the model")] = 1,
    data_parallel: Annotated[int, typer.Option(min=1, help="vllm: copies of the model")] = 1,
    latency: Annotated[float, typer.Option(min=0, help="simulated: mean seconds an answer takes")] = 0.0,
    profile: Annotated[
        Profile | None,
        typer.Option(metavar="NAME", help="simulated: as fast as this engine on a GPU; an unknown name lists them"),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Start a server on this machine and keep it until Ctrl-C. What follows `--` goes to vLLM as it is."""
    import asyncio

    from explore_async.cli.keep_serving import keep_serving, keep_simulating
    from explore_async.config.load import server as server_settings
    from explore_async.serving.simulated.engine import PROFILES

    def report(text: str) -> None:
        say(text, quiet=quiet)

    if context.args and engine in {"embedded", "simulated"}:
        raise ConfigError(f"{' '.join(context.args)}: only vLLM takes arguments of its own")
    if engine == "simulated":
        pace = None if profile is None else PROFILES[profile].with_slots(slots or PROFILES[profile].slots)
        asyncio.run(keep_simulating(port=port, slots=slots or 256, latency_s=latency, profile=pace, say=report))
        return
    settings = server_settings(
        {
            "engine": engine,
            "model": model,
            "slots": slots,
            "context_tokens": context_tokens,
            "vllm": {"tensor_parallel": tensor_parallel, "data_parallel": data_parallel, "args": context.args},
        }
    )
    asyncio.run(keep_serving(settings, port=port, say=report))


def bench(  # noqa: PLR0917 - an option each
    endpoints: Annotated[list[str], typer.Argument(metavar="ENDPOINT...", help="URLs of OpenAI-compatible servers")],
    config: Annotated[str, typer.Option("--config", help="whose prompts: a file or preset")] = "brainstorming",
    model: ModelOption = None,
    listed: Annotated[str | None, typer.Option("--concurrency", metavar="N,N", help="the levels to measure")] = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="or 1, 4, 16, ... up to this")] = 256,
    requests: Annotated[int, typer.Option(min=1, help="a level asks at least so many, and twice what it holds")] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="after which a level begins no more requests")] = 60.0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="limit of an answer [default: the config's]")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="the same prompts again [default: new ones]")] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="NAME", help="the variable that holds the key")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="written there, with a plot beside it")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure endpoints with the prompts of a run: tokens per second and latencies by concurrency."""
    from explore_async.config.load import load
    from explore_async.measuring.command import bench, levels

    recipe, concurrency = load(config), levels(listed, most)
    with terminable():
        document, code = bench(
            endpoints, recipe, config, model=model, concurrency=concurrency, requests=requests, seconds=seconds,
            max_tokens=max_tokens, seed=seed, api_key_env=api_key_env, out=out, quiet=quiet,
        )  # fmt: skip
    if as_json:
        print_json(document)
    sys.exit(code)
