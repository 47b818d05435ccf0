"""Asking a running daemon as its operator: at its admin site, or at its public one with the admin token."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from .failures import CommandFailed, ConnectionFailed, UsageFailed

DEFAULT_URL: Final = "http://127.0.0.1:9464"
TIMEOUT_S: Final = 30.0

# A page of a hundred sessions is some 500 KiB at the most.
_ANSWER_MAX_BYTES: Final = 2 * 1024 * 1024

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class DaemonPlace:
    """Where the daemon is asked: its admin site, or its public one for the admin token."""

    secure: bool
    host: str
    port: int
    prefix: str


def parse_place(url: str, has_token: bool) -> DaemonPlace:
    """Take a ``http://`` or ``https://`` URL apart. Raises: ``UsageFailed``."""
    hint = f"such as {DEFAULT_URL}, the admin site"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise UsageFailed("--url cannot be read", hint=hint) from problem
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise UsageFailed("--url begins with http:// or https://", hint=hint)
    if parts.username is not None or parts.query or parts.fragment or " " in url:
        raise UsageFailed("--url is a place only: no user name, query or fragment", hint=hint)
    secure = parts.scheme == "https"
    if has_token and not secure and host not in _LOOPBACK:
        raise UsageFailed("the admin token is not sent in the clear", hint="take https://, or an SSH tunnel")
    return DaemonPlace(secure, host, port or (443 if secure else 80), parts.path.rstrip("/"))


def place_options(command: Command) -> Command:
    """The options that say where the daemon is, and who asks."""
    url = click.option(
        "--url", default=DEFAULT_URL, show_default=True, help="The daemon's admin or public site."
    )
    token = click.option(
        "--admin-token",
        envvar="ADMIN_TOKEN",
        show_envvar=True,
        help="Token for the public site; the admin site asks for none. Better in the environment.",
    )
    return url(token(command))


def ask_daemon(
    place: DaemonPlace,
    method: str,
    path: str,
    document: Mapping[str, Any] | None,
    token: str | None,
    *,
    timeout_s: float = TIMEOUT_S,
    lost_hint: str | None = None,
    ca: Path | None = None,
) -> tuple[int, dict[str, Any]]:
    """One request, no redirects. ``lost_hint`` is what to think when no answer comes; ``ca`` is whom to
    believe instead of those the system trusts.

    Raises: ``ConnectionFailed``, ``CommandFailed``, ``UsageFailed``.
    """
    headers = {"Accept": "application/json"}
    body = None if document is None else json.dumps(document).encode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = (
        http.client.HTTPSConnection(
            place.host, place.port, timeout=timeout_s, context=ssl.create_default_context(cafile=ca)
        )
        if place.secure
        else http.client.HTTPConnection(place.host, place.port, timeout=timeout_s)
    )
    try:
        _connect(connection)
        connection.request(method, place.prefix + path, body, headers)
        answer = connection.getresponse()
        return answer.status, _document(answer.read(_ANSWER_MAX_BYTES))
    except ValueError as problem:
        # http.client's word for a line break or the like in a header.
        raise UsageFailed("the admin token holds a character that no header may hold") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise CommandFailed("the daemon did not answer", hint=lost_hint) from problem
    finally:
        connection.close()


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except ssl.SSLError as problem:
        why = getattr(problem, "verify_message", "") or problem.reason or "the handshake"
        raise ConnectionFailed(f"TLS failed: {why}", reason="tls") from problem
    except (OSError, UnicodeError) as problem:
        why = getattr(problem, "strerror", "") or type(problem).__name__
        raise ConnectionFailed(
            f"no daemon at {connection.host}:{connection.port}: {why}",
            reason="connect",
            hint="is it running? --url names its admin site",
        ) from problem


def _document(body: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}
