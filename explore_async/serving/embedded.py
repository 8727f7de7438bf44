"""A llama.cpp server of our own, for machines without a GPU: xllamacpp in a child process.

xllamacpp runs llama.cpp's HTTP server inside the Python process that asks for it. It gets a process of its own here, so
that its threads, its memory and a crash stay out of the run; that process is this module run with `-m`.

What callers should know of the server: it accepts any model name, it cuts strings of a JSON schema mid-sentence at
maxLength, and it serves whoever can connect to 127.0.0.1. Web pages cannot read its answers (no origin is allowed),
but it has no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NoReturn, Self

from explore_async.errors import ConfigError, EndpointError, ServerError

HOST: Final = "127.0.0.1"

_START_DEADLINE_S = 180.0  # a cold disk reads a gigabyte slowly, and other processes may hold the cores
_STOP_DEADLINE_S = 5.0
_POLL_S = 0.05
_LOG_TAIL_LINES = 20
_LOG_TAIL_BYTES = 16_384
# A place where no page comes from: browsers let no other origin read the answers. By default any origin is reflected.
_NO_ORIGIN = "http://no-origin.invalid"
# Host memory for prompts that lost their slot; llama.cpp's default of 8 GiB is more than small machines have.
_PROMPT_CACHE_MIB = 512
_LOG_WARNINGS = 2  # llama.cpp's verbosity; one step up it writes ten lines a request
_PR_SET_PDEATHSIG = 1
_FEW_CPUS = 4


def choose_threads() -> int:
    """CPUs this process may use; where there are many, their cores, as hyperthreads do not help llama.cpp."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    if len(allowed) > _FEW_CPUS:
        with contextlib.suppress(OSError):
            siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
            return len({Path(siblings.format(cpu)).read_text(encoding="ascii") for cpu in allowed})
    return len(allowed)


class EmbeddedServer:
    """Owns the server process from `async with` to its end; it does not outlive this process, however that ends.

    `slots` requests are answered at once, each with `context_tokens` of context. Port 0 takes a free one.
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
        self._log_path = log_path
        self._log: IO[bytes] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.started_in_s = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        await asyncio.to_thread(self._prepare)
        try:
            await self._spawn()
            try:
                async with asyncio.timeout(_START_DEADLINE_S):
                    await self._until_ready()
            except TimeoutError:
                raise self._failure(f"did not come up within {_START_DEADLINE_S:.0f} s") from None
        except BaseException:
            await self._stop()
            raise
        self.started_in_s = time.monotonic() - began
        return self

    async def watch(self) -> NoReturn:
        """Returns only by raising: ServerError with the log's tail when the process has died."""
        assert self._process is not None
        await self._process.wait()
        raise self._failure("died")

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        died = self._process is not None and self._process.returncode is not None
        failure = self._failure("died") if died and isinstance(exc, EndpointError) else None
        await self._stop()
        if failure is not None:  # the reason why the endpoint was gone
            raise failure from exc

    def _prepare(self) -> None:
        """What touches the disk before the process is there."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise ServerError("the embedded server needs xllamacpp: pip install 'explore-async[embedded]'")
        if not self._model_path.is_file():
            raise ConfigError(f"{self._model_path}: no such model file")
        self._log = self._open_log()

    def _open_log(self) -> IO[bytes]:
        if self._log_path is None:
            return tempfile.TemporaryFile()
        try:
            return self._log_path.open("w+b")
        except OSError as error:
            raise ServerError(f"the server's log cannot be written: {error}") from error

    async def _spawn(self) -> None:
        # Whatever makes explore_async importable here need not hold for a new interpreter.
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "explore_async.serving.embedded",
            json.dumps(self._options),
            stdin=asyncio.subprocess.PIPE,  # held open; its end tells the server that we are gone
            stdout=asyncio.subprocess.PIPE,  # one line: the address
            stderr=self._log,
            # Waiting OpenMP threads that spin take the cores from those that work: five times slower under load.
            env=os.environ | {"OMP_WAIT_POLICY": "passive", "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the run, which needs the server to finish what is in flight
        )

    async def _until_ready(self) -> None:
        import aiohttp

        assert self._process is not None
        assert self._process.stdout is not None
        address = (await self._process.stdout.readline()).decode().strip()
        if not address:
            await self._process.wait()
            raise self._failure("did not start")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                if self._process.returncode is not None:
                    raise self._failure("died while starting")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{address}/health") as answer:
                        if answer.ok:
                            break
                await asyncio.sleep(_POLL_S)
        self.url = f"{address}/v1"

    async def _stop(self) -> None:
        """Ends the process politely, then surely, even when cancelled meanwhile."""
        process = self._process
        try:
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), _STOP_DEADLINE_S)
                except TimeoutError:
                    process.kill()
                    await process.wait()
                except asyncio.CancelledError:
                    process.kill()
                    raise
        finally:
            if process is not None and process.stdin is not None:
                process.stdin.close()
            if self._log is not None:
                self._log.close()
                self._log = None

    def _failure(self, what: str) -> ServerError:
        assert self._process is not None
        code = self._process.returncode
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (code {code})"
        where = "" if self._log_path is None else f"; its log is {self._log_path}"
        return ServerError(f"the embedded server with {self._model_path.name} {what}{how}{where}\n{self._log_tail()}")

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        file = self._log.fileno()  # shared with the child: seeking would move where it writes
        tail = os.pread(file, _LOG_TAIL_BYTES, max(0, os.fstat(file).st_size - _LOG_TAIL_BYTES))
        return "\n".join(tail.decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


# What follows runs in the child.


def _end_with_the_parent(parent: int) -> None:
    """Ties this process to its parent: by the kernel where it can, and by the pipe the parent holds open."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
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
    _end_with_the_parent(options["parent"])
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
