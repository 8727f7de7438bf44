"""vLLM as a server that we start: its command, the wait until it is ready, and its end with all its processes."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from explore_async.errors import ConfigError, ServerError
from explore_async.serving.servers.own_server import OwnServer
from explore_async.serving.servers.process import ServerProcess, python
from explore_async.serving.servers.supervisor import GRACE_S
from explore_async.settings.operation import ServerSettings

HOST: Final = "127.0.0.1"
VLLM_SLOTS: Final = 256
"""Requests that a data-parallel rank processes at once (`max_num_seqs`), unless the settings say otherwise."""
KEY_VARIABLE: Final = "VLLM_API_KEY"
"""The variable in which vLLM finds the key that it demands."""
# No page has this origin, and browsers let no other origin read the responses. By default vLLM allows all origins.
_NO_ORIGIN: Final = "http://no-origin.invalid"
_ALL_ADDRESSES: Final = ("0.0.0.0", "::")  # noqa: S104 - to compare with
_GPU_FILES: Final = ("/dev/nvidia0", "/dev/kfd")
# Usage reports go to a server of vLLM's makers; progress bars fill the log.
_ENVIRONMENT: Final = {"VLLM_NO_USAGE_STATS": "1", "TQDM_MININTERVAL": "5", "PYTHONUNBUFFERED": "1"}


def is_installed() -> bool:
    return importlib.util.find_spec("vllm") is not None


def gpu_found() -> str | None:
    """The file or program that shows that there is a GPU, or None."""
    for name in _GPU_FILES:
        if Path(name).exists():
            return name
    return shutil.which("nvidia-smi")


def vllm_command(settings: ServerSettings, name: str, port: int) -> list[str]:
    """The command of vLLM. Priorities let exploration overtake generation; prompt details count cached tokens."""
    options = settings.vllm
    # The program `vllm` can start several front ends, the module only one; but the module works for every build.
    several = options.api_servers > 1
    module = "vllm.entrypoints.cli.main" if several else "vllm.entrypoints.openai.api_server"
    given = ["serve", settings.model] if several else ["--model", settings.model]
    flags: dict[str, object | None] = {
        "--served-model-name": name,
        "--host": HOST,
        "--port": port,
        "--max-num-seqs": settings.slots or VLLM_SLOTS,
        "--max-model-len": settings.context_tokens,
        "--dtype": options.dtype,
        "--scheduling-policy": "priority",
        "--allowed-origins": json.dumps([_NO_ORIGIN]),
        "--tensor-parallel-size": options.tensor_parallel if options.tensor_parallel > 1 else None,
        "--data-parallel-size": options.data_parallel if options.data_parallel > 1 else None,
        "--api-server-count": options.api_servers if several else None,
    }
    chosen = [text for flag, value in flags.items() if value is not None for text in (flag, str(value))]
    return python("-m", module, *given, *chosen, "--enable-prompt-tokens-details", *options.args)


def check_args(args: Sequence[str]) -> None:
    """Raises ConfigError for arguments that hold an API key (every process list shows arguments), for a server that
    other machines can use without one, and for a port, as the server is looked for at ours.
    """
    if any(_means(argument, "--port") for argument in args):
        raise ConfigError(
            "--port: it is not for vLLM's own arguments; `serve --port` sets it, and a run takes a free one"
        )
    if any(_means(argument, "--api-key") for argument in args):
        raise ConfigError(
            f"--api-key: process lists show arguments; set the environment variable {KEY_VARIABLE} instead"
        )
    for host in _hosts(args):
        if not _is_loopback(host) and not os.environ.get(KEY_VARIABLE):
            raise ConfigError(
                f"--host {host}: others can reach this server, so it must demand a key: set the environment "
                f"variable {KEY_VARIABLE}"
            )


def _hosts(args: Sequence[str]) -> list[str]:
    """The addresses that the arguments give; the last one counts."""
    return [
        argument.partition("=")[2] or "".join(args[position + 1 : position + 2])
        for position, argument in enumerate(args)
        if _means(argument, "--host")
    ]


def _means(argument: str, option: str) -> bool:
    """True where vLLM takes the argument for the option: it reads underscores as hyphens, and names that are cut short.
    It refuses a beginning that several options share, so a beginning may always count here.
    """
    flag = argument.partition("=")[0].replace("_", "-")
    return flag.startswith("--") and flag != "--" and option.startswith(flag)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class VllmServer(OwnServer):
    """Owns the server from `async with` to its end; none of its processes outlives this process, however that ends.

    While it starts, which may take many minutes, `on_progress` gets the log's last line and the seconds so far.
    Raises ServerError, with the log's tail, when vLLM is missing or dies.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        model_name: str,
        port: int = 0,
        log_path: Path | None = None,
        on_progress: Callable[[str, float], None] = lambda *_: None,
    ) -> None:
        self._settings = settings
        self._model_name = model_name
        self._port = port
        self._on_progress = on_progress
        super().__init__(ServerProcess(f"vLLM with {settings.model}", log_path=log_path, stop_s=GRACE_S + 5))

    async def _start(self) -> str:
        check_args(self._settings.vllm.args)
        if not is_installed():
            raise ServerError("vLLM is not installed: pip install 'explore-async[vllm]'")
        host = (_hosts(self._settings.vllm.args) or [HOST])[-1]
        host = HOST if host in _ALL_ADDRESSES else host
        port = _free_port(host, self._port)
        command = vllm_command(self._settings, self._model_name, port)
        supervised = python("-m", "explore_async.serving.servers.supervisor", str(os.getpid()), "--", *command)
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        await self._process.spawn(*supervised, environment=_ENVIRONMENT)
        await self._process.wait_until_healthy(address, self._on_progress)
        return address


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or for 0 one that is free now, as vLLM does not accept 0. Raises ConfigError where another
    program has it: its answers would pass for those of vLLM, which takes minutes to find out.
    """
    try:
        with socket.create_server((host, wanted), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise ConfigError(f"port {wanted} of {host} cannot be used: {error.strerror}; give another --port") from error
