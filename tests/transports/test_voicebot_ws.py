"""A call in plain calls: what Exotel says becomes frames and events, what an agent says becomes messages."""

from __future__ import annotations

import base64
import gc
import json
import math
import sys
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from tests.calls.test_call import CHUNK, Noting, quiet, tone
from tests.support.case import SynchronousTestCase
from tests.support.world import Lane, World
from voiceingest.agents import Agent
from voiceingest.agents.echo import Echo
from voiceingest.call_interfaces import AgentContext, ICall, IListener
from voiceingest.calls.call import CallRules
from voiceingest.calls.switchboard import Desk, Switchboard
from voiceingest.interfaces import Claims, Handshake, IPublisher
from voiceingest.transports.voicebot_ws import VoicebotSession, VoicebotTransport
from voiceingest.wire.g711 import pcm16_to_ulaw, ulaw_to_pcm16

ANY = Claims("exotel", None, None, math.inf, any_tenant=True)
FRAME = tone(0.1)


class Socket:
    """What a session asks of a connection."""

    address = "192.0.2.1"

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.sent: list[dict[str, Any]] = []
        self.pauses: list[float] = []
        self.closed: list[tuple[int, str]] = []

    def send_text(self, payload: bytes) -> None:
        if not self.closed:
            self.sent.append(json.loads(payload))

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class Words:
    """Transcribing, as far as the switchboard sees it."""

    def __init__(self) -> None:
        self.listeners: list[IListener | None] = []

    def around(self, publisher: IPublisher, listener: IListener | None = None) -> IPublisher:
        self.listeners.append(listener)
        return publisher


class VoicebotCase(SynchronousTestCase):
    """A world with a switchboard in it, and one connection."""

    world_class: type[World] = World

    def setUp(self) -> None:
        self.build()

    def build(self, *, transcribes_all: bool = False, **rules: Any) -> None:
        self.world = self.world_class(**{"resume_window_s": 30.0, **rules})
        self.words = Words()
        self.spent: list[str] = []
        self.agents: list[Any] = []
        desk = Desk(
            CallRules(), "noting", self.make_agent, cast("AgentContext", None), self.world, self.words,
            transcribes_all, "default", 65536,
        )  # fmt: skip
        self.board = Switchboard(self.world.house, desk)
        self.transport = VoicebotTransport(self.board, "/voicebot/ws", self.spent.append)
        self.session, self.socket = self.connect()

    def make_agent(self, context: AgentContext) -> Agent:
        self.agents.append(Noting())
        return cast("Agent", self.agents[-1])

    def connect(self, claims: Claims = ANY, **query: str) -> tuple[VoicebotSession, Socket]:
        socket = self.make_socket(f"id-{len(self.agents)}")
        asked = {name.replace("_", "-"): [value] for name, value in query.items()}
        shake = Handshake("192.0.2.1", query=asked)
        session = self.transport.session(socket, claims, shake)  # type: ignore[arg-type]
        session.opened()
        return session, socket

    def make_socket(self, request_id: str) -> Socket:
        return Socket(request_id)

    def say(self, event: str, session: VoicebotSession | None = None, **fields: Any) -> None:
        (session or self.session).text(json.dumps({"event": event, **fields}).encode())

    def start(self, session: VoicebotSession | None = None, rate: str = "8000", **fields: Any) -> None:
        form = {"encoding": fields.pop("encoding", "audio/x-raw"), "sample_rate": rate, "bit_rate": "16"}
        begin = {"stream_sid": "sid-1", "call_sid": "call-1", "media_format": form, **fields}
        self.say("start", session, sequence_number="1", stream_sid="sid-1", start=begin)

    def media(self, pcm: bytes, number: int = 2, session: VoicebotSession | None = None) -> None:
        payload = {"chunk": str(number - 1), "timestamp": "0", "payload": base64.b64encode(pcm).decode()}
        self.say("media", session, sequence_number=str(number), stream_sid="sid-1", media=payload)

    @property
    def lane(self) -> Lane:
        return self.world.lanes[-1]

    @property
    def agent(self) -> Noting:
        return cast("Noting", self.agents[-1])

    def events(self) -> list[str]:
        return [event for event, _ in self.lane.events]


class Calling(VoicebotCase):
    def test_a_whole_call(self) -> None:
        self.say("connected")
        self.start()
        for number in range(2, 12):
            self.media(FRAME, number)
        self.say("dtmf", sequence_number=12, dtmf={"digit": "5", "duration": "200"})
        self.say("stop", sequence_number="13", stop={"reason": "callended"})
        self.assertEqual([audio for _, _, audio in self.lane.frames], [FRAME] * 10)
        self.assertEqual((self.lane.facts.tenant_id, self.lane.facts.interaction_id), ("default", "call-1"))
        self.assertEqual(self.lane.facts.audio.sample_rate, 8000)
        self.assertEqual(self.agent.words(), ["begin", "dtmf", "end"])
        self.assertEqual(self.socket.closed, [])
        self.lane.confirm()
        self.assertEqual(self.events(), ["started", "dtmf", "stopped"])
        self.assertEqual(self.lane.events[1][1], {"digit": "5", "duration_ms": 200})
        self.assertEqual(self.lane.events[-1][1]["published"], 10)
        self.assertEqual(self.socket.closed, [(1000, "")])
        # Nothing of our own dialect was said to Exotel.
        self.assertEqual(self.socket.sent, [])

    def test_every_message_is_counted_by_its_event(self) -> None:
        for event in ("connected", "clear", "silence", "no-such-thing"):
            self.say(event)
        self.say("mark", mark={"name": "m"})
        self.session.text(b"{")
        self.session.binary(b"ab")
        self.start()
        self.media(FRAME)
        counted = self.world.metrics.call_messages
        self.assertEqual({name: counted[name] for name in ("connected", "start", "media", "mark")},
                         {"connected": 1, "start": 1, "media": 1, "mark": 1})  # fmt: skip
        self.assertEqual((counted["clear"], counted["unknown"], counted["bad"]), (1, 2, 2))

    def test_media_before_the_start_is_held_for_a_second(self) -> None:
        self.media(b"\1\0" * 100, 1)
        self.world.clock.advance(0.9)
        self.media(b"\2\0" * 100, 2)
        self.world.clock.advance(0.5)
        self.start()
        self.media(b"\3\0" * 100, 3)
        self.assertEqual([audio[0] for _, _, audio in self.lane.frames], [2, 3])
        self.assertEqual(self.world.metrics.call_media_dropped["early"], 1)

    def test_what_was_held_comes_first_and_in_its_order(self) -> None:
        for number in (1, 2, 3):
            self.media(bytes([number, 0]) * 100, number)
        self.start()
        self.media(b"\4\0" * 100, 4)
        self.assertEqual([audio[0] for _, _, audio in self.lane.frames], [1, 2, 3, 4])
        self.assertEqual([pcm[0] for _, pcm in self.agent.heard[1:]], [1, 2, 3, 4])

    def test_a_call_that_never_starts_is_closed(self) -> None:
        self.media(FRAME)
        self.world.pump(11.0)
        self.assertEqual(self.socket.closed, [(4408, "start_timeout")])
        self.assertEqual(self.agent.heard, [])

    def test_what_is_broken_is_skipped_and_the_call_goes_on(self) -> None:
        self.start()
        for bad in (b"", b"[]", b'{"event":', b'{"event":"media","media":{"payload":"%%%"}}', b"\xff",
                    b'{"event":"media"}', b'{"event":"dtmf","dtmf":{"digit":"x"}}'):  # fmt: skip
            self.session.text(bad)
        self.media(b"abc")
        self.media(b"")
        self.media(FRAME)
        self.assertEqual([audio for _, _, audio in self.lane.frames], [FRAME])
        self.assertEqual(self.world.metrics.call_messages["bad"], 7)
        dropped = self.world.metrics.call_media_dropped
        self.assertEqual((dropped["odd"], dropped["empty"]), (1, 1))
        self.assertEqual(self.socket.closed, [])
        # A peer that says nothing else is cut at last.
        for _ in range(101):
            self.session.text(b"{")
        self.assertEqual(self.socket.closed, [(4400, "too_many_errors")])

    def test_a_large_message_becomes_frames_of_the_usual_size(self) -> None:
        pcm = bytes(range(250)) * 400
        self.start()
        self.media(pcm)
        sizes = [len(audio) for _, _, audio in self.lane.frames]
        self.assertEqual((sizes, b"".join(audio for *_, audio in self.lane.frames)), ([65536, 34464], pcm))

    def test_no_frame_ends_within_a_sample(self) -> None:
        object.__setattr__(self.board.desk, "max_frame_bytes", 1001)
        self.start()
        self.media(bytes(2500))
        self.assertEqual([len(audio) for _, _, audio in self.lane.frames], [1000, 1000, 500])

    def test_a_flood_of_mistakes_is_a_few_lines(self) -> None:
        lines: list[LogEvent] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        self.start()
        for _ in range(90):
            self.session.text(b"{")
        refused = [line for line in lines if line.get("event") == "call_error"]
        self.assertEqual((len(refused), self.events().count("error")), (5, 10))
        # And however long the flood was, the next line and the next event are a second away.
        self.world.pump(2.0)
        self.session.text(b"{")
        self.assertEqual(len([one for one in lines if one.get("event") == "call_error"]), 6)
        self.assertEqual(self.events().count("error"), 11)

    def test_missing_messages_are_counted(self) -> None:
        self.start()
        for number in (2, 3, 6, 6, 7):
            self.media(FRAME, number)
        metrics = self.world.metrics
        self.assertEqual((metrics.call_messages_missing, metrics.call_mismatches["sequence"]), (2, 1))
        self.assertEqual(len(self.lane.frames), 5)

    def test_mulaw_is_published_as_pcm_and_answered_as_mulaw(self) -> None:
        spoken = pcm16_to_ulaw(tone(0.1))
        self.start(encoding="audio/x-mulaw")
        self.media(spoken)
        self.assertEqual(self.lane.frames[0][2], ulaw_to_pcm16(spoken))
        self.assertEqual(self.lane.facts.audio.encoding, "pcm16")
        self.agent.call.say(tone(0.4))
        sent = base64.b64decode(self.socket.sent[0]["media"]["payload"])
        self.assertEqual(sent, pcm16_to_ulaw(tone(0.4))[: len(sent)])

    def test_a_second_start_changes_nothing(self) -> None:
        self.start()
        self.start(call_sid="another")
        self.assertEqual((len(self.world.lanes), self.agent.words()), (1, ["begin"]))
        self.assertEqual(self.world.metrics.errors["already_started", "voicebot"], 1)


class Identity(VoicebotCase):
    def test_the_ticket_says_whose_call_it_is_and_is_spent_with_the_start(self) -> None:
        claims = Claims("exotel", "acme", "by-ticket", math.inf)
        session, _ = self.connect(claims, ticket="abc")
        self.assertEqual(self.spent, [])
        self.start(session)
        facts = self.lane.facts
        self.assertEqual((facts.tenant_id, facts.interaction_id), ("acme", "by-ticket"))
        self.assertEqual(self.spent, ["abc"])
        self.assertEqual(self.world.metrics.call_mismatches["call_id"], 1)

    def test_the_rate_of_the_url_where_the_start_says_none(self) -> None:
        session, _ = self.connect(sample_rate="16000")
        self.start(session, rate="")
        self.assertEqual(self.lane.facts.audio.sample_rate, 16000)

    def test_a_custom_parameter_names_the_tenant(self) -> None:
        self.start(custom_parameters={"tenant_id": "acme"})
        self.assertEqual(self.lane.facts.tenant_id, "acme")

    def test_the_record_of_it(self) -> None:
        (before,) = self.board.sessions.shown()["sessions"]
        self.assertEqual((before["isActive"], before["callId"]), (False, ""))
        self.start()
        self.media(FRAME, 2)
        self.agent.call.say(tone(1.0))
        (live,) = self.board.sessions.shown()["sessions"]
        self.assertEqual(
            [live[name] for name in ("callId", "streamSid", "sequenceNumber", "isActive", "sampleRate")],
            ["call-1", "sid-1", 2, True, 8000],
        )
        self.assertGreaterEqual(live["audioChunksBuffered"], 4)
        self.say("stop", sequence_number="3", stop={"reason": "stopped"})
        self.assertFalse(self.board.sessions.shown()["sessions"][0]["isActive"])
        self.session.lost(1000)
        self.assertEqual(self.board.sessions.shown(), {"total": 0, "sessions": []})


class Answering(VoicebotCase):
    def test_what_an_agent_says(self) -> None:
        self.start()
        call = self.agent.call
        said = tone(0.4)
        call.say(said)
        call.mark("done")
        for _ in range(50):
            self.world.clock.advance(0.01)
        media, more, mark = self.socket.sent
        self.assertEqual((media["event"], media["stream_sid"]), ("media", "sid-1"))
        self.assertEqual(base64.b64decode(media["media"]["payload"]), said[:CHUNK])
        self.assertEqual((media["media"]["chunk"], more["media"]["chunk"]), ("1", "2"))
        self.assertEqual((media["media"]["timestamp"], more["media"]["timestamp"]), ("0", "200"))
        self.assertEqual([one["sequence_number"] for one in self.socket.sent], ["1", "2", "3"])
        self.say("mark", mark={"name": mark["mark"]["name"]})
        self.assertEqual(self.agent.heard[-1], ("played", "done"))
        self.assertEqual(self.events()[-1], "mark")

    def test_an_agent_with_a_rate_of_its_own(self) -> None:
        self.agent.sample_rate = 24000
        self.start()
        self.assertEqual(self.agent.call.facts.audio.sample_rate, 24000)
        # The bus has what the line has.
        self.assertEqual(self.lane.facts.audio.sample_rate, 8000)

    def test_barge_in(self) -> None:
        self.start()
        self.media(quiet(1.0))
        self.agent.call.say(tone(5.0))
        self.media(tone(0.2), 3)
        clear = {"event": "clear", "stream_sid": "sid-1", "sequence_number": "3"}
        self.assertEqual(self.socket.sent[-1], clear)
        self.assertEqual(self.agent.words()[-1], "interrupted")
        self.assertEqual(self.events()[-1], "barge_in")

    def test_an_agent_hangs_up_when_all_is_on_the_bus(self) -> None:
        self.start()
        self.media(FRAME)
        self.agent.call.hang_up()
        self.assertEqual((self.agent.heard[-1], self.socket.closed), (("end", "hung_up"), []))
        self.lane.confirm()
        self.assertEqual(self.socket.closed, [(1000, "")])


    def test_what_comes_after_a_hang_up_is_no_mistake_of_the_caller(self) -> None:
        """Exotel goes on sending until it sees the close, which waits for the bus."""
        self.start()
        self.media(FRAME)
        self.agent.call.hang_up()
        for number in range(3, 203):
            self.media(FRAME, number)
        self.say("dtmf", dtmf={"digit": "5"})
        self.say("stop", stop={"reason": "stopped"})
        self.assertEqual((self.events(), self.socket.closed), (["started"], []))
        self.assertEqual(self.world.metrics.call_media_dropped["late"], 200)
        self.lane.confirm()
        self.assertEqual((self.events(), self.socket.closed), (["started", "stopped"], [(1000, "")]))
        self.assertEqual((self.lane.events[-1][1]["reason"], len(self.lane.frames)), ("stopped", 1))

    def test_an_agent_that_hangs_up_at_once(self) -> None:
        def begin(call: Any) -> None:
            Noting.begin(self.agent, call)
            call.hang_up()

        self.agent.begin = begin  # type: ignore[method-assign]
        self.media(FRAME, 1)
        self.start()
        self.assertEqual((self.agent.words(), self.socket.closed), (["begin", "end"], [(1000, "")]))
        self.assertEqual((self.events(), self.lane.frames), (["started", "stopped"], []))
        self.assertEqual(self.world.metrics.calls_active, 0)


class Floods(VoicebotCase):
    def test_what_nobody_needs_is_read_no_faster_than_audio(self) -> None:
        """One message of 160 KiB may take 8 ms to read."""
        self.build(realtime_factor=8.0)
        for _ in range(4):
            self.say("unknown", filling="x" * 160_000)
        self.assertEqual(self.socket.pauses, [])
        self.say("unknown", filling="x" * 160_000)
        (pause,) = self.socket.pauses
        self.assertTrue(0.03 < pause < 0.06, pause)

    def test_no_limit_where_none_is_wanted(self) -> None:
        self.build(realtime_factor=0.0)
        for _ in range(20):
            self.say("unknown", filling="x" * 160_000)
        self.assertEqual(self.socket.pauses, [])


class Ends(VoicebotCase):
    def test_an_upgrade_that_comes_to_nothing_leaves_no_record(self) -> None:
        self.assertEqual(len(self.board.sessions), 1)
        self.transport.session(Socket("id-9"), ANY, Handshake("192.0.2.1"))  # type: ignore[arg-type]
        self.assertEqual(len(self.board.sessions), 1)
        self.session.lost(1006)
        self.assertEqual(len(self.board.sessions), 0)

    def test_a_socket_that_is_closed_without_stop(self) -> None:
        self.start()
        self.media(FRAME)
        self.session.lost(1006)
        self.lane.confirm()
        self.assertEqual((self.events()[-1], self.lane.events[-1][1]["reason"]), ("stopped", "disconnected"))
        self.assertEqual(self.agent.heard[-1], ("end", "disconnected"))
        # No waiting for somebody who has no way to come back.
        self.assertEqual((self.world.registry.detached_count, len(self.world.registry)), (0, 0))

    def test_who_says_stop_and_closes_at_once_has_stopped(self) -> None:
        self.start()
        self.media(FRAME)
        self.say("stop", sequence_number="3", stop={"reason": "callended"})
        self.session.lost(1000)
        self.lane.confirm()
        self.assertEqual((self.events()[-1], self.lane.events[-1][1]["reason"]), ("stopped", "stopped"))
        self.assertEqual(self.agent.heard[-1], ("end", "stopped"))
        self.assertEqual(len(self.world.registry), 0)

    def test_a_newer_connection_of_the_same_call_takes_over(self) -> None:
        self.start()
        other, socket = self.connect()
        self.start(other)
        self.assertEqual(self.socket.closed, [(4409, "replaced")])
        self.assertEqual(self.agents[0].heard[-1], ("end", "replaced"))
        self.media(FRAME, 2, other)
        self.assertEqual((len(self.world.lanes), len(self.lane.frames)), (2, 1))
        self.assertGreater(self.world.lanes[1].facts.epoch, self.world.lanes[0].facts.epoch)
        self.assertEqual((socket.closed, self.agents[1].words()), ([], ["begin"]))

    def test_a_drain_lets_it_finish_and_ends_it_at_the_deadline(self) -> None:
        self.start()
        self.world.registry.drain(30.0)
        self.assertTrue(self.transport.refuse_new())
        self.media(FRAME)
        self.assertEqual((len(self.lane.frames), self.socket.closed), (1, []))
        self.lane.confirm()
        self.world.pump(31.0)
        self.assertEqual(self.socket.closed, [(1001, "draining")])
        self.assertEqual(self.agent.heard[-1], ("end", "draining"))

    def test_a_call_of_another_tenant_is_refused(self) -> None:
        self.start()
        other, socket = self.connect(Claims("exotel", "stranger", None, math.inf))
        self.start(other)
        self.assertEqual(socket.closed, [(4403, "forbidden")])
        self.assertEqual((self.socket.closed, self.agents[1].heard), ([], []))
        self.assertEqual(self.world.metrics.calls_active, 1)


class Transcribed(VoicebotCase):
    def test_an_agent_that_wants_words_has_a_transcriber_for_its_call(self) -> None:
        self.assertEqual(self.words.listeners, [])
        Noting.wants_transcripts = True
        self.addCleanup(setattr, Noting, "wants_transcripts", False)
        session, _ = self.connect()
        self.assertEqual(self.words.listeners, [session])

    def test_where_everything_is_transcribed_its_agent_hears_it_as_well(self) -> None:
        self.build(transcribes_all=True)
        self.assertEqual(self.words.listeners, [self.session])


# How late a mark comes back, and a message comes, at worst.
LATE_S = 0.3
JITTER_S = 0.04
# Of a line on which nothing is to be played.
NOTHING = -1.0


class Passing(Lane):
    """A bus that keeps nothing: a frame is confirmed when the next one comes."""

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        if seq > 1:
            self.sink.confirmed(seq - 1, len(audio))

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        pass


class Ear(Socket):
    """Exotel's end of an hour: plays in real time what comes, echoes marks late, and keeps nothing.

    Whatever is not the next of ``said`` is found at once. ``ends_at`` is when all that came has been
    played, ``silent_s`` for how long it had nothing to play once it had begun.
    """

    def __init__(self, clock: Clock, said: bytearray) -> None:
        super().__init__("id-1")
        self._clock = clock
        self._said = said
        self._chance = Random(4)
        self.marks: deque[tuple[float, str]] = deque()
        self.ends_at = NOTHING
        self.silent_s = 0.0
        self.sent_bytes = self.cleared_bytes = self.clears = self.lost_marks = 0
        self.timestamp_ms = 0

    def send_text(self, payload: bytes) -> None:
        message = json.loads(payload)
        now = self._clock.seconds()
        if message["event"] == "media":
            self.timestamp_ms = int(message["media"]["timestamp"])
            self._play(base64.b64decode(message["media"]["payload"]), now)
        elif message["event"] == "mark":
            self._mark(message["mark"]["name"])
        else:
            self.clears += 1
            self.cleared_bytes += len(self._said)
            self._said.clear()
            self.marks.clear()
            self.ends_at = NOTHING

    def _play(self, pcm: bytes, now: float) -> None:
        assert self._said.startswith(pcm), "not what was said"
        del self._said[: len(pcm)]
        self.sent_bytes += len(pcm)
        if self.ends_at != NOTHING:
            self.silent_s += max(0.0, now - self.ends_at)
        self.ends_at = max(now, self.ends_at) + len(pcm) / 16000

    def _mark(self, name: str) -> None:
        if self._chance.random() < 0.02:
            self.lost_marks += 1
        else:
            self.marks.append((self.ends_at + self._chance.uniform(0.0, LATE_S), name))

    def played(self) -> Iterator[str]:
        """The marks that come back by now."""
        while self.marks and self.marks[0][0] <= self._clock.seconds():
            yield self.marks.popleft()[1]


class Parrot(Echo):
    """The echo, which also tells the test what it says."""

    said: bytearray

    def audio(self, pcm: bytes) -> None:
        self.said += pcm
        super().audio(pcm)


class Talker(Agent):
    """Never at a loss for words: pieces of any length, a second ahead, marks now and then."""

    said: bytearray

    def begin(self, call: ICall) -> None:
        super().begin(call)
        self._chance = Random(5)
        self.ticks = self.total = self.marked = self.marks_played = self.interruptions = 0

    def audio(self, pcm: bytes) -> None:
        self.ticks += 1
        if self.ticks % 50 == 0:
            self._mark()
        while self.call.queued_ms < 1000:
            piece = self._chance.randbytes(2 * self._chance.randint(1, 1200))
            self.said += piece
            self.total += len(piece)
            self.call.say(piece)

    def played(self, mark: str) -> None:
        self.marks_played += 1

    def interrupted(self) -> None:
        self.interruptions += 1

    def _mark(self) -> None:
        """A mark flushes, and what that pads a piece with is silence."""
        padding = bytes(-len(self.said) % 320)
        self.said += padding
        self.total += len(padding)
        self.marked += 1
        self.call.mark(f"sentence {self.marked}")


def traced_bytes() -> int:
    """What is in use of all that was asked for since tracing began, by others than this module."""
    gc.collect()
    kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, __file__)])
    return sum(trace.size for trace in kept.traces)


class Endless(World):
    lane_class = Passing


class HourCase(VoicebotCase):
    """An hour of call in seconds."""

    world_class = Endless
    agent_type: type[Any]

    def setUp(self) -> None:
        self.said = bytearray()
        super().setUp()

    def make_agent(self, context: AgentContext) -> Agent:
        agent = self.agent_type(context)
        agent.said = self.said
        self.agents.append(agent)
        return cast("Agent", agent)

    def make_socket(self, request_id: str) -> Socket:
        self.ear = Ear(self.world.clock, self.said)
        return self.ear

    def counted(self) -> tuple[int, ...]:
        """What could grow, as far as it can be counted from outside."""
        (shown,) = self.board.sessions.shown()["sessions"]
        world = self.world
        return (shown["audioChunksBuffered"], len(world.deadlines), len(world.clock.getDelayedCalls()))

    def live(self, pcm: Callable[[int], bytes], each_minute: Callable[[int], None]) -> None:
        """36000 messages of 100 ms, each a little late; marks come back in between.

        What is left behind is counted in blocks from minute 10 on and in bytes, which costs more time
        than the whole call, in the last 8.
        """
        self.start()
        chance, clock = Random(6), self.world.clock
        message = b'{"event":"media","sequence_number":"%d","media":{"payload":"%b"}}'
        blocks = traced = most = 0
        for number in range(36000):
            if number == 6000:
                gc.collect()
                blocks = sys.getallocatedblocks()
            elif number == 30000:
                self.addCleanup(tracemalloc.stop)
                tracemalloc.start()
            elif number == 31200:
                traced = traced_bytes()
            due = number * 0.1 + chance.uniform(0.0, JITTER_S)
            while due - clock.seconds() > 0.001:
                clock.advance(min(0.05, due - clock.seconds()))
            for label in self.ear.played():
                self.say("mark", mark={"name": label})
            self.session.text(message % (number + 2, base64.b64encode(pcm(number))))
            if number % 600 == 599:
                most = max(most, *self.counted())
                each_minute(number // 600 + 1)
        self.assertLess(traced_bytes() - traced, 16 * 1024)
        self.assertLess(sys.getallocatedblocks() - blocks, 1000)
        self.assertLessEqual(most, 7)
        self.assertEqual(self.session.session.sequence_number, 36001)
        self.assertEqual(self.world.metrics.call_messages_missing, 0)


class AnHourOfEcho(HourCase):
    agent_type = Parrot

    def test_it_is_the_same_to_the_last_sample_and_on_time(self) -> None:
        pcm = [Random(number).randbytes(1600) for number in range(50)]
        behind: list[float] = []

        def each_minute(minute: int) -> None:
            behind.append(minute * 60 - self.ear.sent_bytes / 16000)

        self.live(lambda number: pcm[number % 50], each_minute)
        # A whole chunk is never held back: not in the first minute, not in the last.
        self.assertLessEqual(max(behind), 0.2)
        self.world.pump(1.0)
        self.assertEqual((len(self.said), self.ear.sent_bytes), (0, 36000 * 1600))
        self.assertEqual(self.ear.timestamp_ms, 3600_000 - 200)
        # The first chunk was whole after 200 ms at the latest; from then on nobody waited for more
        # than what a late message costs, once: the last is played an hour and a chunk after the begin.
        self.assertLess(self.ear.silent_s, JITTER_S)
        self.assertLess(self.ear.ends_at - 3600.0, 0.2 + JITTER_S)
        self.assertEqual(sum(self.world.metrics.playback_dropped.values()), 0)


class AnHourOfTalk(HourCase):
    agent_type = Talker

    def test_it_is_in_real_time_and_interrupted_in_vain(self) -> None:
        loud, silent = tone(0.1), bytes(1600)

        def pcm(number: int) -> bytes:
            # Half a second of the caller's voice every three minutes.
            return loud if number % 1800 >= 1795 else silent

        self.ahead: list[float] = []
        self.wrong: list[float] = []
        self.live(pcm, self.look)
        ear, agent, metrics = self.ear, self.agents[0], self.world.metrics
        self.assertEqual((ear.clears, agent.interruptions, metrics.barge_ins), (20, 20, 20))
        # What was said has been sent, was cut off, or waits.
        self.assertEqual(agent.total, ear.sent_bytes + ear.cleared_bytes + len(self.said))
        self.assertEqual(metrics.playback_dropped["overflow"], 0)
        # Never silent, and never further ahead of the clock than the lead and the chunk it lets go:
        # as much in the last minute as in the first.
        self.assertEqual(round(ear.silent_s, 6), 0)
        self.assertGreater(min(self.ahead), 0.0)
        self.assertLessEqual(max(self.ahead), 0.4)
        self.assertLess(abs(self.ahead[-2] - self.ahead[0]), 0.2)
        # Where the caller is, is known as well as its marks are.
        self.assertLessEqual(max(self.wrong), 200 + LATE_S * 1000)
        marks = metrics.marks
        self.assertEqual((agent.marked, agent.marks_played > 600), (720, True))
        self.assertLessEqual(agent.marked - marks["played"] - marks["lost"], 3)
        self.assertGreater(min(ear.lost_marks, marks["lost"]), 0)

    def look(self, minute: int) -> None:
        """How far ahead of real time the line is, and how well the daemon knows."""
        agent, now = self.agents[0], self.world.clock.seconds()
        if minute % 3 == 0:
            return
        self.ahead.append(self.ear.ends_at - now)
        queued = (self.ear.ends_at - now) * 1000 + len(self.said) / 16
        self.wrong.append(abs(agent.call.queued_ms - queued))
