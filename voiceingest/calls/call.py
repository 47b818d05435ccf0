"""A live call: what it hears goes to its agent, what the agent says goes out at the pace of speech.

It knows no dialect: its leg writes what is to be sent. All that an agent is told passes through its
``patience``: one that fails costs its answer, never the call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..call_interfaces import CallFacts, IAgent, Transcript
from ..deadlines import Deadlines
from ..interfaces import IClock
from ..metrics import Metrics
from ..stream.framer import exotel_profile
from ..stream.playback import Chunk, Playback
from ..stream.resampler import Resampler
from ..stream.vad import EnergyVad, Voice
from ..wire.g711 import pcm16_to_ulaw
from .patience import Patience

_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class CallRules:
    """The settings a call lives by."""

    chunk_bytes: int | None = None
    lead_s: float = 0.2
    playback_max_s: float = 60.0
    barge_in: bool = True
    vad_threshold_db: float = 12.0
    vad_start_ms: int = 60


class ILeg(Protocol):
    """The connection of a call, in the words of its dialect."""

    def send_audio(self, payload: bytes) -> None:
        """Send one chunk, in the encoding of the line."""

    def send_mark(self, label: str) -> None:
        """Ask to be told when all that was sent has been played."""

    def send_clear(self) -> None:
        """Forget what was sent and not played yet."""

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event on the events channel."""

    def hang_up(self) -> None:
        """End the call."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the connection carries."""

    sample_rate: int
    encoding: str = "pcm16"

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second on the wire."""
        return self.sample_rate * (1 if self.encoding == "mulaw" else 2)


class Call:
    """See the head of this file. Provides ``ICall`` to its agent and ``IListener`` to a transcriber."""

    def __init__(
        self,
        facts: CallFacts,
        line: Line,
        leg: ILeg,
        agent: IAgent,
        rules: CallRules,
        surroundings: Surroundings,
    ) -> None:
        self.facts = facts
        self._leg = leg
        self._agent = agent
        self._clock = surroundings.clock
        self._deadlines = surroundings.deadlines
        self._metrics = surroundings.metrics
        self._line = line
        profile = exotel_profile(line.sample_rate, rules.chunk_bytes, line.encoding)
        self._vad: EnergyVad | None = None
        if rules.barge_in and agent.is_interruptible:
            self._vad = EnergyVad(line.sample_rate, rules.vad_threshold_db, rules.vad_start_ms)
        rate = facts.audio.sample_rate
        self._to_agent = Resampler(line.sample_rate, rate) if rate != line.sample_rate else None
        self._to_line = Resampler(rate, line.sample_rate) if rate != line.sample_rate else None
        rest = self._rest if self._to_line is not None else None
        self._playback = Playback(line.bytes_per_s, profile, rules.lead_s, rules.playback_max_s, rest)
        self._chunk_ms = profile.chunk_bytes * 1000 / line.bytes_per_s
        self._say_max_bytes = int(rate * rules.playback_max_s) * 2
        self._patience = Patience(surroundings.metrics)
        # ``_is_told``: the agent has heard of the end; until it has, it may still publish.
        self._is_begun = self._is_over = self._is_told = False

    def begin(self) -> None:
        """The stream is live: the agent may speak."""
        self._is_begun = True
        self._metrics.calls += 1
        self._metrics.calls_active += 1
        self._tell(self._agent.begin, self)

    # --- from the line

    def heard(self, pcm: bytes) -> None:
        """The caller's voice, PCM16LE at the rate of the line."""
        if self._is_over:
            return
        if self._vad is not None and Voice.STARTED in self._vad.feed(pcm):
            self.speech_started()
        if self._to_agent is not None:
            pcm = self._to_agent.feed(pcm)
        if pcm:
            self._tell(self._agent.audio, pcm)

    def dtmf(self, digit: str) -> None:
        """The caller pressed a key."""
        self._tell(self._agent.dtmf, digit)

    def echoed(self, label: str) -> None:
        """The line has played all before a mark."""
        self._played(self._playback.echoed(label, self._clock.seconds()))
        self._rearm()

    def end(self, reason: str) -> None:
        """The call is over, by whomever."""
        if self._is_over:
            return
        # Before its agent hears of it: one that hangs up then would come here again, and again.
        self._is_over = True
        if not self._is_begun:
            return
        self._patience.tell_last(self._agent.end, reason)
        self._is_told = True
        self._metrics.calls_active -= 1
        cleared = self._playback.clear(self._clock.seconds())
        self._metrics.playback_dropped["ended"] += round(cleared.dropped_ms)
        self._metrics.marks["lost"] += len(cleared.lost_marks)
        self._deadlines.forget(self._due)

    # --- from the transcriber

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""
        self._tell(self._agent.transcript, transcript)

    def speech_started(self) -> None:
        """The caller speaks: whoever speaks over the agent silences it."""
        detected_at = self._clock.seconds()
        if self._is_over or self._vad is None or not self._playback.queued_ms(detected_at):
            return
        self.clear()
        self._metrics.barge_ins += 1
        self._metrics.barge_in_latency.observe(self._clock.seconds() - detected_at)
        self._leg.publish_event("barge_in", {"position_ms": round(self._playback.position_ms(detected_at))})
        self._tell(self._agent.interrupted)

    @property
    def is_over(self) -> bool:
        """Whether it has ended, by whomever."""
        return self._is_over

    # --- ICall: from the agent

    def say(self, pcm: bytes) -> None:
        """Play PCM16LE of the agent's rate after what is queued."""
        if self._is_over:
            return
        # First: what does not fit anyway is not computed over.
        size = min(len(pcm) & ~1, self._say_max_bytes)
        self._overflowed((len(pcm) - size) * 500 // self.facts.audio.sample_rate)
        pcm = pcm[:size]
        if self._to_line is not None:
            pcm = self._to_line.feed(pcm)
        refused = self._playback.say(self._encoded(pcm), self._clock.seconds())
        self._overflowed(round(refused * 1000 / self._line.bytes_per_s))
        self._pump()

    def flush(self) -> None:
        """The utterance is whole."""
        if self._is_over:
            return
        self._playback.flush(self._clock.seconds())
        self._pump()

    def mark(self, name: str) -> None:
        """Hear ``played(name)`` when the caller has heard all so far."""
        if self._is_over:
            return
        self._playback.mark(name, self._clock.seconds())
        self._pump()

    def clear(self) -> None:
        """Stop speaking at once."""
        if self._is_over:
            return
        now = self._clock.seconds()
        was_speaking = self._playback.queued_ms(now) > 0
        cleared = self._playback.clear(now)
        self._metrics.playback_dropped["cleared"] += round(cleared.dropped_ms)
        self._metrics.marks["lost"] += len(cleared.lost_marks)
        if was_speaking:
            self._leg.send_clear()
        self._rearm()

    def hang_up(self) -> None:
        """End the call."""
        if not self._is_over:
            self._leg.hang_up()

    def publish_event(self, event: str, **fields: Any) -> None:
        """Put an event of this call on the events channel."""
        if not self._is_told:
            self._leg.publish_event(event, fields)

    @property
    def queued_ms(self) -> float:
        """What was said and has not been heard yet, in milliseconds."""
        return self._playback.queued_ms(self._clock.seconds())

    def chunks_waiting(self) -> int:
        """Chunks that were said and have not been heard yet."""
        return math.ceil(self.queued_ms / self._chunk_ms)

    # --- the pace

    def _encoded(self, pcm: bytes) -> bytes:
        return pcm16_to_ulaw(pcm) if self._line.encoding == "mulaw" else pcm

    def _rest(self) -> bytes:
        assert self._to_line is not None
        return self._encoded(self._to_line.flush())

    def _overflowed(self, dropped_ms: int) -> None:
        if dropped_ms:
            self._metrics.playback_dropped["overflow"] += dropped_ms

    def _pump(self) -> None:
        """Send what is due; while an agent talks, mostly nothing is."""
        now = self._clock.seconds()
        for one in self._playback.due(now) if self._playback.next_deadline() <= now else ():
            if isinstance(one, Chunk):
                self._metrics.chunks_sent += 1
                self._metrics.playback_lateness.observe(one.lateness_s)
                self._leg.send_audio(one.pcm)
            else:
                self._metrics.marks["sent"] += 1
                self._leg.send_mark(one.label)
        self._rearm()

    def _due(self, now: float) -> float:
        self._pump()
        lost = self._playback.expired(now)
        if lost:
            self._metrics.marks["lost"] += len(lost)
            for name in lost:
                self._tell(self._agent.played, name)
        return _NEVER if self._is_over else self._playback.next_deadline()

    def _rearm(self) -> None:
        if not self._is_over:
            self._deadlines.wake(self._due, self._playback.next_deadline())

    def _played(self, names: list[str]) -> None:
        self._metrics.marks["played"] += len(names)
        for name in names:
            self._leg.publish_event("mark", {"name": name})
            self._tell(self._agent.played, name)

    def _tell(self, method: Callable[..., None], *args: Any) -> None:
        if not self._is_over:
            self._patience.tell(method, *args)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a call shares with all others."""

    clock: IClock
    deadlines: Deadlines
    metrics: Metrics
