"""What may be put into a session: plain JSON, not too deep, not too big; and what a key may look like."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadField, ContextTooBig
from ..limits import (
    SESSION_CONFIG_MAX_BYTES,
    SESSION_CONTEXT_MAX_BYTES,
    SESSION_HISTORY_MAX_COUNT,
    SESSION_JSON_MAX_DEPTH_COUNT,
)
from ..session_interfaces import Idempotency, Session, SessionEdit
from .merging import merged

# Where the conversation is kept in the context of a session.
HISTORY: Final = "history"

# Numbers every reader of JSON can hold; Python alone has larger ones.
_INTEGER_MAX: Final = 2**63

# One word of printable ASCII, as HTTP passes it on unchanged.
_KEY: Final = re.compile(r"[!-~]{1,128}")

# Each part of a session, and how large it may be.
PARTS: Final[dict[str, int]] = {
    "audio_config": SESSION_CONFIG_MAX_BYTES,
    "voice_config": SESSION_CONFIG_MAX_BYTES,
    "metadata": SESSION_CONFIG_MAX_BYTES,
    "context": SESSION_CONTEXT_MAX_BYTES,
}


def patched(session: Session | None, edit: SessionEdit) -> dict[str, Any]:
    """The parts of a session that ``edit`` gives, as they will be; of a new one all of them.

    Raises: ``BadField``, ``ContextTooBig``.
    """
    changed: dict[str, Any] = {}
    for part, max_bytes in PARTS.items():
        patch = getattr(edit, part)
        if patch is None and session is not None:
            continue
        patch = {} if patch is None else patch
        if not isinstance(patch, Mapping):
            raise BadField(f"{part} is a JSON object")
        check_json(patch, part)
        value = merged({} if session is None else getattr(session, part), patch)
        if part == "context":
            value = _trimmed(value)
        if len(_encoded(value)) > max_bytes:
            raise ContextTooBig(f"{part} is larger than {max_bytes} bytes")
        changed[part] = value
    return changed


def check_json(value: Any, part: str, depth: int = 1) -> None:
    """Whether it is what JSON can say and every reader understands. Raises: ``BadField``."""
    if isinstance(value, Mapping | list | tuple):
        if depth > SESSION_JSON_MAX_DEPTH_COUNT:
            raise BadField(f"{part} is nested deeper than {SESSION_JSON_MAX_DEPTH_COUNT}")
        if isinstance(value, Mapping):
            for name in value:
                if not isinstance(name, str) or not _is_text(name):
                    raise BadField(f"{part} has a name that is no text")
        for below in value.values() if isinstance(value, Mapping) else value:
            check_json(below, part, depth + 1)
    elif not _is_plain(value):
        raise BadField(f"{part} holds what is no JSON")


def idempotency(key: str | None, edit: SessionEdit) -> Idempotency | None:
    """The key, with a digest of what is asked under it. Raises: ``BadField``."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise BadField("an idempotency key is 1 to 128 printable ASCII characters without blanks")
    asked = {part: getattr(edit, part) or {} for part in PARTS}
    return Idempotency(key, hashlib.sha256(_encoded(asked)).digest())


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -_INTEGER_MAX <= value < _INTEGER_MAX
    return value is None


def _is_text(value: str) -> bool:
    """Whether it can be written in UTF-8, which half a surrogate pair cannot; and without NUL."""
    if "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _trimmed(context: dict[str, Any]) -> dict[str, Any]:
    history = context.get(HISTORY)
    if isinstance(history, list | tuple) and len(history) > SESSION_HISTORY_MAX_COUNT:
        return {**context, HISTORY: list(history[-SESSION_HISTORY_MAX_COUNT:])}
    return context


def _encoded(value: Any) -> bytes:
    """The one way to write it: names in order, no blanks."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=dict).encode()
