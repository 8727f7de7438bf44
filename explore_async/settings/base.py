"""The base of all settings models: no unknown keys, no changes afterwards, only finite numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, TypeAlias, get_args

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`yes` and `on` are true in YAML, and would be the number 1."""
        if any(isinstance(one, bool) for one in (value if isinstance(value, list) else [value])):
            assert info.field_name is not None
            kinds = _kinds(cls.model_fields[info.field_name].annotation)
            if kinds & {int, float} and bool not in kinds:
                raise PydanticKnownError("int_type" if float not in kinds else "float_type")
        return value


def _kinds(annotation: Any) -> set[type]:
    """The types in it, at any depth."""
    if inner := get_args(annotation):
        return set[type]().union(*map(_kinds, inner))
    return {annotation} if isinstance(annotation, type) else set()


class FromText(Settings):
    """A group that may be written as one text, which is then the value of its first setting."""

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, data: Any) -> Any:
        return {next(iter(cls.model_fields)): data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


MISFIT: Final = "misfit"
"""The type of the validator's error for a setting that does not fit the others."""
Argument: TypeAlias = Annotated[str, Field(pattern=r"^[^\x00]+$")]
"""The path of a file, or an argument of a program: some text, without the character that ends these."""


def misfit(setting: str, text: str) -> PydanticCustomError:
    """The fault of a setting, by its dotted name, that shows only beside other settings."""
    return PydanticCustomError(MISFIT, "{setting}: {text}", {"setting": setting, "text": text})


def check_writable(document: Mapping[str, Any]) -> None:
    """Raises ValueError with the name of the setting that JSON cannot hold: a number beyond 64 bits, half a character,
    a value too deep.
    """
    if (fault := _fault_of([[document]])) is not None:  # config.json nests it deeper
        text = f"cannot be written as JSON: {fault}"
        raise misfit(culprit, text) if (culprit := _culprit(document)) else ValueError(text)


def _culprit(document: Mapping[str, Any]) -> str:
    """The dotted name of the first value that cannot be written by itself; empty where it is the whole."""
    names: list[str] = []
    below: Any = document
    while (found := next(((name, value) for name, value in _parts(below) if _fault_of(value)), None)) is not None:
        names.append(found[0])
        below = found[1]
    return ".".join(names)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(name), part) for name, part in value.items())
    elif isinstance(value, list):
        yield from ((str(position), part) for position, part in enumerate(value))


def _fault_of(value: Any) -> str | None:
    try:
        orjson.dumps(value)
    except TypeError as error:
        return str(error)
    return None
