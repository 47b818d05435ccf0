"""Lets every stream of a publisher be transcribed: a lane that hands its frames to a transcriber too.

The frame goes to the bus first. What is heard comes onto the events channel by the stream's own lane,
so that lane stays open until the transcriber has finished: 3 s at most, and not at all where the same
interaction has begun anew meanwhile, whose lane waits for this one.
"""

from __future__ import annotations

import random
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..call_interfaces import IListener
from ..config import Settings
from ..deadlines import Deadlines
from ..interfaces import ILane, IPublisher, IStreamSink, StreamFacts
from ..metrics import Metrics
from .dial import Dial
from .notices import Notices
from .transcriber import Means, Transcriber

# How long a shutdown waits for the last words of all streams together.
STOP_S: Final = 1.0

# What a transcriber can be fed; the wire says the same in its own word.
_ENCODING: Final = "pcm16"


class TappedLane:
    """A lane whose frames are transcribed (``ILane``)."""

    def __init__(self, inner: ILane, transcriber: Transcriber) -> None:
        self._inner = inner
        self._transcriber = transcriber
        self._is_closed = self._is_succeeded = False

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        """Hand over one frame, to the bus and to the transcriber."""
        if self._is_closed:
            # The lane below is to say so, and it is still open for the last words.
            self._transcriber.cut()
        self._inner.publish(seq, timestamp_ms, audio)
        self._transcriber.audio(audio)

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event of this stream on the events channel."""
        self._inner.publish_event(event, fields)

    def close(self) -> None:
        """No more frames will come; the last words still may."""
        self._is_closed = True
        self._transcriber.finish().addCallback(lambda _: self._inner.close())
        if self._is_succeeded:
            self._transcriber.cut()

    def withdraw(self, after_seq: int) -> tuple[int, int]:
        """Take back the unsent frames after ``after_seq``."""
        return self._inner.withdraw(after_seq)

    def succeeded(self) -> None:
        """The interaction has begun anew: nobody waits for last words."""
        self._is_succeeded = True
        if self._is_closed:
            self._transcriber.cut()


class Transcribing:
    """Transcribes the streams of every publisher it is put ``around``."""

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any, metrics: Metrics, trust: Any = None) -> None:
        """``trust`` replaces the platform's authorities. Raises: ``SettingsError``."""
        self._deadlines = Deadlines(reactor)
        self._metrics = metrics
        self._now = reactor.seconds
        dial, notices = Dial(settings, reactor, trust), Notices(reactor)
        self._means = Means(settings, dial, reactor, self._deadlines, metrics, notices, random.random)
        self._live: set[Transcriber] = set()
        self._newest: dict[tuple[str, str], TappedLane] = {}
        self._stopped: Deferred[None] | None = None

    def around(self, publisher: IPublisher, listener: IListener | None = None) -> IPublisher:
        """The same publisher, with its streams transcribed; ``listener`` hears what the channel does."""
        return _Tapped(self, publisher, () if listener is None else (listener,))

    def start(self) -> None:
        """Nothing: connections are made when there is audio."""

    def stop(self) -> Deferred[None]:
        """Let every stream finish, for ``STOP_S`` at most."""
        if self._stopped is None:
            self._stopped = Deferred()
            self._deadlines.wake(self._cut_all, self._now() + STOP_S)
            for transcriber in list(self._live):
                transcriber.finish()
            self._look_stopped()
        return self._stopped

    def tap(self, facts: StreamFacts, inner: ILane, listeners: tuple[IListener, ...]) -> ILane:
        """The lane of one stream, transcribed where that can be; called by what ``around`` returns."""
        name = (facts.tenant_id, facts.interaction_id)
        before = self._newest.pop(name, None)
        if before is not None:
            before.succeeded()
        if self._stopped is not None or facts.audio.encoding != _ENCODING:
            return inner
        try:
            transcriber = Transcriber(facts.audio, self._means, inner.publish_event, listeners)
        except Exception:
            self._metrics.errors["internal", "transcribing"] += 1
            self._log.failure("A transcription failed", event="transcription_failed")
            return inner
        lane = self._newest[name] = TappedLane(inner, transcriber)
        self._live.add(transcriber)
        transcriber.when_over().addCallback(lambda _: self._over(transcriber, name, lane))
        return lane

    def _over(self, transcriber: Transcriber, name: tuple[str, str], lane: TappedLane) -> None:
        self._live.discard(transcriber)
        if self._newest.get(name) is lane:
            del self._newest[name]
        self._look_stopped()

    def _cut_all(self, now: float) -> float:
        for transcriber in list(self._live):
            transcriber.cut()
        return float("inf")

    def _look_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.called and not self._live:
            self._deadlines.stop()
            self._stopped.callback(None)


class _Tapped:
    """A publisher with its streams transcribed (``IPublisher``)."""

    def __init__(
        self, transcribing: Transcribing, publisher: IPublisher, listeners: tuple[IListener, ...]
    ) -> None:
        self._transcribing = transcribing
        self._publisher = publisher
        self._listeners = listeners

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> ILane:
        """Open the way for one stream."""
        return self._transcribing.tap(facts, self._publisher.open_lane(facts, sink), self._listeners)

    @property
    def ready(self) -> str | None:
        """As the publisher says: a bus without Deepgram takes frames as well."""
        return self._publisher.ready
