"""``voiceingest devices``: list devices, revoke one for good."""

from __future__ import annotations

import sys
from typing import Final

import click

from ..console import Console
from ..failures import CommandFailed, Exit, UsageFailed
from ..operator import place_options
from ..options import epilog, json_option
from .asking import Daemon, cell, checked_id, moment

PATH: Final = "/api/admin/devices"

_EXITS: Final = (Exit.OK, Exit.REFUSED, Exit.USAGE, Exit.NO_CONNECTION)


@click.group()
def devices() -> None:
    """Devices of a running daemon: list them, revoke one for good."""


@devices.command("ls", epilog=epilog("voiceingest devices ls --limit 500", *_EXITS))
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At the most.")
@place_options
@json_option
def list_devices(limit: int, url: str, admin_token: str | None, json_output: bool) -> None:
    """List devices, by id."""
    console = Console(json_output=json_output)
    rows = []
    for row in Daemon(url, admin_token).rows(PATH, "devices", limit, {}):
        console.document(row)
        times = [moment(row.get(name)) for name in ("createdAt", "lastSeenAt", "revokedAt")]
        rows.append([cell(row.get("deviceId")), cell(row.get("userId")), *times])
    if not json_output and rows:
        console.table(("device", "user", "registered (UTC)", "last seen", "revoked"), rows)
    count = len(rows)
    console.note("no devices" if count == 0 else f"{count} device{'s' if count > 1 else ''}", style="dim")


@devices.command(
    "revoke",
    epilog=epilog(
        """voiceingest devices revoke dev_9sWk2LqTz0Yb4Mx7Rv1Nc6
voiceingest devices revoke dev_9sWk2LqTz0Yb4Mx7Rv1Nc6 --yes""",
        *_EXITS,
    ),
)
@click.argument("device_id")
@click.option("--yes", is_flag=True, help="Do not ask whether that is meant.")
@place_options
@json_option
def revoke(device_id: str, yes: bool, url: str, admin_token: str | None, json_output: bool) -> None:
    """Revoke DEVICE_ID for good: its tokens are void, its streams end, it cannot register again."""
    path = f"{PATH}/{checked_id(device_id, 'device')}/revoke"
    daemon = Daemon(url, admin_token)
    if not yes:
        if not _is_asked():
            raise UsageFailed("a device is revoked for good", hint="say --yes if that is meant")
        if not click.confirm(f"Revoke {device_id} for good?", err=True):
            raise CommandFailed("nothing was revoked")
    daemon.ask("POST", path)
    console = Console(json_output=json_output)
    console.document({"deviceId": device_id, "revoked": True})
    if not json_output:
        console.say(f"revoked {device_id}", style="green")


def _is_asked() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty()
