"""Where hardened connections come from, with every option of Autobahn decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory

from ..deadlines import Deadlines
from ..interfaces import IClock
from ..metrics import Metrics
from .protocol import HardenedProtocol
from .quiet import with_options
from .session import ISocketSession, SocketRules


class HardenedFactory(WebSocketServerFactory):
    """Makes connections. ``build`` is the only way in: there is no listening without the site."""

    def __init__(self, rules: SocketRules, reactor: Any, deadlines: Deadlines, metrics: Metrics) -> None:
        super().__init__(reactor=reactor, server="")
        self._rules = rules
        self._clock: IClock = reactor
        self._deadlines = deadlines
        self._metrics = metrics
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            maxFramePayloadSize=rules.max_message_bytes,
            maxMessagePayloadSize=rules.max_message_bytes,
            autoFragmentSize=0,
            failByDrop=False,
            echoCloseCodeReason=True,
            openHandshakeTimeout=0,  # the HTTP channel has the absolute one
            closeHandshakeTimeout=0,  # the protocol has its own, on our clock
            tcpNoDelay=True,
            autoPingInterval=0,  # the protocol pings by itself: any byte counts as an answer
            allowedOrigins=[],  # the resource has checked the origin and does not hand it on
            allowNullOrigin=False,
            perMessageCompressionAccept=lambda offers: None,
            trustXForwardedFor=0,
            serveFlashSocketPolicy=False,
        )
        self._connection = with_options(HardenedProtocol, self)

    def build(
        self,
        address: str,
        request_id: str,
        subprotocol: str | None,
        session_for: Callable[[HardenedProtocol], ISocketSession],
    ) -> HardenedProtocol:
        """A connection for one accepted request."""
        protocol = self._connection(self._rules, self._clock, self._deadlines, self._metrics)
        protocol.factory = self
        protocol.address = address
        protocol.request_id = request_id
        protocol.subprotocol = subprotocol
        protocol.session = session_for(protocol)
        return protocol
