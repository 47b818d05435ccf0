"""NATS subjects and message ids, from templates and identifiers. Pure.

A subject is tokens separated by dots; ``*`` and ``>`` are wildcards, whitespace ends it
(docs.nats.io, "Subject-Based Messaging"). An identifier becomes one token: everything but letters,
digits, ``_``, ``-`` and ``~`` is percent-encoded, so no identifier reaches into another's subjects.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from ..errors import SettingsError

_PLACEHOLDER: Final = re.compile(r"{(tenant_id|interaction_id)}")
_TEMPLATE_TOKEN: Final = re.compile(r"{(?:tenant_id|interaction_id)}|[A-Za-z0-9_-]+", re.ASCII)


def token(identifier: str) -> str:
    """One token of a subject; also one part of a message id, for it holds no colon either."""
    # surrogatepass: JSON may carry lone surrogates, and two names must not become one.
    return quote(identifier, safe="", errors="surrogatepass").replace(".", "%2E") or "%"


def check_template(setting: str, template: str) -> None:
    """Refuse a template that does not make subjects. Raises: ``SettingsError`` that names ``setting``."""
    if not all(_TEMPLATE_TOKEN.fullmatch(part) for part in template.split(".")):
        raise SettingsError(
            [f"{setting}: tokens of letters, digits, '_' and '-', or a placeholder alone, separated by dots"]
        )


def subject(template: str, tenant_id: str, interaction_id: str) -> str:
    """Fill a template such as ``audio.frames.{tenant_id}``."""
    tokens = {"tenant_id": token(tenant_id), "interaction_id": token(interaction_id)}
    # One pass: an identifier that looks like a placeholder is not filled again.
    return _PLACEHOLDER.sub(lambda found: tokens[found[1]], template)


def pattern(template: str) -> str:
    """The subjects a template can make, as one with wildcards."""
    return _PLACEHOLDER.sub("*", template)


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that ``narrow`` stands for is one that ``wide`` stands for."""
    wide_tokens, narrow_tokens = wide.split("."), narrow.split(".")
    for position, word in enumerate(wide_tokens):
        if position == len(narrow_tokens):
            return False
        if word == ">":
            return True
        if narrow_tokens[position] == ">" or word not in ("*", narrow_tokens[position]):
            return False
    return len(wide_tokens) == len(narrow_tokens)
