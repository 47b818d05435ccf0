"""``voiceingest call``: ask a running daemon to have somebody called."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import click

from .console import Console, printable
from .failures import CommandFailed, ConnectionFailed, Exit, UsageFailed
from .options import epilog, json_option

DEFAULT_URL: Final = "http://127.0.0.1:9464"
PATH: Final = "/call"

# Longer than the daemon itself waits for Exotel (exotel_api_timeout_s is 60 s at most).
TIMEOUT_S: Final = 75.0
_ANSWER_MAX_BYTES: Final = 64 * 1024

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


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


@click.command(
    epilog=epilog(
        """voiceingest call +919876543210
voiceingest call +919876543210 --tenant acme --custom "order 7"
voiceingest call +919876543210 --url https://voice.example.com:8443 --json""",
        Exit.OK,
        Exit.REFUSED,
        Exit.USAGE,
        Exit.NO_CONNECTION,
    )
)
@click.argument("number")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="The daemon's admin or public site.")
@click.option(
    "--admin-token",
    envvar="ADMIN_TOKEN",
    show_envvar=True,
    help="Token for the public site; the admin site asks for none. Better in the environment.",
)
@click.option("--tenant", help="Tenant of the call; the daemon's EXOTEL_TENANT_ID unless given.")
@click.option("--custom", help="Text that Exotel hands on with the call (CustomField), 128 characters.")
@json_option
def call(
    number: str,
    url: str,
    admin_token: str | None,
    tenant: str | None,
    custom: str | None,
    json_output: bool,
) -> None:
    """Have Exotel call NUMBER and connect whoever answers to the daemon.

    The daemon needs the EXOTEL_ settings of an account. It asks once: when no answer comes, the call
    may have been placed all the same. A call that was taken is not answered yet; what becomes of it is
    told on the events channel.
    """
    place = parse_place(url, admin_token is not None)
    wanted = {"to": number, "tenant_id": tenant, "custom": custom}
    body = {name: value for name, value in wanted.items() if value is not None}
    status, answer = _ask(place, json.dumps(body).encode(), admin_token)
    if status != 202:
        raise _refused(status, answer)
    placed = {name: printable(str(answer.get(name, ""))) for name in ("call_id", "status")}
    console = Console(json_output=json_output)
    console.document(placed)
    console.pairs({"call id": placed["call_id"], "status": placed["status"]})


def _ask(place: DaemonPlace, body: bytes, token: str | None) -> tuple[int, dict[str, Any]]:
    """One request, no redirects. Raises: ``ConnectionFailed``, ``CommandFailed``."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection = (
        http.client.HTTPSConnection(
            place.host, place.port, timeout=TIMEOUT_S, context=ssl.create_default_context()
        )
        if place.secure
        else http.client.HTTPConnection(place.host, place.port, timeout=TIMEOUT_S)
    )
    try:
        _connect(connection)
        connection.request("POST", place.prefix + PATH, body, headers)
        answer = connection.getresponse()
        return answer.status, _document(answer.read(_ANSWER_MAX_BYTES))
    except ValueError as problem:
        # http.client's word for a line break or the like in a header.
        raise UsageFailed("the admin token holds a character that no header may hold") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise CommandFailed(
            "the daemon did not answer", hint="the call may have been placed: ask again with care"
        ) from problem
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


def _refused(status: int, answer: dict[str, Any]) -> CommandFailed:
    code, message = (printable(str(answer.get(name, "")))[:200] for name in ("code", "message"))
    said = f"{message} ({code})" if code else f"HTTP {status}"
    hints = {
        401: "the public site takes ADMIN_TOKEN; the admin site asks for none",
        502: "the call may have been placed all the same" if code == "upstream_failed" else None,
        503: "ask again later",
    }
    return CommandFailed(f"no call was placed: {said}", hint=hints.get(status))
