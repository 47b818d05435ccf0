"""The life of the connection without a Redis: a reactor in memory, over its Unix socket endpoint.

What a real server says to it is in tests/integration/test_redis_pubsub.py.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from twisted.internet import error
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from tests.publishers.contract import NotingListener
from tests.publishers.fakes import FACTS, make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadCertificate, SettingsError
from voiceingest.metrics import Metrics
from voiceingest.publishers.redis_bus import PING_IDLE_S, STATE_ERRORS, RedisBus
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.publishers.retry import STEADY_S
from voiceingest.wire.resp import PING

SECRET = "s3cr3t-canary"


class FakeTransport(StringTransport):
    """Is gone only when the test says so, as a real one after ``abortConnection``."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True

    def lose(self, why: Exception | None = None) -> None:
        self.protocol.connectionLost(Failure(why or error.ConnectionLost()))


class BusCase(SynchronousTestCase):
    """A bus, a listener, and a server that says what the test says."""

    kind: type[RedisBus] = RedisPubSub

    def setUp(self) -> None:
        self.make()

    def make(self, url: str = "unix:///redis.sock", jitter: float = 1.0, **settings: Any) -> None:
        self.reactor = MemoryReactorClock()
        config = make_settings(redis_url=SecretStr(url), **settings)
        self.bus = self.kind(config, self.reactor, Metrics(), jitter=lambda: jitter)
        self.listener = NotingListener()
        self.bus.start(self.listener)
        self.prepared = self.bus.prepare(FACTS)

    def connect(self) -> FakeTransport:
        """The server accepts."""
        _, factory, _, _ = self.reactor.unixClients.pop()
        protocol = factory.buildProtocol(None)
        transport = FakeTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def refuse(self, why: Exception) -> None:
        """The server does not."""
        _, factory, _, _ = self.reactor.unixClients.pop()
        factory.clientConnectionFailed(None, Failure(why))

    def up(self) -> FakeTransport:
        """The server accepts and answers."""
        transport = self.connect()
        self.answer(transport, b"+PONG\r\n")
        transport.clear()
        return transport

    @staticmethod
    def answer(transport: FakeTransport, replies: bytes) -> None:
        transport.protocol.dataReceived(replies)

    def send(self, *seqs: int) -> int:
        return self.bus.send([(self.prepared, seq, 5, b"ab") for seq in seqs])


class BusTests(BusCase):
    # --- sending

    def test_nothing_can_be_sent_while_it_is_down(self) -> None:
        with self.assertRaises(RuntimeError):
            self.send(1)
        self.assertFalse(self.bus.writable)

    def test_replies_confirm_and_refuse_in_order(self) -> None:
        transport = self.up()
        self.send(1, 2, 3, 4)
        self.answer(transport, b":0\r\n:0\r\n-NOPERM no\r\n:")
        self.assertEqual((self.listener.confirmed, self.listener.heard), (2, ["up", ("refused", "noperm")]))
        self.answer(transport, b"0\r\n")
        self.assertEqual(self.listener.confirmed, 3)

    def test_an_error_of_the_server_itself_makes_the_connection_anew(self) -> None:
        self.assertGreater(len(STATE_ERRORS), 10)
        for prefix, reason in STATE_ERRORS.items():
            self.make()
            transport = self.up()
            self.send(1, 2, 3)
            self.answer(transport, b":0\r\n-%b for some reason\r\n:0\r\n" % prefix.encode())
            self.assertEqual(self.listener.confirmed, 1)
            self.assertEqual(self.listener.heard, ["up", ("down", reason)])
            self.assertTrue(transport.aborted)

    def test_back_pressure_of_the_transport(self) -> None:
        transport = self.up()
        self.assertTrue(self.bus.writable)
        transport.producer.pauseProducing()
        self.assertFalse(self.bus.writable)
        self.assertEqual(self.listener.heard, ["up"])
        transport.producer.resumeProducing()
        self.assertTrue(self.bus.writable)
        self.assertEqual(self.listener.heard, ["up", "writable"])

    # --- ends and beginnings

    def test_a_dropped_connection_says_nothing_more(self) -> None:
        transport = self.up()
        self.send(1, 2)
        self.bus.drop_connection("timeout")
        self.assertTrue(transport.aborted)
        self.answer(transport, b":0\r\n")
        transport.producer.resumeProducing()
        transport.lose()
        self.bus.drop_connection("timeout")
        self.assertEqual(self.listener.heard, ["up", ("down", "timeout")])
        self.assertEqual(self.listener.confirmed, 0)
        self.assertEqual(self.bus._dialer._open, set())

    def test_the_pause_between_attempts_doubles_up_to_its_limit(self) -> None:
        self.make(publish_retry_max_s=1.0)
        pauses = []
        for _ in range(7):
            self.refuse(error.ConnectionRefusedError())
            before = self.reactor.seconds()
            while not self.reactor.unixClients:
                self.reactor.advance(0.01)
            pauses.append(round(self.reactor.seconds() - before, 1))
        self.assertEqual(pauses, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
        self.assertEqual(self.listener.heard, [("down", "refused")] * 7)

    def test_jitter_takes_up_to_half_of_the_pause(self) -> None:
        self.make(jitter=0.0, publish_retry_max_s=1.0)
        self.refuse(error.ConnectionRefusedError())
        self.reactor.advance(0.049)
        self.assertEqual(self.reactor.unixClients, [])
        self.reactor.advance(0.002)
        self.assertEqual(len(self.reactor.unixClients), 1)

    def test_only_a_server_that_takes_something_is_hurried_back_to(self) -> None:
        self.make(publish_retry_max_s=1.0)
        for pause_s in (0.1, 0.2, 0.4):
            transport = self.up()
            self.send(1)
            self.answer(transport, b"-READONLY no\r\n")
            self.reactor.advance(pause_s - 0.001)
            self.assertEqual(self.reactor.unixClients, [])
            self.reactor.advance(0.002)
        transport = self.up()
        self.send(1)
        # What takes one message and breaks is as bad as what takes none.
        self.answer(transport, b":0\r\n-READONLY no\r\n")
        self.reactor.advance(0.8 - 0.001)
        self.assertEqual(self.reactor.unixClients, [])
        self.reactor.advance(0.002)
        transport = self.up()
        self.reactor.advance(STEADY_S)
        self.send(1)
        self.answer(transport, b":0\r\n")
        transport.lose()
        self.reactor.advance(0.101)
        self.assertEqual(len(self.reactor.unixClients), 1)

    def test_a_server_that_accepts_and_says_nothing_is_given_up(self) -> None:
        self.make(publish_connect_timeout_s=3.0)
        transport = self.connect()
        self.reactor.advance(2.9)
        self.assertEqual(self.listener.heard, [])
        self.reactor.advance(0.2)
        self.assertEqual(self.listener.heard, [("down", "timeout")])
        self.assertTrue(transport.aborted)

    def test_an_unknown_failure_is_said_without_its_text(self) -> None:
        lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.refuse(ZeroDivisionError(SECRET))
        self.assertEqual(self.listener.heard, [("down", "unknown")])
        told = [line for line in lines if line.get("event") == "bus_connect_failed"]
        self.assertEqual([line["error"] for line in told], ["ZeroDivisionError"])
        self.assertNotIn(SECRET, repr(told))

    # --- liveness

    def test_an_idle_connection_is_asked_and_its_answer_is_nobody_elses(self) -> None:
        transport = self.up()
        self.reactor.advance(PING_IDLE_S)
        self.assertEqual(transport.value(), PING)
        self.send(1)
        self.answer(transport, b"+PONG\r\n")
        self.assertEqual(self.listener.confirmed, 0)
        self.answer(transport, b":0\r\n")
        self.assertEqual(self.listener.confirmed, 1)

    def test_the_answer_to_a_ping_may_come_with_others_or_be_an_error(self) -> None:
        transport = self.up()
        self.reactor.advance(PING_IDLE_S)
        self.send(1, 2)
        self.answer(transport, b"+PONG\r\n:0\r\n:0\r\n")
        self.assertEqual(self.listener.confirmed, 2)
        self.reactor.advance(PING_IDLE_S)
        self.send(3)
        self.answer(transport, b"-NOPERM no ping\r\n:0\r\n")
        self.assertEqual(self.listener.confirmed, 3)
        self.assertEqual(self.listener.heard, ["up"])

    def test_an_idle_server_that_does_not_answer_is_cut(self) -> None:
        self.make(publish_reply_timeout_s=4.0)
        transport = self.up()
        self.reactor.advance(PING_IDLE_S)
        self.reactor.advance(3.9)
        self.assertEqual(self.listener.heard, ["up"])
        self.reactor.advance(0.2)
        self.assertEqual(self.listener.heard, ["up", ("down", "timeout")])
        self.assertTrue(transport.aborted)

    def test_it_asks_every_ten_seconds_of_silence_and_not_while_there_is_traffic(self) -> None:
        transport = self.up()
        for _ in range(30):
            self.reactor.advance(1.0)
            self.send(1)
            self.answer(transport, b":0\r\n")
        self.assertNotIn(PING, transport.value())
        transport.clear()
        for _ in range(45):
            self.reactor.advance(1.0)
            if transport.value():
                self.assertEqual(transport.value(), PING)
                self.answer(transport, b"+PONG\r\n")
                transport.clear()
                self.listener.heard.append(round(self.reactor.seconds()))
        asked = self.listener.heard[1:]
        self.assertEqual([later - earlier for earlier, later in pairwise(asked)], [10, 10, 10])

    def test_a_refusal_leaves_nothing_unanswered(self) -> None:
        transport = self.up()
        self.send(1)
        self.answer(transport, b"-NOPERM no\r\n")
        transport.clear()
        self.reactor.advance(PING_IDLE_S)
        self.assertEqual(transport.value(), PING)

    def test_what_an_earlier_connection_left_unanswered_does_not_count(self) -> None:
        transport = self.up()
        self.send(1)
        transport.lose()
        self.reactor.advance(1.0)
        transport = self.up()
        self.reactor.advance(PING_IDLE_S)
        self.assertEqual(transport.value(), PING)

    def test_while_something_is_unanswered_it_does_not_ask(self) -> None:
        transport = self.up()
        self.send(1)
        transport.clear()
        self.reactor.pump([1.0] * 30)
        self.assertEqual(transport.value(), b"")

    # --- stopping

    def test_stop_closes_in_good_order_when_all_is_answered(self) -> None:
        transport = self.up()
        stopped = self.bus.stop()
        self.assertTrue(transport.disconnecting)
        self.assertNoResult(stopped)
        transport.lose(error.ConnectionDone())
        self.successResultOf(stopped)
        self.assertEqual(self.listener.heard, ["up"])
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])

    def test_stop_cuts_what_still_waits_for_answers(self) -> None:
        transport = self.up()
        self.send(1)
        stopped = self.bus.stop()
        self.assertTrue(transport.aborted)
        transport.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.listener.heard, ["up"])

    def test_stop_while_connecting_or_waiting_to(self) -> None:
        self.successResultOf(self.bus.stop())
        self.assertEqual(self.listener.heard, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.make()
        self.refuse(error.ConnectionRefusedError())
        self.successResultOf(self.bus.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.make()
        transport = self.connect()
        stopped = self.bus.stop()
        self.assertTrue(transport.aborted)
        transport.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.listener.heard, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class StartTests(SynchronousTestCase):
    def test_settings_that_cannot_work_stop_the_start(self) -> None:
        with self.assertRaises(SettingsError):
            RedisPubSub(make_settings(redis_url=SecretStr(f"redis://{SECRET}@h")), None, Metrics())
        config = make_settings(redis_url=SecretStr("rediss://h"), redis_ca_path=Path("/nowhere.pem"))
        with self.assertRaises(BadCertificate):
            RedisPubSub(config, None, Metrics())

    def test_importing_it_installs_no_reactor(self) -> None:
        program = (
            "import sys, voiceingest.publishers.redis_pubsub, voiceingest.publishers.redis_streams, "
            "voiceingest.publishers.redis_sentinel, voiceingest.publishers.memory, "
            "voiceingest.publishers.delivery; sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        root = Path(__file__).resolve().parents[2]
        subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
