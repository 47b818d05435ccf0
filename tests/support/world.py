"""Whole sessions in plain calls: a fake peer on one side, a fake bus on the other, a fake clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from voiceingest.audio import AudioFormat
from voiceingest.auth.resume import ResumeTokens
from voiceingest.deadlines import Deadlines
from voiceingest.driver import StreamDriver
from voiceingest.errors import VoiceIngestError
from voiceingest.house import House
from voiceingest.interfaces import Claims, IStreamSink, StreamFacts
from voiceingest.metrics import Metrics
from voiceingest.registry import Registry
from voiceingest.session_interfaces import ILiveStream
from voiceingest.stream import NO_WISH, StreamRules, Wish

AUDIO = AudioFormat()
FRAME = bytes(960)
WALL = 1_700_000_000.0


def ledger(received: int, published: int, dropped: int = 0, **drops: int) -> dict[str, Any]:
    """The account of so many frames ``FRAME``."""
    samples = len(FRAME) // 2
    pending = received - published - dropped
    return {
        "received": received,
        "published": published,
        "dropped": dropped,
        "pending": pending,
        "samples": received * samples,
        "samples_published": published * samples,
        "samples_dropped": dropped * samples,
        "samples_pending": pending * samples,
        "drops": drops,
    }


class Far:
    """The peer: notes what it is told, and hears nothing once it was closed, as behind a socket."""

    transport_name = "ingest"
    request_id = "id-1"

    def __init__(self, order: list[str]) -> None:
        self.order = order
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.acks: list[int] = []
        self.pauses: list[float] = []
        self.closed: tuple[int, str] | None = None

    def say(self, event: str, **fields: Any) -> None:
        """Note it."""
        if self.closed is None:
            self.said.append((event, fields))
            self.order.append(f"say {event}")

    def say_error(self, error: VoiceIngestError) -> None:
        """Note its code."""
        self.say("error", code=error.code)

    def ack(self, seq: int) -> None:
        """Note it."""
        if self.closed is None:
            self.acks.append(seq)
            self.order.append(f"ack {seq}")

    def pause(self, seconds: float) -> None:
        """Note it."""
        self.pauses.append(seconds)

    def close(self, code: int, reason: str) -> None:
        """Note the first."""
        if self.closed is None:
            self.closed = (code, reason)
            self.order.append(f"close {code}")

    def last(self, event: str) -> dict[str, Any]:
        """The fields of the newest ``event``."""
        return next(fields for name, fields in reversed(self.said) if name == event)

    def words(self) -> list[str]:
        """The events it was told; errors by their code."""
        return [fields["code"] if event == "error" else event for event, fields in self.said]


class Lane:
    """The bus: keeps frames until the test says what became of them."""

    def __init__(self, facts: StreamFacts, sink: IStreamSink, order: list[str]) -> None:
        self.facts = facts
        self.sink = sink
        self.order = order
        self.frames: list[tuple[int, int, bytes]] = []
        self.open: list[int] = []
        self.sizes: dict[int, int] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.closed = False

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        """Take a frame."""
        assert not self.closed, "a frame after the last"
        self.frames.append((seq, timestamp_ms, audio))
        self.open.append(seq)
        self.sizes[seq] = len(audio)
        self.order.append(f"frame {seq}")

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Take an event."""
        self.events.append((event, fields))
        self.order.append(f"bus {event}")

    def close(self) -> None:
        """No more will come."""
        assert not self.closed, "closed twice"
        self.closed = True
        self.order.append("lane closed")

    def confirm(self, count: int = 10_000) -> None:
        """Confirm the oldest ``count`` frames."""
        for seq in self.open[:count]:
            self.open.remove(seq)
            self.sink.confirmed(seq, self.sizes[seq])

    def drop(self, first: int, last: int, reason: str = "overflow") -> None:
        """Give up some frames."""
        self.open = [seq for seq in self.open if not first <= seq <= last]
        self.sink.dropped(first, last, reason, sum(self.sizes[seq] for seq in range(first, last + 1)))

    def withdraw(self, after_seq: int) -> tuple[int, int]:
        """Give back all that is open."""
        returned = [seq for seq in self.open if seq > after_seq]
        self.open = [seq for seq in self.open if seq <= after_seq]
        return len(returned), sum(self.sizes[seq] for seq in returned)


class Records:
    """Notes what streams tell of themselves (``IStreamRecords``), and that each begins and ends once."""

    def __init__(self) -> None:
        self.began_with: dict[ILiveStream, tuple[StreamFacts, str, str]] = {}
        self.ended_with: dict[ILiveStream, tuple[str, int]] = {}

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """Note it."""
        assert stream not in self.began_with, "begun twice"
        self.began_with[stream] = facts, subject, transport

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """Note it."""
        assert stream in self.began_with, "ended before it began"
        assert stream not in self.ended_with, "ended twice"
        self.ended_with[stream] = reason, frames

    @property
    def live(self) -> list[ILiveStream]:
        """Those that have not ended, the oldest first."""
        return [stream for stream in self.began_with if stream not in self.ended_with]

    @property
    def ends(self) -> list[tuple[str, int]]:
        """How each has ended, in order."""
        return list(self.ended_with.values())


class World:
    """A house whose every part is a fake, and the connections in it."""

    ready = None
    lane_class: type[Lane] = Lane

    def __init__(self, *, clock: Clock | None = None, **rules: Any) -> None:
        """``house`` may be given another publisher, before anybody connects."""
        self.clock = clock or Clock()
        self.metrics = Metrics()
        self.registry = Registry(self.clock)
        self.deadlines = Deadlines(self.clock)
        self.order: list[str] = []
        self.lanes: list[Lane] = []
        self.records = Records()
        self.verdicts: dict[str, Deferred[Claims]] = {}
        self.broken = False
        self.house = House(
            rules=StreamRules(**rules),
            publisher=self,
            registry=self.registry,
            authenticator=self,
            deadlines=self.deadlines,
            clock=self.clock,
            wall_clock=lambda: WALL + self.clock.seconds(),
            metrics=self.metrics,
            tokens=ResumeTokens("s" * 32, rules.get("resume_window_s", 0.0), self.wall),
            records=self.records,
        )

    def wall(self) -> float:
        """The wall clock, in step with the other."""
        return WALL + self.clock.seconds()

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> Lane:
        """IPublisher."""
        if self.broken:
            raise RuntimeError("no lane")
        self.lanes.append(self.lane_class(facts, sink, self.order))
        return self.lanes[-1]

    def verify(self, token: str) -> Deferred[Claims]:
        """IAuthenticator: what the test has put in ``verdicts``, for one check."""
        return self.verdicts.pop(token)

    def reload(self) -> None:
        """IAuthenticator."""

    def claims(self, **changes: Any) -> Claims:
        """An hour's credential of ``acme``; ``expires_in`` is in seconds from now."""
        lapses_at = WALL + self.clock.seconds() + changes.pop("expires_in", 3600.0)
        given = {"subject": "s", "tenant_id": "acme", "interaction_id": None, "expires_at": lapses_at}
        return Claims(**{**given, **changes})

    def connect(self, **claims: Any) -> tuple[StreamDriver, Far]:
        """A connection that stands."""
        far = Far(self.order)
        driver = StreamDriver(far, self.claims(**claims), self.house)
        driver.opened()
        return driver, far

    def live(
        self, interaction_id: str = "call", wish: Wish = NO_WISH, **claims: Any
    ) -> tuple[StreamDriver, Far, Lane]:
        """A stream that was started."""
        driver, far = self.connect(**claims)
        driver.start("acme", interaction_id, AUDIO, wish)
        return driver, far, self.lanes[-1]

    def pump(self, seconds: float) -> None:
        """Let time go by in steps too short to be taken for a stall."""
        self.clock.pump([0.25] * int(seconds * 4))
