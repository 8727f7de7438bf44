"""The promises of docs/security.md: keys stay where they are, and data of others can do no harm."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support import misbehaving as bad
from support.cli import RECIPE, config, explore, in_process

from explore_async.cli.progress import RunProgress
from explore_async.config import yaml_text
from explore_async.config.endpoints_file import read_endpoints
from explore_async.curation.card_text import escape
from explore_async.curation.collections.originals import OriginalFolder
from explore_async.curation.collections.run_data import RunData
from explore_async.curation.collections.written_originals import write_original
from explore_async.curation.data_card import CardOptions, make_card
from explore_async.curation.files.row import Row
from explore_async.curation.files.source import Source
from explore_async.errors import ConfigError, DataError, ExploreError, StorageError
from explore_async.exploration.parsing import parse_examples, parse_tasks
from explore_async.exploration.prompts import PromptBook
from explore_async.exploration.values import ChatRequest, Completion
from explore_async.measuring.streaming import read_chunk
from explore_async.running.observer import SilentObserver
from explore_async.serving.endpoints import client as client_module
from explore_async.serving.endpoints import wire
from explore_async.serving.endpoints.client import EndpointClient, open_client, open_session
from explore_async.serving.endpoints.credentials import read_key
from explore_async.serving.endpoints.engine_metrics import read_metrics
from explore_async.serving.endpoints.values import normalise_url
from explore_async.serving.servers.vllm import VllmServer, vllm_command
from explore_async.serving.simulated.server import SimulatedServer
from explore_async.settings.operation import EndpointSettings, ServerSettings
from explore_async.settings.run_settings import RunSettings
from explore_async.storage.whole_files import replacing
from explore_async.terminal.text import printable
from explore_async.web.app import serving
from explore_async.web.view_process import ViewBeside

pytestmark = pytest.mark.timeout(180)

SECRET = "sk-very-secret-0815/47+11"
STEERING = "\x1b[31mred\x07\u202egnp\x9b2J\r"
"""Control sequences that colour, ring, reverse and clear a terminal."""
ONE = RECIPE.replace("examples: 100", "examples: 5").replace("depth: 2", "depth: 1")
QUESTION = ChatRequest("m", ({"role": "user", "content": "Hello"},), {}, 1)


def sensible(body: dict[str, Any], ordinal: int, *, more: str = "") -> bytes:
    """An answer in the form that was asked for, with `more` in every text."""
    words = ["rose", "soil", "worm", "rake", "pond", "seed", "moss", "bulb", "leaf", "bark"]
    name = body.get("response_format", {}).get("json_schema", {}).get("name")
    told = f"{words[ordinal % 10]} {ordinal} {words[ordinal // 10 % 10]} number {ordinal * 7}{more}"
    if name == "tasks":
        return orjson.dumps({"tasks": [{"name": f"Tend {told}", "reason": told}]})
    return orjson.dumps({"examples": [{"instruction": f"Explain {told}", "output": f"By {told}"}]})


def answering(more: str = "") -> Any:
    return lambda body, ordinal: bad.Behaviour(body=bad.answer(sensible(body, ordinal, more=more).decode()))


def everything(folder: Path) -> bytes:
    """All that lies in a folder: names and bytes."""
    found = [os.fsencode(path) + (path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")]
    return b"\n".join(found)


def private(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


# Keys.

LEAKS = {
    "in every answer": answering(f" {SECRET}"),
    "in the model's name": lambda body, n: bad.Behaviour(
        body=bad.answer(sensible(body, n).decode(), model=SECRET), headers={"X-Key": SECRET}
    ),
    "in a refusal": lambda *_: bad.error(401, f"Authorization: Bearer {SECRET} is not known"),
    "in a rejection": lambda body, n: (
        bad.error(400, f"no: {SECRET}") if n % 3 == 2 else bad.Behaviour(body=bad.answer(sensible(body, n).decode()))
    ),
    "beside JSON": lambda *_: bad.Behaviour(body=f"{' ' * 4790}{SECRET}".encode()),
    "in a redirect": lambda *_: bad.Behaviour(302, headers={"Location": f"http://127.0.0.1:9/?key={SECRET}"}),
}
"""Servers that repeat the key."""


@pytest.mark.parametrize("where", LEAKS)
async def test_a_key_is_sent_and_appears_nowhere(tmp_path: Path, where: str) -> None:
    """Whatever a server does with it: no file of the run and no output holds the key, in asyncio's debug mode either,
    and neither does what other commands tell of the run afterwards.
    """
    key_file = private(tmp_path / "key", f"{SECRET}\n")
    given_by = f"api_key_file: {key_file}" if where == "in every answer" else "api_key_env: GARDEN_KEY"
    run = tmp_path / "run"
    async with bad.MisbehavingServer(LEAKS[where]) as server:
        more = f"operation: {{endpoints: [{{url: {server.url}, {given_by}}}], stall_s: 2}}\n"
        path = config(tmp_path, ONE + more)
        command = ("run", path, "--out", run, "--model", "m", "--json", "--set", "operation.retries.first_wait_s=0.01")
        result = await explore(*command, GARDEN_KEY=SECRET, PYTHONASYNCIODEBUG="1", PYTHONDEVMODE="1")
    assert any(f"Bearer {SECRET}" in head for head in server.heads)
    said = result.stdout + result.stderr
    if result.code == 0:
        for command in (("stats", run), ("show", run, "0"), ("export", run, "--out", tmp_path / "card")):
            told = await explore(*command)
            said += told.stdout + told.stderr
    key_file.unlink()
    there = await asyncio.to_thread(everything, tmp_path)
    for form in (SECRET, SECRET[:12], SECRET.replace("/", "\\/")):
        assert form not in said
        assert form.encode() not in there
    assert result.code == (0 if where in {"in every answer", "in the model's name", "in a rejection"} else 6)


async def test_a_missing_key_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    """The variable is named; code 2, and no request."""
    async with bad.MisbehavingServer(answering()) as server:
        path = config(tmp_path, ONE + f"operation: {{endpoints: [{{url: {server.url}, api_key_env: GARDEN_KEY}}]}}\n")
        result = await explore("run", path, "--out", tmp_path / "run", "--model", "m")
    assert (result.code, server.heads) == (2, [])
    assert "GARDEN_KEY" in result.stderr


async def test_a_measurement_holds_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that breaks off with the key in its error: neither the table nor the file has it, nor escapes."""
    monkeypatch.setenv("GARDEN_KEY", SECRET)
    event = b"data: " + orjson.dumps({"error": {"message": f"{STEERING} {SECRET}"}}) + b"\n\n"
    stream = bad.Behaviour(body=event, headers={"Content-Type": "text/event-stream"})
    async with bad.MisbehavingServer(lambda *_: stream) as server:
        result = await explore(
            *("bench", server.url, "--model", "m", "--concurrency", "2", "--requests", "2", "--seconds", "2"),
            *("--api-key-env", "GARDEN_KEY", "--out", tmp_path / "bench.json", "--json"),
        )
    assert result.code == 6
    assert "ended in the middle of a stream" in result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert "\x1b" not in result.stderr
    assert SECRET.encode() not in everything(tmp_path)


@pytest.mark.parametrize("url", ["http://user:hunter2@h:1/v1", "http://hunter2@h", "http://h/?key=hunter2", "http://user:hun/ter2@h", "ftp://u:hunter2@h", "hunter2", "http://u:hunter2@h:99999999"])  # fmt: skip
@pytest.mark.parametrize("place", ["--endpoint", "config", "--set", "broken"])
def test_credentials_in_a_url_are_refused_and_not_repeated(tmp_path: Path, place: str, url: str) -> None:
    """Wherever the URL stands: code 2 before anything is written, and no part of a password in what is said."""
    ends = {
        "config": f"operation: {{endpoints: [{{url: '{url}'}}]}}\n",
        "broken": f"operation: {{endpoints: [{{url: '{url}'\n",
    }
    given_ = {"--endpoint": ["--endpoint", url], "--set": ["--set", f"operation.endpoints.7.url={url}"]}.get(place, [])
    if place == "broken" and "@" not in url:
        pytest.skip("what is no URL with a password cannot be told from other text")
    path = config(tmp_path, ONE + ends.get(place, ""))
    result = in_process("run", path, "--out", tmp_path / "run", "--model", "m", "--json", *given_)
    assert result.code == 2
    for part in ("hunter2", "hun/", "ter2"):
        assert part not in result.stdout + result.stderr
    assert not (tmp_path / "run").exists()
    (tmp_path / "endpoints.yaml").write_text(f"- {url}\n")
    with pytest.raises(ConfigError) as caught:
        read_endpoints(tmp_path / "endpoints.yaml")
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize("key", [SECRET, "hf_AbCdEfGhIjKlMnOpQrSt", "gsk_0123456789abcdefghij"])
def test_a_key_in_the_place_of_its_name_is_not_repeated(tmp_path: Path, key: str) -> None:
    """Some keys could be names of variables: they are taken for what they are, and kept out of messages and files."""
    path = config(tmp_path, ONE + f"operation: {{endpoints: [{{url: http://127.0.0.1:9, api_key_env: '{key}'}}]}}\n")
    for command in (["run", path], ["run", path, "--dry-run"], ["plan", path]):
        result = in_process(*command, "--set", f"operation.endpoints.3.api_key_env={key}")
        assert result.code == 2
        assert key not in result.stdout + result.stderr
        result = in_process(*command)
        assert result.code == 2
        assert "NAME" in result.stderr
        assert key not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (SECRET, 0o640, "chmod 600"),
        (SECRET, 0o604, "chmod 600"),
        (SECRET, 0o620, "chmod 600"),
        ("", 0o600, "is empty"),
        (f"{SECRET}\n{SECRET}", 0o600, "HTTP header cannot carry"),
        ("clé-secrète", 0o600, "HTTP header cannot carry"),
        (b"\xff\xfe\x00", 0o600, "HTTP header cannot carry"),
    ],
)
def test_a_key_file_is_for_its_owner_alone(tmp_path: Path, content: str | bytes, mode: int, says: str) -> None:
    """A file that others can read or change, or that holds no key, is an error with its name; its content is not shown."""
    path = private(tmp_path / "key", content, mode)
    with pytest.raises(ConfigError, match=says) as caught:
        read_key(EndpointSettings(url="http://h", api_key_file=str(path)))
    assert str(path) in str(caught.value)
    assert SECRET[:5] not in str(caught.value)


def test_a_key_file_is_a_plain_file(tmp_path: Path) -> None:
    """No folder, no pipe that would have us wait, nothing that is not there; a link to a private file will do."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder", "none", "a\x00b"):
        with pytest.raises(ConfigError, match="The key of http://h"):
            read_key(EndpointSettings(url="http://h", api_key_file=str(tmp_path / name)))
    (tmp_path / "link").symlink_to(private(tmp_path / "key", f" {SECRET}\n"))
    assert read_key(EndpointSettings(url="http://h", api_key_file=str(tmp_path / "link"))) == SECRET
    with pytest.raises(ValueError, match="give one of them"):
        RunSettings.model_validate(
            yaml.safe_load(ONE) | {"operation": {"endpoints": [{"url": "http://h", "api_key_env": "A", "api_key_file": "b"}]}}
        )  # fmt: skip


async def test_a_redirect_is_not_followed() -> None:
    """No other host gets the key, nor the question."""
    async with bad.MisbehavingServer() as elsewhere:
        redirects = [bad.Behaviour(code, headers={"Location": elsewhere.url}) for code in (301, 302, 307, 308)]
        async with bad.MisbehavingServer(redirects) as server, open_session() as session:
            client = EndpointClient(server.url, session=session, api_key=SECRET)
            for _ in redirects:
                with pytest.raises(ExploreError):
                    await client.ask(QUESTION, served_model="m", timeout_s=5)
    assert elsewhere.heads == []


async def test_a_short_key_leaves_answers_alone() -> None:
    """A key like EMPTY may be a word of an answer: there it stays, and in messages it is masked all the same."""
    script = [bad.Behaviour(body=bad.answer("The glass is EMPTY")), bad.error(400, "EMPTY is no key")]
    async with bad.MisbehavingServer(script) as server, open_session() as session:
        client = EndpointClient(server.url, session=session, api_key="EMPTY")
        assert (await client.ask(QUESTION, served_model="m", timeout_s=5)).text == "The glass is EMPTY"
        with pytest.raises(ExploreError) as caught:
            await client.ask(QUESTION, served_model="m", timeout_s=5)
        assert "EMPTY" not in str(caught.value)


# TLS.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority of our own (ca.pem), a certificate for 127.0.0.1 that it signed, and one for another host."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl("req", "-x509", *made, "-subj", "/CN=ours", "-keyout", "ca.key", "-out", "ca.pem", *authority)
    for name, host in (("good", "IP:127.0.0.1"), ("other", "DNS:elsewhere.example")):
        (folder / f"{name}.ext").write_text(f"subjectAltName={host}\nbasicConstraints=CA:FALSE\n")
        openssl("req", *made, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext"]
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def speaking_tls(folder: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


async def test_a_certificate_is_verified(monkeypatch: pytest.MonkeyPatch, certificates: Path) -> None:
    """Of an unknown authority, or for another host: refused with what to do, and no key is sent. With that authority in
    `ca_file` it is asked; a file without one is an error of the config.
    """
    monkeypatch.setenv("GARDEN_KEY", SECRET)
    ours = str(certificates / "ca.pem")
    for name, ca_file, says in (
        ("good", None, r"certificate is not trusted: .*ca_file.*SSL_CERT_FILE"),
        ("other", ours, "certificate is not trusted: .*not valid for '127.0.0.1'"),
        ("good", str(certificates / "ca.key"), "no certificate in PEM"),
        ("good", str(certificates / "none"), "cannot be read"),
        ("good", ours, None),
    ):
        async with bad.MisbehavingServer(tls=speaking_tls(certificates, name)) as server, open_session() as session:
            endpoint = EndpointSettings(url=server.url, api_key_env="GARDEN_KEY", ca_file=ca_file)
            if says is None:
                client = await open_client(endpoint, session)
                assert (await client.ask(QUESTION, served_model="m", timeout_s=5)).text == "fine"
            else:
                with pytest.raises(ExploreError, match=says):
                    await (await open_client(endpoint, session)).models()
            assert bool(server.heads) is (says is None)


async def test_a_file_of_authorities_that_is_missing(monkeypatch: pytest.MonkeyPatch, certificates: Path) -> None:
    """If SSL_CERT_FILE names no file, the refusal of a certificate says that, and not to set the variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "none.pem"))
    async with bad.MisbehavingServer(tls=speaking_tls(certificates, "good")) as server, open_session() as session:
        client = await open_client(EndpointSettings(url=server.url), session)
        with pytest.raises(ExploreError, match=r"not trusted: .* SSL_CERT_FILE is .*none\.pem: there is no such file"):
            await client.models()


@pytest.mark.parametrize("by", ["ca_file", "SSL_CERT_FILE"])
async def test_an_authority_of_ones_own(tmp_path: Path, certificates: Path, by: str) -> None:
    """A run over TLS, with the authority named in the config, or for all of a process in its environment."""
    async with bad.MisbehavingServer(answering(), tls=speaking_tls(certificates, "good")) as server:
        more = f", ca_file: {certificates / 'ca.pem'}" if by == "ca_file" else ""
        path = config(tmp_path, ONE + f"operation: {{endpoints: [{{url: '{server.url}'{more}}}]}}\n")
        env = {"SSL_CERT_FILE": str(certificates / "ca.pem")} if by == "SSL_CERT_FILE" else {}
        result = await explore("run", path, "--out", tmp_path / "run", "--model", "m", **env)
    assert result.code == 0, result.stderr


# What servers say.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
)
FIELDS = ("choices", "message", "content", "finish_reason", "model", "usage", "prompt_tokens", "completion_tokens", "data", "id", "owned_by", "max_model_len", "error", "code", "delta", "prompt_tokens_details", "cached_tokens", "examples", "tasks", "instruction", "output", "name", "reason")  # fmt: skip
LIKE_ANSWERS = st.recursive(
    JSON, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), below, max_size=5)
)


def read_all(raw: bytes) -> None:
    """By everything that reads what servers say."""
    document = orjson.loads(raw)
    completion = wire.read_completion(document, served_model="m", endpoint="e", latency_s=1)
    if completion is not None:
        assert orjson.dumps(completion)
        assert 0 <= completion.prompt_tokens + completion.completion_tokens + completion.cached_tokens <= 2**42
    wire.read_catalogue(document)
    wire.is_overflow(raw)
    read_chunk(raw.decode())
    for cut in ("stop", "length"):
        for form in ("json", "text"):
            answer = Completion(raw.decode(), cut, 0, 0)
            assert orjson.dumps([parse_examples(answer, form), parse_tasks(answer, form)])  # type: ignore[arg-type]


@given(LIKE_ANSWERS)
def test_any_json_is_read(document: Any) -> None:
    """Whatever JSON a server answers with, it is an answer or none: nothing is raised, and what is read can be
    written.
    """
    try:
        raw = orjson.dumps(document)
    except TypeError:  # beyond 64 bits, half a character
        return
    read_all(raw)


@pytest.mark.parametrize("depth", [100, 250, 500, 1000])
@pytest.mark.parametrize(
    "around",
    [
        '{"examples": [{"instruction": %s, "output": "x"}]}',
        '{"examples": [{"instruction": "", "output": %s}]}',
        '{"examples": [%s]}',
        '{"choices": [{"message": {"content": "x"}, "finish_reason": %s}], "model": [%s]}',
        '{"data": [{"id": %s}]}',
        '{"error": {"message": %s}}',
        "%s",
    ],
)
@pytest.mark.parametrize("kind", [("[", "]"), ('{"instruction":', "}")])
def test_nesting_ends_nothing(depth: int, around: str, kind: tuple[str, str]) -> None:
    """JSON as deep as its parser lets through is read like any other."""
    nested = kind[0] * (depth - 8) + "1" + kind[1] * (depth - 8)
    read_all(around.replace("%s", nested).encode())


@pytest.mark.parametrize("value", ["Thu, 01 Jan 1970 00:00:00 +99999999999999", "Thu, 01 Jan 99999999999 00:00:00 GMT", "9" * 5000, "nan", "1e999"])  # fmt: skip
def test_no_date_is_out_of_bounds(value: str) -> None:
    """A Retry-After that no calendar has counts as not said."""
    assert wire.retry_after(value) is None


def test_metrics_stay_within_numbers() -> None:
    """Readings whose sum would be infinite are none."""
    huge = "vllm:num_requests_running 1e308\n" * 2 + "vllm:num_requests_waiting 1\n"
    assert read_metrics(huge) is None
    assert read_metrics("vllm:num_requests_running 1\nvllm:num_requests_waiting 1e300\n") is None


async def test_a_run_survives_hostile_answers(tmp_path: Path) -> None:
    """A server that mixes nesting, impossible counts, escapes and nonsense into its answers: the run keeps what is good,
    ends with code 0, and steers no terminal.
    """
    nested = "[" * 600 + "]" * 600
    hostile = [
        bad.answer('{"examples": [{"instruction": %s, "output": "x"}]}'.replace("%s", nested)),
        bad.answer('{"tasks": [%s]}'.replace("%s", nested)),
        bad.answer("{}", usage={"prompt_tokens": 2**64 - 1, "completion_tokens": 2**64 - 1}),
        bad.answer('{"examples": [{"instruction": "", "output": %s}]}'.replace("%s", nested)),
        bad.answer("[" * 100_000),
        bad.answer(f'{{"examples": [{{"instruction": "{"{" * 5000}", "output": "NaN"}}]}}'),
    ]

    def script(body: dict[str, Any], ordinal: int) -> bad.Behaviour:
        if ordinal % 3 or not ordinal:  # the first asks whether it can serve the recipe
            return bad.Behaviour(body=bad.answer(sensible(body, ordinal, more=STEERING).decode()))
        if ordinal % 7 == 0:
            return bad.error(400, f"{STEERING} no")
        return bad.Behaviour(body=hostile[ordinal % len(hostile)])

    async with bad.MisbehavingServer(script, catalogue=[bad.models(f"m{STEERING}")] * 3) as server:
        result = await explore("run", config(tmp_path, ONE), "--endpoint", server.url, "--out", tmp_path / "run")
    assert result.code == 0, result.stderr
    told = [result, await explore("tree", tmp_path / "run"), await explore("stats", tmp_path / "run")]
    told += [await explore("show", tmp_path / "run", one) for one in ("0", "0.0")]
    for one in told:
        assert not set("\x1b\x07\u202e\x9b\r") & set(one.stdout + one.stderr)
    assert "red" in told[1].stdout


def test_lines_of_progress_steer_nothing() -> None:
    """Texts of a server are also shown in the progress."""
    console = Console(file=io.StringIO(), force_terminal=False)
    with RunProgress(console, Path("run")) as progress:
        progress.phase(f"connecting to {STEERING}")
    assert "connecting to" in console.file.getvalue()
    assert not set("\x1b\x07\u202e\x9b\r") & set(console.file.getvalue())


@given(st.text())
def test_what_is_shown_is_one_printable_line(given_: str) -> None:
    """Whatever the text, and no longer than asked for."""
    shown = printable(given_, 40)
    assert shown.isprintable()
    assert len(shown) <= 40


async def test_headers_and_bodies_are_bounded() -> None:
    """Too long a header, too many of them, 300 megabytes in 300 kilobytes: trouble of the endpoint, in bounded memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    script = [
        bad.Behaviour(body=bad.answer(), headers={"X-Long": "x" * 1_000_000}),
        bad.Behaviour(body=bad.answer(), headers={f"X-{number}": "x" * 50 for number in range(20_000)}),
        bad.Behaviour(body=bomb, headers={"Content-Encoding": "gzip"}),
    ]
    async with bad.MisbehavingServer(script) as server, open_session() as session:
        client = EndpointClient(server.url, session=session)
        tracemalloc.start()
        try:
            for _ in script:
                with pytest.raises(ExploreError):
                    await client.ask(QUESTION, served_model="m", timeout_s=60)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 4 * client_module.MAX_BODY_BYTES


# Configs and templates.


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ task.__init__.__globals__ }}",
        "{{ ''|attr('__class__') }}",
        "{{ [task]|map(attribute='__class__')|first|string }}",
        "{{ '{0.__class__}'.format(task) }}",
        "{{ ('{0.__class__}'|format)(task) }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{{ range(100000000) }}",
        "{{ 'a' * 10 ** 13 }}",
        "{{ 'a'.ljust(10 ** 13) }}",
        "{% for a in range(9) %}{{ loop.__class__ }}{% endfor %}",
    ],
)
def test_a_template_reaches_nothing(source: str) -> None:
    """Neither Python's internals nor files: each way out that we know is a ConfigError that names the template."""
    document = yaml.safe_load(ONE) | {"prompts": {"generate": f"[user]\n{source} {{{{ count }}}}\n"}}
    with pytest.raises(ConfigError, match=r"generate\.j2"):
        PromptBook(RunSettings.model_validate(document).resolved(model="m"))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("content", [BOMB, f"extra_body:\n  {BOMB.replace(chr(10), chr(10) + '  ')}", BOMB.replace("[x", "[{x: y}").replace("[*", "[{<<: [*").replace("]\n", "]}]\n")])  # fmt: skip
def test_aliases_do_not_unfold_to_billions(tmp_path: Path, content: str) -> None:
    """A few lines of YAML that stand for 9^9 values are refused at once, in a config, in --set, in a list of endpoints."""
    assert in_process("run", config(tmp_path, content + ONE)).code == 2
    one_line = "{" + ", ".join(line for line in BOMB.splitlines()) + "}"
    assert in_process("run", "quickstart", "--dry-run", "--set", f"extra_body={one_line}").code == 2
    with pytest.raises(ConfigError, match="aliases"):
        read_endpoints(config(tmp_path, content))


def test_aliases_that_people_write_are_fine() -> None:
    """Anchors, aliases and merges as configs have them; and one that holds itself is left to whoever takes the values."""
    assert yaml_text.load("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}  # fmt: skip
    assert yaml_text.load("&a [*a]")[0]


# Files that others made.


def run_of(folder: Path, **changes: Any) -> Path:
    """A small run directory as a stranger could hand it over."""
    folder.mkdir()
    node = {"id": "0", "name": "root", "reason": "", "origin": "seed", "depth": 0, "kept": 1, "dropped": 0, "answers": 1, "exhausted": False, "children": []}  # fmt: skip
    example = {"id": "0-0.0", "task_id": "0", "task_path": ["root"], "instruction": "i", "input": "", "output": "o", "request": "k"}  # fmt: skip
    (folder / "tree.json").write_bytes(orjson.dumps({"trees": [node | changes.get("node", {})]}))
    (folder / "dataset.jsonl").write_bytes(orjson.dumps(example | changes.get("example", {})) + b"\n")
    (folder / "config.json").write_bytes(orjson.dumps({"recipe": {"name": "x"} | changes.get("recipe", {})}))
    decision = {"what": "example", "id": "0-0.0", "task_id": "0", "kept": True, "reason": "accepted"}
    (folder / "decisions.jsonl").write_bytes(orjson.dumps(decision | changes.get("decision", {})) + b"\n")
    (folder / "stats.json").write_bytes(orjson.dumps(changes.get("stats", {})))
    return folder


HOSTILE: dict[str, dict[str, Any]] = {
    "an id": {"node": {"id": STEERING}},
    "a depth": {"node": {"depth": 7}},
    "counts": {"node": {"kept": "1"}},
    "children": {"node": {"children": None}},
    "an origin": {"node": {"origin": "<img src=x>"}},
    "a path": {"example": {"task_path": 5}},
    "figures": {"stats": {"examples": {"read": "<b>"}}},
    "a decision": {"decision": {"kept": None, "reason": {}, "nearest": 5}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_strange_run_is_an_error_or_harmless(tmp_path: Path, what: str) -> None:
    """Files that no run writes: a documented exit code, no traceback, and no control sequences on the terminal."""
    run = run_of(tmp_path / "run", **HOSTILE[what])
    codes = set()
    for number, command in enumerate((["tree"], ["show", "0"], ["show", "0-0.0"], ["stats"], ["export", "--out"], ["prune"])):  # fmt: skip
        where = [command[0], str(run), *command[1:], *([str(tmp_path / f"out{number}")] if "--out" in command else [])]
        try:
            result = in_process(*where)
        except pytest.fail.Exception:  # it ended without a SystemExit
            continue
        codes.add(result.code)
        assert not set("\x1b\x07\u202e\x9b\r") & set(result.stdout + result.stderr)
    assert codes <= {0, 5}


@pytest.mark.parametrize("depth", [120, 5000])
def test_trees_have_a_floor(tmp_path: Path, depth: int) -> None:
    """A tree too deep to be written or walked through is an error of the data, whoever made it."""
    theirs = '{"task_name": "t", "children": [' * depth + "]}" * depth
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "tree_meta_info.json").write_text(theirs)
    assert in_process("import", tmp_path / "theirs", "--out", tmp_path / "out").code == 5
    row = {"id": "a", "task_id": ".".join(["0"] * depth), "task_path": ["x"] * depth, "instruction": "i", "output": "o"}
    deep = b'{"deep": ' + b"[" * 900 + b"]" * 900 + b", "
    (tmp_path / "rows.jsonl").write_bytes(deep + orjson.dumps(row)[1:])
    assert in_process("import", tmp_path / "rows.jsonl", "--out", tmp_path / "out2").code == 5


def test_names_of_tasks_stay_in_their_folder(tmp_path: Path) -> None:
    """Task and file names that point elsewhere, with separators, escapes, zero bytes or of great length: an imported
    folder is read and written within itself alone.
    """
    (tmp_path / "secret.json").write_text('{"examples": [{"instruction": "private", "output": "private"}]}')
    names = ["../../secret", "..", ".", "/etc/passwd", "..\\..\\x", "a\x00b", STEERING, "长" * 150, "a\nb", "CON", ""]
    folder = tmp_path / "deep" / "theirs"
    folder.mkdir(parents=True)
    children = [{"task_name": f"t{n}", "config_filename": f"{name}.json"} for n, name in enumerate(names)]
    children += [{"task_name": name or "?", "reason": ""} for name in names]
    (folder / "tree_meta_info.json").write_bytes(orjson.dumps({"task_name": "root", "children": children}))
    source = OriginalFolder(folder)
    assert list(source.examples()) == []
    before = everything(tmp_path)
    write_original(source, tmp_path / "deep" / "out")
    written = sorted((tmp_path / "deep" / "out").iterdir())
    assert len(written) == 3 + 2 * len(names)  # with the tree and the pruned names
    assert all(path.name.isprintable() and path.suffix == ".json" for path in written)
    shutil.rmtree(tmp_path / "deep" / "out")
    assert everything(tmp_path) == before


def test_a_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gzip of some kilobytes that is one endless line is an error, not all of the memory."""
    import gzip

    from explore_async.curation.files import row as rows

    monkeypatch.setattr(rows, "LONGEST", 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": "' + b"x" * 10_000_000))
    with pytest.raises(DataError, match="longer than"):
        list(Source(tmp_path / "a.jsonl.gz"))


def test_white_space_costs_nothing(tmp_path: Path) -> None:
    """A row of JSON with a million blanks in it, within texts and between them, is put on one line at once."""
    blank = " " * 1_000_000
    raw = f'{{"a":{blank}1,\n\n{blank}"b": "{blank}"\n}}'.encode()
    row = next(iter(_rows_of(tmp_path / "a.json", b"[" + raw + b"]")))
    assert row.json_line().count(b"\n") == 0
    assert orjson.loads(row.json_line()) == orjson.loads(raw)


def _rows_of(path: Path, content: bytes) -> Iterator[Row]:
    path.write_bytes(content)
    return (row for row in Source(path) if isinstance(row, Row))


def test_what_a_card_quotes_is_text(tmp_path: Path) -> None:
    """Markdown, HTML, tables, fences and YAML in names, descriptions and reasons stay text; the header is one document
    whatever is in it.
    """
    evil = "x | y\n---\nlicense: mine\n---\n# h <script>alert(1)</script> ```\n[a](javascript:alert(1)) ![b](c) \u202e"
    reasons = {"total": 1, "<b>|`": 1}
    stats = {"examples": {"read": 1, "kept": 1, "dropped": reasons}, "tasks": {"total": 1, "with_examples": 1}, "requests": {"total": 1}}  # fmt: skip
    recipe = {"name": evil, "description": f"# {evil}", "model": evil, "sampling": {evil: {evil: 1}}, "language": evil}
    run = run_of(tmp_path / "run", node={"name": evil, "reason": evil}, recipe=recipe, stats=stats)
    options = CardOptions(
        splits={"train": "t"}, exported=1, shape="rows", license_name="mit", how="all", shown=[{evil: [evil], "id": evil}],
        repository=evil, model_revision=evil, has_script=True, configs=[], marked=Counter({"good": 1}), scores={evil: {"5": 1}},
    )  # fmt: skip
    made = make_card(RunData.read(run), options)
    _, header, *_ = made.split("---\n")
    assert yaml.safe_load(header)["pretty_name"] == evil
    assert yaml.safe_load(header)["license"] == "mit"
    body = re.sub(r"^(`{3,})\w+\n.*?^\1$", "", made[made.index("---\n\n") + 5 :], flags=re.MULTILINE | re.DOTALL)
    assert "`````" not in body
    for mark in ("<script", "<b>", "![b]", "[a]"):
        assert mark not in body
    assert "\u202e" not in made
    for line in body.splitlines():
        assert line.count("|") - line.count("\\|") in {0, 3, 4, 5, 8}, line
    for start in ("# h", "- item", "+ x", "1. one", "2) two", "=== "):
        assert escape(start)[0] == "\\" or escape(start)[1] == "\\"


async def test_the_view_takes_nothing_amiss(tmp_path: Path) -> None:
    """Hosts that are none, numbers without end, runs that are damaged: an answer each, and never a failure of the
    server's.
    """
    runs = [
        run_of(tmp_path / "good"),
        run_of(tmp_path / "bad", recipe={"targets": 5, "models": 7}, stats={"examples": 3}),
    ]
    async with serving(runs, 0) as url, aiohttp.ClientSession() as session:
        for host in ("[", "evil.example", "127.0.0.1.evil.example", "", "localhost@evil"):
            async with session.get(f"{url}/api/runs", headers={"Host": host}) as response:
                assert response.status == 403, host
        nines = "9" * 5000
        async with session.get(f"{url}/api/runs") as response:
            good, bad = (one["run"] for one in await response.json())
        for path in (
            f"{nines}/state",
            f"{good}/examples?offset={nines}",
            f"{bad}/state",
            f"{good}/evidence?id=%00",
            f"{good}/examples?offset=٣",
        ):
            async with session.get(f"{url}/api/runs/{path}") as response:
                assert response.status in {200, 400, 404}, path
                assert await response.json()


# Processes, ports, permissions.


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine on Linux only")
async def test_nothing_listens_beyond_loopback(tmp_path: Path) -> None:
    """The view and the simulated server answer at 127.0.0.1 and at no other address of this machine."""

    def is_open(host: str, port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex((host, port)) == 0

    async with serving([run_of(tmp_path / "run")], 0) as view, SimulatedServer() as simulated:
        for url in (view, simulated.url):
            port = int(url.rsplit(":", 1)[1].partition("/")[0])
            assert await asyncio.to_thread(is_open, "127.0.0.1", port)
            assert not await asyncio.to_thread(is_open, "127.0.0.2", port)


@pytest.mark.parametrize(
    ("args", "key", "says"),
    [
        (("--host", "0.0.0.0"), None, "VLLM_API_KEY"),  # noqa: S104 - refused
        (("--host=::",), None, "VLLM_API_KEY"),
        (("--host",), None, "VLLM_API_KEY"),
        (("--hos", "0.0.0.0"), None, "VLLM_API_KEY"),  # noqa: S104 - refused
        (("--ho=0.0.0.0",), None, "VLLM_API_KEY"),
        (("--api-key", SECRET), None, "VLLM_API_KEY"),
        (("--api_key=" + SECRET,), "x", "VLLM_API_KEY"),
        (("--api-ke", SECRET), "x", "VLLM_API_KEY"),
        (("--host", "0.0.0.0"), "x", "not installed"),  # noqa: S104
        (("--host", "127.0.0.1"), None, "not installed"),
        (("--host=localhost",), None, "not installed"),
        (("--hostile", "0.0.0.0"), None, "not installed"),  # noqa: S104 - another option
    ],
)
async def test_vllm_is_open_to_others_with_a_key_only(monkeypatch: pytest.MonkeyPatch, args, key, says) -> None:
    """Another host than this needs VLLM_API_KEY; a key in the arguments is refused, and not repeated."""
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("VLLM_API_KEY", key)
    monkeypatch.setattr("explore_async.serving.servers.vllm.is_installed", lambda: False)
    with pytest.raises(ExploreError, match=says) as caught:
        async with VllmServer(ServerSettings(model="m", vllm={"args": args}), model_name="m"):
            pass
    assert SECRET not in str(caught.value)
    assert "--allowed-origins" in vllm_command(ServerSettings(model="m"), "m", 1)


def test_our_processes_import_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of somebody's data may hold an orjson.py: started in it, the view beside a run does not run that."""
    (tmp_path / "orjson.py").write_text("open('taken', 'w')\n")
    monkeypatch.chdir(tmp_path)
    with ViewBeside(SilentObserver(), tmp_path) as beside:
        beside.began(RunSettings.model_validate(yaml.safe_load(ONE)), None)  # type: ignore[arg-type]
        assert beside._process is not None
        assert beside._process.wait(60) == 5  # it has read that this is no run, so all its imports are done
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize(("mask", "others"), [("077", 0o077), ("027", 0o027)])
async def test_files_are_as_private_as_the_umask_says(tmp_path: Path, mask: str, others: int) -> None:
    """No file of a run or of what is made of it gives more than the umask lets."""
    async with bad.MisbehavingServer(answering()) as server:
        command = (
            f"umask {mask}; exec {sys.executable} -m explore_async run {config(tmp_path, ONE)} --out {tmp_path}/run"
        )
        from support.cli import environment

        process = await asyncio.create_subprocess_shell(
            f"{command} --endpoint {server.url} --quiet", env=environment(), stderr=asyncio.subprocess.PIPE
        )
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    for path in ((tmp_path / "run"), *(tmp_path / "run").iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & others, path


def test_a_partial_file_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that others write to, a link at the very name of a partial file is an error, not written through."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".out.guessed.partial").symlink_to(victim)
    with pytest.raises(StorageError, match="out: File exists"), replacing([tmp_path / "out"]) as (file,):
        file.write(b"x")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    """A file name of bytes that are no UTF-8 is an error like others, in JSON too."""
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.yaml")
    for command in (["run", strange, "--json"], ["export", strange, "--out", "x.jsonl", "--json"]):
        result = in_process(*command)
        assert result.code in {2, 5}
        assert result.json["exit_code"] == result.code


async def test_the_client_says_nothing_of_its_key() -> None:
    """Neither it nor what it is made of has a repr that would: debuggers and asyncio's debug mode show those."""
    os.environ["GARDEN_KEY"] = SECRET
    try:
        async with open_session() as session:
            endpoint = EndpointSettings(url="http://h", api_key_env="GARDEN_KEY")
            client = await open_client(endpoint, session)
            assert SECRET not in f"{client!r} {endpoint!r} {client._mask!r}"
    finally:
        del os.environ["GARDEN_KEY"]


def test_a_url_in_a_message_is_no_secret() -> None:
    """normalise_url refuses what may hold one without a word of it."""
    for url in ("http://user:se/cret@host", "http://[user:secret@h", "http://h?secret", "http://:secret@"):
        with pytest.raises(ConfigError) as caught:
            normalise_url(url)
        assert "se" not in str(caught.value).replace("credentials", "").replace("and no query, as URLs are shown and written down: put the key in an environment variable and name that in api_key_env, or in a file and name that in api_key_file", "")  # fmt: skip
