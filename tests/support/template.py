"""A process that has loaded the program and forks a copy of itself for each command: loading takes longer than most runs.

A copy is a process like any other: its own pid, signals, limits, working directory, files, exit code, and death by
kill -9. It shares with the other copies how the interpreter was started, what it has imported and the table of commands.
A test of these starts an interpreter of its own (`launch` with variables of the environment, or `subprocess`).

This file is both ends. As a program it is the template, which reads commands from a socket:

    suite --(program, its place, stdin, stdout, stderr, pipe for its end)--> template --fork--> keeper --fork--> command

The keeper is the command's parent. It writes the command's pid, and later its status, to the pipe, and then ends.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LARGEST = 1 << 20
_LEFT_OUT = (
    "explore_async.__main__",
    "explore_async.analysis",
    "explore_async.evaluation.maths_check",  # it needs math-verify
    "explore_async.training",
)
_LOOKS_FOR_THE_END = 100
_FILES = 4
"""Stdin, stdout, stderr and the pipe."""
_PID = struct.Struct("i")
_END = struct.Struct("id")
"""Exit code, negative for a signal, and seconds of processor time."""


@dataclass(frozen=True)
class Pipe:
    """The end of a pipe that is read from."""

    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport

    @classmethod
    async def opened(cls, file: int) -> Pipe:
        reader = asyncio.StreamReader(_LARGEST)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file, "rb", buffering=0)
        )
        return cls(reader, transport)


class Command(asyncio.subprocess.Process):
    """A command with the interface of a process that asyncio started."""

    used_s = 0.0
    """Processor time of all commands so far."""

    def __init__(self, pid: int, stdout: Pipe, stderr: Pipe, end: Pipe) -> None:
        self.pid = pid
        self.stdin = None
        self.stdout, self.stderr = stdout.reader, stderr.reader
        self._pipes = [stdout, stderr, end]
        self._code: int | None = None
        self._ended = asyncio.create_task(self._note_end(end.reader))

    async def _note_end(self, end: asyncio.StreamReader) -> None:
        self._code, seconds = _END.unpack(await end.readexactly(_END.size))
        Command.used_s += seconds

    @property
    def returncode(self) -> int | None:
        return self._code

    async def wait(self) -> int:
        """Also closes the pipes, once all that the command wrote is read: a pipe that stays open warns in another test."""
        await asyncio.shield(self._ended)
        for _ in range(_LOOKS_FOR_THE_END):  # a process that the command started may still have its output open
            if all(pipe.transport.is_closing() for pipe in self._pipes):
                break
            await asyncio.sleep(0.01)
        for pipe in self._pipes:
            pipe.transport.close()
        await asyncio.sleep(0)  # transports close their files in the loop's next turn
        assert self._code is not None
        return self._code

    async def communicate(self, input: None = None) -> tuple[bytes, bytes]:  # noqa: A002 - asyncio's name
        assert input is None
        assert self.stdout is not None
        assert self.stderr is not None
        stdout, stderr = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self.wait()
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self._code is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Copy:
    """A command without an event loop, with the part of Popen's interface that its owner needs."""

    def __init__(self, end: int) -> None:
        self._end = end
        first = os.read(end, _PID.size)
        assert first, "the template is gone"
        (self.pid,) = _PID.unpack(first)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode, seconds = _END.unpack(os.read(self._end, _END.size))
            Command.used_s += seconds
            os.close(self._end)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Template:
    """Owns the process that is copied; it ends with the suite's."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # as the copies' will be: Python looks only once at what it writes to
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.communicate()

    async def start(self, arguments: list[str]) -> Command:
        """A copy that runs `explore-async` with these arguments in this process's working directory."""
        (stdout, their_stdout), (stderr, their_stderr), (end, their_end) = (os.pipe() for _ in range(3))
        nothing = os.open(os.devnull, os.O_RDONLY)
        theirs = [nothing, their_stdout, their_stderr, their_end]
        self._send({"arguments": arguments}, theirs)
        for file in theirs:
            os.close(file)
        ended = await Pipe.opened(end)
        first = await ended.reader.read(_PID.size)
        assert first, self._process.communicate()[1].decode()
        (pid,) = _PID.unpack(first)
        return Command(pid, await Pipe.opened(stdout), await Pipe.opened(stderr), ended)

    def copy(
        self, program: Path, arguments: Sequence[str], files: Sequence[int], environment: Mapping[str, str]
    ) -> Copy:
        """A copy that runs a Python file with these arguments, these files as stdin, stdout and stderr, and these
        variables more in its environment.
        """
        end, their_end = os.pipe()
        self._send({"program": str(program), "arguments": arguments, "environment": environment}, [*files, their_end])
        os.close(their_end)
        return Copy(end)

    def _send(self, command: Mapping[str, Any], files: Sequence[int]) -> None:
        message = json.dumps({"folder": str(Path.cwd()), **command}).encode()
        self._socket.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])


def _serve(commands: socket.socket) -> dict[str, Any]:
    """The template's loop. A copy returns from it with its command; the template ends when the suite is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is for the suite
    while True:
        message, files, _, _ = socket.recv_fds(commands, _LARGEST, _FILES)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            commands.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (pid := os.fork()) == 0:
                command = json.loads(message)
                _become(command, files)
                return command
            _keep(pid, files)
        for file in files:
            os.close(file)


def _keep(pid: int, files: list[int]) -> None:
    *standard, end = files
    for file in standard:
        os.close(file)
    os.write(end, _PID.pack(pid))
    _, status, usage = os.wait4(pid, 0)
    os.write(end, _END.pack(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime))
    os._exit(0)


def _become(command: dict[str, Any], files: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(command["folder"])
    os.environ.update(command.get("environment", {}))
    for place, file in enumerate(files[:3]):
        os.dup2(file, place)
    for file in files:
        os.close(file)
    sys.argv = [command.get("program", "explore-async"), *command["arguments"]]


def _load() -> None:
    """Imports what most commands need, and builds their table. What is large and few commands need stays out."""
    for module in pkgutil.walk_packages(explore_async.__path__, "explore_async."):
        if not module.name.startswith(_LEFT_OUT) and "parquet" not in module.name:
            importlib.import_module(module.name)
    command = typer.main.get_command(app)
    typer.main.get_command = lambda _app: command


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder

    import typer.main

    import explore_async
    from explore_async.cli.app import app
    from rouge_kernels import warm_up

    _load()
    warm_up()
    gc.freeze()  # a copy that ends need not look through what it never touched
    command = _serve(socket.socket(fileno=int(sys.argv[1])))
    if "program" in command:
        runpy.run_path(command["program"], run_name="__main__")
    else:
        runpy.run_module("explore_async", run_name="__main__", alter_sys=True)
