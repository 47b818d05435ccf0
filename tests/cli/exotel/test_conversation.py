from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.conversation import BARGE_WAIT_S, Conversation, Script
from voiceingest.cli.exotel.outgoing import Leg
from voiceingest.cli.exotel.report import CallReport
from voiceingest.cli.exotel.voice import Source, first_loud
from voiceingest.cli.exotel.wheel import Wheel

LOUD = b"\x00\x40"
# 50 ms of silence, then 350 ms that are loud.
SPEECH = bytes(800) + LOUD * 2800


class FakeLine:
    """A connection that takes everything, until it is ``full``."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.full = False
        self.goodbyes = 0

    def insist(self, payload: bytes) -> None:
        self.said.append(json.loads(payload))

    def send_text(self, payload: bytes) -> bool:
        if not self.full:
            self.insist(payload)
        return not self.full

    def say_goodbye(self) -> None:
        self.goodbyes += 1

    def of(self, event: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["event"] == event]

    @property
    def audio(self) -> bytes:
        return b"".join(base64.b64decode(message["media"]["payload"]) for message in self.of("media"))


class ConversationCase(SynchronousTestCase):
    def begin(self, lag_s: float = 0.0, **more: Any) -> Conversation:
        self.clock: Any = Clock()
        self.clock.advance(50.0)
        self.line = FakeLine()
        self.report = CallReport("call-1")
        options: dict[str, Any] = {"linger_s": 0.4, "decode": bytes, **more}
        script = Script(Source(SPEECH, len(SPEECH), b"\0", first_loud(SPEECH)), 1600, 0.1, **options)
        leg = Leg("call-1", "sid-1")
        conversation = Conversation(leg, script, Wheel(self.clock), self.report, self.line)
        conversation.begin(50.0, lag_s)
        self.conversation = conversation
        return conversation

    def pass_(self, seconds: float) -> None:
        """Let time pass in steps of 5 ms."""
        self.clock.pump([0.005] * round(seconds / 0.005))

    def hear(self, audio: bytes) -> None:
        payload = base64.b64encode(audio).decode()
        self.tell({"event": "media", "stream_sid": "sid-1", "media": {"payload": payload}})

    def tell(self, message: dict[str, Any]) -> None:
        self.conversation.heard(json.dumps(message).encode(), self.clock.seconds())

    def mark(self, name: str) -> None:
        self.tell({"event": "mark", "stream_sid": "sid-1", "mark": {"name": name}})

    def clear(self) -> None:
        self.tell({"event": "clear", "stream_sid": "sid-1"})


class SpeakingTests(ConversationCase):
    def test_a_whole_call(self) -> None:
        self.begin()
        self.assertEqual([message["event"] for message in self.line.said], ["connected", "start"])
        self.pass_(1.0)
        events = [message["event"] for message in self.line.said]
        self.assertEqual(events, ["connected", "start", *["media"] * 8, "stop"])
        self.assertEqual(self.line.audio, SPEECH + bytes(6400))
        self.assertEqual(self.line.goodbyes, 1)
        self.assertTrue(self.conversation.ended)
        report = self.report
        self.assertEqual((report.sent_chunks, report.sent_samples, report.began), (8, 6400, True))
        self.assertAlmostEqual(report.seconds, 0.8, 2)

    def test_an_echo_that_is_late_is_waited_for_and_not_for_ever(self) -> None:
        self.begin(patience_s=0.5)
        self.pass_(0.85)
        self.assertFalse(self.conversation.ended)
        self.hear(SPEECH)
        self.pass_(0.1)
        self.assertTrue(self.conversation.ended)
        self.assertEqual(self.report.identical, len(SPEECH) // 2)
        self.begin(patience_s=0.5)
        self.hear(SPEECH[:-2])
        self.pass_(1.2)
        self.assertFalse(self.conversation.ended)
        self.pass_(0.15)
        self.assertTrue(self.conversation.ended)

    def test_an_echo_that_is_another_one_is_not_waited_for(self) -> None:
        self.begin(patience_s=0.5)
        self.hear(b"\1" + SPEECH[1:])
        self.pass_(0.85)
        self.assertTrue(self.conversation.ended)

    def test_a_late_timer_delays_one_chunk_and_not_all(self) -> None:
        self.begin()
        self.clock.advance(0.26)
        self.assertEqual(len(self.line.of("media")), 2)
        self.clock.advance(0.05)
        self.assertEqual(len(self.line.of("media")), 3)
        self.assertAlmostEqual(self.report.late.summary_ms((50,))["max"], 160.0)

    def test_a_lag_moves_the_beat(self) -> None:
        self.begin(0.05)
        self.clock.advance(0.149)
        self.assertEqual(self.line.of("media"), [])
        self.clock.advance(0.002)
        self.assertEqual(len(self.line.of("media")), 1)

    def test_keys(self) -> None:
        self.begin(digits=((0.15, "1"), (0.45, "#"), (9.0, "2")))
        self.pass_(1.0)
        self.assertEqual([m["dtmf"]["digit"] for m in self.line.of("dtmf")], ["1", "#"])
        self.assertEqual(self.report.digits, 2)
        # In their place among the audio.
        self.assertEqual([message["event"] for message in self.line.said].index("dtmf"), 3)
        self.clock.advance(9.0)
        self.assertEqual(self.line.said[-1]["event"], "stop")

    def test_a_bot_that_does_not_read_is_not_waited_for(self) -> None:
        self.begin()
        self.line.full = True
        self.pass_(1.0)
        self.assertEqual((self.report.sent_chunks, self.report.unsent_chunks), (0, 8))
        # The last word is said all the same.
        self.assertEqual([m["event"] for m in self.line.said], ["connected", "start", "stop"])

    def test_hanging_up_before_the_end(self) -> None:
        conversation = self.begin()
        self.pass_(0.3)
        for _ in range(2):
            conversation.hang_up(self.clock.seconds())
        self.pass_(1.0)
        self.assertEqual((len(self.line.of("stop")), self.line.goodbyes), (1, 1))
        self.assertEqual(self.line.said[-1]["event"], "stop")

    def test_a_line_that_is_gone(self) -> None:
        conversation = self.begin()
        self.pass_(0.3)
        conversation.end(self.clock.seconds())
        self.pass_(1.0)
        self.assertEqual((self.line.of("stop"), len(self.line.of("media"))), ([], 3))


class ListeningTests(ConversationCase):
    def test_an_echo_is_identical(self) -> None:
        self.begin()
        for n in range(3):
            self.pass_(0.105)
            self.hear(SPEECH[n * 1600 : (n + 1) * 1600])
        self.pass_(1.0)
        report = self.report
        self.assertEqual((report.identical, report.differs_at), (2400, None))
        self.assertEqual((report.heard_chunks, report.heard_samples), (3, 2400))
        self.assertEqual(dict(report.sizes), {1600: 3})
        self.assertAlmostEqual(report.first_audio_s or 0, 0.105)
        self.assertEqual(report.gaps.count, 2)
        self.assertAlmostEqual(report.played_s, 0.3)

    def test_what_was_not_said_cannot_be_identical(self) -> None:
        self.begin()
        self.hear(SPEECH)
        self.pass_(0.1)
        self.conversation.hang_up(self.clock.seconds())
        self.assertEqual(self.report.identical, 800)

    def test_marks_come_back_when_they_have_been_reached(self) -> None:
        self.begin()
        self.mark("at once")
        self.assertEqual([m["mark"]["name"] for m in self.line.of("mark")], ["at once"])
        self.hear(bytes(4800))
        self.mark("later")
        self.pass_(0.295)
        self.assertEqual(len(self.line.of("mark")), 1)
        self.pass_(0.005)
        self.assertEqual([m["mark"]["name"] for m in self.line.of("mark")], ["at once", "later"])
        self.assertEqual((self.report.marks, self.report.marks_echoed), (2, 2))

    def test_clear_takes_back_audio_and_marks(self) -> None:
        self.begin(record=True)
        for _ in range(3):
            self.hear(LOUD * 800)
        self.mark("never")
        self.pass_(0.15)
        self.clear()
        self.pass_(1.0)
        self.assertEqual(self.line.of("mark"), [])
        self.assertEqual((self.report.clears, self.report.barge_in_s), (1, None))
        self.assertAlmostEqual(self.report.cleared_s, 0.1)
        self.assertEqual(self.report.recording, LOUD * 1600)

    def test_what_is_illegal_is_counted_by_kind(self) -> None:
        self.begin()
        self.hear(bytes(330))
        self.hear(bytes(330))
        self.conversation.heard(b"{", self.clock.seconds())
        self.conversation.heard_binary()
        self.tell({"event": "clear"})
        self.assertEqual(dict(self.report.illegal), {"not_320": 2, "bad_json": 1, "binary": 1})
        self.assertEqual(dict(self.report.odd), {"no_stream": 1})

    def test_too_far_ahead_is_illegal(self) -> None:
        conversation: Any = self.begin()
        self.patch(conversation._player, "play", lambda pcm, now_s: False)
        self.patch(conversation._player, "mark", lambda name, now_s: None)
        self.hear(bytes(3200))
        self.mark("x")
        self.assertEqual(dict(self.report.illegal), {"too_far_ahead": 2})

    def test_after_the_end_nothing_is_heard(self) -> None:
        conversation = self.begin()
        self.hear(bytes(16000))
        self.mark("late")
        conversation.hang_up(self.clock.seconds())
        self.hear(bytes(330))
        conversation.heard_binary()
        self.pass_(2.0)
        self.assertEqual((self.report.heard_chunks, dict(self.report.illegal)), (1, {}))
        self.assertEqual(self.line.of("mark"), [])


class BargeInTests(ConversationCase):
    def test_silent_until_the_bot_was_heard_then_the_time_to_clear(self) -> None:
        self.begin(barge_in_s=0.3)
        self.pass_(0.5)
        # Silence of the bot's is not waited through.
        for audio in (bytes(8000), LOUD * 8000):
            self.hear(audio)
        self.pass_(0.5)
        self.assertEqual(self.line.audio, bytes(1600 * 10))
        self.pass_(0.345)
        self.assertTrue(self.report.interrupted)
        # Heard for 0.3 s at 1.3; speaks from 1.3 on, and its first loud sample is at 1.35.
        self.clear()
        self.assertIsNone(self.report.barge_in_s)
        self.pass_(0.135)
        self.clear()
        self.clear()
        self.assertAlmostEqual(self.report.barge_in_s or 0, 0.13)
        self.pass_(2.0)
        self.assertEqual(self.line.audio, bytes(1600 * 13) + SPEECH + bytes(6400))
        self.assertEqual((self.report.clears, self.line.goodbyes), (3, 1))

    def test_nothing_to_interrupt(self) -> None:
        self.begin(barge_in_s=1.0)
        self.clock.pump([0.1] * round(BARGE_WAIT_S * 10 + 2))
        self.assertEqual((self.report.interrupted, self.line.goodbyes), (False, 1))
        self.assertEqual(len(self.line.of("media")), BARGE_WAIT_S * 10)
