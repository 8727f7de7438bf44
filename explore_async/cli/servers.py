"""The commands serve and bench: start a server on this machine, measure endpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from explore_async.cli.choices import Engine
from explore_async.cli.options import ApiKeyEnvOption, JsonOption, ModelOption, QuietOption, local_path
from explore_async.cli.output import print_json, say, telling_replaced
from explore_async.cli.signals import terminable
from explore_async.errors import ConfigError


def serve(  # noqa: PLR0917 - an option each
    context: typer.Context,
    engine: Annotated[
        Engine, typer.Option(help="embedded is llama.cpp; auto takes vllm where it is installed and there is a GPU")
    ] = "embedded",
    model: Annotated[
        str, typer.Option(help="embedded: a registered name or a .gguf file; vllm: a name on the hub or a folder")
    ] = "qwen2.5-coder-1.5b",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port")] = 8000,
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="requests that are processed at the same time (default: 2; vllm and simulated: 256)"),
    ] = None,
    context_tokens: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=256,
            help="the most tokens of a request, prompt and completion (default: 2,048; vllm: as the model has; "
            "simulated: 32,768)",
        ),
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(min=1, help="vllm: the number of GPUs that share one copy of the model")
    ] = 1,
    data_parallel: Annotated[int, typer.Option(min=1, help="vllm: the number of copies of the model")] = 1,
    latency: Annotated[float, typer.Option(min=0, help="simulated: the mean time of a completion in seconds")] = 0.0,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="simulated: as fast as this model on a GPU, as `plan --profile` has it"),
    ] = None,
    universe: Annotated[
        int | None,
        typer.Option(
            metavar="SEED",
            help="simulated: names and instructions are those of a known universe, so that what a run reaches can be "
            "measured (benchmarks/bench_coverage.py)",
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Start a server on this machine and keep it until Ctrl-C. Arguments after `--` go to vLLM."""
    import asyncio

    from explore_async.cli.keep_serving import keep_serving, keep_simulating
    from explore_async.config.load import server as server_settings

    def report(text: str) -> None:
        say(text, quiet=quiet)

    if context.args and engine in {"embedded", "simulated"}:
        raise ConfigError(f"{' '.join(context.args)}: arguments after `--` go to vLLM: use --engine vllm")
    if engine == "simulated":
        from explore_async.cli.profiles import profile_of
        from explore_async.serving.simulated.model import MODEL_LENGTH
        from explore_async.serving.simulated.universe import Universe

        pace = None if profile is None else profile_of(profile)
        pace = pace.with_slots(slots) if pace is not None and slots is not None else pace
        length = context_tokens or MODEL_LENGTH
        asyncio.run(
            keep_simulating(
                port=port,
                slots=slots or 256,
                latency_s=latency,
                profile=pace,
                context_tokens=length,
                universe=None if universe is None else Universe(seed=universe),
                say=report,
            )
        )
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
    endpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ENDPOINT...",
            help="URLs of OpenAI-compatible servers (default: those of the config, OPENAI_BASE_URL)",
        ),
    ] = None,
    config: Annotated[
        str, typer.Option("--config", help="a YAML file or a preset, whose prompts are sent")
    ] = "brainstorming",
    model: ModelOption = None,
    listed: Annotated[
        str | None, typer.Option("--concurrency", metavar="N,N", help="the levels of concurrency to measure")
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, max=100_000, help="without --concurrency: the levels are 1, 4, 16 … up to this")
    ] = 256,
    requests: Annotated[
        int,
        typer.Option(min=1, help="the fewest requests of a level; a level sends at least three times its concurrency"),
    ] = 16,
    seconds: Annotated[float, typer.Option(min=0.1, help="the time after which a level sends no more requests")] = 60.0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="the most tokens of a completion (default: as in the config)")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="the same seed sends the same prompts (default: random)")
    ] = None,
    api_key_env: ApiKeyEnvOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", parser=local_path, help="write the result there, with a plot beside it"),
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure endpoints with the prompts of a run: tokens per second and latencies at each concurrency."""
    from explore_async.cli.endpoints import with_endpoints
    from explore_async.config.load import load
    from explore_async.curation.passage_files import with_passages
    from explore_async.measuring.command import bench, levels

    settings, concurrency = with_passages(load(config, endpoint=endpoints)), levels(listed, most)
    operation = with_endpoints(settings.operation, api_key_env, quiet=quiet)
    if not operation.endpoints:
        raise ConfigError("bench: name an endpoint, such as http://localhost:8000/v1")
    with telling_replaced(out), terminable():
        document, code = bench(
            operation.endpoints, settings, config, model=model, concurrency=concurrency, between=listed is None,
            requests=requests, seconds=seconds, max_tokens=max_tokens, seed=seed, out=out, quiet=quiet,
        )  # fmt: skip
    if as_json:
        print_json(document)
    sys.exit(code)
