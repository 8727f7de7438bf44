"""Data commands on URLs: what they write there is what they write on a disk, and their faults are told without secrets."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import orjson
import pytest
from blockbuster import BlockBuster
from fsspec.implementations.memory import MemoryFileSystem
from support.cli import in_process

SECRET = "b3d9secret"
WORDS = [
    "plant",
    "prune",
    "water",
    "mulch",
    "repot",
    "graft",
    "sow",
    "harvest",
    "shade",
    "feed",
    "roses",
    "beans",
    "moss",
    "soil",
]
ROWS = [
    {
        "instruction": f"{WORDS[n % 7]} the {WORDS[7 + n // 7 % 7]} in {WORDS[n * n % 14]} {n % 40}",
        "output": f"Done {n}.",
    }
    for n in range(60)
]


class Denying(MemoryFileSystem):
    """A store that takes files of one name only."""

    protocol = "denying"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("denying:/"))

    def put_file(self, lpath, rpath, **more):
        if not rpath.endswith("dataset.jsonl"):
            raise PermissionError(errno.EACCES, f"denied to user:{SECRET}@host")
        super().put_file(lpath, rpath, **more)


fsspec.register_implementation("denying", Denying, clobber=True)


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryFileSystem]:
    """The file system behind memory://, empty before and after a test."""
    system = fsspec.filesystem("memory")
    for store in (system, Denying()):
        store.store.clear()
        store.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def rows(tmp_path: Path, memory: MemoryFileSystem) -> Path:
    """A file of rows, which is also memory://data/rows.jsonl."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in ROWS))
    memory.pipe_file("/data/rows.jsonl", path.read_bytes())
    return path


class Handler(BaseHTTPRequestHandler):
    """Serves one file to those who have the key, without pieces of it."""

    content = b""

    def do_GET(self) -> None:
        name, _, query = self.path.partition("?")
        status = {"/rows.jsonl": 200, "/broken.jsonl": 500}.get(name, 404)
        if status == 200 and query != f"key={SECRET}":
            status = 403
        self.send_response(status)
        body = self.content if status == 200 else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def http(rows: Path) -> Iterator[str]:
    Handler.content = rows.read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


def done(*arguments: object) -> None:
    result = in_process(*arguments)
    assert result.code == 0, result.stderr


def files_below(memory: MemoryFileSystem, folder: str) -> dict[str, bytes]:
    return {path.removeprefix(f"{folder}/"): memory.cat_file(path) for path in memory.find(folder)}


@pytest.mark.parametrize(
    "command",
    [
        ("dedup", "SOURCE/rows.jsonl", "--out", "out/kept.jsonl.gz", "--evidence", "out/why.jsonl", "--quiet"),
        ("dedup", "SOURCE/rows.jsonl", "--out", "out/kept.parquet", "--quiet"),
        ("dedup", "SOURCE/rows.jsonl", "--against", "SOURCE/rows.jsonl", "--out", "out/none.json.zst", "--quiet"),
        ("export", "SOURCE/rows.jsonl", "--out", "out/rows.json", "--format", "alpaca", "--validation", "0.2"),
        ("export", "SOURCE/rows.jsonl", "--out", "out/folder", "--format", "messages"),
        ("sample", "SOURCE/rows.jsonl", "-n", "20", "--out", "out/some.parquet"),
    ],
    ids=lambda command: " ".join(part.removeprefix("out/") for part in command[::3]),
)
def test_files_elsewhere_are_those_on_a_disk(tmp_path: Path, rows: Path, memory: MemoryFileSystem, command) -> None:
    """Every command that writes files makes the same ones, byte for byte, at URLs, and nothing beside them."""
    here = [part.replace("SOURCE", str(tmp_path)).replace("out/", f"{tmp_path}/out/") for part in command]
    there = [part.replace("SOURCE", "memory://data").replace("out/", "memory://out/") for part in command]
    (tmp_path / "out").mkdir()
    codes = {in_process(*here).code, in_process(*there).code}
    assert len(codes) == 1
    on_disk = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    found = files_below(memory, "/out")
    assert found.keys() == on_disk.keys() != set()
    for name, content in on_disk.items():
        assert found[name].replace(b"memory://data", str(tmp_path).encode()) == content, name


def test_data_directories_are_elsewhere_too(tmp_path: Path, rows: Path, memory: MemoryFileSystem) -> None:
    """import, filter, merge and analyze, one after another on URLs, with the examples of the same on a disk."""
    for base in (f"{tmp_path}/d", "memory://d"):
        source = rows if base.startswith("/") else "memory://data/rows.jsonl"
        done("import", source, "--out", f"{base}/one")
        done("filter", f"{base}/one", "--out", f"{base}/two", "--threshold", "0.5")
        done("prune", f"{base}/one")
        done("merge", f"{base}/one", f"{base}/two", "--out", f"{base}/all")
        done("export", f"{base}/all", "--out", f"{base}/all.jsonl")
        done("stats", f"{base}/all")
    for name in ("one/dataset.jsonl", "two/dataset.jsonl", "two/decisions.jsonl", "all/dataset.jsonl", "all.jsonl"):
        assert memory.cat_file(f"/d/{name}") == (tmp_path / "d" / name).read_bytes()
    assert memory.exists("/d/one/pruned.json")
    names = {path.name for path in (tmp_path / "d/all").iterdir()}
    assert {path.rpartition("/")[2] for path in memory.find("/d/all")} == names
    again = in_process("import", "memory://data/rows.jsonl", "--out", "memory://d/one")
    assert again.code == 2
    assert "not replaced" in again.stderr


def test_analyze_reads_and_writes_elsewhere(memory: MemoryFileSystem) -> None:
    """The figures of a file are at a URL, the source under its URL. (No parser is loaded for these texts.)"""
    texts = ("Nenne drei Bäume, die am Wasser gut wachsen.", "Erkläre, warum Moos im Rasen wächst und nicht welkt.")
    lines = [{"instruction": text, "output": "Ja."} for text in texts]
    memory.pipe_file("/data/rows.jsonl", b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in lines))
    done("analyze", "memory://data/rows.jsonl", "--out", "memory://out/figures.json")
    document = orjson.loads(memory.cat_file("/out/figures.json"))
    assert document["sets"][0]["path"] == "memory://data/rows.jsonl"
    assert document["sets"][0]["examples"] == len(texts)


def test_file_urls_are_paths(tmp_path: Path, rows: Path) -> None:
    """file:// names a file of this machine, in a source and in an output."""
    done("export", f"file://{rows}", "--out", f"file://{tmp_path}/there.jsonl")
    done("export", rows, "--out", tmp_path / "here.jsonl")
    assert (tmp_path / "there.jsonl").read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_http_is_read_and_its_key_is_not_told(tmp_path: Path, http: str) -> None:
    """A file behind a signed URL is read from a server that sends no pieces; the signature is in no message and no file.
    What the server answers instead of the file is told, and an output cannot be there.
    """
    url = f"{http}/rows.jsonl?key={SECRET}"
    for arguments in (("dedup", url, "--quiet", "--evidence", tmp_path / "why.jsonl"), ("export", url)):
        done(*arguments, "--out", tmp_path / f"{arguments[0]}.jsonl")
        assert (tmp_path / f"{arguments[0]}.jsonl").stat().st_size
    done("import", url, "--out", tmp_path / "data")
    faults = {
        f"{http}/rows.jsonl?key=other{SECRET}": (5, "no permission"),
        f"{http}/none.jsonl?key={SECRET}": (5, "no such"),
        f"{http}/broken.jsonl?key={SECRET}": (5, "HTTP status 500"),
        f"http://user:{SECRET}@127.0.0.1:1/rows.jsonl": (5, "127.0.0.1"),
    }
    seen = ""
    for source, (code, told) in faults.items():
        for command in ("dedup", "import"):
            result = in_process(command, source, "--out", tmp_path / "out.jsonl")
            assert result.code == code, result.stderr
            assert told in result.stderr
            seen += result.stderr + result.stdout
    result = in_process("export", url, "--out", f"{http}/out.jsonl?key={SECRET}")
    assert result.code == 4
    assert "HTTP is for reading" in result.stderr
    seen += result.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in seen
    assert SECRET.encode() not in written


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://bucket/rows.jsonl", "s3fs"),
        ("nosuch://bucket/rows.jsonl", "knows no such file system"),
        ("memory://bucket/rows.jsonl", "no such"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, url: str, told: str) -> None:
    """A protocol without its package, one that nobody knows, and a file that is not there: a message, an exit code, no output."""
    for command in ("dedup", "import", "export", "analyze"):
        result = in_process(command, url, "--out", tmp_path / ("out.json" if command != "import" else "out"))
        assert result.code in {2, 5}, result.stderr
        assert told in result.stderr
    assert not any(tmp_path.iterdir())


def test_a_server_that_is_not_there_is_a_fault_of_the_input(tmp_path: Path, rows: Path) -> None:
    """Each command that reads URLs ends with exit code 5 where nothing listens at one of them, and writes nothing."""
    url, out = "http://127.0.0.1:1/rows.jsonl", ("--out", tmp_path / "out")
    for arguments in (
        *(("merge", rows, url, *out), ("filter", url, *out), ("reparse", url, *out), ("analyze", url)),
        *(("compare", url, rows, "--results", "--verdicts", tmp_path / "verdicts.jsonl"), ("judge", rows, url, *out)),
        *(("tree", url), ("stats", url), ("show", url, "0"), ("prune", url)),
    ):
        result = in_process(*arguments)
        assert result.code == 5, (arguments, result.stderr)
        assert "127.0.0.1:1" in result.stderr
    assert list(tmp_path.iterdir()) == [rows]


def test_without_fsspec_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL without fsspec names the extra, with exit code 2."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    result = in_process("export", "memory://data/rows.jsonl", "--out", tmp_path / "out.jsonl")
    assert result.code == 2
    assert "pip install 'explore-async[remote]'" in result.stderr


def test_a_failure_leaves_nothing_elsewhere(rows: Path, memory: MemoryFileSystem) -> None:
    """A bad row, and a store that takes one file and denies the next: nothing is there afterwards, and no secret is told."""
    memory.pipe_file("/data/bad.jsonl", rows.read_bytes() + b"{]\n")
    for command in ("dedup", "import"):
        result = in_process(command, "memory://data/bad.jsonl", "--out", "memory://out/rows.jsonl")
        assert result.code == 5
        result = in_process(command, rows, "--out", "denying://out/rows.jsonl")
        assert result.code == 4
        assert "no permission" in result.stderr
        assert SECRET not in result.stderr
    assert not memory.find("/out")
    assert not Denying().find("/out")


def test_a_run_has_to_be_local(rows: Path, memory: MemoryFileSystem) -> None:
    """The completions of a run are a database: a command says to copy it, and names the file that can be read."""
    memory.pipe_file("/run/config.json", b"{}")
    memory.pipe_file("/run/dataset.jsonl", rows.read_bytes())
    for command in (["export", "memory://run", "--out", "x.jsonl"], ["tree", "memory://run"]):
        result = in_process(*command)
        assert result.code == 2
        assert "local disk" in result.stderr
        assert "memory://run/dataset.jsonl" in result.stderr
    assert not Path("x.jsonl").exists()


def test_answers_elsewhere_are_compared(
    tmp_path: Path, rows: Path, memory: MemoryFileSystem, blockbuster: BlockBuster
) -> None:
    """`compare` and `judge` read answers at URLs, and `compare` exports to one; its verdicts are kept on this machine."""
    blockbuster.deactivate()  # `judge` opens its files on the loop, when nothing else is going on
    there, verdicts = "memory://data/rows.jsonl", tmp_path / "verdicts.jsonl"
    done("compare", there, rows, "--results", "--verdicts", verdicts, "--export", "memory://out/verdicts.jsonl")
    assert files_below(memory, "/out") == {"verdicts.jsonl": b""}
    result = in_process("compare", there, rows, "--results")
    assert result.code == 2
    assert "--verdicts" in result.stderr
    result = in_process("judge", there, there, "--out", tmp_path / "judged", "--endpoint", "http://127.0.0.1:9")
    assert result.code == 6, result.stderr  # both are read: it is the judge that is missing
