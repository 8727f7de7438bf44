"""Parts of a data card as inert Markdown: lines, tables, fenced blocks and YAML. Pure.

Texts in a card come from models and files: they are escaped, so that they are nothing but text.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
import yaml

_MARKS = re.compile(r"([\\`*_\[\]|~$!])")
_BLOCKS = re.compile(r"^(\d+(?=[.)])|(?=[#+=-]))")
"""Beginnings that make a line a heading, a list or a rule."""


def escape(value: object) -> str:
    """One line of plain text: Markdown and HTML are escaped, leading spaces stay."""
    line = "".join(c if c.isprintable() else " " for c in str(value))
    indent = len(line) - len(line.lstrip(" "))
    escaped = _MARKS.sub(r"\\\1", html.escape(line.strip(" "), quote=False))
    return "&nbsp;" * indent + _BLOCKS.sub(r"\1\\", escaped)


def table(rows: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """A table of names and values, without a heading and without the rows that have no value; nothing without rows."""
    listed = [(name, escape(str(value))) for name, value in rows if value not in (None, "")]
    if listed:
        yield "| | |\n|---|---|"
        yield from (f"| {escape(name)} | {value} |" for name, value in listed)
        yield ""


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A section; nothing without lines."""
    content = list(lines)
    if content:
        yield f"## {title}\n"
        yield from content


def fenced(text: str, language: str) -> str:
    """A block that shows the text as it is. Its fence is longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}\n"


def json_block(value: Any) -> str:
    """Indented JSON with letters as they are, unless some of them change the direction of text."""
    plain = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return fenced(plain if _is_safe(plain) else json.dumps(orjson.loads(plain), indent=2), "json")


def yaml_text(document: Mapping[str, Any]) -> str:
    """YAML with letters as they are, unless some of them change the direction of text."""
    plain = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return plain if _is_safe(plain) else yaml.safe_dump(document, sort_keys=False, allow_unicode=False)


def _is_safe(text: str) -> bool:
    return text.replace("\n", "").isprintable()
