"""The part of the table of metrics that is about devices, sessions and where they are kept."""

from __future__ import annotations

from typing import Final

from .family import CODES, REASON, RESULT, Family, own
from .series import Label

_STATE = Label("state", frozenset({"pending", "active", "completed", "error", "expired"}))
_METHOD = Label("method")
_KIND = Label("kind")
_OUTCOME = Label("code", CODES | {"ok"})

CONTROL_FAMILIES: Final[tuple[Family, ...]] = (
    # --- devices and tokens
    own("counter", "devices_registered", "", "Registrations of devices, by the outcome.", RESULT),
    own("counter", "token_refreshes", "", "Refresh tokens brought, by the outcome.", RESULT),
    own("counter", "tokens_revoked", "", "Times the tokens of a device were revoked.", REASON),
    own("counter", "streams_revoked", "", "Streams that were ended because a token was revoked."),
    # --- sessions
    own("counter", "session_moves", "", "Changes of the state of a session, by where it led.", _STATE),
    own("counter", "grpc_calls", "", "Calls over gRPC, by method and outcome.", _METHOD, _OUTCOME),
    own("counter", "requests_limited", "", "Requests refused by a limit a minute, by route.", Label("route")),
    own("counter", "idempotent_replays", "", "Sessions that were asked for again under the same key."),
    # --- the database
    own("gauge", "store_up", "", "1 while the database answers, else 0."),
    own("histogram", "store_latency", "seconds", "Time the database takes for one transaction."),
    own("counter", "store_errors", "", "Transactions that failed, by reason.", REASON),
    own("gauge", "store_queue", "", "Writes about streams that wait for the database."),
    own("counter", "store_writes", "", "Writes about streams, by what became of them.", RESULT),
    own("counter", "session_cache", "", "Reads of sessions, by what the cache gave.", RESULT),
    own("counter", "control_messages", "", "Messages between processes about sessions, by kind.", _KIND),
)
