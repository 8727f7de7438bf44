"""Turns of a conversation, in the forms in which files have them, as messages of the chat protocol. Pure.

A turn is an object with role and content (or from and value), an object with both sides of an exchange ({human,
assistant}), or a pair of texts. A list of plain texts is the turns of a user, or of a user and an assistant in turn.
Other keys of a turn stay in its message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

from explore_async.curation.files.json_values import shallow_json
from explore_async.curation.files.nested_turns import in_order

Part: TypeAlias = Literal["system", "user", "assistant", "call", "tool", "other"]
"""`call` is an assistant's turn that calls tools: the answer comes after their results."""


class TurnError(ValueError):
    """The value is no list of turns; the message says why."""


class Turn(NamedTuple):
    part: Part
    text: str
    """The text of its content, or of its calls where it has no other; without images and reasoning."""
    message: dict[str, Any]


TALKS = ("messages", "conversations", "conversation", "turns", "dialogue", "dialog", "chat")
"""Columns with the turns of a conversation, in the order in which they are looked for."""
ALTERNATING = frozenset({*TALKS, "data"} - {"turns"})
"""Columns in which plain texts are those of a user and an assistant in turn, as in UltraChat. `turns` of MT-Bench are a
user's.
"""
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "text")
_PARTS: dict[str, Part] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bot", "ai"), "assistant"),
    **dict.fromkeys(("function_call", "function-call", "tool_call", "tool_calls"), "call"),
    **dict.fromkeys(
        ("tool", "observation", "function", "function_response", "function-response", "tool_response", "ipython"),
        "tool",
    ),
}
_ROLES: dict[Part, str] = {
    "system": "system", "user": "user", "assistant": "assistant", "call": "assistant", "tool": "tool",
}  # fmt: skip
_PROTOCOL = ("system", "developer", "user", "assistant", "tool", "function")
"""Roles of the chat protocol, which stay as they are."""
_USER_KEYS = ("user", "human", "question", "query", "instruction", "prompt", "input")
_ASSISTANT_KEYS = ("assistant", "gpt", "bot", "answer", "response", "output", "completion", "moss")
_SIDES = frozenset({*_USER_KEYS, *_ASSISTANT_KEYS})
_CALL_KINDS = {"tool_call", "tool_use"}
_RESULT_KINDS = {"tool_result", "tool_response"}
_PAIR = 2
_MOSS = re.compile(r"<\|[A-Za-z ]+\|>:? ?(.*?)(?:<eo[a-z]>)?", re.DOTALL)
"""A text between the marks of MOSS."""


def read_turns(value: Any, *, alternating: bool = False) -> list[Turn]:
    """The turns of a list, of a single turn, of an object that numbers them, or of the JSON text of these.

    `alternating`: plain texts are those of a user and an assistant in turn. Raises TurnError.
    """
    if isinstance(value, str):
        value = _from_json(value)
    if isinstance(value, Mapping):
        value = in_order(value)
    if not isinstance(value, list | tuple):
        raise TurnError("is not a list of objects")
    if alternating and len(value) > 1 and all(isinstance(element, str) for element in value):
        return [(assistant_turn if place % 2 else user_turn)(text) for place, text in enumerate(value)]
    turns = [turn for element in value for turn in _turns(element)]
    if any(isinstance(element, str) for element in value) and not all(isinstance(element, str) for element in value):
        raise TurnError("is not a list of objects")
    if not turns:
        raise TurnError("has no turns")
    return with_calls(turns)


def with_calls(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns; one of an assistant before the result of a tool is a call, in whatever form it is written."""
    return [_with_calls(turn, after) for turn, after in zip(turns, [*turns[1:], None], strict=True)]


def system_turn(text: str) -> Turn:
    return Turn("system", text, {"role": "system", "content": text})


def user_turn(text: str) -> Turn:
    return Turn("user", text, {"role": "user", "content": text})


def tool_turn(text: str) -> Turn:
    return Turn("tool", text, {"role": "tool", "content": text})


def assistant_turn(text: str, **more: str) -> Turn:
    """`more`: what its message has beside the text."""
    return Turn("assistant", text, {"role": "assistant", "content": text, **more})


def user_texts(turns: Sequence[Turn]) -> str:
    """The texts of all user turns, joined by line breaks."""
    return "\n".join(turn.text for turn in turns if turn.part == "user")


def is_plain(turn: Turn) -> bool:
    """True where role and text are all that the turn has."""
    return turn.message.keys() == {"role", "content"} and isinstance(turn.message["content"], str)


def are_objects(value: Any) -> bool:
    """True for a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(element, Mapping) for element in value)


def are_turns(value: Any) -> bool:
    """True for a list of objects that each have a role."""
    return are_objects(value) and all(any(key in turn for key in _ROLE_KEYS) for turn in value)


def has_turns(value: Any) -> bool:
    """True for a list of objects that each have a role, or a side of an exchange."""
    return are_objects(value) and all(
        any(key in turn for key in _ROLE_KEYS) or not _SIDES.isdisjoint(map(str.lower, turn)) for turn in value
    )


def has_only_text(turn: Turn) -> bool:
    """True where the content is nothing but texts: no images, no reasoning."""
    content = turn.message.get("content")
    return not isinstance(content, list) or all(_text_of_part(part) is not None for part in content)


def content_text(content: Any, key: str = "content") -> str:
    """The texts of a content: a text, nothing, or a list of parts. Raises TurnError."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise TurnError(f"has a turn whose {key} is not a text")
    if any(not isinstance(part, str | Mapping) for part in content):
        raise TurnError(f"has a turn whose {key} is neither a text nor a list of parts")
    return "\n".join(text for part in content if (text := _text_of_part(part)))


def _turns(element: Any) -> Iterator[Turn]:
    if isinstance(element, str):
        yield user_turn(element)
        return
    if isinstance(element, list | tuple):
        if are_objects(element):  # the turns of a round
            for turn in element:
                yield from _turns(turn)
        else:
            yield from _sides(element)
        return
    if not isinstance(element, Mapping):
        raise TurnError("is not a list of objects")
    role_key = next((key for key in _ROLE_KEYS if key in element), None)
    if role_key is None:
        yield from _exchange(element)
        return
    role = element[role_key]
    if not isinstance(role, str):
        raise TurnError(f"has a turn whose {role_key} is not a text")
    content_key = next((key for key in _CONTENT_KEYS if key in element), None)
    content = None if content_key is None else element[content_key]
    part = _PARTS.get(role.lower(), "other")
    name = role if role in _PROTOCOL else _ROLES.get(part, role)
    more = {k: v for k, v in element.items() if k not in {role_key, content_key} and v is not None}
    calls = _calls(content) if part == "call" else None
    message = {"role": name, "content": None if calls else content, **more, **({"tool_calls": calls} if calls else {})}
    kinds = _kinds(content)
    if part == "assistant" and (message.get("tool_calls") or message.get("function_call") or kinds & _CALL_KINDS):
        part = "call"
    elif part == "user" and kinds and kinds <= _RESULT_KINDS:
        part = "tool"
    yield Turn(part, content_text(content, content_key or "content") or _text_of_calls(message), message)


def _sides(pair: Sequence[Any]) -> Iterator[Turn]:
    """A pair of a user's text and an assistant's, which may be missing."""
    if not 0 < len(pair) <= _PAIR or not isinstance(pair[0], str) or not isinstance(pair[-1], str | None):
        raise TurnError("is not a list of objects, nor of pairs of texts")
    yield user_turn(pair[0])
    if len(pair) == _PAIR and pair[1] is not None:
        yield assistant_turn(pair[1])


def _exchange(element: Mapping[str, Any]) -> Iterator[Turn]:
    """An object with both sides of an exchange; a system prompt may stand beside them."""
    keys = {str(key).lower(): key for key in element}
    asked = next((keys[key] for key in _USER_KEYS if key in keys), None)
    answered = next((keys[key] for key in _ASSISTANT_KEYS if key in keys), None)
    if asked is None and answered is None:
        raise TurnError("has a turn without a role (role or from)")
    system = element.get("system")
    if isinstance(system, str) and system:
        yield system_turn(system)
    more = {k: v for k, v in element.items() if k not in {asked, answered, "system"} and v is not None}
    for key, part in ((asked, "user"), (answered, "assistant")):
        value = None if key is None else element[key]
        if value is None:
            continue
        if not isinstance(value, str):
            raise TurnError(f"has a turn whose {key} is not a text")
        if value.startswith("<|") and (marked := _MOSS.fullmatch(value.rstrip())) is not None:
            value = marked[1]
        yield (user_turn if part == "user" else assistant_turn)(value)._replace(
            message={"role": part, "content": value, **more}
        )
        more = {}


def _with_calls(turn: Turn, after: Turn | None) -> Turn:
    is_call = turn.part == "assistant" and after is not None and after.part == "tool"
    return turn._replace(part="call") if is_call else turn


def _text_of_part(part: Any) -> str | None:
    """None for a part that is no text, such as an image."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping) or str(part.get("type", "text")) not in {"text", "input_text", "output_text"}:
        return None
    return next((part[key] for key in ("text", "value", "content") if isinstance(part.get(key), str)), None)


def _calls(content: Any) -> list[dict[str, Any]] | None:
    """The calls in the JSON text of one, or of a list of them; None where it is no such text."""
    if not isinstance(content, str):
        return None
    try:
        value = shallow_json(content)
    except orjson.JSONDecodeError:
        return None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, Mapping) and isinstance(call.get("name"), str) for call in calls):
        return None
    return [
        {
            **({"id": call["id"]} if "id" in call else {}),
            "type": "function",
            "function": {key: value for key, value in call.items() if key != "id"},
        }
        for call in calls
    ]


def _kinds(content: Any) -> set[str]:
    """The types of the parts of a content."""
    parts = content if isinstance(content, list) else ()
    return {str(part.get("type", "text")) for part in parts if isinstance(part, Mapping)}


def _text_of_calls(message: Mapping[str, Any]) -> str:
    content = message["content"]
    parts = [part for part in content if _kinds([part]) & _CALL_KINDS] if isinstance(content, list) else None
    calls = message.get("tool_calls") or message.get("function_call") or parts
    try:
        return orjson.dumps(calls).decode() if calls else ""
    except TypeError:  # a value of Parquet that JSON has no form for
        return ""


def _from_json(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        raise TurnError("is not a list of objects")
    try:
        return shallow_json(text)
    except orjson.JSONDecodeError as error:
        raise TurnError("is not a list of objects") from error
