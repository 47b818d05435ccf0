"""Asking for sessions and devices: pages one after another, and refusals as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from ..console import printable
from ..failures import CommandFailed, UsageFailed
from ..operator import DaemonPlace, ask_daemon, parse_place

# The most the daemon gives at once.
PAGE_COUNT: Final = 100

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")

_HINTS: Final = {
    401: "the public site takes ADMIN_TOKEN; the admin site asks for none",
    503: "ask again later",
}


class Daemon:
    """A daemon that is asked."""

    def __init__(self, url: str, token: str | None) -> None:
        self._place: DaemonPlace = parse_place(url, token is not None)
        self._token = token

    def ask(self, method: str, path: str) -> dict[str, Any]:
        """What it answers. Raises: ``CommandFailed``, ``ConnectionFailed``, ``UsageFailed``."""
        status, answer = ask_daemon(self._place, method, path, None, self._token)
        if status != 200:
            raise refused(status, answer)
        return answer

    def rows(self, path: str, name: str, limit: int, wanted: Mapping[str, str | None]) -> Iterator[Any]:
        """Up to ``limit`` rows, page by page."""
        cursor: str | None = None
        while limit > 0:
            asked = {**wanted, "limit": str(min(limit, PAGE_COUNT)), "cursor": cursor}
            query = urlencode({key: value for key, value in asked.items() if value is not None})
            page = self.ask("GET", f"{path}?{query}")
            rows = page.get(name)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise CommandFailed("the daemon's answer cannot be read", hint="is it of another version?")
            yield from rows[:limit]
            limit -= len(rows)
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or not rows:
                return


def checked_id(word: str, kind: str) -> str:
    """An id that may stand in a path. Raises: ``UsageFailed``."""
    if not _ID.fullmatch(word):
        raise UsageFailed(f"that is not the id of a {kind}", hint=f"voiceingest {kind}s ls lists them")
    return word


def refused(status: int, answer: Mapping[str, Any]) -> CommandFailed:
    """A refusal of the daemon's, in one line."""
    code, message = (printable(str(answer.get(name, "")))[:200] for name in ("code", "message"))
    hint = _HINTS.get(status)
    if code == "not_found":
        hint = "the daemon has no sessions: it needs JWT_SECRET or JWT_PRIVATE_KEY"
    return CommandFailed(f"{message} ({code})" if code else f"HTTP {status}", hint=hint)


def cell(value: Any) -> str:
    """A value as a person reads it; what came over a network must not move the cursor."""
    return "-" if value is None or value == "" else printable(str(value))


def moment(value: Any) -> str:
    """A time without its fraction."""
    return cell(value).replace("T", " ").partition(".")[0]
