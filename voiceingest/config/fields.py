"""How a setting is declared: its text, its section, its limits, and whether it is a secret."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def field(default: Any, section: str, text: str, **limits: Any) -> Any:
    """A setting that may be shown."""
    return Field(default, description=text, json_schema_extra={"section": section}, **limits)


def secret(section: str, text: str) -> Any:
    """A setting that never appears in a log, an error, a metric or a dump."""
    return Field(None, description=text, json_schema_extra={"section": section, "secret": True})
