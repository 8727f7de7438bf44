"""A llama.cpp server that we start, for machines without a GPU: xllamacpp in a child process.

xllamacpp runs llama.cpp's HTTP server inside a Python process. Here that is a process of its own, this module run with
`-m`, so that its threads, its memory and a crash stay out of the run.

The server accepts any model name, cuts strings of a JSON schema in mid-sentence at maxLength, and has no key: every
program that can connect to 127.0.0.1 can use it. Web pages cannot read its responses (no origin is allowed).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from explore_async.errors import ConfigError, ServerError
from explore_async.serving.servers.own_server import OwnServer
from explore_async.serving.servers.process import ServerProcess, python
from explore_async.serving.servers.supervisor import end_with_parent

HOST: Final = "127.0.0.1"

_START_DEADLINE_S = 180.0  # a cold disk reads a gigabyte slowly, and other processes may hold the cores
_STOP_DEADLINE_S = 5.0
# No page has this origin, and browsers let no other origin read the responses. By default any origin is allowed.
_NO_ORIGIN = "http://no-origin.invalid"
# Host memory for prompts that lost their slot; llama.cpp's default of 8 GiB is more than small machines have.
_PROMPT_CACHE_MIB = 512
_LOG_WARNINGS = 2  # llama.cpp's verbosity; one step up it writes ten lines a request
_FEW_CPUS = 4


def choose_threads() -> int:
    """CPUs that this process may use; if there are many, their cores, as hyperthreads do not help llama.cpp."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    if len(allowed) > _FEW_CPUS:
        with contextlib.suppress(OSError):
            siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
            return len({Path(siblings.format(cpu)).read_text(encoding="ascii") for cpu in allowed})
    return len(allowed)


class EmbeddedServer(OwnServer):
    """Owns the server process from `async with` to its end; it does not outlive this process, however that ends.

    `slots` requests are processed at once, each with `context_tokens` of context. Port 0 takes a free port.
    `log_path` receives the server's output; without it the log lives as long as the server.
    """

    def __init__(
        self,
        model_path: Path,
        *,
        model_name: str,
        slots: int = 2,
        context_tokens: int = 2048,
        threads: int | None = None,
        port: int = 0,
        log_path: Path | None = None,
    ) -> None:
        self._model_path = model_path
        self._options = {
            "parent": os.getpid(),
            "model": str(model_path),
            "name": model_name,
            "slots": slots,
            "context_tokens": context_tokens,
            "threads": threads or choose_threads(),
            "port": port,
        }
        name = f"the embedded server with {model_path.name}"
        super().__init__(ServerProcess(name, log_path=log_path, stop_s=_STOP_DEADLINE_S))

    async def _start(self) -> str:
        await asyncio.to_thread(self._check)
        command = python("-m", "explore_async.serving.servers.embedded", json.dumps(self._options))
        # Waiting OpenMP threads that spin take the cores from those that work: five times slower under load.
        await self._process.spawn(*command, environment={"OMP_WAIT_POLICY": "passive"})
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                address = await self._process.read_first_line()
                await self._process.wait_until_healthy(address)
        except TimeoutError:
            raise self._process.failure(f"did not start within {_START_DEADLINE_S:.0f} s") from None
        return address

    def _check(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ServerError("the embedded server needs xllamacpp: pip install 'explore-async[embedded]'")
        if not self._model_path.is_file():
            raise ConfigError(f"{self._model_path}: no such model file")


# The rest runs in the child.


def _tie_to_parent(parent: int) -> None:
    """Ties this process to its parent: by the kernel where it can, and by the pipe the parent holds open."""
    try:
        end_with_parent(parent, signal.SIGKILL)
    except ProcessLookupError:
        os._exit(1)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextlib.contextmanager
def _clean_stdout() -> Iterator[int]:
    """The real standard output, while everything else that is written there goes to the log."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        yield real
    finally:
        os.close(real)


def _serve(options: dict[str, Any]) -> None:
    _tie_to_parent(options["parent"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _clean_stdout() as out:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = options["model"]
        params.model_alias = {options["name"]}
        params.hostnames = [HOST]
        params.port = options["port"]
        params.cors_origins = _NO_ORIGIN
        params.cors_origins_explicit = True
        params.cors_credentials = False
        params.n_parallel = options["slots"]
        params.n_ctx = options["slots"] * options["context_tokens"]
        params.cpuparams.n_threads = options["threads"]
        params.cache_ram_mib = _PROMPT_CACHE_MIB
        params.endpoint_metrics = True
        params.endpoint_slots = False  # it shows other requests' prompts
        params.ui = False
        params.verbosity = _LOG_WARNINGS
        try:
            server = xllamacpp.Server(params)
        except RuntimeError as error:
            sys.exit(f"xllamacpp: {error}")
        os.write(out, f"{server.listening_address}\n".encode())
    signal.pause()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
