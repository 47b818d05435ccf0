"""JetStream without a server: what is written, confirmed, refused and given up, and when it is tried again.

What a real server says to it is in tests/integration/test_nats.py, a cluster in test_nats_cluster.py.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from pydantic import SecretStr
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.publishers.contract import NotingListener, pause, until
from tests.publishers.fakes import FACTS, make_settings
from tests.support.case import SynchronousTestCase, TestCase
from tests.support.daemon import ROOT
from voiceingest.audio import AudioFormat
from voiceingest.errors import BadCertificate, SettingsError
from voiceingest.interfaces import StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.publishers.nats_jetstream import NatsJetStream
from voiceingest.publishers.nats_link import BusRefusal
from voiceingest.publishers.retry import STEADY_S

OTHER = StreamFacts("acme", "call-2", AudioFormat(8000))
TAKEN = b'{"stream":"VOICEINGEST", "seq":1}'


class Link:
    """A connection that notes what is written and answers when the test says so."""

    inbox = b"_INBOX.x."
    message_max_bytes = 10_000

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended: str | None = None
        self.cut = 0
        self.gone: Deferred[None] = Deferred()

    def write(self, messages: bytes) -> None:
        self.written.append(messages)

    def abort(self) -> None:
        self.cut += 1
        if not self.gone.called:
            self.gone.callback(None)

    def replies(self) -> list[int]:
        """The numbers the messages written so far are to be answered with."""
        words = b"".join(self.written).split()
        return [int(word.rpartition(b".")[2]) for word in words if word.startswith(self.inbox)]


class Bus(NatsJetStream):
    """Connects to whatever the test has laid out; ``asked`` are the servers tried, in order."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.ahead: list[Any] = []
        self.asked: list[str] = []

    async def _introduce(self, host: str, port: int) -> Any:
        self.asked.append(host)
        outcome = self.ahead.pop(0) if self.ahead else BusRefusal("refused")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class JetStreamTests(TestCase):
    def make(self, url: str = "nats://one", jitter: float = 0.0, **settings: Any) -> Bus:
        self.clock = Clock()
        config = make_settings(publish_url=SecretStr(url), **settings)
        self.bus = Bus(config, self.clock, Metrics(), jitter=lambda: jitter)
        self.listener = NotingListener()
        self.addCleanup(self.bus.stop)
        return self.bus

    async def up(self) -> Link:
        link = Link()
        self.make().ahead = [link]
        await self.start()
        self.assertEqual(self.listener.heard, ["up"])
        return link

    async def start(self) -> None:
        """Begin, and wait until the listener hears what became of the first attempt."""
        self.bus.start(self.listener)
        await until(lambda: self.listener.heard, "the outcome of an attempt")

    async def answer(
        self, link: Link, *numbers: int, with_: bytes = TAKEN, headers: bytes | None = None
    ) -> None:
        for number in numbers:
            self.bus.link_answered(link, number, with_, headers)
        await pause(0)
        await pause(0)

    async def test_one_write_for_a_batch_and_confirmations_from_the_oldest(self) -> None:
        link = await self.up()
        lanes = [self.bus.prepare(StreamFacts("acme", str(number), AudioFormat())) for number in range(3)]
        size_bytes = self.bus.send([(lane, 1, 1, b"\0\0") for lane in lanes])
        self.assertEqual([len(written) for written in link.written], [size_bytes])
        self.assertEqual(link.replies(), [0, 1, 2])
        await self.answer(link, 2, 1)
        self.assertEqual(self.listener.confirmed, 0)
        await self.answer(link, 0)
        self.assertEqual(self.listener.confirmed, 3)

    async def test_of_one_stream_the_next_is_written_when_the_one_before_is_taken(self) -> None:
        link = await self.up()
        one, other = self.bus.prepare(FACTS), self.bus.prepare(OTHER)
        self.bus.send(
            [(one, 1, 1, b"\0\0"), (one, 0, 1, b"{}"), (other, 1, 1, b"\0\0"), (one, 2, 1, b"\0\0")]
        )
        self.assertEqual(link.replies(), [0, 2])
        await self.answer(link, 2)
        self.assertEqual(link.replies(), [0, 2])
        await self.answer(link, 0)
        self.assertEqual((link.replies(), self.listener.confirmed), ([0, 2, 1], 1))
        await self.answer(link, 1)
        self.assertEqual((link.replies(), self.listener.confirmed), ([0, 2, 1, 3], 3))
        await self.answer(link, 3)
        self.assertEqual(self.listener.confirmed, 4)

    async def test_a_duplicate_is_taken(self) -> None:
        link = await self.up()
        self.bus.send([(self.bus.prepare(FACTS), 1, 1, b"\0\0")])
        await self.answer(link, 0, with_=b'{"stream":"S","seq":1,"duplicate": true}')
        self.assertEqual(self.listener.confirmed, 1)

    async def test_what_is_about_one_message_refuses_that_one_in_its_place(self) -> None:
        link = await self.up()
        lanes = [self.bus.prepare(StreamFacts("acme", str(number), AudioFormat())) for number in range(4)]
        self.bus.send([(lane, 1, 1, b"\0\0" if lane is not lanes[2] else bytes(9_600)) for lane in lanes])
        # The third is larger than the server takes: it would close the connection.
        self.assertEqual(link.replies(), [0, 1, 3])
        await self.answer(link, 1, with_=b'{"error":{"code":400,"err_code":10054}}')
        self.assertEqual(self.listener.heard, ["up"])
        await self.answer(link, 0, 3)
        self.assertEqual(self.listener.heard, ["up", ("refused", "too_big"), ("refused", "too_big")])
        self.assertEqual(self.listener.confirmed, 2)

    async def test_a_subject_the_server_takes_no_line_for_is_refused_when_it_is_sent_again(self) -> None:
        """The limit is told by nobody, and one caller with a long name must not keep the bus down."""
        links = [Link(), Link(), Link()]
        bus = self.make(jitter=0.0, nats_subject="audio.{interaction_id}")
        bus.ahead = list(links)
        lanes = [bus.prepare(StreamFacts("acme", "c" * size, AudioFormat())) for size in (10, 300, 200)]
        bus.start(self.listener)
        for link in links[:2]:
            await self.come_up()
            bus.send([(lane, 1, 1, b"\0\0") for lane in lanes])
            bus.link_broken(link, "control_line")
        await self.come_up()
        bus.send([(lane, 1, 1, b"\0\0") for lane in lanes])
        self.assertEqual([link.replies() for link in links], [[0, 1, 2], [0, 2], [0]])
        # A limit that was learnt is not forgotten, and what is under it is not touched by another.
        bus.link_broken(links[2], "lost")
        await self.answer(links[2], 0)
        self.assertEqual(bus._subject_max_chars, len("audio.") + 199)

    async def come_up(self) -> None:
        """Let the bus connect once more."""
        self.clock.advance(3.0)
        await until(lambda: self.listener.is_up, "the connection")

    async def test_what_is_about_the_server_cuts_the_connection_and_keeps_the_message(self) -> None:
        for reason, answer, headers in (
            ("noleader", b"", b"NATS/1.0 503\r\n\r\n"),
            ("full", b'{"error":{"code":503,"err_code":10077}}', None),
            ("protocol", b"what?", None),
        ):
            link = await self.up()
            self.bus.send(
                [(self.bus.prepare(FACTS), 1, 1, b"\0\0"), (self.bus.prepare(OTHER), 1, 1, b"\0\0")]
            )
            await self.answer(link, 1, with_=answer, headers=headers)
            self.assertEqual(self.listener.heard, ["up", ("down", reason)])
            # What the connection still says is about what will be sent again.
            await self.answer(link, 0)
            self.assertEqual((self.listener.confirmed, link.cut), (0, 1))
            self.assertFalse(self.bus.writable)
            with self.assertRaises(RuntimeError):
                self.bus.send([])

    async def test_what_was_taken_before_the_error_counts(self) -> None:
        link = await self.up()
        self.bus.send([(self.bus.prepare(FACTS), 1, 1, b"\0\0"), (self.bus.prepare(OTHER), 1, 1, b"\0\0")])
        # Both in one read: no turn of the reactor in between.
        self.bus.link_answered(link, 0, TAKEN, None)
        self.bus.link_answered(link, 1, b'{"error":{"code":503,"err_code":10077}}', None)
        self.assertEqual((self.listener.confirmed, self.listener.heard), (1, ["up", ("down", "full")]))
        await pause(0.01)
        self.assertEqual(self.listener.confirmed, 1)

    async def test_one_that_is_passed_over_is_sent_again_soon(self) -> None:
        link = await self.up()
        self.bus.send([(self.bus.prepare(FACTS), 1, 1, b"\0\0"), (self.bus.prepare(OTHER), 1, 1, b"\0\0")])
        self.clock.advance(0.5)
        self.clock.advance(0.5)
        self.clock.advance(0.5)
        self.assertEqual(self.listener.heard, ["up"])
        await self.answer(link, 1)
        self.clock.advance(0.5)
        self.assertEqual(self.listener.heard, ["up", ("down", "passed_over")])

    async def test_back_pressure_is_passed_on(self) -> None:
        link = await self.up()
        self.assertTrue(self.bus.writable)
        self.bus.link_writable(link, False)
        self.assertFalse(self.bus.writable)
        self.bus.link_writable(link, True)
        self.assertTrue(self.bus.writable)
        self.assertEqual(self.listener.heard, ["up", "writable"])
        self.bus.drop_connection("timeout")
        self.bus.link_writable(link, True)
        self.assertFalse(self.bus.writable)

    async def test_the_next_server_at_once_and_a_pause_when_all_were_tried(self) -> None:
        self.make("nats://one,two,three", publish_retry_max_s=1.0)
        self.bus.start(self.listener)
        pauses = []
        for attempt in range(1, 10):
            while len(self.listener.heard) < attempt:
                await pause(0)
            (call,) = self.clock.getDelayedCalls()
            pauses.append(round(call.getTime() - self.clock.seconds(), 3))
            self.clock.advance(pauses[-1])
        self.assertEqual(self.bus.asked[:4], ["one", "two", "three", "one"])
        # Half of 0.1, 0.2, 0.4, ... to 1 s: jitter is 0 here.
        self.assertEqual(pauses, [0, 0, 0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])

    async def test_up_without_a_confirmation_is_no_success(self) -> None:
        self.make(publish_retry_max_s=60.0)
        self.bus.ahead = [Link() for _ in range(9)]
        self.bus.start(self.listener)
        pauses = []
        for count in range(4):
            await until(lambda count=count: len(self.listener.heard) > 2 * count, "the next connection")
            self.assertEqual(self.listener.heard[-1], "up")
            self.bus.drop_connection("noleader")
            (call,) = self.clock.getDelayedCalls()
            pauses.append(round(call.getTime() - self.clock.seconds(), 3))
            self.clock.advance(pauses[-1])
        self.assertEqual(pauses, [0.05, 0.1, 0.2, 0.4])
        # Nor is one that works for a moment; a second of work is.
        for stood_s, pause_s in ((0.0, 0.8), (STEADY_S + 0.01, 0.05)):
            await until(lambda: self.listener.heard[-1] == "up", "the next connection")
            link: Any = self.bus._link
            self.clock.advance(stood_s)
            self.bus.send([(self.bus.prepare(FACTS), 1, 1, b"\0\0")])
            await self.answer(link, 0)
            self.bus.drop_connection("noleader")
            (call,) = self.clock.getDelayedCalls()
            self.assertEqual(round(call.getTime() - self.clock.seconds(), 3), pause_s)
            self.clock.advance(pause_s)

    async def test_a_connection_that_ended_while_it_was_introduced_is_down(self) -> None:
        link = Link()
        link.ended = "ldm"
        self.make().ahead = [link]
        await self.start()
        self.assertEqual((self.listener.heard, link.cut), ([("down", "ldm")], 1))

    async def test_an_unknown_failure_is_one_more_reason(self) -> None:
        self.make().ahead = [ZeroDivisionError("what was said")]
        await self.start()
        self.assertEqual(self.listener.heard, [("down", "unknown")])

    async def test_servers_are_not_all_begun_with_the_first(self) -> None:
        self.make("nats://one,two,three", jitter=0.99)
        await self.start()
        self.assertEqual(self.bus.asked, ["three"])


class SettingsTests(SynchronousTestCase):
    def refused(self, error: type[Exception], text: str, **settings: Any) -> None:
        config = make_settings(**{"publish_url": SecretStr("nats://u:s3cr3t@h"), **settings})
        problem = self.assertRaises(error, NatsJetStream, config, Clock(), Metrics())
        self.assertIn(text, str(problem))
        self.assertNotIn("s3cr3t", str(problem))

    def test_what_cannot_be_used_fails_the_start(self) -> None:
        self.refused(SettingsError, "publish_url: ", publish_url=SecretStr("nats://u:s3cr3t@h:x"))
        self.refused(SettingsError, "nats_subject: ", nats_subject="a..b")
        self.refused(SettingsError, "nats_events_subject: ", nats_events_subject="a.>")
        self.refused(BadCertificate, "nats_ca_path: ", nats_ca_path=self.mktemp_path())

    def test_without_nats_py_there_is_one_line_that_says_what_to_do(self) -> None:
        program = (
            "import sys; sys.modules['nats'] = None\n"
            "import voiceingest.publishers.nats_jetstream as bus\n"
            "from voiceingest.config.settings import Settings\n"
            "from voiceingest.errors import OperatorError\n"
            "try:\n"
            "    bus.NatsJetStream(Settings(publish_url='nats://h'), None, None)\n"
            "except OperatorError as error:\n"
            "    print(error)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual(
            ran.stdout, "publish_url: NATS is an extra: pip install 'voiceingest[nats]'\n", ran.stderr
        )
