"""The shapes in which trainers read an example. Pure.

The user's turn is the instruction, with the input below it after an empty line where there is one; the assistant's turn
is the output. An example of a conversation takes all its turns with it, and the tools and images beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import orjson

from explore_async.curation.collections.conversations import REASONING, Conversation, check_one_answer, conversation_of
from explore_async.curation.files.fields import FieldError, text_of
from explore_async.curation.files.turns import Turn, content_text, has_only_text, user_turn

Shape: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]
WITH_REASONING = ("rows", "messages", "prompt-completion")
"""The shapes that have a place for it."""
PAIRS = ("preference", "preference-sharegpt")
"""The shapes of pairs of answers."""
_INSTRUCTION, _OUTPUT = ("instruction",), ("output",)
_TOOLS = ("tools", "functions")
_SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation", "function": "observation"}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """All columns as the run wrote them, provenance included."""
    return dict(row)


def _alpaca(row: Mapping[str, Any]) -> dict[str, Any]:
    conversation = conversation_of(row)
    check_one_answer(conversation, "alpaca")
    system = "" if conversation is None else conversation.system
    exchange = {"instruction": text_of(row, ["instruction"]), "input": _input(row), "output": text_of(row, ["output"])}
    return {**exchange, "system": system} if system else exchange


def _sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    conversation = _talk(row)
    check_one_answer(conversation, "sharegpt")
    turns = [said for turn in conversation.turns for said in _spoken(turn)]
    return {"id": row.get("id"), "conversations": turns, **tools_as_text(conversation.carried)}


def _messages(row: Mapping[str, Any]) -> dict[str, Any]:
    if (conversation := conversation_of(row)) is None:
        return {"messages": _exchange(row)}  # nearly always
    check_one_answer(conversation, "messages")
    return {"messages": _written(conversation.turns), **conversation.carried}


def _prompt_completion(row: Mapping[str, Any]) -> dict[str, Any]:
    if (conversation := conversation_of(row)) is None:
        asked, *answers = _exchange(row)
        return {"prompt": [asked], "completion": answers}
    check_one_answer(conversation, "prompt-completion")
    return _parts(conversation)


def _preference(row: Mapping[str, Any]) -> dict[str, Any]:
    conversation, rejected = _pair(row, "preference")
    prompt, chosen, refused = map(_written, (conversation.prompt, conversation.completion, rejected))
    return {"prompt": prompt, "chosen": chosen, "rejected": refused, **conversation.carried}


def _preference_sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    """As LLaMA-Factory reads it: either answer is one turn."""
    conversation, rejected = _pair(row, "preference-sharegpt")
    turns, *answers = (
        [said for turn in part for said in _spoken(turn)]
        for part in (conversation.prompt, conversation.completion, rejected)
    )
    if any(len(answer) != 1 for answer in answers):
        raise FieldError(
            "one of its answers is not a single turn, as --format preference-sharegpt needs; preference holds both"
        )
    (chosen,), (refused,) = answers
    pair = {"chosen": chosen, "rejected": refused}
    return {"id": row.get("id"), "conversations": turns, **pair, **tools_as_text(conversation.carried)}


def _pair(row: Mapping[str, Any], shape: str) -> tuple[Conversation, Sequence[Turn]]:
    """The conversation with the chosen answer, and the rejected answer. Raises FieldError where there is none."""
    conversation = _talk(row)
    if conversation.rejected is None:
        raise FieldError(
            f"it has no pair of answers (chosen, rejected), as --format {shape} needs; rows takes any example"
        )
    return conversation, conversation.rejected


def _labelled(row: Mapping[str, Any]) -> dict[str, Any]:
    conversation = _talk(row)
    if conversation.label is None:
        raise FieldError("it has no label (true or false), as --format kto needs; rows takes any example")
    return {**_parts(conversation), "label": conversation.label}


def _exchange(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The messages of an example that is all that there is."""
    instruction, output, given = text_of(row, _INSTRUCTION), text_of(row, _OUTPUT), _input(row)
    asked = {"role": "user", "content": f"{instruction}\n\n{given}" if given else instruction}
    if not output.strip():
        return [asked]
    answer = {"role": "assistant", "content": output}
    if isinstance(reasoning := row.get(REASONING), str):
        answer[REASONING] = reasoning
    return [asked, answer]


def _talk(row: Mapping[str, Any]) -> Conversation:
    """The example's conversation; the example alone where there is no other."""
    if (conversation := conversation_of(row)) is not None:
        return conversation
    asked, *answers = _exchange(row)
    turns = (user_turn(asked["content"]), *(Turn("assistant", one["content"], one) for one in answers))
    return Conversation(turns, 0, 1 if answers else None)


def _parts(conversation: Conversation) -> dict[str, Any]:
    prompt, completion = _written(conversation.prompt), _written(conversation.completion)
    return {"prompt": prompt, "completion": completion, **conversation.carried}


def _written(turns: Iterable[Turn]) -> list[dict[str, Any]]:
    return [turn.message for turn in turns]


def _spoken(turn: Turn) -> Iterator[dict[str, Any]]:
    """The turn with from and value; calls of tools are a turn of their own."""
    message = turn.message
    calls = message.get("tool_calls") if isinstance(message.get("tool_calls"), list) else None
    own = {"role", "content", *(() if calls is None else ("tool_calls",))}
    more = {key: value for key, value in message.items() if key not in own}
    role = str(message["role"])
    text = content_text(message.get("content"))
    if text or not calls:
        yield {"from": _SPEAKERS.get(role, role), "value": text, **more}
        more = {}
    if calls:
        functions = [_function(call) for call in calls]
        value = orjson.dumps(functions[0] if len(functions) == 1 else functions).decode()
        yield {"from": "function_call", "value": value, **more}


def _function(call: Any) -> Any:
    """A call as ShareGPT has it: the name and the arguments, these as a value and no text of JSON."""
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    function = {**call["function"], **({"id": call["id"]} if call.get("id") is not None else {})}
    if isinstance(function.get("arguments"), str):
        with suppress(orjson.JSONDecodeError):
            function["arguments"] = orjson.loads(function["arguments"])
    return function


def _input(row: Mapping[str, Any]) -> str:
    """The input; empty where it is missing or null."""
    text = row.get("input")
    if text is not None and not isinstance(text, str):
        raise FieldError("field input is not a text")
    return text or ""


SHAPES: dict[str, Shape] = {
    "rows": _plain,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "preference": _preference,
    "preference-sharegpt": _preference_sharegpt,
    "kto": _labelled,
}
"""By the names that trainers use; messages, prompt-completion, preference and kto are TRL's conversational formats."""


def is_cut(shape: str, row: Mapping[str, Any]) -> bool:
    """True where the shape holds less than the conversation of the row."""
    if shape in {"rows", "messages", "preference"} or (conversation := conversation_of(row)) is None:
        return False
    match shape:
        case "alpaca":
            told = conversation.below_system
            return bool(conversation.carried) or not (told.is_exchange or told.is_prompt)
        case "sharegpt" | "preference-sharegpt":
            return not all(map(has_only_text, conversation.turns))
    return len(conversation.prompt) + len(conversation.completion) < len(conversation.turns)


def tools_as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the tools as JSON text: each tool has parameters of its own, and so they have no common type."""
    is_structure = {name for name in _TOOLS if isinstance(row.get(name), list | dict)}
    return {name: orjson.dumps(value).decode() if name in is_structure else value for name, value in row.items()}


def calls_as_text(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with tools, and arguments of their calls in any turn, as JSON text, for columns of one type."""
    return {name: _calls_as_text(value) for name, value in tools_as_text(row).items()}


def _calls_as_text(value: Any) -> Any:
    """A list of turns, or any other value as it is."""
    if not isinstance(value, list):
        return value
    return [
        {**turn, "tool_calls": list(map(_call_as_text, turn["tool_calls"]))}
        if isinstance(turn, Mapping) and isinstance(turn.get("tool_calls"), list)
        else turn
        for turn in value
    ]


def _call_as_text(call: Any) -> Any:
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        return call
    arguments = call["function"].get("arguments")
    if arguments is None or isinstance(arguments, str):
        return call
    return {**call, "function": {**call["function"], "arguments": orjson.dumps(arguments).decode()}}
