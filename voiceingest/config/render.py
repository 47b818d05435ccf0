"""Write the settings down: the reference page, the default file and a dump without secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from .control import ControlSettings
from .settings import Settings

MASK: Final = "********"

_LAST: Final = "Operation"

# The one flag that is not named after its setting (contract section 0).
_FLAGS: Final = {"listen": "--port", "port": None}


def sections() -> dict[str, dict[str, FieldInfo]]:
    """The settings by section, in the order of ``settings.py``; what it inherits comes last but one."""
    found: dict[str, dict[str, FieldInfo]] = {}
    own = [name for name in Settings.model_fields if name not in ControlSettings.model_fields]
    for name in [*own, *ControlSettings.model_fields]:
        field = Settings.model_fields[name]
        found.setdefault(str(_extra(field)["section"]), {})[name] = field
    return {**found, _LAST: found.pop(_LAST)}


def is_secret(name: str) -> bool:
    """Whether the value of a setting must never be shown."""
    return bool(_extra(Settings.model_fields[name]).get("secret", False))


def flag_of(name: str) -> str | None:
    """The flag that sets ``name``; a secret has none, since other users see command lines."""
    if is_secret(name):
        return None
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def dump(settings: Settings) -> dict[str, Any]:
    """Every setting in force as plain JSON values, secrets masked."""
    return {name: _plain(name, getattr(settings, name)) for name in Settings.model_fields}


def markdown() -> str:
    """The reference page of the settings."""
    return "\n".join(_markdown_lines()) + "\n"


def toml() -> str:
    """A settings file that says what is the case without it: every line is a comment."""
    return "\n".join(_toml_lines()) + "\n"


def _markdown_lines() -> Iterator[str]:
    yield "# Settings"
    yield ""
    yield "A flag comes before an environment variable, that before the TOML file, that before the default."
    yield "Keys of the file are the names below, without tables. In the environment a list is separated by"
    yield "commas and an empty variable is not set. A secret has a `*_file` twin and no flag; giving both the"
    yield "secret and its file is an error. Everything that is wrong is reported at once, a line each:"
    yield "`voiceingest check-config`."
    for section, fields in sections().items():
        yield f"\n## {section}\n"
        yield "| setting | environment | flag | default | range | what it does |"
        yield "|---|---|---|---|---|---|"
        for name, field in fields.items():
            flag = flag_of(name)
            named = [f"`{name}`", f"`{name.upper()}`", f"`{flag}`" if flag else ""]
            cells = [*named, _default(field), _range(field), _cell(field.description or "")]
            yield f"| {' | '.join(cells)} |"


def _toml_lines() -> Iterator[str]:
    yield "# The settings of voiceingest, all at their defaults. Take the # away from what you change."
    yield "# Secrets are better kept in files of their own (*_file) or in the environment."
    for section, fields in sections().items():
        yield f"\n# --- {section} ---"
        for name, field in fields.items():
            limits = _range(field).replace("`", "")
            yield f"\n# {field.description}{f' ({limits})' if limits else ''}"
            default = field.get_default()
            shown = default.get_secret_value() if isinstance(default, SecretStr) else default
            yield f"#{name} = {_toml_value('' if shown is None else shown)}"


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _plain(name: str, value: object) -> object:
    if value is None:
        return None
    if is_secret(name):
        return MASK
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _toml_value(value: object) -> str:
    """TOML writes these texts, numbers and lists as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _default(field: FieldInfo) -> str:
    default = field.get_default()
    shown = default.get_secret_value() if isinstance(default, SecretStr) else default
    if shown is None or shown == ():
        return "unset" if shown is None else "none"
    return f"`{', '.join(shown) if isinstance(shown, tuple) else shown}`"


def _range(field: FieldInfo) -> str:
    """The limits of a number, or the words that may be chosen from."""
    words = next((get_args(kind) for kind in _kinds(field.annotation) if get_origin(kind) is Literal), ())
    if words:
        return ", ".join(f"`{word}`" for word in words)
    limits = {kind: getattr(item, kind) for item in field.metadata for kind in _SIGNS if hasattr(item, kind)}
    return ", ".join(f"{sign} {limits[kind]}" for kind, sign in _SIGNS.items() if kind in limits)


_SIGNS: Final = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _kinds(annotation: object) -> Iterator[object]:
    yield annotation
    for inner in () if get_origin(annotation) is Literal else get_args(annotation):
        yield from _kinds(inner)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
