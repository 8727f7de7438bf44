"""Bad input, made by hypothesis from good input, and what a command may make of it: success, or an error that is
documented.

The number of cases is each test's own, or EXPLORE_ASYNC_CASES where that is set (`make fuzz`).
"""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from support.cli import Finished, in_process

CASES = int(os.environ.get("EXPLORE_ASYNC_CASES", "0"))
DOCUMENTED = {0, 2, 3, 4, 5, 6, 7}
"""The exit codes of docs/usage.md but 1, a bug, and those of signals."""
MADE = {0, 7}
LONGEST_S = 20.0
"""Processor seconds of one command on a few rows: whoever needs more hangs."""

Files = dict[str, bytes | None]


def cases(count: int) -> Callable[[Any], Any]:
    """So many examples, or what EXPLORE_ASYNC_CASES says; folders made once serve all examples of a test."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=CASES or count, suppress_health_check=slow)


def contents(folder: Path) -> Files:
    """All that is in a folder, by its path from there; None for what is neither file nor readable."""
    found: Files = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = path.read_bytes() if regular else None
    return found


def attempted(*arguments: str | Path, among: Path, about: str = "", may_change: str = "") -> Finished:
    """Runs the command and holds it to its promise: a documented code, a message, no traceback, an end in reasonable
    time; what is wrong with data names a file `about` or one that was to be written; in the folder `among` nothing that was there is touched (but for files of the name `may_change`), nothing
    half done stays, and after an error nothing new at all.
    """
    before, began = contents(among), time.process_time()
    result = in_process(*arguments)
    assert time.process_time() - began < LONGEST_S
    after = contents(among)
    assert result.code in DOCUMENTED, result
    assert "Traceback" not in result.stderr
    assert result.code in MADE or result.stderr.strip(), result
    assert result.code != 5 or not about or any(str(among / one) in result.stderr for one in (about, "out")), result
    if "--json" in arguments and result.stderr.startswith("error:"):
        assert result.json["exit_code"] == result.code
    kept = {name: body for name, body in after.items() if name in before and Path(name).name != may_change}
    assert kept == {name: body for name, body in before.items() if Path(name).name != may_change}
    new = after.keys() - before.keys()
    assert not {name for name in new if ".partial" in name}
    assert result.code in MADE or not new, (result, new)
    return result


texts = st.text(max_size=8) | st.sampled_from([
    "", " ", "\x00", "\n", "\r\n", "\u2028", "\ufeff", "é", "中文", "😀", "a" * 3000, "-", ".", "..", "/", "0", "0.0", "null", "nan",
    "{{ task }}", "[bold]", "[/]", "${HOME}", "%s", "\x1b[31m", "http://x", "text", "json", "auto", "1e999", "-1", "true",
])  # fmt: skip
numbers = (
    st.integers(-3, 300) | st.floats() | st.sampled_from([2**31, 2**63, 2**64, -(2**63), 10**30, 10**320, 1e308, 0.1])
)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
"""Whatever may stand in the place of something else in JSON or YAML."""


deep = st.builds(
    "(deep {} {})".format, st.sampled_from(["[", '{"a":', '{"children":[']), st.sampled_from([60, 130, 300, 600])
)
"""A value within values, so deep that only `in_json` and `in_yaml` write it out."""


def in_json(document: Any) -> bytes:
    """As a stranger's program writes it: NaN, half characters and numbers of any length are possible."""
    return _deepened(json.dumps(document))


def in_yaml(document: Any) -> bytes:
    return _deepened(yaml.safe_dump(document, allow_unicode=True))


def _deepened(text: str) -> bytes:
    def spelled(found: re.Match[str]) -> str:
        opening, times = found[1].replace("\\", ""), int(found[2])
        closing = opening.translate({ord("{"): "}", ord("["): "]"})[::-1]
        return opening * times + "1" + "".join(c for c in closing if c in "]}") * times

    return re.sub(r"""['"]?\(deep (.*?) (\d+)\)['"]?""", spelled, text).encode("utf-8", "surrogatepass")


def places(document: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each value of a document."""
    yield above
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, below in inner:
        yield from places(below, (*above, step))


@st.composite
def altered(draw: st.DrawFn, document: Any, others: st.SearchStrategy[Any] = values) -> Any:
    """The document with one to three things in it replaced, removed, renamed or doubled."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(found))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                found = draw(others)
            continue
        *above, last = path
        target = found
        for step in above:
            target = target[step]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add", "double"])):
            case "replace":
                target[last] = draw(others)
            case "remove":
                del target[last]
            case "rename" if isinstance(target, dict):
                target[draw(texts)] = target.pop(last)
            case "add" if isinstance(target, dict):
                target[draw(texts)] = draw(others)
            case "double" if isinstance(target, list):
                target.append(target[last])
    return found


_TOKENS = [
    b'"', b"'", b"[", b"]", b"{", b"}", b",", b":", b"\n", b"\r\n", b"\r", b"\x00", b"\t", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3",
    b"NaN", b"1e999", b"-", b"null", b"true", b"\\ud800", b"\\", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000, b"[" * 2000, b'{"a":' * 600, b"#", b"&a", b"*a",
    b"!!python/object/apply:os.getcwd []", b"!!binary aGk=", b"---\n", b"...", b"<<", b"?", b"|", b">", b"%YAML 9.9\n", b"2026-99-99", b"PAR1",
    b"\x1f\x8b\x08\x00", b"<", b" " * 50, "é".encode("utf-16"),
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with one to four wounds: a byte changed, a piece cut out, doubled or put elsewhere, strange bytes put
    in, or the end missing.
    """
    for _ in range(draw(st.integers(1, 4))):
        start, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        piece = content[start:end]
        match draw(st.sampled_from(["byte", "cut", "double", "token", "token", "noise", "truncate"])):
            case "byte" if start < len(content):
                content = content[:start] + bytes([draw(st.integers(0, 255))]) + content[start + 1 :]
            case "cut":
                content = content[:start] + content[end:]
            case "double" if len(content) < 20_000:
                content = content[:end] + piece + content[end:]
            case "token":
                content = content[:start] + draw(st.sampled_from(_TOKENS)) + content[start:]
            case "noise":
                content = content[:start] + draw(st.binary(max_size=20)) + content[end:]
            case "truncate":
                content = content[:start]
    return content


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
