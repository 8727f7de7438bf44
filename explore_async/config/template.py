"""A config to begin with, and the templates of the prompts for a user to change."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

import yaml

from explore_async.config.load import TEMPLATE, presets
from explore_async.exploration.kinds import GENERATE_INSTRUCTIONS, KINDS
from explore_async.exploration.prompt_values import EXPLAINED, GLOBALS

_LONGEST_NAME: Final = 60
"""Characters of a run's name: with four bytes each they fit into the name of a directory."""


def template(domain: str, *, language: str = "English", prompts: str | None = None) -> str:
    """A commented config for a domain. `prompts`: a folder of templates that it names."""
    name = run_name(domain)
    written = {
        "name: my-domain": f"name: {_quoted(name)}",
        "runs/my-domain": f"runs/{name}",
        "My domain": _quoted(domain),
        "language: English": f"language: {_quoted(language)}",
    }
    if prompts is not None:
        written["# prompts: ./prompts"] = f"prompts: {_quoted(prompts)}"
    places = re.compile(f"({'|'.join(map(re.escape, written))})( *)")
    text = presets()[TEMPLATE].read_text(encoding="utf-8")
    return places.sub(lambda place: _in_place(written[place[1]], place), text)  # what is written is not looked at again


def _in_place(text: str, place: re.Match[str]) -> str:
    """The text, followed by so many blanks that a comment after it stays in its column if it can."""
    return text + " " * max(len(place[0]) - len(text), min(2, len(place[2])))


def run_name(domain: str) -> str:
    """A name for a run about the domain: its words with hyphens, so many as fit."""
    name = ""
    for word in re.findall(r"\w+", domain.casefold()):
        longer = f"{name}-{word}" if name else word[:_LONGEST_NAME]
        if len(longer) > _LONGEST_NAME:
            break
        name = longer
    return name or "my-domain"


def prompt_files() -> dict[str, str]:
    """The packaged templates by the names of their files, with the values that each may use explained."""
    return {
        kind.template.name: _explained(kind.template.read_text(encoding="utf-8"), kind.trial)
        for kind in (*KINDS.values(), GENERATE_INSTRUCTIONS)
    }


def _explained(text: str, trial: Container[str]) -> str:
    lines = [f"  {name:<15} {what}" for name, what in EXPLAINED.items() if name in trial or name in GLOBALS]
    role, rest = text.split("\n", 1)
    return "\n".join([role, "{# A Jinja2 template. These values can be used in it:", *lines, "#}", rest])


def _quoted(text: str) -> str:
    """The text as a YAML scalar: in quotes where it needs them, with line breaks as escapes."""
    return yaml.safe_dump(text, allow_unicode=text.isprintable(), width=10_000).removesuffix("...\n").removesuffix("\n")
