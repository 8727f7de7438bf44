"""The choice of an engine for this machine, and the server with that engine: for a run and for `serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from explore_async.errors import ConfigError
from explore_async.serving.servers.own_server import OwnServer
from explore_async.serving.servers.registry import REGISTRY
from explore_async.serving.servers.vllm import VLLM_SLOTS, VllmServer, gpu_found, is_installed
from explore_async.settings.operation import ServerSettings

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress

Engine = Literal["embedded", "vllm"]
EMBEDDED_SLOTS, EMBEDDED_CONTEXT = 2, 2048


@dataclass(frozen=True, slots=True)
class EngineChoice:
    engine: Engine
    reason: str
    """In words; empty when the settings name the engine."""


def choose_engine(settings: ServerSettings) -> EngineChoice:
    """The engine for these settings. Raises ConfigError when it cannot serve the model."""
    choice = _choose_automatically(settings) if settings.engine == "auto" else EngineChoice(settings.engine, "")
    if choice.engine == "vllm" and _is_gguf(settings.model):
        raise ConfigError(
            f"{settings.model}: vLLM does not serve GGUF files; give a hub name or the model's folder "
            "(of a run: --set operation.server.model=NAME)"
        )
    if settings.model in REGISTRY and not REGISTRY[settings.model].is_gguf:
        names = ", ".join(name for name, model in REGISTRY.items() if model.is_gguf)
        raise ConfigError(f"{settings.model}: it embeds texts and writes none; registered models to serve: {names}")
    return choice


def _choose_automatically(settings: ServerSettings) -> EngineChoice:
    if _is_gguf(settings.model):
        return EngineChoice("embedded", f"llama.cpp, because {settings.model} is a GGUF model")
    if not is_installed():
        return EngineChoice("embedded", "llama.cpp, because vLLM is not installed (pip install 'explore-async[vllm]')")
    gpu = gpu_found()
    if gpu is None:
        return EngineChoice("embedded", "llama.cpp, because no GPU was found")
    return EngineChoice("vllm", f"vLLM, because it is installed and there is a GPU ({gpu})")


def _is_gguf(model: str) -> bool:
    return model in REGISTRY or model.endswith(".gguf")


def slots_of(settings: ServerSettings) -> int:
    """Requests that the server processes at once."""
    if choose_engine(settings).engine == "embedded":
        return settings.slots or EMBEDDED_SLOTS
    return (settings.slots or VLLM_SLOTS) * settings.vllm.data_parallel


async def make_server(
    settings: ServerSettings,
    *,
    model_name: str | None,
    log_path: Path | None,
    report: Callable[[str], None],
    report_fetch: Callable[[Progress], None] | None = None,
    port: int = 0,
) -> OwnServer:
    """The server, not yet started. `report` gets what takes long; the embedded server's model is downloaded here."""
    choice = choose_engine(settings)
    if choice.reason:
        report(f"engine: {choice.reason}")
    if choice.engine == "vllm":

        def report_progress(line: str, seconds: float) -> None:
            report(f"vLLM is starting, {seconds:,.0f} s: {line}")

        report(f"starting vLLM with {settings.model}")
        return VllmServer(
            settings,
            model_name=model_name or settings.model,
            port=port,
            log_path=log_path,
            on_progress=report_progress,
        )
    from explore_async.serving.servers.embedded import EmbeddedServer
    from explore_async.serving.servers.models import fetch

    report(f"model {settings.model}")
    path = await asyncio.to_thread(fetch, settings.model, report=report_fetch)
    report(f"starting the embedded server with {path.name}")
    return EmbeddedServer(
        path,
        model_name=model_name or settings.model,
        slots=settings.slots or EMBEDDED_SLOTS,
        context_tokens=settings.context_tokens or EMBEDDED_CONTEXT,
        port=port,
        log_path=log_path,
    )
