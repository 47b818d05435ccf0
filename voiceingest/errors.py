"""Every failure the daemon names, as one tree.

An error carries what is to be answered, so that no transport needs a ladder of ``if``:

* ``code``: the stable name, safe to grep and to alert on; wording may change, codes may not;
* ``fault``: whose doing it was (the peer's, ours, something downstream, the operator's);
* ``close_code``: the WebSocket close code (RFC 6455 section 7.4, 4000-4999 are ours);
* ``http_status``: the answer where no WebSocket is open yet;
* ``retryable``: whether the same client may come back with the same request;
* ``closes``: whether the stream ends with it or goes on;
* ``resumable``: whether a stream whose connection is closed with it waits to be resumed.

The text of an error is for people and is a constant: it never repeats what the peer sent.
The reference page ``docs/reference/errors.md`` is generated from this file.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import ClassVar


class Fault(enum.Enum):
    """Who has to change something for the error to go away."""

    PEER = "peer"
    US = "us"
    DOWNSTREAM = "downstream"
    OPERATOR = "operator"


class VoiceIngestError(Exception):
    """The root of the tree; the class docstring of each leaf is its default text."""

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = Fault.US
    close_code: ClassVar[int] = 1011
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True
    closes: ClassVar[bool] = True
    resumable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).default_message())

    @property
    def message(self) -> str:
        """The text shown to the peer and to the operator."""
        return str(self.args[0])

    @classmethod
    def default_message(cls) -> str:
        """The first line of the class docstring, without its full stop."""
        return (cls.__doc__ or cls.code).strip().splitlines()[0].rstrip(".")


class InternalError(VoiceIngestError):
    """Something went wrong on our side."""

    resumable = True


# --- the peer's fault ----------------------------------------------------------------------


class PeerError(VoiceIngestError):
    """The peer said something that cannot be acted on."""

    code = "bad_message"
    fault = Fault.PEER
    close_code = 4400
    http_status = 400
    retryable = False
    closes = False


class BadJson(PeerError):
    """The text message is not a JSON object."""

    code = "bad_json"


class UnknownEvent(PeerError):
    """The event is not one of start, stop, auth."""

    code = "unknown_event"


class BadField(PeerError):
    """A field is missing or is of the wrong type."""

    code = "bad_field"


class UnsupportedAudio(PeerError):
    """The sample rate or the encoding is not supported."""

    code = "unsupported_audio"


class OddFrame(PeerError):
    """The frame is not a whole number of 16-bit samples."""

    code = "odd_frame"


class EmptyFrame(PeerError):
    """The frame holds no sample."""

    code = "empty_frame"


class BadAudio(PeerError):
    """The audio is not base64."""

    code = "bad_audio"


class NotStarted(PeerError):
    """The stream has not been started."""

    code = "not_started"


class AlreadyStarted(PeerError):
    """The stream has already been started."""

    code = "already_started"


class AlreadyStopped(PeerError):
    """The stream has been stopped; nothing more is taken."""

    code = "already_stopped"


class TooManyErrors(PeerError):
    """Too many messages in a row could not be understood."""

    code = "too_many_errors"
    closes = True


class Unauthenticated(PeerError):
    """A valid bearer token is required."""

    code = "unauthorized"
    close_code = 4401
    http_status = 401
    closes = True

    def __init__(self, message: str | None = None, *, reason: str = "invalid") -> None:
        super().__init__(message)
        # For logs and metrics only: the peer hears one constant text (ASVS 16.5.1).
        self.reason = reason


class TokenExpired(Unauthenticated):
    """The token has expired."""

    code = "token_expired"
    retryable = True
    resumable = True


class TokenRefused(Unauthenticated):
    """The new token was refused; the old one still holds."""

    code = "token_refused"
    closes = False


class TokenRevoked(Unauthenticated):
    """The token has been revoked."""

    code = "token_revoked"


class RefreshReused(Unauthenticated):
    """The refresh token had been used before; every token that came of it is revoked."""

    code = "refresh_reused"


class DeviceUnproven(Unauthenticated):
    """This device is known: its device token is required, and right."""

    code = "device_unproven"


class Forbidden(PeerError):
    """The token does not allow this tenant or interaction."""

    code = "forbidden"
    close_code = 4403
    http_status = 403
    closes = True


class RegistrationRefused(Forbidden):
    """Registration is closed, or the registration secret is not right."""

    code = "registration_refused"


class DeviceRevoked(Forbidden):
    """This device has been revoked."""

    code = "device_revoked"


class OriginRefused(PeerError):
    """This origin is not allowed."""

    code = "origin_refused"
    close_code = 4403
    http_status = 403
    closes = True


class Replaced(PeerError):
    """A newer connection has taken this interaction over."""

    code = "replaced"
    close_code = 4409
    http_status = 409
    closes = True


class ResumeRefused(PeerError):
    """The resume token is not one of this stream; start without it."""

    code = "resume_refused"


class ResumeExpired(PeerError):
    """The stream can no longer be resumed; start without the token."""

    code = "resume_expired"


class StartTimeout(PeerError):
    """No start event came in time."""

    code = "start_timeout"
    close_code = 4408
    http_status = 408
    retryable = True
    closes = True


class PeerIdle(PeerError):
    """No audio came for too long."""

    code = "idle_timeout"
    close_code = 4408
    http_status = 408
    retryable = True
    closes = True


class PeerTooSlow(PeerError):
    """The peer does not read what it is sent."""

    code = "slow_consumer"
    close_code = 4408
    http_status = 408
    retryable = True
    closes = True
    resumable = True


class PeerGone(PeerError):
    """The peer does not answer pings."""

    code = "ping_timeout"
    close_code = 4408
    http_status = 408
    retryable = True
    closes = True
    resumable = True


class RateLimited(PeerError):
    """Too much came in too short a time."""

    code = "rate_limited"
    close_code = 4429
    http_status = 429
    retryable = True
    closes = True


class TooManyFromAddress(RateLimited):
    """Too many connections from this address."""

    code = "too_many_from_address"


class TooManyRequests(RateLimited):
    """Too many requests in this minute."""

    code = "too_many_requests"

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        # When there is room again.
        self.retry_after_s = retry_after_s


class TooManySessions(RateLimited):
    """This user has as many open sessions as a user may have."""

    code = "too_many_sessions"


class FrameTooBig(PeerError):
    """The frame is larger than the limit."""

    code = "frame_too_big"
    close_code = 1009
    http_status = 413
    closes = True


class HttpRefusal(PeerError):
    """The request cannot be answered."""

    code = "bad_request"
    closes = True


class NotFound(HttpRefusal):
    """There is nothing at this path."""

    code = "not_found"
    http_status = 404


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class DeviceNotFound(NotFound):
    """There is no such device."""

    code = "device_not_found"


class IllegalMove(HttpRefusal):
    """The session is not in a state that allows this."""

    code = "illegal_move"
    http_status = 409


class EditConflict(HttpRefusal):
    """The session was changed by somebody else meanwhile; try again."""

    code = "edit_conflict"
    http_status = 409
    retryable = True


class ContextTooBig(HttpRefusal):
    """What is to be kept of the session is larger than the limit."""

    code = "context_too_big"
    http_status = 413


class IdempotencyMismatch(HttpRefusal):
    """This idempotency key was used for another request."""

    code = "idempotency_mismatch"
    http_status = 422


class MethodNotAllowed(HttpRefusal):
    """This method is not allowed here."""

    code = "method_not_allowed"
    http_status = 405


class UpgradeRequired(HttpRefusal):
    """This path speaks WebSocket version 13 only."""

    code = "upgrade_required"
    http_status = 426


class HeadTooBig(HttpRefusal):
    """The request head is larger than the limit."""

    code = "head_too_big"
    http_status = 431


class HandshakeTimeout(HttpRefusal):
    """The request head did not arrive in time."""

    code = "handshake_timeout"
    http_status = 408
    retryable = True


# --- ours, downstream ----------------------------------------------------------------------


class Overloaded(VoiceIngestError):
    """The daemon has as many connections as it may have."""

    code = "too_many_connections"
    close_code = 1013
    http_status = 503


class Draining(VoiceIngestError):
    """The daemon is shutting down."""

    code = "draining"
    close_code = 1001
    http_status = 503


class DownstreamError(VoiceIngestError):
    """Something the daemon depends on does not answer."""

    code = "downstream"
    fault = Fault.DOWNSTREAM
    close_code = 1013
    http_status = 503


class FlushTimeout(DownstreamError):
    """The bus did not confirm the last frames in time."""

    code = "flush_timeout"


class KeysUnavailable(DownstreamError):
    """No key to verify tokens with has been loaded yet."""

    code = "keys_unavailable"


class StoreUnavailable(DownstreamError):
    """The database does not answer."""

    code = "store_unavailable"


class UpstreamFailed(DownstreamError):
    """A service the daemon asked did not answer as it should."""

    code = "upstream_failed"
    http_status = 502


class UpstreamRefused(DownstreamError):
    """A service the daemon asked has refused."""

    code = "upstream_refused"
    http_status = 502
    retryable = False


class UpstreamBusy(DownstreamError):
    """A service the daemon asked is busy; try again later."""

    code = "upstream_busy"

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        # When the service wants to be asked again, where it has said so.
        self.retry_after_s = retry_after_s


# --- the operator's ------------------------------------------------------------------------


class OperatorError(VoiceIngestError):
    """The daemon cannot run as it was told to."""

    code = "operator"
    fault = Fault.OPERATOR
    retryable = False


class SettingsError(OperatorError):
    """The settings are not usable."""

    code = "bad_settings"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class WrongReactor(OperatorError):
    """The daemon needs the asyncio reactor."""

    code = "wrong_reactor"


class BadCertificate(OperatorError):
    """The TLS certificate or key cannot be used."""

    code = "bad_certificate"


class BadKey(OperatorError):
    """The key to verify tokens with cannot be used."""

    code = "bad_key"


class UnknownAgent(OperatorError):
    """There is no agent of this name."""

    code = "unknown_agent"


class PortUnavailable(OperatorError):
    """A port cannot be bound."""

    code = "port_unavailable"


class StoreUnusable(OperatorError):
    """The database cannot be used."""

    code = "store_unusable"


class ExtraMissing(OperatorError):
    """A package that this needs is not installed."""

    code = "extra_missing"


def every_error(root: type[VoiceIngestError] = VoiceIngestError) -> Iterator[type[VoiceIngestError]]:
    """Yield ``root`` and everything below it, parents first, in the order of this file."""
    yield root
    for below in root.__subclasses__():
        yield from every_error(below)
