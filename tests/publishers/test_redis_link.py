"""One connection to Redis, over a transport made of strings."""

from __future__ import annotations

from typing import Any

import txredisapi
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from twisted.python.failure import Failure

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.redis_link import BusRefusal, Login, RedisLink, reason_of
from voiceingest.wire.resp import Number, Run, encode_command

SECRET = "s3cr3t-canary"


class NotingOwner:
    """Notes what a link says."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def link_replied(self, link: RedisLink, runs: list[Run]) -> None:
        self.heard.append(runs)

    def link_broken(self, link: RedisLink, reason: str) -> None:
        self.heard.append(reason)

    def link_writable(self, link: RedisLink, writable: bool) -> None:
        self.heard.append(writable)


class LinkTests(SynchronousTestCase):
    tells_integers = False

    def setUp(self) -> None:
        self.owner = NotingOwner()
        self.clock = Clock()
        greeter = txredisapi.RedisProtocol(charset=None, convertNumbers=False)
        self.link = RedisLink(greeter, txredisapi.RedisError, self.owner, self.clock, self.tells_integers)
        self.transport = StringTransportWithDisconnection()
        self.transport.protocol = self.link
        self.link.makeConnection(self.transport)

    def greet(self, **login: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(self.link.greet(Login(**login)))

    def asked(self) -> bytes:
        written = self.transport.value()
        self.transport.clear()
        return written

    def greeted(self) -> None:
        greeting = self.greet()
        self.link.dataReceived(b"+PONG\r\n")
        self.successResultOf(greeting)
        self.transport.clear()
        self.link.begin()

    def test_who_has_a_name_gives_it_and_nothing_is_sent_ahead(self) -> None:
        greeting = self.greet(username="bé", password=SECRET, db=3)
        self.assertEqual(self.asked(), encode_command(b"AUTH", "bé".encode(), SECRET.encode()))
        self.link.dataReceived(b"+OK\r\n")
        self.assertEqual(self.asked(), encode_command(b"SELECT", b"3"))
        self.link.dataReceived(b"+O")
        self.link.dataReceived(b"K\r\n")
        self.assertEqual(self.asked(), encode_command(b"PING"))
        self.assertNoResult(greeting)
        self.link.dataReceived(b"+PONG\r\n")
        self.successResultOf(greeting)

    def test_a_password_alone_and_an_empty_one(self) -> None:
        self.greet(password=SECRET)
        self.assertEqual(self.asked(), encode_command(b"AUTH", SECRET.encode()))
        self.greet(password="", username="default")
        self.assertEqual(self.asked(), encode_command(b"AUTH", b"default", b""))

    def test_how_a_refusal_is_called(self) -> None:
        with_login = {"password": SECRET, "username": "bridge", "db": 2}
        cases = [
            ({}, [b"-NOAUTH Authentication required.\r\n"], "auth"),
            ({}, [b"-LOADING Redis is loading\r\n"], "loading"),
            ({}, [b"-ERR unknown command 'PING'\r\n"], "protocol"),
            ({}, [b"-ERR max number of clients reached\r\n"], "maxclients"),
            ({}, [b"-DENIED Redis is running in protected mode\r\n"], "denied"),
            (with_login, [b"-WRONGPASS invalid\r\n"], "auth"),
            (with_login, [b"-ERR AUTH called without any password configured\r\n"], "auth"),
            (with_login, [b"+OK\r\n", b"-ERR DB index is out of range\r\n"], "select"),
            (with_login, [b"+OK\r\n", b"-NOPERM no\r\n"], "select"),
            (with_login, [b"-LOADING Redis is loading\r\n"], "loading"),
        ]
        for url, answers, reason in cases:
            self.setUp()
            greeting = self.greet(**url)
            for answer in answers:
                self.link.dataReceived(answer)
            refusal = self.failureResultOf(greeting, BusRefusal).value
            self.assertEqual(refusal.reason, reason)
            self.assertNotIn(SECRET, "".join(Failure(refusal).getTraceback()))

    def test_a_user_who_may_not_ping_is_let_in(self) -> None:
        greeting = self.greet()
        self.link.dataReceived(b"-NOPERM User bridge has no permissions to run 'ping'\r\n")
        self.successResultOf(greeting)

    def test_once_introduced_replies_are_counted(self) -> None:
        self.greeted()
        self.link.dataReceived(b":0\r\n:1\r\n:")
        self.link.dataReceived(b"2\r\n-NOPERM x\r\n")
        self.link.dataReceived(b"+")
        self.assertEqual(self.owner.heard, [[2], [1, "NOPERM"]])

    def test_an_integer_may_say_something(self) -> None:
        self.tells_integers = True
        self.setUp()
        self.greeted()
        self.link.dataReceived(b"$3\r\n1-0\r\n:2\r\n")
        self.assertEqual(self.owner.heard, [[1, Number(2)]])

    def test_who_does_not_lead_is_told_by_its_role(self) -> None:
        for answer, reason in (
            (b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n", None),
            (b"*5\r\n$5\r\nslave\r\n$1\r\na\r\n:1\r\n$9\r\nconnected\r\n:0\r\n", "replica"),
            (b"*2\r\n$8\r\nsentinel\r\n*0\r\n", "replica"),
            (b":1\r\n", "replica"),
            (b"-NOPERM no\r\n", "role"),
            (b"-LOADING wait\r\n", "loading"),
        ):
            self.setUp()
            asked = Deferred.fromCoroutine(self.link.must_lead())
            self.assertEqual(self.asked(), encode_command(b"ROLE"))
            self.link.dataReceived(answer)
            self.assert_ended(asked, reason)

    def test_replicas_are_counted_before_anything_is_written(self) -> None:
        for answer, reason in (
            (b":2\r\n", None),
            (b":3\r\n", None),
            (b":1\r\n", "unreplicated"),
            (b"+OK\r\n", "unreplicated"),
            (b"-NOPERM no\r\n", "wait"),
            (b"-ERR WAIT cannot be used with replica instances.\r\n", "wait"),
        ):
            self.setUp()
            asked = Deferred.fromCoroutine(self.link.must_replicate(2))
            self.assertEqual(self.asked(), encode_command(b"WAIT", b"2", b"500"))
            self.link.dataReceived(answer)
            self.assert_ended(asked, reason)

    def assert_ended(self, asked: Deferred[None], reason: str | None) -> None:
        if reason is None:
            self.successResultOf(asked)
        else:
            self.assertEqual(self.failureResultOf(asked, BusRefusal).value.reason, reason)

    def test_a_question_to_a_link_that_is_gone_is_answered_too(self) -> None:
        self.link.connectionLost(Failure(error.ConnectionLost()))
        asked = self.link.ask("PING", otherwise="protocol")
        self.assertEqual(self.failureResultOf(asked, BusRefusal).value.reason, "lost")

    def test_how_to_be_let_in_is_never_shown(self) -> None:
        self.assertNotIn(SECRET, repr(Login(SECRET, SECRET, 3)))
        self.assertIn("3", repr(Login(SECRET, SECRET, 3)))

    def test_garbage_ends_it_as_protocol_before_and_after(self) -> None:
        greeting = self.greet()
        self.link.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(self.failureResultOf(greeting, BusRefusal).value.reason, "protocol")
        self.assertEqual(self.owner.heard, ["protocol"])
        self.successResultOf(self.link.gone)
        self.setUp()
        self.greeted()
        self.link.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(self.owner.heard, ["protocol"])
        self.assertFalse(self.transport.connected)

    def test_what_the_introduction_waits_for_fails_with_the_reason_of_the_loss(self) -> None:
        for value, reason in ((error.ConnectionLost(), "lost"), (SSL.Error([("", "", "verify")]), "tls")):
            self.setUp()
            greeting = self.greet()
            self.link.connectionLost(Failure(value))
            self.assertEqual(self.failureResultOf(greeting, BusRefusal).value.reason, reason)
            self.assertEqual(self.owner.heard, [reason])

    def test_it_is_held_back_by_its_transport(self) -> None:
        self.greeted()
        self.assertIs(self.transport.producer, self.link)
        self.assertTrue(self.transport.streaming)
        self.link.pauseProducing()
        self.link.resumeProducing()
        self.link.stopProducing()
        self.assertEqual(self.owner.heard, [False, True])

    def test_a_close_that_is_not_finished_is_cut(self) -> None:
        transport = StringTransport()
        self.link.makeConnection(transport)
        self.link.begin()
        self.link.close()
        self.assertIsNone(transport.producer)
        self.assertTrue(transport.disconnecting)
        self.clock.advance(0.9)
        self.assertFalse(transport.disconnected)
        self.clock.advance(0.2)
        self.assertTrue(transport.disconnected)

    def test_a_close_that_is_finished_leaves_no_timer(self) -> None:
        self.greeted()
        self.link.close()
        self.successResultOf(self.link.gone)
        self.clock.advance(5.0)
        self.link.close()
        self.link.abort()
        self.assertEqual(self.owner.heard, ["lost"])


class ReasonTests(SynchronousTestCase):
    def test_every_known_failure_has_its_word(self) -> None:
        cases = [
            (BusRefusal("auth"), "auth"),
            (error.ConnectionRefusedError(), "refused"),
            (FileNotFoundError(), "refused"),
            (error.TCPTimedOutError(), "timeout"),
            (error.TimeoutError(), "timeout"),
            (DeferredTimeout(), "timeout"),
            (TimeoutError(), "timeout"),
            (error.DNSLookupError(), "dns"),
            (error.ConnectionLost(), "lost"),
            (error.ConnectionDone(), "lost"),
            (error.ConnectionAborted(), "lost"),
            (SSL.Error(), "tls"),
            (VerificationError([]), "tls"),
            (ZeroDivisionError(), None),
            (None, None),
        ]
        for value, reason in cases:
            self.assertEqual(reason_of(value), reason, repr(value))
