"""A stream and its connections to Deepgram, in plain calls."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.transcribing.socket import Ending
from voiceingest.transcribing.transcriber import UNREADABLE_MAX_COUNT

from .world import FRAME, Connection, Listener, World, results


class TranscriberCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.listener = Listener()
        self.transcriber = self.world.transcriber(self.listener)

    def speak(self, count: int = 1) -> None:
        for _ in range(count):
            self.transcriber.audio(FRAME)

    def open(self) -> Connection:
        """The next connection, which stands and was sent what was kept."""
        before = len(self.world.connections)
        self.speak()
        if len(self.world.connections) == before:
            self.world.pump(6)
        self.world.connections[-1].open()
        return self.world.connections[-1]


class SessionTests(TranscriberCase):
    def test_a_whole_session(self) -> None:
        connection = self.open()
        self.assertEqual((connection.rate, connection.audio), (8000, FRAME))
        self.speak(4)
        self.assertEqual(connection.audio, FRAME * 5)
        connection.link.heard(b'{"type":"SpeechStarted","channel":[0,1],"timestamp":0.0}')
        connection.link.heard(results(0, 0.06, is_final=False))
        connection.link.heard(results(0, 0.08, speech_final=True))
        over: list[None] = []
        self.transcriber.finish().addCallback(over.append)
        self.assertEqual((connection.texts, over), (["CloseStream"], []))
        connection.link.heard(results(0.08, 0.02, "last"))
        connection.link.heard(
            b'{"type":"Metadata","request_id":"r1","duration":0.1,"channels":1,"sha256":"","created":""}'
        )
        connection.end("closed_1000", close_code=1000)
        self.assertEqual(over, [None])
        names = ("text", "start_ms", "end_ms", "is_final", "ends_turn", "confidence")
        said = [("words", 0, 60, False, False, 0.5), ("words", 0, 80, True, True, 0.5)]
        said.append(("last", 80, 100, True, False, 0.5))
        events = [("transcript", dict(zip(names, values, strict=True))) for values in said]
        self.assertEqual(self.world.events, events)
        self.assertEqual([heard.text for heard in self.listener.heard], ["words", "words", "last"])
        self.assertEqual(self.listener.started, 1)
        metrics = self.world.metrics
        self.assertEqual(dict(metrics.transcripts), {"interim": 1, "final": 2})
        self.assertEqual(dict(metrics.transcriber_connects), {"ok": 1})
        self.assertEqual(dict(metrics.transcriber_disconnects), {"closed_1000": 1})
        self.assertEqual(dict(metrics.transcriber_samples), {"received": 800, "sent": 800})
        self.assertEqual((metrics.transcribers, len(self.world.deadlines)), (0, 0))

    def test_an_utterance_end_ends_a_turn(self) -> None:
        connection = self.open()
        connection.link.heard(results(0, 0.02))
        connection.link.heard(b'{"type":"UtteranceEnd","channel":[0,1],"last_word_end":0.01}')
        heard = [(transcript.text, transcript.ends_turn) for transcript in self.listener.heard]
        self.assertEqual(heard, [("words", False), ("", True)])

    def test_a_silent_stream_is_kept_alive_and_closed(self) -> None:
        connection = self.open()
        self.world.pump(10.5)
        self.assertEqual(connection.texts, ["Finalize", "KeepAlive", "CloseStream"])
        connection.end("closed_1000", close_code=1000)
        self.world.pump(60)
        self.assertEqual(len(self.world.connections), 1)
        again = self.open()
        self.assertEqual((len(self.world.connections), again.audio), (2, FRAME))
        again.link.heard(results(0, 0.02))
        self.assertEqual(self.world.named("transcript")[0]["start_ms"], 20)

    def test_one_that_does_not_read_is_not_written_to(self) -> None:
        connection = self.open()
        connection.link.blocked(True)
        self.speak(10)
        self.assertEqual(connection.audio, FRAME)
        connection.link.blocked(False)
        self.assertEqual(connection.audio, FRAME * 11)
        connection.link.blocked(True)
        self.speak(30)
        self.world.pump(10.5)
        self.assertTrue(connection.aborted)
        self.assertEqual(dict(self.world.metrics.transcriber_disconnects), {"stalled": 1})
        gaps = [(gap["from_ms"], gap["to_ms"], gap["reason"]) for gap in self.world.named("transcript_gap")]
        self.assertEqual(gaps, [(220, 320, "overflow"), (0, 220, "lost")])


class TroubleTests(TranscriberCase):
    def test_one_that_fails_before_it_was_dialled(self) -> None:
        self.world.fails_at_once = Ending("connect_refused")
        self.speak()
        self.assertEqual(len(self.world.connections), 1)
        self.world.pump(0.3)
        self.assertEqual(len(self.world.connections), 2)
        self.assertEqual(dict(self.world.metrics.transcriber_connects), {"failed": 2})

    def test_one_that_does_not_answer_the_call(self) -> None:
        self.speak()
        self.world.pump(5.2)
        self.assertTrue(self.world.connections[0].aborted)
        self.assertEqual(dict(self.world.metrics.transcriber_connects), {"failed": 1})

    def test_what_was_not_final_is_sent_again(self) -> None:
        first = self.open()
        self.speak(2)
        first.link.heard(results(0, 0.02))
        first.end("closed_1011", close_code=1011)
        second = self.open()
        self.assertEqual(second.audio, FRAME * 3)
        second.link.heard(results(0, 0.06, "again"))
        said = [(heard.text, heard.start_ms, heard.end_ms) for heard in self.listener.heard]
        self.assertEqual(said, [("words", 0, 20), ("again", 20, 80)])

    def test_a_refusal(self) -> None:
        self.speak()
        self.world.connections[0].end("http_401", http_status=401)
        self.speak(100)
        self.world.pump(60)
        self.transcriber.finish()
        self.assertEqual(len(self.world.connections), 1)
        self.assertEqual(
            self.world.events,
            [
                ("error", {"code": "upstream_refused"}),
                ("transcript_gap", {"from_ms": 0, "to_ms": 20, "reason": "refused"}),
                ("transcript_gap", {"from_ms": 20, "to_ms": 2020, "reason": "refused"}),
            ],
        )
        self.assertEqual(dict(self.world.metrics.transcriber_connects), {"refused": 1})

    def test_a_refusal_of_the_audio(self) -> None:
        self.open().end("closed_1008", close_code=1008)
        self.speak()
        self.world.pump(10)
        self.assertEqual((len(self.world.connections), len(self.world.named("error"))), (1, 1))

    def test_what_cannot_be_read_is_counted(self) -> None:
        connection = self.open()
        connection.link.heard(b"\xff")
        connection.link.heard(b'{"type":"Results"}')
        errors = self.world.metrics.errors
        self.assertEqual((errors["bad_json", "transcribing"], errors["bad_field", "transcribing"]), (1, 1))
        connection.link.heard(b'{"type":"Error","description":"a word of theirs"}')
        connection.link.heard(b'{"type":"Tomorrow"}')
        self.assertEqual(errors["upstream_failed", "transcribing"], 1)
        for _ in range(UNREADABLE_MAX_COUNT):
            self.assertFalse(connection.aborted)
            connection.link.heard(b"x")
        self.assertTrue(connection.aborted)
        self.assertEqual(dict(self.world.metrics.transcriber_disconnects), {"unreadable": 1})

    def test_cut_it_says_what_was_not_heard(self) -> None:
        connection = self.open()
        over: list[None] = []
        self.transcriber.when_over().addCallback(over.append)
        self.transcriber.cut()
        self.transcriber.cut()
        self.speak()
        self.assertEqual((connection.aborted, over), (True, [None]))
        gap = {"from_ms": 0, "to_ms": 20, "reason": "ended"}
        self.assertEqual(self.world.events, [("transcript_gap", gap)])
        self.transcriber.finish().addCallback(over.append)
        self.assertEqual((over, len(self.world.deadlines)), ([None, None], 0))

    def test_it_does_not_wait_for_ever(self) -> None:
        connection = self.open()
        over: list[None] = []
        self.transcriber.finish().addCallback(over.append)
        self.world.pump(3.2)
        self.assertEqual((over, connection.aborted), ([None], True))

    def test_a_failure_of_ours_stays_here(self) -> None:
        connection = self.open()
        over: list[None] = []
        self.transcriber.when_over().addCallback(over.append)
        self.listener.heard = None  # type: ignore[assignment]
        connection.link.heard(results(0, 0.02))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.assertEqual(self.world.metrics.errors["internal", "transcribing"], 1)
        self.assertEqual((connection.aborted, over, len(self.world.deadlines)), (True, [None], 0))
        self.speak(3)
        connection.link.heard(results(0, 0.02))
        self.assertEqual(self.world.metrics.errors["internal", "transcribing"], 1)

    def test_a_listener_may_end_it(self) -> None:
        connection = self.open()
        self.listener.transcript = lambda _: self.transcriber.cut()  # type: ignore[method-assign]
        connection.link.heard(results(0, 0.02))
        self.assertTrue(connection.aborted)
        self.assertEqual(self.world.metrics.errors["internal", "transcribing"], 0)

