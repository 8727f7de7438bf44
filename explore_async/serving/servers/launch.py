"""Which engine serves on this machine, and the server that it makes: for a run of its own and for `serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

from explore_async.errors import ConfigError
from explore_async.serving.servers.registry import REGISTRY
from explore_async.serving.servers.vllm import VLLM_SLOTS, VllmServer, gpu_found, is_installed
from explore_async.settings.operation import ServerSettings

if TYPE_CHECKING:
    from explore_async.serving.servers.download import Progress

Engine = Literal["embedded", "vllm"]
EMBEDDED_SLOTS, EMBEDDED_CONTEXT = 2, 2048


class Server(Protocol):
    """What the servers have in common once they run."""

    @property
    def url(self) -> str: ...

    @property
    def started_in_s(self) -> float: ...

    async def watch(self) -> NoReturn: ...


@dataclass(frozen=True, slots=True)
class Choice:
    engine: Engine
    why: str
    """In words, where it was chosen and not asked for."""


def choose(settings: ServerSettings) -> Choice:
    """The engine that is to be used. Raises ConfigError where the model is none for it."""
    found = _chosen(settings) if settings.engine == "auto" else Choice(settings.engine, "")
    if found.engine == "vllm" and _is_for_llama_cpp(settings.model):
        raise ConfigError(
            f"{settings.model}: vLLM serves no GGUF file; give a model by its hub name or the folder it lies in"
        )
    return found


def _chosen(settings: ServerSettings) -> Choice:
    if _is_for_llama_cpp(settings.model):
        return Choice("embedded", f"llama.cpp, as {settings.model} is a GGUF model")
    if not is_installed():
        return Choice("embedded", "llama.cpp, as vLLM is not installed (pip install 'explore-async[vllm]')")
    gpu = gpu_found()
    if gpu is None:
        return Choice("embedded", "llama.cpp, as no GPU was found")
    return Choice("vllm", f"vLLM, as it is installed and there is a GPU ({gpu})")


def _is_for_llama_cpp(model: str) -> bool:
    return model in REGISTRY or model.endswith(".gguf")


def slots_of(settings: ServerSettings) -> int:
    """Requests that the server answers at once."""
    if choose(settings).engine == "embedded":
        return settings.slots or EMBEDDED_SLOTS
    return (settings.slots or VLLM_SLOTS) * settings.vllm.data_parallel


async def new_server(
    settings: ServerSettings,
    *,
    model_name: str | None,
    log_path: Path | None,
    say: Callable[[str], None],
    report_fetch: Callable[[Progress], None] | None = None,
    port: int = 0,
) -> AbstractAsyncContextManager[Any]:
    """The server, not yet started. What takes long is told to `say`; the model of the embedded one is fetched here."""
    choice = choose(settings)
    if choice.why:
        say(f"engine: {choice.why}")
    if choice.engine == "vllm":

        def tell(line: str, seconds: float) -> None:
            say(f"vLLM is starting, {seconds:,.0f} s: {line}")

        say(f"starting vLLM with {settings.model}")
        return VllmServer(
            settings,
            model_name=model_name or settings.model,
            port=port,
            log_path=log_path,
            tell=tell,
        )
    from explore_async.serving.servers.embedded import EmbeddedServer
    from explore_async.serving.servers.models import fetch

    say(f"model {settings.model}")
    path = await asyncio.to_thread(fetch, settings.model, report=report_fetch)
    say(f"starting the embedded server with {path.name}")
    return EmbeddedServer(
        path,
        model_name=model_name or settings.model,
        slots=settings.slots or EMBEDDED_SLOTS,
        context_tokens=settings.context_tokens or EMBEDDED_CONTEXT,
        port=port,
        log_path=log_path,
    )
