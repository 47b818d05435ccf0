"""``voiceingest sessions``: list sessions, look at one, end some."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from ..console import Console
from ..failures import Exit
from ..operator import place_options
from ..options import epilog, json_option
from .asking import Daemon, cell, checked_id, moment

PATH: Final = "/api/admin/sessions"
STATES: Final = ("pending", "active", "completed", "error", "expired")

_EXITS: Final = (Exit.OK, Exit.REFUSED, Exit.USAGE, Exit.NO_CONNECTION)


@click.group()
def sessions() -> None:
    """Sessions of a running daemon: list them, look at one, end some."""


@sessions.command(
    "ls",
    epilog=epilog(
        """voiceingest sessions ls
voiceingest sessions ls --status active --limit 500
voiceingest sessions ls --json | jq -r .sessionId""",
        *_EXITS,
    ),
)
@click.option("--status", type=click.Choice(STATES), help="Only those that stand there.")
@click.option("--user", help="Only those of this user.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At the most.")
@place_options
@json_option
def list_sessions(
    status: str | None, user: str | None, limit: int, url: str, admin_token: str | None, json_output: bool
) -> None:
    """List sessions of all users, newest first."""
    console = Console(json_output=json_output)
    wanted = {"status": status, "userId": user}
    rows = []
    for row in Daemon(url, admin_token).rows(PATH, "sessions", limit, wanted):
        console.document(row)
        rows.append(_row(row))
    if not json_output and rows:
        console.table(("session", "status", "by", "user", "created (UTC)", "seconds", "frames"), rows)
    console.note(_counted(len(rows)), style="dim")


@sessions.command("show", epilog=epilog("voiceingest sessions show ses_4nY1vX0aQmKc2sT7uLw9Bg", *_EXITS))
@click.argument("session_id")
@place_options
@json_option
def show(session_id: str, url: str, admin_token: str | None, json_output: bool) -> None:
    """Show everything that is known of SESSION_ID."""
    path = f"{PATH}/{checked_id(session_id, 'session')}"
    found = Daemon(url, admin_token).ask("GET", path)
    console = Console(json_output=json_output)
    console.document(found)
    if not json_output:
        console.pairs({_words(name): _value(value) for name, value in found.items()})


@sessions.command("end", epilog=epilog("voiceingest sessions end ses_4nY1vX0aQmKc2sT7uLw9Bg", *_EXITS))
@click.argument("session_ids", nargs=-1, required=True)
@place_options
@json_option
def end(session_ids: tuple[str, ...], url: str, admin_token: str | None, json_output: bool) -> None:
    """End SESSION_IDS and their streams: what has come is published first."""
    paths = {one: f"{PATH}/{checked_id(one, 'session')}" for one in session_ids}
    console, daemon = Console(json_output=json_output), Daemon(url, admin_token)
    for session_id, path in paths.items():
        daemon.ask("DELETE", path)
        console.document({"sessionId": session_id, "ended": True})
        if not json_output:
            console.say(f"ended {session_id}", style="green")


def _row(row: dict[str, Any]) -> list[str]:
    return [
        cell(row.get("sessionId")),
        cell(row.get("status")),
        cell(row.get("transport")),
        cell(row.get("userId")),
        moment(row.get("createdAt")),
        cell(row.get("durationS")),
        cell(row.get("frames")),
    ]


def _words(name: str) -> str:
    """``expiresAt`` as ``expires at``."""
    if name == "durationS":
        return "seconds"
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in cell(name))


def _value(value: Any) -> str:
    if isinstance(value, dict | list):
        return cell(json.dumps(value, ensure_ascii=False)) if value else "-"
    return cell(value)


def _counted(count: int) -> str:
    return "no sessions" if count == 0 else f"{count} session{'s' if count > 1 else ''}"
