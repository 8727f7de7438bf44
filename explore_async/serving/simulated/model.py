"""A simulated model: its completion is a pure function of the request, made of words in the form that was asked for.

It understands no prompt. A schema gets a random instance, markers (`### Name:`) come back filled, all else gets a text.
Some strings repeat, some inputs are empty and some completions are truncated, as with real models.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Mapping
from typing import Any

import orjson

TRUNCATED_SHARE = 0.03
TOKENS_PER_WORD = 1.3
MODEL_LENGTH = 32_768
PHRASE_POOL = 24
"""Distinct texts that `duplicate_share` of all strings of one kind are drawn from."""

_MARKER = re.compile(r"^###\s*([A-Za-z ]+):", re.MULTILINE)


def _words(text: str) -> list[str]:
    return text.split()


_VERBS = _words(
    "write describe explain list compare create design suggest plan draft rewrite summarize translate classify outline "
    "invent propose compose analyze improve shorten expand solve calculate prove estimate name find choose rank group "
    "review correct edit prepare organize imagine develop predict discuss identify define illustrate justify simplify "
    "convert combine arrange build sketch narrate debate question answer evaluate measure count verify revise"
)
_NOUNS = _words(
    "story letter recipe poem garden budget lesson speech report menu journey village market river mountain school "
    "teacher student doctor farmer artist engineer machine robot planet season winter summer weather festival holiday "
    "song melody painting museum library book chapter sentence paragraph essay headline slogan product customer "
    "business meeting project schedule deadline strategy goal habit exercise diet breakfast dinner kitchen bread soup "
    "fruit vegetable forest ocean island harbor bridge street city country border history culture language grammar "
    "riddle puzzle game sport team match equation fraction triangle circle angle number sequence function probability "
    "theorem proof measurement distance speed energy light sound color pattern texture fabric costume theater actor "
    "director film camera photograph picture mirror window door house tower castle bicycle train airplane ship engine "
    "battery computer network message password question argument opinion advice promise friendship family neighbor "
    "childhood memory dream fear courage patience honesty justice freedom election law contract insurance salary bank "
    "loan tax profit price discount delivery package warehouse factory tool hammer ladder paint brush paper pencil"
)
_ADJECTIVES = _words(
    "short long formal informal funny sad simple detailed creative clear vivid polite persuasive brief careful modern "
    "ancient famous hidden quiet busy rural urban foreign local cheap expensive healthy fresh warm cold bright dark "
    "gentle brave curious clever honest patient lonely crowded empty broken useful unusual common rare daily weekly "
    "annual public private early late quick slow heavy light smooth rough round square narrow wide shallow deep young "
    "old new wooden golden silver digital practical seasonal regional personal professional historical scientific"
)
_LINKS = ("about", "for", "with", "from", "without", "before", "after", "near", "inside", "beyond", "against", "beside")
_FIRST_WORDS = {"instruction", "name"}
_SIZES: Mapping[str, tuple[int, int]] = {
    "name": (3, 7),
    "reason": (4, 8),
    "instruction": (8, 20),
    "input": (0, 12),
    "output": (10, 40),
}
_OTHER_SIZES = (3, 12)
_EMPTY_INPUTS = 0.4


class SimulatedModel:
    """Completes the body of a chat completions request. Pure: no clock and no state that a completion depends on.

    With `full_lists` lists are as long as the schema allows, else of any length that it allows.
    """

    def __init__(self, *, seed: int, duplicate_share: float, full_lists: bool = False) -> None:
        self._seed = seed
        self._full_lists = full_lists
        self._duplicate_share = duplicate_share

    def complete(self, body: Mapping[str, Any], digest: bytes) -> tuple[str, str, int]:
        """Text, finish reason, and tokens."""
        rng = random.Random(digest)  # noqa: S311 - reproducible completions
        response_format = body.get("response_format") or {}
        if response_format.get("type") == "json_schema":
            schema = response_format["json_schema"]["schema"]
            text = orjson.dumps(self._instance(rng, schema, schema, "")).decode()
        else:
            text = self._plain(rng, "\n".join(str(message.get("content") or "") for message in body["messages"]))
        tokens = count_tokens(text)
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or MODEL_LENGTH
        if rng.random() < TRUNCATED_SHARE:
            limit = min(limit, int(tokens * (0.3 + 0.6 * rng.random())))
        if tokens > limit:
            return text[: int(len(text) * limit / tokens)], "length", limit
        return text, "stop", tokens

    def _instance(self, rng: random.Random, schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Any:
        """A random value that satisfies the schema; formats and patterns of strings are ignored."""
        while "$ref" in schema:
            target: Any = root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            schema = target
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice(schema["enum"])
        if variants := schema.get("anyOf") or schema.get("oneOf"):
            return self._instance(rng, rng.choice(variants), root, name)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        match rng.choice(kind) if isinstance(kind, list) else kind:
            case "object":
                properties = schema.get("properties", {})
                return {key: self._instance(rng, part, root, key) for key, part in properties.items()}
            case "array":
                least = schema.get("minItems", 1)
                most = schema.get("maxItems", least + 3)
                size = most if self._full_lists else rng.randint(least, most)
                return [self._instance(rng, schema.get("items", {}), root, name) for _ in range(size)]
            case "integer":
                least = schema.get("minimum", 0)
                return rng.randint(least, schema.get("maximum", least + 100))
            case "number":
                least = schema.get("minimum", 0)
                return least + rng.random() * (schema.get("maximum", least + 1) - least)
            case "boolean":
                return rng.random() < 0.5  # noqa: PLR2004
            case "null":
                return None
        text = self._string(rng, name)
        while len(text) < schema.get("minLength", 0):
            text = f"{text} {self._string(rng, 'output')}".strip()
        return text[: schema.get("maxLength")]

    def _plain(self, rng: random.Random, prompt: str) -> str:
        names = list(dict.fromkeys(name.strip() for name in _MARKER.findall(prompt)))
        names = [name for name in names if name and name.lower() != "end"]
        if not names:
            return self._string(rng, "output")
        blocks = [
            f"### {name}: {self._string(rng, name.lower().split()[-1])}"
            for _ in range(rng.randint(1, 4))
            for name in names
        ]
        return "\n".join([*blocks, "### End"])

    def _string(self, rng: random.Random, name: str) -> str:
        if rng.random() < self._duplicate_share:
            rng = random.Random(f"{self._seed} {name} {rng.randrange(PHRASE_POOL)}")  # noqa: S311
        if name == "input" and rng.random() < _EMPTY_INPUTS:
            return ""
        size = rng.randint(*_SIZES.get(name, _OTHER_SIZES))
        words = [rng.choice(_VERBS)] if name in _FIRST_WORDS else []
        while size:
            adjective = rng.choice(_ADJECTIVES)
            words += "an" if adjective[0] in "aeiou" else "a", adjective, rng.choice(_NOUNS)
            if len(words) >= size - 2:
                break
            words.append(rng.choice(_LINKS))
        text = " ".join(words).capitalize()
        return text if name in {"name", "input"} else f"{text}."


def digest_of(*parts: Any) -> bytes:
    """16 bytes that identify a request; the order of keys does not matter."""
    plain = [part.hex() if isinstance(part, bytes) else part for part in parts]
    return hashlib.blake2b(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()


def count_tokens(text: str) -> int:
    return math.ceil(len(text.split()) * TOKENS_PER_WORD)
