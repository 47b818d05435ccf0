"""The seams of calls: who answers them, who transcribes them, what services they ask.

The other seams are in ``interfaces``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from .audio import AudioFormat
from .config import Settings
from .interfaces import IClock
from .metrics import Metrics


@dataclass(frozen=True, slots=True)
class Transcript:
    """Something that was said, as far as it was understood.

    Times are milliseconds of the stream's own audio. ``is_final``: these words will not change.
    ``ends_turn``: the speaker has finished (the text may be empty then: it was all said before).
    """

    text: str
    start_ms: int
    end_ms: int
    is_final: bool
    ends_turn: bool = False
    confidence: float = 0.0


class IListener(Protocol):
    """Who hears what a transcriber understands."""

    def transcript(self, transcript: Transcript) -> None:
        """Words were understood."""

    def speech_started(self) -> None:
        """Somebody began to speak."""


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What is known of a call when its agent begins.

    ``audio`` is what the agent hears and says. Numbers and ids are personal: they are never logged.
    """

    call_id: str
    stream_sid: str
    tenant_id: str
    audio: AudioFormat
    caller: str = ""
    callee: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


class ICall(Protocol):
    """A call, as its agent sees it. Nothing here blocks or raises; after the end nothing happens."""

    facts: CallFacts

    def say(self, pcm: bytes) -> None:
        """Play PCM16LE of the agent's rate, any whole number of samples, after what is queued."""

    def flush(self) -> None:
        """The utterance is whole: play its last piece too, padded with silence to a legal size."""

    def mark(self, name: str) -> None:
        """Flush; the agent hears ``played(name)`` when the caller has heard everything said so far."""

    def clear(self) -> None:
        """Stop speaking at once; what is queued is forgotten, and so are its marks."""

    def hang_up(self) -> None:
        """End the call."""

    def publish_event(self, event: str, **fields: Any) -> None:
        """Put an event of this call on the events channel."""

    @property
    def queued_ms(self) -> float:
        """What was said and has not been heard yet, in milliseconds."""


class IAgent(Protocol):
    """Answers one call; made for it. Called from the reactor's thread only, and must not block.

    ``sample_rate``: what it hears and says, 0 for that of the call. ``wants_transcripts``: whether
    the call is to be transcribed for it. ``is_interruptible``: whether a caller may speak over it.
    """

    sample_rate: int
    wants_transcripts: bool
    is_interruptible: bool

    def begin(self, call: ICall) -> None:
        """The call stands."""

    def audio(self, pcm: bytes) -> None:
        """The caller's voice: PCM16LE."""

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""

    def dtmf(self, digit: str) -> None:
        """The caller pressed a key: one of ``0123456789*#ABCD``."""

    def played(self, mark: str) -> None:
        """Everything said before ``mark`` has been heard, or is known to be lost."""

    def interrupted(self) -> None:
        """The caller speaks over the agent, who has been silenced already."""

    def end(self, reason: str) -> None:
        """The call is over; nothing more is called."""


@dataclass(frozen=True, slots=True)
class AgentContext:
    """What agents are made with: ``agent = factory(context)``, one for each call."""

    settings: Settings
    clock: IClock
    metrics: Metrics
    http: IHttpClient


# --- other people's services -----------------------------------------------------------------


class IHttpAnswer(Protocol):
    """The head of an answer; ``read`` or ``stream`` has to be called, once."""

    status: int
    headers: Mapping[str, str]  # names in lower case

    def read(self, max_bytes: int) -> Deferred[bytes]:
        """The whole body. Raises: ``UpstreamFailed`` when it is larger, late or cut off."""

    def stream(self, take: Callable[[bytes], None]) -> Deferred[None]:
        """Hand on the body as it comes; fires at its end. Cancelling it cuts the connection.

        Raises: ``UpstreamFailed`` when it is cut off, or silent for too long; and what ``take`` raises.
        """


class IHttpClient(Protocol):
    """Asks other people's services over HTTP. No redirects, TLS verified."""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> Deferred[IHttpAnswer]:
        """Send one request; fires with the head of its answer, whatever its status.

        ``timeout_s`` bounds the time to the head, and each silence in the body. Cancelling it cuts
        the connection. Raises: ``UpstreamFailed``.
        """
