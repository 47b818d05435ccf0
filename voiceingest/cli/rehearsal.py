"""What only building the daemon finds: keys, certificates, addresses of the bus, endpoints.

Everything is built and nothing is started: no socket is opened, no timer runs, no signal is taken.
Whether a port is free and whether the bus answers is therefore not known.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import OperatorError, SettingsError

if TYPE_CHECKING:
    from ..config import Settings
    from ..listeners import Place

# As ``Place.plain`` has it: ``tls+`` is off already, a PROXY header may still come before.
_INHERITED: Final = re.compile(r"(haproxy:)*systemd:")


def settings_path(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The settings file the daemon would read: the one that is ``named``, or the variable's."""
    # Only here, because it installs the reactor and imports the whole daemon.
    from ..tap import CONFIG_VARIABLE

    chosen = named or environ.get(CONFIG_VARIABLE)
    return Path(chosen).absolute() if chosen else None


def rehearse(settings: Settings) -> tuple[str, ...]:
    """Build the daemon and throw it away; the lines it would refuse to start with, if any.

    Raises: ``WrongReactor`` when this process has another one.
    """
    from ..reactor import install

    install()
    from twisted.internet import reactor

    try:
        _build(settings, reactor)
    except SettingsError as wrong:
        return wrong.problems
    except OperatorError as wrong:
        return (wrong.message,)
    return ()


def _build(settings: Settings, reactor: Any) -> None:
    """Raises: ``OperatorError`` for what the settings name and cannot be used."""
    from ..service import make_service
    from ..tls import Certificates

    inherited = {place.description: place for place in _inherited(settings)}
    changed = {
        "listen": tuple(text for text in settings.listen if text not in inherited),
        "admin": "" if settings.admin in inherited else settings.admin,
    }
    make_service(
        settings.model_copy(update=changed),
        reactor,
        log_stream=io.StringIO(),
        # The sockets and the watchdog of systemd are the daemon's.
        environ={},
    )
    certificates = Certificates()
    for place in inherited.values():
        if place.pair is not None:
            certificates.context_for(place.pair)


def _inherited(settings: Settings) -> Iterator[Place]:
    """The places whose sockets systemd opens: without it no endpoint can be made of them."""
    from ..listeners import own_pair, take_apart

    for description in filter(None, (*settings.listen, settings.admin)):
        try:
            place = take_apart(description, own_pair(settings))
        except ValueError:
            # Left in: the daemon's own line about it comes when it is built.
            continue
        if _INHERITED.match(place.plain):
            yield place
