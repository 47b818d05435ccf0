"""Every option of Autobahn is decided: what is open by default is shut."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.websocket.test_protocol import Session
from voiceingest.deadlines import Deadlines
from voiceingest.metrics import Metrics
from voiceingest.websocket import HardenedFactory, SocketRules


class Options(SynchronousTestCase):
    """The factory as production makes it."""

    def setUp(self) -> None:
        clock = Clock()
        rules = SocketRules(max_message_bytes=4096)
        self.factory = HardenedFactory(rules, clock, Deadlines(clock), Metrics())

    def test_what_stock_autobahn_leaves_open(self) -> None:
        """Findings 6, 8, 13, 14: sizes, resets, origins, pings; each differs from the default."""
        decided = {
            "maxFramePayloadSize": 4096,
            "maxMessagePayloadSize": 4096,
            "failByDrop": False,
            "webStatus": False,
            "versions": [13],
            "allowedOrigins": [],
            "allowNullOrigin": False,
            "requireMaskedClientFrames": True,
            "utf8validateIncoming": True,
            "server": "",
        }
        self.assertEqual({name: getattr(self.factory, name) for name in decided}, decided)

    def test_no_timer_of_autobahn(self) -> None:
        """They would run on the global reactor; ours are on the clock that was given."""
        for name in ("openHandshakeTimeout", "closeHandshakeTimeout", "autoPingInterval"):
            self.assertEqual(getattr(self.factory, name), 0, name)

    def test_compression_is_never_agreed_on(self) -> None:
        """Whatever is offered (OWASP: off; and audio does not shrink)."""
        self.assertIsNone(self.factory.perMessageCompressionAccept(["permessage-deflate"]))

    def test_a_connection_has_its_session(self) -> None:
        """Address, subprotocol and session are there before it is connected."""
        socket = self.factory.build("192.0.2.1", "id-1", "voice.v1", Session)
        self.assertIsInstance(socket.session, Session)
        self.assertIs(socket.session.socket, socket)
        self.assertEqual((socket.address, socket.subprotocol), ("192.0.2.1", "voice.v1"))
