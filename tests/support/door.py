"""The public site in memory, with its real keys, log and sessions: a connection from its accept to its loss.

What a handshake costs here is counted by ``tests/test_hot_line.py``.
"""

from __future__ import annotations

import io
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from voiceingest.auth.admission import BearerAdmission
from voiceingest.auth.authenticator import JwtAuthenticator
from voiceingest.auth.pinned import PinnedKeys
from voiceingest.auth.tickets import Tickets
from voiceingest.auth.tokens import Rules
from voiceingest.config import Settings
from voiceingest.gate import Gate
from voiceingest.http.resource import Routes
from voiceingest.http.site import GuardedSite
from voiceingest.http.upgrade import UpgradeResource
from voiceingest.logs import JsonLog
from voiceingest.transports.ingest_ws import IngestTransport

from .hot_line import WALL, HotLine, Socket
from .sockets import handshake
from .tokens import Issuer

_ADDRESS = IPv4Address("TCP", "192.0.2.1", 40000)


class _Caller(Socket):
    """The transport of one connection."""

    def getPeer(self) -> IPv4Address:
        """Where it is from."""
        return _ADDRESS


class Door:
    """Lets in whoever has a token of its issuer."""

    def __init__(self, line: HotLine, issuer: Issuer) -> None:
        def wall() -> float:
            return WALL

        metrics, clock = line.metrics, line.reactor
        keys = PinnedKeys({"RS256"}, issuer.public_pem)
        authenticator = JwtAuthenticator(keys, Rules(), wall, metrics)
        admission = BearerAdmission(authenticator, Tickets(30.0, clock, metrics), metrics)
        resource = UpgradeResource(
            IngestTransport(line.house), line.sockets, admission, Settings(), metrics
        )
        routes = Routes(metrics, {"/v1/ingest": resource})
        self._site = GuardedSite(routes, clock, metrics, Gate(100, 100), 10.0)
        self.said = io.StringIO()
        self._log = JsonLog(self.said, metrics, wall)
        self._request = handshake(
            Authorization=f"Bearer {issuer.token(tenant_id='acme')}", User_Agent="a client", Accept="*/*"
        )

    def shake(self, count: int) -> None:
        """So many connections: each is made, asks in one piece, is answered, and is lost."""
        globalLogPublisher.addObserver(self._log)
        try:
            for _ in range(count):
                caller = _Caller()
                channel = cast("Any", self._site.buildProtocol(_ADDRESS))
                channel.makeConnection(caller)
                channel.dataReceived(self._request)
                assert caller.written[-1].startswith(b"HTTP/1.1 101 "), caller.written
                channel.connectionLost(Failure(ConnectionDone()))
        finally:
            globalLogPublisher.removeObserver(self._log)
