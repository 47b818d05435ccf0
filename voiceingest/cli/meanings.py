"""What a refusal means and what to do about it, for every code the daemon can answer with.

The texts come from the tree in ``voiceingest.errors``; only the advice is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import Fault, HttpRefusal, VoiceIngestError, every_error

# RFC 6455 section 7.4.1 and the IANA registry of close codes: those no class of ours carries.
_STANDARD: Final = {
    1000: "Closed in the ordinary way",
    1002: "The other side saw a violation of the WebSocket protocol",
    1003: "The other side does not take this type of message",
    1005: "Closed without a code",
    1006: "The connection broke without a closing handshake",
    1007: "The other side saw text that is not UTF-8",
    1008: "Refused by a policy of the other side",
    1012: "The service restarts",
}

_ADVICE: Final = {
    "unauthorized": "`voiceingest token check` says why; does the daemon have the matching public key?",
    "token_expired": "mint a new token; with --key the client renews it by itself",
    "token_refused": "the new token must name the same tenant and be signed with a key the daemon knows",
    "forbidden": "--tenant and --interaction must be those of the token's claims",
    "origin_refused": "add the origin to ALLOWED_ORIGINS",
    "replaced": "another client has started or resumed this interaction; use another --interaction",
    "resume_refused": "the daemon has another RESUME_SECRET than the one the stream began at",
    "resume_expired": "the client was away for longer than RESUME_WINDOW_S",
    "start_timeout": "the start event came too late; is the client or the network stalled?",
    "idle_timeout": "no audio came for longer than IDLE_TIMEOUT_S",
    "slow_consumer": "the client does not read what it is sent",
    "ping_timeout": "the client or the network stalled for longer than PING_TIMEOUT_S",
    "rate_limited": "send in real time, without --fast, or raise INGEST_MAX_REALTIME_FACTOR",
    "too_many_from_address": "raise MAX_CONNECTIONS_PER_IP, or use fewer --streams",
    "too_many_connections": "raise MAX_CONNECTIONS, or come back later",
    "frame_too_big": "use a smaller --frame-ms, or raise MAX_FRAME_BYTES",
    "unsupported_audio": "pcm16 at 8000, 16000, 24000, 32000, 44100 or 48000 samples per second is taken",
    "not_found": "the path is wrong; the usual one is /v1/ingest",
    "upgrade_required": "the path is not a WebSocket; the usual one is /v1/ingest",
    "draining": "the daemon is shutting down; come back in a moment",
    "flush_timeout": "the bus does not confirm; look at /readyz of the daemon",
    "keys_unavailable": "the daemon has no key to verify tokens with yet; look at JWT_JWKS_URL",
    "internal": "the daemon's log says more; give it the time and the interaction",
}

# What a proxy or another server answers with, where no code of ours came with it.
_HTTP: Final = {
    301: "the address has moved; WebSocket clients do not follow",
    401: _ADVICE["unauthorized"],
    403: "refused by the daemon's list of origins, or by a proxy in front of it",
    404: _ADVICE["not_found"],
    426: _ADVICE["upgrade_required"],
    429: _ADVICE["too_many_from_address"],
    502: "a proxy answered: the daemon behind it is not reachable",
    503: "the daemon is full or shutting down; come back in a moment",
    504: "a proxy answered: the daemon behind it is too slow",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What happened, what would help (may be empty), and whether to try the same again."""

    text: str
    hint: str
    retryable: bool


def _told_to_peers() -> list[type[VoiceIngestError]]:
    # Not the root, which is no error of its own; parents come before their children.
    return [e for e in every_error() if e is not VoiceIngestError and e.fault is not Fault.OPERATOR]


def _by_code(code: str) -> type[VoiceIngestError] | None:
    # A child may share its parent's code: the first one is the general one.
    return next((error for error in _told_to_peers() if error.code == code), None)


def _by_close_code(close_code: int) -> list[type[VoiceIngestError]]:
    closing = [e for e in _told_to_peers() if e.closes and not issubclass(e, HttpRefusal)]
    return [error for error in closing if error.close_code == close_code]


def explain(error_code: str | None, close_code: int | None = None, http_status: int | None = None) -> Meaning:
    """The meaning of an error code, or of a close code or HTTP status that came without one."""
    known = _by_code(error_code) if error_code else None
    if known is not None:
        return Meaning(known.default_message(), _ADVICE.get(known.code, ""), known.retryable)
    if http_status is not None:
        return Meaning(f"HTTP {http_status}", _HTTP.get(http_status, ""), http_status in (429, 502, 503, 504))
    if close_code in _STANDARD:
        return Meaning(_STANDARD[close_code], "", close_code in (1006, 1012))
    candidates = _by_close_code(close_code or 0)
    if not candidates:
        return Meaning(f"Close code {close_code}", "", False)
    text = " or: ".join(error.default_message() for error in candidates)
    return Meaning(text, _ADVICE.get(candidates[0].code, ""), any(e.retryable for e in candidates))
