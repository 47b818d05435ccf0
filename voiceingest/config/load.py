"""Read the settings: flag before environment before file before default, every problem at once.

A problem is one line, ``key: what is wrong (where it came from)``. No line repeats a value, so
a secret in the wrong place is not printed either. pydantic-settings reads the places, pydantic
checks the values; what is ours is to know where each one came from.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from ..errors import SettingsError
from .render import flag_of
from .settings import Settings

# A PEM key with a long chain is some 10 KiB; whoever points at a disk image is told so.
SECRET_FILE_MAX_BYTES: Final = 64 * 1024
SETTINGS_FILE_MAX_BYTES: Final = 256 * 1024

_FIELDS: Final = Settings.model_fields
_FILE: Final = "_file"

# The plain words for pydantic's error types; its own message is used for the others.
_WORDS: Final = {
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "path_type": "must be a path",
    "tuple_type": "must be a list of texts",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}

# What a problem of several settings together is about, by the key it is reported under.
_TOGETHER: Final = {
    "ssl_cert_path": ("ssl_key_path", "ssl_cert_path"),
    "jwt_jwks_url": ("jwt_jwks_url", "jwt_public_key", "jwt_public_key_file"),
    "exotel_ws_user": ("exotel_ws_user", "exotel_ws_password", "exotel_ws_password_file"),
    "voicebot": ("voicebot", "exotel_ws_auth"),
    "exo_bridge_enabled": ("exo_bridge_enabled", "deepgram_api_key", "deepgram_api_key_file"),
    "control": ("control", "jwt_secret", "jwt_private_key"),
    "grpc": ("grpc", "control", "jwt_secret", "jwt_private_key"),
    "database_url": ("database_url", "database_url_file"),
    "publish_url": ("publish_url", "publish_url_file", "redis_url", "redis_url_file"),
}


@dataclass(frozen=True, slots=True)
class Given:
    """One value and the place it came from, in words."""

    value: object
    where: str


class _Environment(PydanticBaseSettingsSource):
    """The variables of ``environ`` that are settings; an empty one is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(BaseSettings)
        self._environ = environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the variable, its field, and that it needs no further decoding."""
        return self._environ.get(field_name.upper(), ""), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every variable that is set, lists split at their commas."""
        found = {name: self.get_field_value(field, name)[0] for name, field in _FIELDS.items()}
        return {name: _split(name, text.strip()) for name, text in found.items() if text.strip()}


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], path: Path | None) -> Settings:
    """Return the settings in force.

    ``flags`` are keyed by field name and ``None`` means not given; ``path`` is the TOML file.

    Raises: ``SettingsError`` with one line for each problem there is.
    """
    problems: list[str] = []
    given = _file_values(path, problems) if path is not None else {}
    for name, value in _Environment(environ)().items():
        given[name] = Given(value, f"environment {name.upper()}")
    for name, value in flags.items():
        if value is not None:
            given[name] = Given(_split(name, value), f"flag {_flag(name)}")
    problems += _unknown(given)
    problems += _wrong_shapes(given)
    _read_secrets(given, problems)
    settings, wrong = _check(given)
    problems += wrong
    if problems or settings is None:
        raise SettingsError(sorted(problems, key=_place))
    return settings


def _file_values(path: Path, problems: list[str]) -> dict[str, Given]:
    try:
        if not path.is_file():
            raise OSError("there is no such file")
        if path.stat().st_size > SETTINGS_FILE_MAX_BYTES:
            raise OSError(f"larger than {SETTINGS_FILE_MAX_BYTES} bytes")
        values = TomlConfigSettingsSource(BaseSettings, toml_file=path).toml_data
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8")
    except RecursionError:
        problems.append(f"{path}: not TOML: nested too deeply")
    except ValueError as error:
        problems.append(f"{path}: not TOML: {_one_line(str(error))}")
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
    else:
        return {name: Given(value, f"file {path}") for name, value in values.items()}
    return {}


def _flag(name: str) -> str:
    return (name in _FIELDS and flag_of(name)) or name


def _split(name: str, value: object) -> object:
    """A list may be written as one text with commas, outside the file."""
    if isinstance(value, str) and name in _FIELDS and _is_list(name):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _unknown(given: dict[str, Given]) -> Iterator[str]:
    for name in [name for name in given if name not in _FIELDS]:
        likely = difflib.get_close_matches(name.lower().replace("-", "_"), _FIELDS, n=1, cutoff=0.7)
        hint = f"; did you mean {likely[0]}?" if likely else ""
        yield f"{_one_line(name)}: there is no such setting{hint} ({given.pop(name).where})"


def _wrong_shapes(given: dict[str, Given]) -> Iterator[str]:
    """Refuse what pydantic would kindly convert, and URLs whose parser would quote them."""
    for name, (value, where) in [(name, (item.value, item.where)) for name, item in given.items()]:
        number = _FIELDS[name].annotation in (int, float)
        if isinstance(value, bool) or (number and isinstance(value, str) and where.startswith("file ")):
            words = "a number, without quotes" if number else "a list of texts" if _is_list(name) else "text"
            yield f"{name}: must be {words} ({where})"
            del given[name]
        elif name.endswith("_url") and isinstance(value, str) and not _is_url(value):
            yield f"{name}: is not a URL ({where})"
            del given[name]


def _is_list(name: str) -> bool:
    return "tuple[" in str(_FIELDS[name].annotation)


def _is_url(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme)
    except ValueError:
        return False


def _read_secrets(given: dict[str, Given], problems: list[str]) -> None:
    """Put the contents of every ``*_file`` into the field it stands for; the path stays too."""
    for twin in [name for name in given if name.endswith(_FILE) and name.removesuffix(_FILE) in _FIELDS]:
        name, item = twin.removesuffix(_FILE), given[twin]
        if name in given:
            problems.append(f"{twin}: {name} is given too ({item.where} and {given[name].where})")
            continue
        if not isinstance(item.value, str | Path):
            continue  # pydantic names this one
        try:
            given[name] = Given(SecretStr(_secret(Path(item.value))), f"{item.where}, {item.value}")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            problems.append(f"{twin}: {_one_line(str(item.value))}: {reason} ({item.where})")
            del given[twin]


def _secret(path: Path) -> str:
    if path.is_fifo() or path.is_socket():
        # A pipe would be waited for, by the whole daemon.
        raise ValueError("not a regular file")
    with path.open("rb") as file:
        found = file.read(SECRET_FILE_MAX_BYTES + 1)
    if len(found) > SECRET_FILE_MAX_BYTES:
        raise ValueError(f"larger than {SECRET_FILE_MAX_BYTES} bytes")
    try:
        text = found.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not text:
        raise ValueError("empty")
    return text


def _check(given: dict[str, Given]) -> tuple[Settings | None, list[str]]:
    """Validate again and again without what was wrong, until nothing new comes to light.

    pydantic checks settings against one another only when each is right by itself, and stops at
    the first that disagree; an operator wants the whole list.
    """
    left = dict(given)
    problems: list[str] = []
    bad: set[str] = set()
    while True:
        try:
            settings = Settings.model_validate({name: item.value for name, item in left.items()})
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        else:
            return (None if problems else settings), problems
        alone = [detail for detail in found if detail["loc"]]
        for detail in alone:
            line = _problem(detail, given)
            if str(detail["loc"][0]) not in bad or len(detail["loc"]) > 1:
                problems.append(line)
            bad.add(str(detail["loc"][0]))
        for detail in found[: 0 if alone else 1]:
            keys = _TOGETHER.get(detail["type"], (detail["type"],))
            if not bad.intersection(keys):
                places = ", ".join(dict.fromkeys(given[key].where for key in keys if key in given))
                problems.append(f"{detail['type']}: {detail['msg']} ({places or 'default'})")
            bad.update(keys)
        shorter = {name: item for name, item in left.items() if name not in bad}
        if len(shorter) == len(left):
            return None, problems or [f"{detail['type']}: {detail['msg']}" for detail in found]
        left = shorter


def _problem(detail: ErrorDetails, given: dict[str, Given]) -> str:
    name, *item = detail["loc"]
    key = f"{name}[{item[0]}]" if item else str(name)
    words = _WORDS.get(detail["type"]) or detail["msg"].replace("Input should be", "must be")
    origin = given.get(str(name))
    return f"{key}: {words} ({origin.where if origin else 'default'})"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:200])


def _place(problem: str) -> tuple[int, str]:
    name = problem.partition(":")[0].partition("[")[0]
    return (list(_FIELDS).index(name) if name in _FIELDS else -1), problem
