"""Every seam of the daemon in one file: what a part may be asked, never how it does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from .audio import AudioFormat
from .errors import VoiceIngestError

# --- authentication ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified credential allows; ``expires_at`` is in seconds since the epoch.

    ``tenant_id`` and ``interaction_id`` are ``None`` where the credential does not name one.
    ``any_tenant``: it is good for every tenant; a telephony provider's is.
    """

    subject: str
    tenant_id: str | None
    interaction_id: str | None
    expires_at: float
    any_tenant: bool = False


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a request to open a WebSocket brings along, as it was sent; not to be shown to anybody."""

    address: str
    authorization: Sequence[str] = ()
    subprotocols: Sequence[str] = ()
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may come in, once that is known, and which subprotocol the upgrade is answered with."""

    claims: Deferred[Claims]
    subprotocol: str | None = None


class IAdmission(Protocol):
    """Who may open a connection."""

    def admit(self, handshake: Handshake) -> Admission:
        """Look at what was brought. Raises: as ``IAuthenticator.verify``."""


class IAuthenticator(Protocol):
    """Who may speak: verifies bearer tokens."""

    def verify(self, token: str) -> Deferred[Claims]:
        """Check one token.

        The Deferred has already fired when the key is known (the common case); it fires later
        when a key set has to be fetched first.

        Raises: ``Unauthenticated`` for every refusal, with one constant text; ``KeysUnavailable``
        when no key has ever been loaded.
        """

    def reload(self) -> None:
        """Read the key again. Raises: ``BadKey``; the key in use is then kept."""

    @property
    def ready(self) -> str | None:
        """``None`` when tokens can be verified, else the reason why not."""


# --- publishing ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is the same for every frame of a stream, and so is encoded once.

    ``epoch`` tells one numbering of an interaction's frames from another: it stays when a stream is
    resumed and is larger when the interaction begins anew.
    """

    tenant_id: str
    interaction_id: str
    audio: AudioFormat
    epoch: int = 0


class IStreamSink(Protocol):
    """What a stream is told about the frames it has handed over. A lane that is done holds it weakly."""

    def confirmed(self, seq: int, size_bytes: int) -> None:
        """The bus has taken ``seq``. Called in the order of the frames, once for each."""

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        """The frames ``first_seq..last_seq``, so many bytes of audio, will never be on the bus."""


class ILane(Protocol):
    """One stream's way to the bus. Not a queue of its own: a share of the bounded one."""

    def publish(self, seq: int, timestamp_ms: int, audio: bytes) -> None:
        """Hand over one frame. Never blocks, never raises; the sink hears what became of it."""

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        """Put an event of this stream on the events channel, in order with its frames."""

    def close(self) -> None:
        """No more frames will come. What was handed over is still delivered."""

    def withdraw(self, after_seq: int) -> tuple[int, int]:
        """Take back the unsent frames after ``after_seq``, and send none of them again.

        Returns how many frames and bytes were taken back; the sink is not told of them.
        """


class IPublisher(Protocol):
    """Where audio goes. The delivery wrapper provides it over any :class:`IBus`."""

    def open_lane(self, facts: StreamFacts, sink: IStreamSink) -> ILane:
        """Open the way for one stream."""

    @property
    def ready(self) -> str | None:
        """``None`` when the bus takes frames, else the reason why not."""


class IBusListener(Protocol):
    """What a bus tells the delivery wrapper. Called from the reactor's thread only."""

    def bus_up(self) -> None:
        """Connected, authenticated, empty: send."""

    def bus_down(self, reason: str) -> None:
        """The connection is gone; what was sent and not confirmed is unknown. ``reason`` is a
        short stable word (``refused``, ``lost``, ``timeout``, ``auth``, ``tls``, ...)."""

    def bus_confirmed(self, count: int) -> None:
        """The oldest ``count`` messages in flight have been taken."""

    def bus_refused(self, reason: str) -> None:
        """The oldest message in flight was refused for good; ``reason`` is a short stable word."""

    def bus_writable(self) -> None:
        """The transport takes bytes again after ``writable`` was false."""


class IBus(Protocol):
    """One kind of broker: encodes, sends in order on one connection, counts replies.

    It keeps no queue: what it may not lose is the delivery wrapper's. It reconnects by itself
    with backoff and jitter and tells its listener.
    """

    name: str
    writable: bool

    def start(self, listener: IBusListener) -> None:
        """Begin to connect, in the background."""

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when it is gone."""

    def prepare(self, facts: StreamFacts) -> Any:
        """Encode once what every message of a stream has in common."""

    def send(self, batch: Sequence[tuple[Any, int, int, bytes]]) -> int:
        """Write ``(prepared, seq, timestamp_ms, payload)`` messages, in order, in one write.

        ``seq`` 0 marks an event: its payload is the JSON for the events channel.
        Returns the bytes written. Called only between ``bus_up`` and ``bus_down``.
        """

    def drop_connection(self, reason: str) -> None:
        """Cut the connection at once (it does not answer); ``bus_down(reason)`` follows."""


# --- the edge ------------------------------------------------------------------------------


class IFarEnd(Protocol):
    """The peer of a stream, in the words of its dialect."""

    transport_name: str
    request_id: str

    def say(self, event: str, **fields: Any) -> None:
        """Send one control message."""

    def say_error(self, error: VoiceIngestError) -> None:
        """Send an error."""

    def ack(self, seq: int) -> None:
        """Acknowledge everything up to ``seq``."""

    def pause(self, seconds: float) -> None:
        """Do not read from the peer for so long: this is how a stream is paced."""

    def close(self, code: int, reason: str) -> None:
        """Close with a close frame; abort if it is not answered in time."""


class IFlowConnection(Protocol):
    """What a stream asks of the connection that drives it."""

    def refuse(self, error: VoiceIngestError) -> None:
        """Say the error and do as it says."""

    def fenced(self) -> None:
        """The stream goes on elsewhere: close, and take nothing more."""


class IDelayedCall(Protocol):
    """A call that has been put off."""

    def cancel(self) -> None:
        """Do not call."""

    def active(self) -> bool:
        """Whether it is still to come."""


class IClock(Protocol):
    """Time as the daemon sees it; ``twisted.internet.task.Clock`` provides it in tests."""

    def seconds(self) -> float:
        """Monotonic seconds."""

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002  (the name in IReactorTime)
        *args: Any,
        **kw: Any,
    ) -> Any:
        """Call later, after ``delay`` seconds."""
