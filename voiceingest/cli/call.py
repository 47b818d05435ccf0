"""``voiceingest call``: ask a running daemon to have somebody called."""

from __future__ import annotations

from typing import Any, Final

import click

from .console import Console, printable
from .failures import CommandFailed, Exit
from .operator import ask_daemon, parse_place, place_options
from .options import epilog, json_option

PATH: Final = "/call"

# Longer than the daemon itself waits for Exotel (exotel_api_timeout_s is 60 s at most).
TIMEOUT_S: Final = 75.0


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
@place_options
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
    status, answer = ask_daemon(
        place,
        "POST",
        PATH,
        body,
        admin_token,
        timeout_s=TIMEOUT_S,
        lost_hint="the call may have been placed: ask again with care",
    )
    if status != 202:
        raise _refused(status, answer)
    placed = {name: printable(str(answer.get(name, ""))) for name in ("call_id", "status")}
    console = Console(json_output=json_output)
    console.document(placed)
    console.pairs({"call id": placed["call_id"], "status": placed["status"]})


def _refused(status: int, answer: dict[str, Any]) -> CommandFailed:
    code, message = (printable(str(answer.get(name, "")))[:200] for name in ("code", "message"))
    said = f"{message} ({code})" if code else f"HTTP {status}"
    hints = {
        401: "the public site takes ADMIN_TOKEN; the admin site asks for none",
        502: "the call may have been placed all the same" if code == "upstream_failed" else None,
        503: "ask again later",
    }
    return CommandFailed(f"no call was placed: {said}", hint=hints.get(status))
