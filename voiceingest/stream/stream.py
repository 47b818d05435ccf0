"""One ingest stream, pure: what it has taken, what it has acknowledged, when it wants waking."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..audio import AudioFormat
from ..errors import (
    EmptyFrame,
    FlushTimeout,
    Forbidden,
    FrameTooBig,
    OddFrame,
    PeerIdle,
    StartTimeout,
    TokenExpired,
    TokenRefused,
    TooManyErrors,
    VoiceIngestError,
)
from ..limits import PEER_ERRORS_MAX_COUNT
from .bucket import TokenBucket
from .ledger import Ledger
from .states import State, Step, next_state

_NEVER = float("inf")

# Least time from a fresh token to the announcement of its end.
_WARN_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class StreamRules:
    """The settings a stream lives by; times in seconds, sizes in bytes."""

    ack_interval: int = 10
    ack_published: bool = True
    start_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    flush_timeout_s: float = 10.0
    auth_expiring_lead_s: float = 30.0
    auth_leeway_s: float = 30.0
    realtime_factor: float = 8.0
    max_frame_bytes: int = 65536
    resume_window_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Authority:
    """Who a stream belongs to, as a credential said it. ``expires_in_s`` counts from its check."""

    subject: str
    tenant_id: str | None
    interaction_id: str | None
    expires_in_s: float
    any_tenant: bool = False

    def allows(self, tenant_id: str, interaction_id: str) -> bool:
        """Whether a stream of this tenant and interaction may be opened with it."""
        is_theirs = self.any_tenant or self.tenant_id == tenant_id
        return is_theirs and self.interaction_id in (None, interaction_id)


class Wake(enum.Enum):
    """What a stream that was woken wants done beside ending."""

    NOTHING = "nothing"
    AUTH_EXPIRING = "auth_expiring"
    GIVEN_UP = "given_up"  # nobody came back


class Stream:
    """The record of one stream. Every method that changes it takes ``now`` in monotonic seconds."""

    __slots__ = (
        "_acked", "_authority", "_bucket", "_detached_at", "_errors_in_a_row", "_expires_at",
        "_last_audio", "_opened_at", "_rules", "_stopped_at", "_warn_at", "audio", "debt_s",
        "epoch", "interaction_id", "ledger", "seq", "state", "tenant_id",
    )

    def __init__(self, rules: StreamRules, authority: Authority, now: float) -> None:
        self._rules = rules
        self._opened_at = self._last_audio = self._stopped_at = self._detached_at = now
        self._acked = 0
        self._errors_in_a_row = 0
        self._bucket = TokenBucket(0.0, 0.0, now)
        self._warn_at: float
        self._expires_at: float
        self._authority: Authority
        self.state = State.WAITING
        self.seq = 0
        self.epoch = 0
        self.debt_s = 0.0
        self.ledger = Ledger()
        self.audio = AudioFormat()
        self.tenant_id = self.interaction_id = ""
        self._hold(authority, now)

    @property
    def subject(self) -> str:
        """Whose credential it came with."""
        return self._authority.subject

    # --- what the peer says

    def may_start(self, tenant_id: str, interaction_id: str) -> None:
        """Raises: ``AlreadyStarted``, ``AlreadyStopped``; ``Forbidden``: the credential is for another."""
        next_state(self.state, Step.START)
        if not self._authority.allows(tenant_id, interaction_id):
            raise Forbidden

    def start(
        self,
        tenant_id: str,
        interaction_id: str,
        audio: AudioFormat,
        now: float,
        *,
        epoch: int = 0,
        next_seq: int = 1,
    ) -> None:
        """Begin, or go on with what another process began. Raises: as ``may_start``."""
        self.may_start(tenant_id, interaction_id)
        self.state = next_state(self.state, Step.START)
        self.tenant_id, self.interaction_id, self.audio = tenant_id, interaction_id, audio
        self.epoch = epoch
        self.seq = self.ledger.settled_seq = self._acked = next_seq - 1
        rate = self._rules.realtime_factor * audio.bytes_per_s
        self._bucket = TokenBucket(rate, rate, now)
        self._last_audio = now
        self._errors_in_a_row = 0

    def detach(self, now: float) -> None:
        """The connection is gone; the client may come back."""
        self.state = next_state(self.state, Step.DETACH)
        self._detached_at = now

    def resume(self, newcomer: Stream, now: float) -> None:
        """Go on at the connection of ``newcomer``, with the credential that was checked there."""
        self.state = next_state(self.state, Step.RESUME)
        self._authority = newcomer._authority
        self._warn_at, self._expires_at = newcomer._warn_at, newcomer._expires_at
        self._last_audio = now
        self._errors_in_a_row = 0

    def husk(self) -> Stream:
        """What is left at the old connection of a stream that is resumed: it takes nothing."""
        left = Stream(self._rules, self._authority, self._opened_at)
        left.state = State.ENDED
        left.epoch = self.epoch
        return left

    def skip_to(self, next_seq: int) -> None:
        """The client no longer has what comes before ``next_seq``; it was never received."""
        missing, self.seq = self.seq + 1, max(self.seq, next_seq - 1)
        self.ledger.settle(missing, self.seq)

    def take(self, size_bytes: int, now: float) -> int:
        """Accept one frame; returns its seq and leaves in ``debt_s`` how long to stop reading.

        Raises: ``NotStarted``, ``AlreadyStopped``, ``FrameTooBig``, ``OddFrame``, ``EmptyFrame``; nothing
        changed then.
        """
        if self.state is not State.LIVE:
            next_state(self.state, Step.FRAME)
        if size_bytes > self._rules.max_frame_bytes:
            raise FrameTooBig
        if size_bytes & 1:
            raise OddFrame
        if not size_bytes:
            raise EmptyFrame
        self.seq = seq = self.seq + 1
        ledger = self.ledger
        ledger.received += 1
        ledger.samples += size_bytes >> 1
        self._last_audio = now
        self._errors_in_a_row = 0
        self.debt_s = self._bucket.take(size_bytes, now)
        return seq

    def stop(self, now: float) -> None:
        """The peer has said its last. Raises: ``NotStarted``, ``AlreadyStopped``."""
        self.state = next_state(self.state, Step.STOP)
        self._stopped_at = now

    def reauthenticate(self, authority: Authority, now: float) -> None:
        """Take a fresh credential. Raises: ``TokenRefused`` when it is not for this stream."""
        state = next_state(self.state, Step.AUTH)
        if authority.subject != self._authority.subject or authority.tenant_id != self._authority.tenant_id:
            raise TokenRefused
        if self.state is not State.WAITING and not authority.allows(self.tenant_id, self.interaction_id):
            raise TokenRefused
        self.state = state
        self._hold(authority, now)
        if self._warn_at <= now:
            # Issuers hand out a cached token until it lapses: announced in the same breath it
            # would come back at once, and again, until the stream is cut for the flood.
            self._warn_at = now + max(authority.expires_in_s / 2, _WARN_AGAIN_S)

    def blunder(self) -> None:
        """Count a message that was refused. Raises: ``TooManyErrors`` past the limit in a row."""
        self._errors_in_a_row += 1
        if self._errors_in_a_row > PEER_ERRORS_MAX_COUNT:
            raise TooManyErrors

    # --- what the bus says

    def confirmed(self, seq: int, size_bytes: int) -> bool:
        """The bus has taken ``seq``; returns whether an ack for it is due now."""
        ledger = self.ledger
        ledger.published += 1
        ledger.samples_published += size_bytes >> 1
        ledger.settle(seq, seq)
        return self._rules.ack_published and self._ack_due(seq)

    def received_ack_due(self, seq: int) -> bool:
        """Whether reading ``seq`` makes an ack due (``ACK_MODE=received``)."""
        return not self._rules.ack_published and self._ack_due(seq)

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        """Frames ``first_seq..last_seq`` will never be on the bus."""
        self.ledger.drop(last_seq - first_seq + 1, size_bytes >> 1, reason)
        self.ledger.settle(first_seq, last_seq)

    def late_ack(self) -> int | None:
        """What a client that has come back was not told yet, where an ack is for what was published."""
        settled_seq = self.ledger.settled_seq
        if not self._rules.ack_published or settled_seq <= self._acked:
            return None
        self._acked = settled_seq
        return settled_seq

    @property
    def flushed(self) -> bool:
        """Whether stop was said and the fate of every frame is known."""
        return self.state is State.STOPPING and self.ledger.pending == 0

    def end(self, step: Step) -> None:
        """Move to the end by ``FLUSHED``, ``CUT`` or ``GONE``."""
        self.state = next_state(self.state, step)

    # --- time

    def next_deadline(self) -> float:
        """When it wants to be woken, in monotonic seconds; infinite when it does not."""
        if self.state is State.ENDED:
            return _NEVER
        if self.state in (State.STOPPING, State.DETACHED):
            # It takes nothing: who it belongs to is asked again when it does.
            return self._silence_deadline()
        return min(self._silence_deadline(), self._warn_at, self._expires_at)

    def wake(self, now: float) -> Wake:
        """Look at the clock. Raises: the error the stream ends with when a deadline has passed."""
        if self.state is State.ENDED:
            return Wake.NOTHING
        if self.state is State.DETACHED:
            return Wake.GIVEN_UP if now >= self._silence_deadline() else Wake.NOTHING
        stopping = self.state is State.STOPPING
        if not stopping and now >= self._expires_at:
            raise TokenExpired
        if now >= self._silence_deadline():
            raise self._silence_error()
        if not stopping and now >= self._warn_at:
            self._warn_at = _NEVER
            return Wake.AUTH_EXPIRING
        return Wake.NOTHING

    def expires_in_s(self, now: float) -> float:
        """Seconds until the credential lapses, leeway not counted."""
        return max(0.0, self._expires_at - self._rules.auth_leeway_s - now)

    def _hold(self, authority: Authority, now: float) -> None:
        lapses_at = now + authority.expires_in_s
        self._authority = authority
        self._warn_at = lapses_at - self._rules.auth_expiring_lead_s
        self._expires_at = lapses_at + self._rules.auth_leeway_s

    def _ack_due(self, seq: int) -> bool:
        if seq - self._acked < self._rules.ack_interval:
            return False
        self._acked = seq
        return True

    def _silence_deadline(self) -> float:
        if self.state is State.WAITING:
            return self._opened_at + self._rules.start_timeout_s
        if self.state is State.STOPPING:
            return self._stopped_at + self._rules.flush_timeout_s
        if self.state is State.DETACHED:
            return self._detached_at + self._rules.resume_window_s
        idle = self._rules.idle_timeout_s
        return self._last_audio + idle if idle else _NEVER

    def _silence_error(self) -> VoiceIngestError:
        errors = {State.WAITING: StartTimeout, State.LIVE: PeerIdle, State.STOPPING: FlushTimeout}
        return errors[self.state]()
