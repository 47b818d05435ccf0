"""``voiceingest check-config`` and ``default-config``: the settings, before the daemon runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from ..config import Settings
from ..errors import SettingsError
from .console import Console, printable
from .failures import Exit
from .options import epilog, json_option
from .rehearsal import rehearse, settings_path


def without_credentials(url: str) -> str:
    """A bus URL as it may be shown: no user, no password, no query."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{port}{parts.path}"


def summary(settings: Settings) -> dict[str, str]:
    """What the daemon would do with ``settings``, without a secret in it."""
    tls = settings.ssl_key_path is not None
    listen = ", ".join(settings.listen) or f"{'ssl' if tls else 'tcp'}:{settings.port}"
    return {
        "endpoints": listen,
        "tls certificate": str(settings.ssl_cert_path) if tls else "none",
        "admin": settings.admin or "none",
        "bus": without_credentials(settings.bus_url),
        "channels": f"{settings.redis_channel}, {settings.redis_events_channel}",
        "token key": _key_source(settings),
        "algorithms": ", ".join(settings.jwt_algorithms),
    }


def _key_source(settings: Settings) -> str:
    if settings.jwt_jwks_url:
        return without_credentials(settings.jwt_jwks_url)
    if settings.jwt_public_key_file:
        return str(settings.jwt_public_key_file)
    return "jwt_public_key" if settings.jwt_public_key else "none: every token is refused"


@click.command(
    "check-config",
    epilog=epilog(
        """voiceingest check-config /etc/voiceingest.toml
JWT_PUBLIC_KEY_FILE=public.pem PORT=8443 voiceingest check-config""",
        Exit.OK,
        Exit.REFUSED,
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def check_config(file: Path | None, json_output: bool) -> None:
    """Check the environment and a settings file as the daemon would, without starting it.

    Without FILE the one that the variable VOICEINGEST_CONFIG names, where it is set.

    Every problem there is, one line each, naming the key. When the settings themselves are right, the
    daemon is built from them and not started: keys, certificates and endpoints are read, and what it
    would refuse to start with is said in its words. No port is opened and no server asked; whether
    systemd passes the sockets of `systemd:` endpoints is not known.
    """
    console = Console(json_output=json_output)
    try:
        settings = _read(file)
    except SettingsError as wrong:
        problems = [printable(line) for line in wrong.problems]
        console.document({"ok": False, "problems": problems})
        for line in problems:
            console.say(line, style="red")
        sys.exit(Exit.REFUSED)
    facts = summary(settings)
    console.document({"ok": True, "problems": [], "summary": facts})
    console.say("ok", style="bold green")
    console.pairs(facts)


def _read(file: Path | None) -> Settings:
    """The settings in force. Raises: ``SettingsError`` with all that keeps the daemon from starting."""
    from ..config.load import load_settings

    settings = load_settings({}, os.environ, settings_path(file, os.environ))
    problems = rehearse(settings)
    if problems:
        raise SettingsError(problems)
    return settings


@click.command(
    "default-config",
    epilog=epilog(
        """voiceingest default-config > voiceingest.toml
voiceingest default-config --json | jq .drain_deadline_s""",
        Exit.OK,
    ),
)
@json_option
def default_config(json_output: bool) -> None:
    """Print a settings file with every setting, its default and what it does.

    With --json one document of the defaults by name; a secret is null.
    """
    from ..config import render

    console = Console(json_output=json_output)
    if json_output:
        console.document(defaults())
    else:
        console.data(render.toml().rstrip())


def defaults() -> dict[str, Any]:
    """Every setting with its default as a plain JSON value; secrets are ``None``."""
    from ..config import render

    values = render.dump(Settings())
    return {name: None if render.is_secret(name) else value for name, value in values.items()}
