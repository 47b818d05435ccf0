"""What the link relies on in nats-py, and the words for what goes wrong.

A link with a server at its other end is in tests/integration/test_nats.py.
"""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client
from nats.aio.transport import Transport
from nats.js import errors as js_errors
from nats.protocol.parser import Parser
from twisted.internet.defer import TimeoutError as DeferredTimeout

from tests.support.case import SynchronousTestCase, TestCase
from voiceingest.aio import as_deferred
from voiceingest.publishers.nats_link import Access, BusRefusal, _Client, _credentials, reason_of
from voiceingest.publishers.nats_url import nats_tls, parse_nats_url
from voiceingest.publishers.nats_wire import NatsWire, NotEncrypted


class ReasonTests(SynchronousTestCase):
    def test_words(self) -> None:
        for error, word in (
            (BusRefusal("noleader"), "noleader"),
            (ssl.SSLCertVerificationError(1, "x"), "tls"),
            (NotEncrypted(), "tls"),
            (socket.gaierror(-2, "x"), "dns"),
            (TimeoutError(), "timeout"),
            (DeferredTimeout(), "timeout"),
            (nats_errors.TimeoutError(), "timeout"),
            (ConnectionResetError(), "lost"),
            (nats_errors.UnexpectedEOF(), "lost"),
            (nats_errors.ConnectionClosedError(), "lost"),
            (ConnectionRefusedError(), "refused"),
            (OSError(113, "No route to host"), "refused"),
            (nats_errors.AuthorizationError(), "auth"),
            (nats_errors.Error("nats: 'Authorization Violation'"), "auth"),
            (nats_errors.Error("nats: user authentication expired"), "auth"),
            (nats_errors.Error('nats: permissions violation for publish to "x"'), "noperm"),
            (nats_errors.Error("nats: 'Maximum Control Line Exceeded'"), "control_line"),
            (nats_errors.Error("nats: secure connection - tls required"), "tls"),
            (nats_errors.Error("nats: empty response from server when expecting INFO message"), "protocol"),
            (nats_errors.ProtocolError(), "protocol"),
            # What JetStream says is for nats_stream to read.
            (js_errors.APIError(code=500), None),
            (ValueError("x"), None),
            (None, None),
        ):
            self.assertEqual(reason_of(error), word, repr(error))


class AccessTests(SynchronousTestCase):
    def test_an_attempt_is_shared_between_being_let_in_and_waiting_for_a_leader(self) -> None:
        for url, let_in_s, leader_s in (("nats://a", 6.0, 4.0), ("nats://a,b,c", 2.0, 4.0)):
            access = Access(parse_nats_url(url), nats_tls(None), None, 6.0)
            self.assertEqual((access.let_in_s, access.leader_s), (let_in_s, leader_s))


class Wire(NatsWire):
    """Nobody at the other end."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, payload: bytes) -> None:
        self.written.append(payload)


class ReliedOnTests(TestCase):
    """nats-py does not document these; where one of them changes, the link has to be looked at."""

    async def test_answers_are_taken_from_the_parser(self) -> None:
        answers: list[Any] = []
        client = _Client(Wire(), lambda *answer: answers.append(answer))
        client.inbox = b"_INBOX.abc."
        one, other = b'{"stream":"S", "seq":1}', b"NATS/1.0 503\r\n\r\n"
        read = b"MSG _INBOX.abc.17 1 %d\r\n%b\r\nHMSG _INBOX.abc.18 1 %d %d\r\n%b\r\n" % (
            *(len(one), one, len(other), len(other), other),
        )
        # Any cut of the bytes, and a message that is none of ours, in between.
        await as_deferred(client._ps.parse(read[:20]))
        await as_deferred(
            client._ps.parse(read[20:] + b"MSG _INBOX.abc.x 1 1\r\nx\r\nMSG other 9 1\r\nx\r\n")
        )
        self.assertEqual(answers, [(17, one, None), (18, b"", other)])

    def test_a_transport_that_is_set_is_used(self) -> None:
        self.assertIn("if not self._transport:", inspect.getsource(Client._connect_to_server))
        self.assertEqual(
            sorted(Transport.__abstractmethods__),
            [
                *("__bool__", "at_eof", "close", "connect", "connect_tls", "drain", "read", "readline"),
                *("wait_closed", "write", "writelines"),
            ],
        )
        parameters = [*inspect.signature(Client._process_msg).parameters]
        self.assertEqual(parameters, ["self", "sid", "subject", "reply", "data", "headers"])
        self.assertIn(
            "await self.nc._process_msg(sid, subject, reply, payload, hdr)", inspect.getsource(Parser)
        )

    def test_an_error_while_connecting_ends_the_attempt(self) -> None:
        source = inspect.getsource(Client._select_next_server)
        self.assertIn("await self._error_cb(e)", source)


class CredentialsTests(SynchronousTestCase):
    def test_nats_py_asks_us_to_sign(self) -> None:
        """A name of its own that is not documented."""
        source = inspect.getsource(Client.connect)
        self.assertIn("self._setup_nkeys_connect()", source)
        source = inspect.getsource(Client._connect_command)
        self.assertIn('sig = self._signature_cb(self._server_info["nonce"])', source)
        self.assertIn("jwt = self._user_jwt_cb()", source)

    def test_a_file_that_is_gone_is_a_reason(self) -> None:
        self.assertIsNone(_credentials(None))
        self.assertEqual(
            self.assertRaises(BusRefusal, _credentials, self.mktemp_path()).reason, "credentials"
        )
