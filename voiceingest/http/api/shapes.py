"""What every shape of the REST API is made of. camelCase outside, as the contract has it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

# Examples.
SESSION_ID: Final = "ses_4nY1vX0aQmKc2sT7uLw9Bg"
MOMENT: Final = "2026-11-28T20:15:00.000Z"

# ``document`` puts the schema of any JSON value in the place of this.
ANY_JSON: Final = "Json"

JsonObject = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "additionalProperties": {"title": ANY_JSON}})
]
Token = Annotated[str, Field(min_length=1, max_length=256, pattern="^[A-Za-z0-9._~-]+$")]


class Asked(BaseModel):
    """What a caller sends: these members and no others."""

    # Only pydantic itself makes these, so that no other name is needed.
    model_config = ConfigDict(  # type: ignore[pydantic-alias]
        alias_generator=to_camel, extra="forbid", strict=True, frozen=True
    )


class Shown(BaseModel):
    """What a caller is answered."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, use_attribute_docstrings=True
    )


class Done(Shown):
    """It was done."""

    success: bool = Field(examples=[True])
    """Always true: what could not be done is answered with an error."""
    message: str = Field(examples=["it was done"])
    """For people."""


def iso(seconds: float) -> str:
    """A moment as everybody reads it (RFC 3339, UTC, milliseconds)."""
    shown = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return shown.replace("+00:00", "Z")


def moment(seconds: float | None) -> str | None:
    """One that may not have been."""
    return None if seconds is None else iso(seconds)
