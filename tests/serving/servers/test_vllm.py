"""vLLM as a server of ours. A package called vllm, made here, stands in for it: real processes, a real grandchild."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.waiting import until

from explore_async.errors import ConfigError, EndpointUnavailable, ServerError
from explore_async.serving.endpoints.client import EndpointClient, open_session
from explore_async.serving.servers import launch as engines
from explore_async.serving.servers import vllm as vllm_module
from explore_async.serving.servers.launch import choose_engine, slots_of
from explore_async.serving.servers.vllm import VllmServer, vllm_command
from explore_async.settings.operation import ServerSettings, VllmSettings

ROOT = Path(__file__).parents[3]
FAKE = """
import argparse, asyncio, json, os, subprocess, sys
from pathlib import Path
from explore_async.serving.simulated.server import SimulatedServer

folder = Path(os.environ["FAKE_VLLM"])
parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--port", type=int)
parser.add_argument("--max-num-seqs", type=int)
parser.add_argument("--served-model-name")
known, _ = parser.parse_known_args()
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(folder / "said.json").write_text(json.dumps({"arguments": sys.argv[1:], "pids": [os.getpid(), engine.pid]}))
print("loading weights", file=sys.stderr, flush=True)
if known.model == "broken":
    sys.exit("ValueError: no such architecture")

async def main():
    await asyncio.sleep(float(os.environ.get("FAKE_VLLM_LOADS_S", "0")))
    async with SimulatedServer(known.max_num_seqs, model=known.served_model_name, port=known.port):
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """Where vLLM would be; gives what the fake one noted: its arguments and the processes it is made of."""
    package = tmp_path / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "api_server.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(package.parents[2]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parents[2]), str(ROOT), str(ROOT / "kernels")]))
    monkeypatch.setenv("FAKE_VLLM", str(tmp_path))
    return lambda: orjson.loads((tmp_path / "said.json").read_bytes())


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


async def until_gone(*pids: int) -> None:
    await until(lambda: all(gone(pid) for pid in pids), every_s=0.05)


def test_the_command_is_what_was_asked_for() -> None:
    """Every option has its flag, what is not given none, and what is passed through comes last."""
    command = vllm_command(ServerSettings(model="Qwen/Qwen3-8B"), "q", 8123)
    assert command[1:4] == ["-P", "-m", "vllm.entrypoints.openai.api_server"]
    text = " ".join(command)
    assert "--model Qwen/Qwen3-8B --served-model-name q --host 127.0.0.1 --port 8123 --max-num-seqs 256" in text
    assert "--scheduling-policy priority" in text
    assert "--enable-prompt-tokens-details" in text
    assert "parallel" not in text
    assert "max-model-len" not in text
    vllm = VllmSettings(
        dtype="bfloat16", tensor_parallel=2, data_parallel=4, api_servers=3, args=("--gpu-memory-utilization", "0.8")
    )
    settings = ServerSettings(model="m", slots=64, context_tokens=4096, vllm=vllm)
    text = " ".join(vllm_command(settings, "m", 1))
    assert "vllm.entrypoints.cli.main serve m " in text
    for given in (
        "--max-model-len 4096",
        "--dtype bfloat16",
        "--tensor-parallel-size 2",
        "--data-parallel-size 4",
        "--api-server-count 3",
        "--max-num-seqs 64",
    ):
        assert given in text
    assert text.endswith("--gpu-memory-utilization 0.8")


async def test_it_serves_and_leaves_nothing(fake, tmp_path) -> None:
    """Waited for with word of its log, it answers under its name; afterwards neither it nor its engine is there."""
    told: list[tuple[str, float]] = []
    os.environ["FAKE_VLLM_LOADS_S"] = "2.5"
    try:
        async with (
            VllmServer(
                ServerSettings(model="some/model"),
                model_name="m",
                log_path=tmp_path / "log",
                on_progress=lambda *a: told.append(a),
            ) as server,
            open_session() as session,
        ):
            assert await EndpointClient(server.url, session=session).models() == ["m"]
            pids = fake()["pids"]
            assert not any(map(gone, pids))
    finally:
        del os.environ["FAKE_VLLM_LOADS_S"]
    await until_gone(*pids)
    words, seconds = zip(*told, strict=True)
    assert words[-1] == "loading weights"
    assert sorted(seconds) == list(seconds)
    assert "loading weights" in (tmp_path / "log").read_text()


async def test_one_that_dies_is_one_error_with_its_last_words(fake) -> None:
    """What vLLM said last is in the message, and its engine does not stay."""
    with pytest.raises(ServerError, match="no such architecture") as caught:
        async with VllmServer(ServerSettings(model="broken"), model_name="m"):
            pass
    assert str(caught.value).startswith("vLLM with broken died while starting (code 1)")
    await until_gone(*fake()["pids"])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_its_engine_does_not_outlive_it(fake, how: signal.Signals) -> None:
    """When the first process of vLLM is killed its engine would stay, with gigabytes; ours does not, and the lost
    endpoint is explained."""
    with pytest.raises(ServerError, match="died"):  # noqa: PT012
        async with VllmServer(ServerSettings(model="m"), model_name="m") as server:
            first, engine = fake()["pids"]
            os.kill(first, how)
            await until_gone(first, engine)
            with contextlib.suppress(ServerError):
                await server.watch()
            raise EndpointUnavailable("connection refused")


async def test_its_engine_does_not_outlive_a_supervisor_that_is_killed(fake) -> None:
    """As asyncio kills it, where a second Ctrl-C comes while vLLM is being stopped."""
    async with VllmServer(ServerSettings(model="m"), model_name="m") as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until_gone(*fake()["pids"])


async def test_serve_ends_when_its_server_dies(fake) -> None:
    """`serve` says that vLLM died, and ends with the code of a server that died: its own supervisor can see it."""
    command = [sys.executable, "-m", "explore_async", "serve", "--engine", "vllm", "--model", "m", "--port", "0"]
    serving = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=dict(os.environ))
    assert serving.stderr is not None
    while b"serving at" not in (line := await serving.stderr.readline()):
        assert line, "ended early"
    os.kill(fake()["pids"][0], signal.SIGKILL)
    said = (await serving.stderr.read()).decode()
    assert (await serving.wait(), "vLLM with m died" in said) == (3, True), said
    await until_gone(*fake()["pids"])


async def test_a_port_that_another_program_has_is_refused(fake) -> None:
    """Its answers would pass for those of vLLM. So nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be used: .* give another --port"):
            async with VllmServer(ServerSettings(model="m"), model_name="m", port=port):
                pass


async def test_it_is_looked_for_at_the_address_that_its_arguments_give(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--host` of its own arguments counts, also in a form for all addresses; a second `--port` is refused."""
    monkeypatch.setenv("VLLM_API_KEY", "k")
    everywhere = "0.0.0.0"  # noqa: S104 - of a server that demands a key
    for host, shown in (("127.0.0.1", "127.0.0.1"), (everywhere, "127.0.0.1"), ("localhost", "localhost")):
        settings = ServerSettings(model="m", vllm=VllmSettings(args=("--host", host)))
        async with VllmServer(settings, model_name="m") as server:
            assert server.url.startswith(f"http://{shown}:")
    with pytest.raises(ConfigError, match="`serve --port` sets it"):
        async with VllmServer(ServerSettings(model="m", vllm=VllmSettings(args=("--port=1",))), model_name="m"):
            pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_us(fake, how: signal.Signals) -> None:
    """Whatever kills `serve`, nothing of the server is left."""
    command = [sys.executable, "-m", "explore_async", "serve", "--engine", "vllm", "--model", "m", "--port", "0"]
    parent = await asyncio.create_subprocess_exec(
        *command, "--", "--some-flag", "7", stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert parent.stderr is not None
    while b"serving at" not in (line := await parent.stderr.readline()):
        assert line, "ended early"
    assert fake()["arguments"][-2:] == ["--some-flag", "7"]
    parent.send_signal(how)
    await parent.wait()
    await until_gone(*fake()["pids"])


@pytest.mark.parametrize(
    ("arguments", "how", "code"),
    [
        (
            ("run", "brainstorming", "--set", "operation.server={engine: vllm, model: a/b, slots: 8}"),
            signal.SIGINT,
            130,
        ),
        (("serve", "--engine", "vllm", "--model", "m", "--port", "0"), signal.SIGTERM, 143),
    ],
)
async def test_a_signal_while_it_loads(
    fake, tmp_path: Path, arguments: tuple[str, ...], how: signal.Signals, code: int
) -> None:
    """A run and `serve` that wait for a model say that they stop, leave nothing, and end with the code of the signal."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "explore_async", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "FAKE_VLLM_LOADS_S": "600"},
        cwd=tmp_path,
    )
    assert process.stderr is not None
    while b"loading weights" not in (line := await process.stderr.readline()):
        assert line, "ended early"
    process.send_signal(how)
    assert b"stopping: " in await process.stderr.read()
    assert await process.wait() == code
    await until_gone(*fake()["pids"])


async def test_under_nohup_a_closed_terminal_ends_nothing(fake) -> None:
    """`serve` and all of its engine go on when SIGHUP comes to them, where it was ignored at the start."""
    parent = await asyncio.create_subprocess_exec(
        *("nohup", sys.executable, "-m", "explore_async", "serve", "--engine", "vllm", "--model", "m", "--port", "0"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=dict(os.environ),
        start_new_session=True,
    )
    assert parent.stderr is not None
    while b"serving at" not in (line := await parent.stderr.readline()):
        assert line, "ended early"
    os.killpg(parent.pid, signal.SIGHUP)  # as a closed terminal sends it
    await asyncio.sleep(1.5)
    assert parent.returncode is None
    assert not any(gone(pid) for pid in fake()["pids"])
    parent.terminate()
    await parent.wait()
    await until_gone(*fake()["pids"])


async def test_a_run_starts_and_stops_it(fake, tmp_path) -> None:
    """`operation.server` with vLLM makes a dataset, of a model that is called by its name, and leaves nothing."""
    command = [
        *(sys.executable, "-m", "explore_async", "run", "brainstorming", "--out", str(tmp_path / "run"), "--json"),
        *("--set", "operation.server={engine: vllm, model: org/name, slots: 8}", "--max-examples", "30"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    stats = orjson.loads(out.splitlines()[-1])
    assert stats["model"] == "org/name"
    assert stats["examples"]["kept"] == 30
    assert "--max-num-seqs 8" in " ".join(fake()["arguments"])
    await until_gone(*fake()["pids"])


async def test_where_vllm_is_missing_the_extra_is_named() -> None:
    """One message, exit code 3."""
    with pytest.raises(ServerError, match=r"pip install 'explore-async\[vllm\]'"):
        async with VllmServer(ServerSettings(model="m"), model_name="m"):
            pass


def test_auto_says_which_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM needs itself, a GPU and a model it can serve; each that is missing is told."""
    auto = ServerSettings(engine="auto", model="Qwen/Qwen3-8B", vllm={"data_parallel": 2})
    gguf = ServerSettings(engine="auto", model="smollm2-135m")
    monkeypatch.setattr(engines, "is_installed", lambda: False)
    assert choose_engine(auto).engine == "embedded"
    assert "not installed" in choose_engine(auto).reason
    monkeypatch.setattr(engines, "is_installed", lambda: True)
    monkeypatch.setattr(engines, "gpu_found", lambda: None)
    assert "no GPU" in choose_engine(auto).reason
    assert slots_of(auto) == 2
    monkeypatch.setattr(engines, "gpu_found", lambda: "/dev/nvidia0")
    assert choose_engine(auto).engine == "vllm"
    assert "/dev/nvidia0" in choose_engine(auto).reason
    assert slots_of(auto) == 512
    assert choose_engine(gguf).engine == "embedded"
    assert "GGUF" in choose_engine(gguf).reason
    with pytest.raises(ConfigError, match=r"does not serve GGUF.*--set operation\.server\.model=NAME"):
        choose_engine(ServerSettings(engine="vllm", model="model.gguf"))


def test_a_gpu_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device file tells, or the tool that comes with the driver."""
    device = tmp_path / "nvidia0"
    monkeypatch.setattr(vllm_module, "_GPU_FILES", (str(device),))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert vllm_module.gpu_found() is None
    device.touch()
    assert vllm_module.gpu_found() == str(device)
