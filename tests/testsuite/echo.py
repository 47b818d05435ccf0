"""A server that echoes, made of the daemon's own parts, for the fuzzing client; never in the daemon.

The site, the channel, the upgrade and the protocol are those of production. Two things differ:
nobody needs a token (the fuzzing client has none) and the limits are above what its section 9
sends (16 MiB in one message), rates included. Prints the port it listens on, then serves until
it is ended.
"""

from __future__ import annotations

from typing import Any, Final, cast

from voiceingest.reactor import install_or_exit

install_or_exit()

from twisted.internet import reactor  # noqa: E402
from twisted.internet.defer import succeed  # noqa: E402
from twisted.web.resource import Resource  # noqa: E402

from voiceingest.config import Settings  # noqa: E402
from voiceingest.deadlines import Deadlines  # noqa: E402
from voiceingest.errors import VoiceIngestError  # noqa: E402
from voiceingest.gate import Gate  # noqa: E402
from voiceingest.http.site import GuardedSite  # noqa: E402
from voiceingest.http.upgrade import UpgradeResource  # noqa: E402
from voiceingest.interfaces import Admission, Claims, Handshake  # noqa: E402
from voiceingest.metrics import Metrics  # noqa: E402
from voiceingest.websocket import HardenedFactory, HardenedProtocol, SocketRules  # noqa: E402

PATH: Final = "/echo"
MESSAGE_MAX_BYTES: Final = 32 * 1024 * 1024
ANYBODY: Final = Claims("anybody", None, None, float("inf"))


class Echo:
    """One connection: every message goes back as it came."""

    transport_name = "echo"

    def __init__(self, socket: HardenedProtocol) -> None:
        self.text = socket.send_text
        self.binary = socket.send_binary

    def opened(self) -> None:
        """Nothing is said first."""

    def refused(self, error: VoiceIngestError) -> None:
        """The close code says it all."""

    def lost(self, code: int) -> None:
        """Nothing is left to do."""


class EchoTransport:
    """The dialect of the echo."""

    name = "echo"
    path = PATH

    def refuse_new(self) -> bool:
        """There is always room."""
        return False

    def session(self, socket: HardenedProtocol, claims: Claims, handshake: Handshake) -> Echo:
        """The session of an accepted connection."""
        return Echo(socket)


class Anybody:
    """Asks for no credential."""

    def admit(self, handshake: Handshake) -> Admission:
        """Anybody may."""
        return Admission(succeed(ANYBODY))


def serve(clock: Any) -> int:
    """Listen on a free port of the loopback and return it."""
    settings, metrics = Settings(), Metrics()
    rules = SocketRules(max_message_bytes=MESSAGE_MAX_BYTES, realtime_factor=0.0)
    sockets = HardenedFactory(rules, clock, Deadlines(clock), metrics)
    upgrade = UpgradeResource(EchoTransport(), sockets, Anybody(), settings, metrics)
    root = Resource()
    root.putChild(PATH.lstrip("/").encode(), upgrade)
    site = GuardedSite(root, clock, metrics, Gate(0, 0), settings.handshake_timeout_s)
    return cast(int, clock.listenTCP(0, site, interface="127.0.0.1").getHost().port)


if __name__ == "__main__":
    print(serve(reactor), flush=True)  # noqa: T201
    reactor.run()  # type: ignore[attr-defined]
