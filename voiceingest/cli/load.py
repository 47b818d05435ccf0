"""The load of a benchmark: many streams of marked frames, on one timer, at little cost for each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, gatherResults
from twisted.internet.task import deferLater

from .client import IngestClient
from .reckoning import Reckoning
from .running import Interrupt
from .streams import OPENING_MAX_COUNT, Plan, Stream, StreamReport
from .watermark import Mark, marked

# Frames in a row before what has come is read.
BURST_FRAMES: Final = 32

# A frame that goes out so late says that this program, and not the daemon, is what is measured.
LATE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Dose:
    """How much: ``frame_samples`` in each frame, for ``seconds``; ``run`` is the name in the marks."""

    run: bytes
    frame_samples: int
    seconds: float


def now_us() -> int:
    """Microseconds of the clock that marks carry: that of the machine, the same in every process."""
    return time.monotonic_ns() // 1000


class Speaker:
    """Says the frames of one stream."""

    def __init__(self, number: int, dose: Dose, client: IngestClient) -> None:
        self._number = number
        self._dose = dose
        self.client = client
        self.samples = 0

    def speak(self) -> None:
        """Send the next frame. Nothing once the stream has ended."""
        if self.client.ending is None:
            mark = Mark(self._number, self.samples, now_us(), self._dose.frame_samples)
            self.client.send(marked(self._dose.run, mark))
            self.samples += mark.samples


class Load:
    """All streams of a run. ``late_max_s`` and ``late_count`` tell how well this program kept time."""

    def __init__(
        self, reactor: Any, plan: Plan, interactions: list[str], dose: Dose, interrupt: Interrupt
    ) -> None:
        self._reactor = reactor
        self._plan = plan
        self._dose = dose
        self._interrupt = interrupt
        self._streams = [Stream(reactor, plan, name, interrupt) for name in interactions]
        self._speakers: list[Speaker] = []
        self._beat = 0
        self._start_s = 0.0
        self._done: Deferred[None] = Deferred()
        self.frames = 0
        self.late_max_s = 0.0
        self.late_count = 0

    @property
    def sent(self) -> dict[str, int]:
        """For each interaction, how many samples of it have been sent."""
        sent = dict.fromkeys((stream.interaction_id for stream in self._streams), 0)
        for stream in self._streams:
            sent[stream.interaction_id] = stream.report.tally.sent_frames * self._dose.frame_samples
        return sent

    async def open(self, reckoning: Reckoning) -> None:
        """Begin every stream; ``reckoning`` is told of each numbering."""
        gate = DeferredSemaphore(OPENING_MAX_COUNT)
        opening = [ensureDeferred(self._open(stream, gate, reckoning)) for stream in self._streams]
        opened = await gatherResults(opening, consumeErrors=True)
        self._speakers = [
            Speaker(number, self._dose, client)
            for number, client in enumerate(opened)
            if client is not None
        ]

    async def _open(
        self, stream: Stream, gate: DeferredSemaphore, reckoning: Reckoning
    ) -> IngestClient | None:
        client = await stream.open(gate)
        if client is None:
            return None

        def told(message: dict[str, Any]) -> None:
            if message.get("event") == "started":
                reckoning.began(stream.interaction_id, message.get("epoch"), client.tally.base)

        client.on_event = told
        told(client.tally.started or {})
        return client

    async def run(self) -> None:
        """Speak for as long as the dose says, or until an interrupt."""
        if not self._speakers:
            return
        self._start_s = self._reactor.seconds()
        if self._plan.frame_s > 0:
            self._tick()
            await self._done
        else:
            flat_out = [ensureDeferred(self._flat_out(speaker)) for speaker in self._speakers]
            await gatherResults(flat_out, consumeErrors=True)

    async def stop(self) -> list[StreamReport]:
        """Stop every stream; how each went."""
        stopping = [ensureDeferred(stream.stop()) for stream in self._streams]
        return await gatherResults(stopping, consumeErrors=True)

    def _tick(self) -> None:
        """All frames that are due, and a timer for the next: one timer for all streams."""
        count, frame_s = len(self._speakers), self._plan.frame_s
        beats = count * max(1, round(self._dose.seconds / frame_s))
        for _ in range(BURST_FRAMES):
            if self._beat >= beats or self._interrupt.asked:
                self._done.callback(None)
                return
            turn, place = divmod(self._beat, count)
            late_s = self._reactor.seconds() - self._start_s - (turn + 1 + place / count) * frame_s
            if late_s < 0:
                self._reactor.callLater(-late_s, self._tick)
                return
            self.late_max_s = max(self.late_max_s, late_s)
            self.late_count += late_s > LATE_S
            self._speakers[place].speak()
            self._beat += 1
            self.frames += 1
        self._reactor.callLater(0, self._tick)

    async def _flat_out(self, speaker: Speaker) -> None:
        end_s = self._start_s + self._dose.seconds
        while self._reactor.seconds() < end_s and not self._interrupt.asked:
            for _ in range(BURST_FRAMES):
                if not await speaker.client.room():
                    return
                speaker.speak()
                self.frames += 1
            await deferLater(self._reactor, 0)


