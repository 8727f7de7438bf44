"""Modules that a start of the command line must not wait for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.cli import CONFIG, environment

HEAVY = {
    "aiohttp", "asyncio", "jinja2", "matplotlib", "numba", "numpy", "orjson", "plotly", "pyarrow", "pydantic", "rapidfuzz", "spacy", "sqlite3", "tenacity",
    "xllamacpp", "yaml",
}  # fmt: skip
NOT_BEFORE_A_REQUEST = {
    "llvmlite", "matplotlib", "numba", "numpy", "pandas", "plotly", "py3langid", "pyarrow", "pygments", "rapidfuzz", "rich.markdown", "spacy", "torch", "xllamacpp",
}  # fmt: skip
MOST_BEFORE_A_REQUEST = 700
"""A little more than they are, with those that Python itself loads. Each costs about a millisecond."""

PROGRAM = """
import sys
from explore_async.__main__ import main
try:
    main()
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""
WITH_TIMES = """
import json, sys, threading, time
from pathlib import Path
loaded = {}

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            loaded.setdefault(name, time.monotonic())

before = list(sys.modules)
sys.meta_path.insert(0, Finder)
from explore_async.__main__ import main
try:
    main()
finally:
    times = {name: at for name, at in loaded.items() if name in sys.modules}
    Path(sys.argv[-1]).with_name("loaded").write_text(json.dumps([before, times]))
"""


def loaded(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment(), capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in result.stderr.splitlines()[-1].split()}


def test_help_is_quick() -> None:
    """Help loads the command line alone: no library that a command needs for its work."""
    assert not loaded("--help") & HEAVY


def test_help_of_a_command_is_quick() -> None:
    """The same for a command; typer itself looks at its options with pydantic."""
    assert not loaded("run", "--help") & (HEAVY - {"pydantic"})


class Endpoint(BaseHTTPRequestHandler):
    """It accepts the form of a run's requests, and rejects the first request of the run itself."""

    protocol_version = "HTTP/1.1"
    first_request: float | None = None

    def do_GET(self) -> None:
        self.send(200, {"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["max_tokens"] > 8:
            Endpoint.first_request = Endpoint.first_request or time.monotonic()
            self.send(404, {"error": {"message": "the model is gone"}})
        else:
            self.send(200, {"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]})

    def send(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


def test_a_run_asks_before_it_loads_what_judges_and_reports(tmp_path: Path) -> None:
    """Before its first request the main thread of a run loads few modules, and none of the compiler for its kernels, of
    reports, of Parquet or of a server of its own. A request that is rejected ends the run.
    """
    (tmp_path / "config.yaml").write_text(CONFIG)
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        command = ("run", str(tmp_path / "config.yaml"), "--endpoint", url, "--out", str(tmp_path / "run"))
        done = subprocess.run(
            [sys.executable, "-c", WITH_TIMES, *command], env=environment(), capture_output=True, text=True, check=False
        )
        server.shutdown()
    assert Endpoint.first_request is not None, done.stderr
    before, times = json.loads((tmp_path / "loaded").read_text())
    modules = {*before, *(name for name, at in times.items() if at < Endpoint.first_request)}
    assert not {name for name in modules if {name, name.partition(".")[0]} & NOT_BEFORE_A_REQUEST}
    assert len(modules) < MOST_BEFORE_A_REQUEST
