"""Faults of settings in words: the place, what is expected there, and the right form; not those of the validator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from explore_async.settings.base import MISFIT, FromText
from explore_async.settings.local_paths import without_secrets

_CLOSE_ENOUGH = 60.0
_TO_REMOVE = {
    "meaning": "explore_async writes this itself: it is the version of the rules that a dataset was made by",
    "against.*.digest": "explore_async computes this itself, from the texts, when a run starts",
    "operation.checkpoint_every": "no longer a setting: a run writes a checkpoint every 20,000 judged examples",
}
"""Keys of config.json or of earlier versions that a config does not have, and why. * is a position in a list."""

_EXPECTED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "tuple_type": "a list",
    "dict_type": "a mapping, such as {name: value}",
    "string_type": "a text",
    "string_unicode": "a text of whole characters",
}
"""The kind of value that a setting takes, in words, by the type of the validator's error."""
_GROUPS: Final = {"model_type", "model_attributes_type"}
_KEY: Final = "[key]"
"""The last part of a place, where the fault is in a name and not in its value."""
_LENGTHS: Final[Mapping[str, tuple[str, str]]] = {
    "too_short": ("at least", "min_length"),
    "too_long": ("at most", "max_length"),
}


class Fault(NamedTuple):
    """A fault of a setting. `place`: its name in parts."""

    place: tuple[str, ...]
    text: str


def faults_of(error: ValidationError, model: Any) -> list[Fault]:
    """The faults of a value of the model, one for each place."""
    details = error.errors()
    by_place: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for detail in details:
        if not _follows_from_another(detail, details):
            place = tuple(str(step) for step in detail["loc"] if not _is_branch(step)) + _place_below(detail)
            by_place.setdefault(place, []).append(detail)
    return [Fault(place, text) for place, found in by_place.items() for text in _texts(found, model)]


def _place_below(detail: ErrorDetails) -> tuple[str, ...]:
    """The setting that does not fit the others of its group, in parts."""
    return tuple(detail["ctx"]["setting"].split(".")) if detail["type"] == MISFIT else ()


def _follows_from_another(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """True for a list that is too short only as what is in it has faults of its own."""
    where = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(where) and other["loc"][: len(where)] == where for other in details
    )


def _texts(details: Sequence[ErrorDetails], model: Any) -> list[str]:
    """The faults in words: one for a setting that may be one of several things, each of which the validator refuses."""
    expected = [_expected(detail, model) for detail in details]
    if not all(expected):
        return [_text(detail, model) for detail in details]
    whole = " or ".join(dict.fromkeys(filter(None, expected)))
    what = "its name" if details[0]["loc"][-1:] == (_KEY,) else "input"
    return [f"{what} should be {whole}{_right_form(details)}"]


def _expected(detail: ErrorDetails, model: Any) -> str | None:
    kind = detail["type"]
    if kind == "literal_error":
        return str(detail["ctx"]["expected"])
    if kind not in {"tuple_type", *_GROUPS} or (group := _model_at(detail["loc"], model)) is None:
        return _EXPECTED.get(kind)
    if kind == "tuple_type":
        return f"a list, such as [{_example(group)}]"
    return f"{'a text or ' if issubclass(group, FromText) else ''}settings, such as {_example(group)}"


def _example(group: type[BaseModel]) -> str:
    """Settings of the group as a user may write them: all that it needs, else the first that is a number or a text."""
    fields = group.model_fields
    if needed := [name for name, field in fields.items() if field.is_required()]:
        return "{" + ", ".join(f"{name}: …" for name in needed) + "}"
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
    for kinds in ((int, float), (str,)):
        for name, value in defaults.items():
            if isinstance(value, kinds) and not isinstance(value, bool) and value != "":
                return f"{{{name}: {value}}}"
    return f"{{{next(iter(fields))}: …}}"


def _right_form(details: Sequence[ErrorDetails]) -> str:
    """The value that is given, and the same as a text where that is what is expected."""
    shown = _shown(details[0])
    if shown and {detail["type"] for detail in details} == {"string_type"}:
        if isinstance(details[0]["input"], bool):
            return f": put it between quotation marks, as yes, no, on and off are true or false{shown}"
        return f': write "{_short(details[0]["input"])}"{shown}'
    return shown


def _text(detail: ErrorDetails, model: Any) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        if (reason := _TO_REMOVE.get(_general(detail["loc"]))) is not None:
            return f"{reason}; remove it"
        group = _model_at(detail["loc"][:-1], model)
        return f"unknown key{suggestion(str(detail['loc'][-1]), list(group.model_fields) if group else [])}"
    if kind in _LENGTHS:
        words, name = _LENGTHS[kind]
        number = detail["ctx"][name]
        return f"input should have {words} {number} {'entry' if number == 1 else 'entries'}"
    if kind == MISFIT:
        return str(detail["ctx"]["text"])
    message = detail["msg"].removeprefix("Value error, ")
    if message.startswith("String "):
        message = message.replace("String", "its name" if detail["loc"][-1:] == (_KEY,) else "text", 1)
    return f"{message[0].lower()}{message[1:]}{_shown(detail)}"


def _shown(detail: ErrorDetails) -> str:
    """The value that is given, where it may be shown; else empty."""
    value = detail["input"]
    may_be_shown = isinstance(value, str | int | float | bool) and not _may_be_secret(detail["loc"])
    return f" (given: {_short(value)})" if may_be_shown else ""


def _general(location: Sequence[int | str]) -> str:
    return ".".join("*" if isinstance(step, int) else step for step in location)


def _may_be_secret(location: Sequence[int | str]) -> bool:
    """True where a user may have put a key instead of the name of its variable, or a password into a URL."""
    names = {"url", "api_key_env", "api_key_file"}
    return bool(location) and (location[-1] in names or "endpoints" in location[-2:])


def _short(value: object) -> str:
    """The value as YAML has it, in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return without_secrets(str(value))[:80]
    except ValueError:  # Python does not write numbers of thousands of digits
        return "a number of thousands of digits"


def _is_branch(step: int | str) -> bool:
    """True for a member of a union that pydantic tried, and its mark of a key: they mean nothing to a user."""
    branches = ("tuple[", "dict[", "constrained-", "literal[", _KEY)
    return isinstance(step, str) and (step in {"int", "str", "dict"} or step.startswith(branches))


def _model_at(location: Sequence[int | str], model: Any) -> type[BaseModel] | None:
    """The settings model of a place; None where there is none."""
    for step in location:
        if isinstance(step, str) and not _is_branch(step) and isinstance(model, type) and issubclass(model, BaseModel):
            model = model_in(model.model_fields[step].annotation)
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def model_in(annotation: Any) -> Any:
    """The settings model inside an annotation such as tuple[Domain, ...] or Server | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for inner in get_args(annotation) if (model := model_in(inner)) is not None), None)


def suggestion(word: str, known: Sequence[str]) -> str:
    """The known word that is nearest to a misspelled one, as the end of a message; empty where none is near."""
    from rapidfuzz import process

    best = process.extractOne(word, known, score_cutoff=_CLOSE_ENOUGH)
    return f"; did you mean {best[0]}?" if best is not None else ""
