"""The base of all settings models: no unknown keys, no changes afterwards, only finite numbers."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Argument: TypeAlias = Annotated[str, Field(pattern=r"^[^\x00]+$")]
"""The path of a file, or an argument of a program: some text, without the character that ends these."""
