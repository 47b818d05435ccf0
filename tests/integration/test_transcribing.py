"""Deepgram beside live streams: its words arrive in place, and whatever it does they do not feel it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from tests.support.daemon import Daemon
from tests.support.deepgram import FakeDeepgram

from .callers import Caller
from .callers import audio_of as _audio_of
from .case import IngestCase, asynchronous, metric, rss_bytes
from .consumer import Consumer

FRAME_S: Final = 0.02
RATE: Final = 48000
FRAME_BYTES: Final = 1920
MIB: Final = 1024 * 1024
# Where a test is not about what overflows: on a busy machine connecting may take its time.
KEEP_ALL: Final = {"EXO_MAX_BUFFER_MS": "10000"}


def audio_of(number: int) -> bytes:
    """The frame ``number``, which is never silence."""
    return _audio_of(number + 1, FRAME_BYTES)


class TranscribingCase(IngestCase):
    """A daemon with a Deepgram of the test's own."""

    async def begin(self, **settings: str) -> tuple[Daemon, Consumer, Caller]:
        """A stream that is live; ``deepgram`` listens."""
        self.deepgram = FakeDeepgram(self)
        await self.deepgram.start()
        daemon = await self.start_daemon(**{**self.deepgram.settings, **settings})
        consumer = await self.consume()
        caller = await self.call(daemon)
        await caller.start("call-1", sample_rate=RATE)
        self.count = 0
        return daemon, consumer, caller

    async def speak(self, caller: Caller, seconds: float) -> None:
        """Speak for so long, at the speed of speech."""
        began, first = time.monotonic(), self.count
        while (self.count - first) * FRAME_S < seconds:
            caller.audio(audio_of(self.count))
            self.count += 1
            await asyncio.sleep(max(0.0, began + (self.count - first) * FRAME_S - time.monotonic()))

    async def speak_until(self, caller: Caller, condition: Callable[[], Any], what: str) -> None:
        """Speak until something has happened."""
        end = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            await self.speak(caller, 0.1)

    async def stop(self, caller: Caller, consumer: Consumer) -> list[dict[str, Any]]:
        """Stop; every frame was published and acknowledged, every moment is heard or in a gap."""
        stopped = await caller.stop()
        self.assertEqual((caller.close_code, stopped["published"], stopped["dropped"]), (1000, self.count, 0))
        acks = [ack["seq"] for ack in caller.events("ack")]
        self.assertEqual(acks, list(range(10, self.count + 1, 10)))
        await consumer.event("call-1", "stopped")
        await consumer.until(lambda: self.accounted_ms(consumer) >= self.total_ms, "the end of the account")
        self.assert_published(consumer, "call-1", [audio_of(number) for number in range(self.count)])
        self.assert_accounted(consumer)
        return consumer.events("call-1")

    @property
    def total_ms(self) -> int:
        return round(self.count * FRAME_S * 1000)

    def accounted_ms(self, consumer: Consumer) -> int:
        """The end of the last moment that is heard or in a gap."""
        return max((end for _, end, _ in self.account(consumer)), default=0)

    def account(self, consumer: Consumer) -> list[tuple[int, int, str]]:
        """The stretches that are final or in a gap, in their order in the stream."""
        events = consumer.events("call-1")
        finals = [
            (event["start_ms"], event["end_ms"], event["text"])
            for event in events
            if event["event"] == "transcript" and event["is_final"] and event["text"]
        ]
        gaps = [
            (event["from_ms"], event["to_ms"], event["reason"])
            for event in events
            if event["event"] == "transcript_gap"
        ]
        return sorted(finals + gaps)

    def assert_accounted(self, consumer: Consumer) -> None:
        """Every moment once; and the words are those of the audio that was there.

        What was dropped while a connection stood may lie within what is heard around it.
        """
        account = self.account(consumer)
        reached = 0
        for start, end, what in account:
            if end <= reached and ".." not in what:
                continue
            self.assertEqual(start, reached, account)
            reached = end
        self.assertEqual(reached, self.total_ms)
        gaps = [(start, end) for start, end, what in account if ".." not in what]
        self.assertEqual([pair for pair in pairwise(gaps) if pair[0][1] > pair[1][0]], [], account)
        for start, end, words in account:
            if ".." in words:
                # The words say which frames they were heard in; a replay may begin within one.
                first, last = (int(number) for number in words.split(".."))
                self.assertEqual((first - 1, last - 1), (start // 20, (end - 1) // 20), (start, end, words))

    def gaps(self, consumer: Consumer) -> list[dict[str, Any]]:
        return [event for event in consumer.events("call-1") if event["event"] == "transcript_gap"]

    def finals(self, consumer: Consumer) -> list[str]:
        return [
            event["text"]
            for event in consumer.events("call-1")
            if event["event"] == "transcript" and event["is_final"]
        ]


class WholeSessionTests(TranscribingCase):
    @asynchronous
    async def test_transcripts_come_in_order_and_in_place(self) -> None:
        daemon, consumer, caller = await self.begin(**KEEP_ALL)
        await self.speak(caller, 2.5)
        events = await self.stop(caller, consumer)
        session = await self.deepgram.session()
        await session.until(lambda: session.is_lost, "the end of the connection")
        self.assertEqual((session.violations, session.texts), ([], ["CloseStream"]))
        self.assertEqual(bytes(session.audio), b"".join(audio_of(number) for number in range(self.count)))
        self.assertEqual(session.query["sample_rate"], str(RATE))
        self.assertEqual(self.finals(consumer), ["1..50", "51..100", "101..125"])
        said = [event for event in events if event["event"] == "transcript"]
        self.assertEqual([event["text"] for event in said if event["ends_turn"]], ["51..100"])
        self.assertEqual([event["start_ms"] for event in said], sorted(event["start_ms"] for event in said))
        # Interim results come while the second is going on, on their way to the final.
        self.assertEqual([event["is_final"] for event in said[:2]], [False, True])
        self.assertEqual([event["start_ms"] for event in said[:2]], [0, 0])
        self.assertTrue(500 <= said[0]["end_ms"] < 1000)
        self.assertEqual(self.gaps(consumer), [])
        metrics = await self.metrics(daemon)
        for name, value in (
            ('transcriber_connects_total{result="ok"}', 1),
            ('transcriber_samples_total{result="sent"}', self.count * FRAME_BYTES // 2),
            ('transcripts_total{kind="final"}', 3),
            ("transcribers", 0),
        ):
            self.assertEqual(metric(metrics, f"voiceingest_{name}"), value, name)
        self.assertNotIn("51..100", daemon.output, "what was said is not logged")

    @asynchronous
    async def test_a_shutdown_waits_for_the_last_words(self) -> None:
        daemon, consumer, caller = await self.begin(RESUME_WINDOW_S="0", **KEEP_ALL)
        await self.speak(caller, 0.5)
        session = await self.deepgram.session()
        await session.until(lambda: session.audio_s >= 0.5, "what was said")
        daemon.signal("TERM")
        await caller.closed()
        await consumer.until(lambda: self.finals(consumer), "the last words")
        self.assertEqual(self.finals(consumer), ["1..25"])


class AwayTests(TranscribingCase):
    """Deepgram refuses, dies, freezes."""

    @asynchronous
    async def test_refused_is_said_once_and_not_tried_again(self) -> None:
        daemon, consumer, caller = await self.begin(DEEPGRAM_API_KEY="wrong", **KEEP_ALL)
        await self.speak(caller, 1.5)
        events = await self.stop(caller, consumer)
        self.assertEqual([session.refused for session in self.deepgram.sessions], [401])
        errors = [event["code"] for event in events if event["event"] == "error"]
        self.assertEqual(errors, ["upstream_refused"])
        self.assertEqual({gap["reason"] for gap in self.gaps(consumer)}, {"refused"})
        self.assertNotIn("wrong", daemon.output)
        metrics = await self.metrics(daemon)
        self.assertEqual(metric(metrics, 'voiceingest_transcriber_connects_total{result="refused"}'), 1)

    @asynchronous
    async def test_it_dies_and_what_was_not_final_is_said_again(self) -> None:
        daemon, consumer, caller = await self.begin()
        await self.speak_until(caller, lambda: self.finals(consumer), "the first final")
        await self.speak(caller, 0.2)
        self.deepgram.close_all(1011, "NET-0000")
        # It has to stand, and to have been spoken to, before it can be lost.
        await self.speak_until(
            caller, lambda: any(one.audio for one in self.deepgram.granted[1:]), "the second connection"
        )
        await self.speak(caller, 0.5)
        self.deepgram.drop_all()
        await self.speak_until(caller, lambda: len(self.deepgram.granted) == 3, "the third connection")
        await self.speak(caller, 1.0)
        await self.stop(caller, consumer)
        self.assertTrue(all(not session.violations for session in self.deepgram.sessions))
        metrics = await self.metrics(daemon)
        self.assertEqual(metric(metrics, 'voiceingest_transcriber_connects_total{result="ok"}'), 3)
        lost = 'voiceingest_transcriber_disconnects_total{reason="closed_1011"}'
        self.assertEqual(metric(metrics, lost), 1)

    @asynchronous
    async def test_it_is_away_for_longer_than_is_kept(self) -> None:
        _, consumer, caller = await self.begin()
        await self.speak(caller, 0.5)
        await self.deepgram.stop()
        await self.speak(caller, 2.0)
        await self.deepgram.start()
        await self.speak_until(caller, lambda: len(self.finals(consumer)) >= 2, "words after the outage")
        await self.stop(caller, consumer)
        self.assertIn("overflow", {gap["reason"] for gap in self.gaps(consumer)})

    @asynchronous
    async def test_frozen_it_costs_the_streams_nothing_and_memory_is_bounded(self) -> None:
        daemon, consumer, caller = await self.begin()
        await self.speak(caller, 0.5)
        self.deepgram.freeze()
        before = rss_bytes(daemon.pid)
        await self.speak_until(
            caller, lambda: "overflow" in {gap["reason"] for gap in self.gaps(consumer)}, "an overflow"
        )
        self.assertLess(rss_bytes(daemon.pid) - before, 8 * MIB)
        # Nobody waited for it: the bus has what was said, but for the moment.
        await caller.until(lambda: caller.events("ack")[-1]["seq"] >= self.count - 10, "the last ack")
        self.deepgram.thaw()
        finals = len(self.finals(consumer))
        await self.speak_until(caller, lambda: len(self.finals(consumer)) > finals, "words after the frost")
        await self.stop(caller, consumer)

    @asynchronous
    async def test_it_never_says_goodbye(self) -> None:
        daemon, consumer, caller = await self.begin(**KEEP_ALL)
        self.deepgram.answers_close = False
        self.deepgram.is_silent = True
        await self.speak(caller, 0.5)
        await self.stop(caller, consumer)
        self.assertEqual([gap["reason"] for gap in self.gaps(consumer)], ["ended"])
        self.assertEqual(daemon.logged("transcription_failed"), [])

    @asynchronous
    async def test_garbage(self) -> None:
        daemon, consumer, caller = await self.begin()
        await self.speak(caller, 0.2)
        await self.deepgram.session()
        for payload in [b"", b"[]", b"{}", b'{"type":"Results"}', b'{"type":"Tomorrow"}', b"\xff\xfe"]:
            self.deepgram.say_all(payload)
        await self.speak(caller, 1.2)
        await self.stop(caller, consumer)
        self.assertEqual(daemon.logged("transcription_failed"), [])
