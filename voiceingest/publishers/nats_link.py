"""One connection to a NATS server: nats-py introduces us and reads; frames are written past it.

What nats-py (2.16) does that a bus without a queue of its own must not have, and what is done:

* ``allow_reconnect`` (default true) connects again by itself and sends its pending buffer (2 MiB)
  to the new server, behind our back: off. One ``Client`` is one connection to one server.
* ``connect`` tries a server that refuses again after ``reconnect_time_wait``, for ever unless
  ``max_reconnect_attempts`` is positive: an error while connecting is raised out of its ``error_cb``.
* ``publish`` appends to that pending buffer and wakes a flusher task, ``publish_async`` adds a future
  and a semaphore per message (37 us): a batch is one ``Transport.write`` instead, encoded by us.
* a subscription's callback costs a queue, a message object and a turn of its task per
  acknowledgement: ``_process_msg``, which the parser calls, is overridden for that one inbox.

Not documented: ``Client._transport``, ``_process_msg``, ``_setup_nkeys_connect``; see test_nats_link.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from nats import errors as nats_errors
from nats.aio.client import Client, RawCredentials
from nats.js import errors as js_errors
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from ..aio import as_deferred
from ..errors import SettingsError
from ..interfaces import IClock
from .nats_keys import NatsKey
from .nats_url import NatsUrl, read_credentials
from .nats_wire import NatsWire, NotEncrypted

# A server that is asked twice at this interval and does not answer is gone.
_PING_S: Final = 10
_PINGS_UNANSWERED_MAX_COUNT: Final = 1

# A connection that is to be closed in good order is cut after so long.
_CLOSE_S: Final = 1.0

# An attempt: one part to be let in, the others until the stream has a leader.
_PARTS: Final = 3

# What a failed connection is called, first match wins; the words are labels of a metric.
# The builtin TimeoutError and gaierror are OSErrors too.
_REASONS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    ((ssl.SSLError, ssl.CertificateError, NotEncrypted), "tls"),
    (socket.gaierror, "dns"),
    (nats_errors.AuthorizationError, "auth"),
    ((DeferredTimeout, TimeoutError), "timeout"),
    (
        (ConnectionResetError, BrokenPipeError, nats_errors.UnexpectedEOF, nats_errors.ConnectionClosedError),
        "lost",
    ),
    (OSError, "refused"),
)
# What a server says before it closes, in its own words (nats-server, server/client.go).
_SAYINGS: Final = (
    ("permissions violation", "noperm"),
    ("maximum control line", "control_line"),
    ("authentication", "auth"),
    ("authorization", "auth"),
    ("tls", "tls"),
)


class BusRefusal(Exception):
    """The server is there and cannot be used; ``reason`` is a short stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(error: BaseException | None) -> str | None:
    """The word for a failed connection; ``None`` for an error that is none of the known ones."""
    if isinstance(error, BusRefusal):
        return error.reason
    word = next((word for kinds, word in _REASONS if isinstance(error, kinds)), None)
    if word is None and isinstance(error, nats_errors.Error) and not isinstance(error, js_errors.Error):
        said = str(error).lower()
        return next((word for saying, word in _SAYINGS if saying in said), "protocol")
    return word


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in, the same for every server. ``timeout_s``: how long one attempt may take."""

    url: NatsUrl
    tls: ssl.SSLContext
    credentials_path: Path | None
    timeout_s: float

    @property
    def let_in_s(self) -> float:
        """How long name, TCP, TLS and login may take: where there is another server, a part of it.

        A frozen server takes connections and says nothing; another one may have the leader by now.
        """
        return self.timeout_s / _PARTS if len(self.url.servers) > 1 else self.timeout_s

    @property
    def leader_s(self) -> float:
        """How long one that has let us in is waited for to have a leader."""
        return self.timeout_s * (_PARTS - 1) / _PARTS


class ILinkOwner(Protocol):
    """Whom a link tells, from the reactor's thread."""

    def link_answered(self, link: NatsLink, number: int, answer: bytes, headers: bytes | None) -> None:
        """JetStream has answered the message of that number."""

    def link_broken(self, link: NatsLink, reason: str) -> None:
        """The link can no longer be used, or should not (``ldm``: the server is about to go)."""

    def link_writable(self, link: NatsLink, writable: bool) -> None:
        """Back-pressure of the connection."""


class _Client(Client):
    """nats-py's client on our wire; answers to our messages go by its queue and its task."""

    inbox = b"\0"
    credentials: tuple[str, NatsKey] | None = None

    def __init__(self, wire: NatsWire, answered: Callable[[int, bytes, bytes | None], None]) -> None:
        super().__init__()
        self._transport = wire
        self._answered = answered

    def _setup_nkeys_connect(self) -> None:
        # nats-py signs with a package that has no wheel, and looks for a JWT for ever where there is none.
        if self.credentials is not None:
            token, key = self.credentials
            self._user_jwt_cb = token.encode
            self._signature_cb = key.answer

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        if subject.startswith(self.inbox):
            number = subject[len(self.inbox) :]
            if number.isdigit():
                self._answered(int(number), data, headers)
            return
        await super()._process_msg(sid, subject, reply, data, headers)


class NatsLink:
    """See the head of this file. ``ended`` says why it is useless; ``gone`` fires when nothing is left."""

    def __init__(self, host: str, port: int, access: Access, owner: ILinkOwner, clock: IClock) -> None:
        self._host = host
        self._port = port
        self._access = access
        self._owner = owner
        self._clock = clock
        self._wire = NatsWire(self, access.url.tls)
        self.client = _Client(self._wire, self._answered)
        self._is_open = False
        self._refusal: Exception | None = None
        self.ended: str | None = None
        self._is_closing = False
        self.gone: Deferred[None] = Deferred()

    # --- the introduction

    async def open(self) -> None:
        """Connect, be let in, be ready for answers. Raises: first of all what the server has said."""
        try:
            async with asyncio.timeout(self._access.let_in_s):
                await self._introduce()
        except Exception as error:
            raise self._refusal or error from None
        self._is_open = True

    async def _introduce(self) -> None:
        await self._connect()
        self.client.inbox = (inbox := self.client.new_inbox() + ".").encode("ascii")
        # The callback is never called: see _Client. Frames must not overtake the subscription.
        await self.client.subscribe(inbox + "*", cb=self._unanswered)
        await self.client.flush(self._access.let_in_s)  # type: ignore[arg-type]
        if self._refusal is not None:
            raise self._refusal

    async def _connect(self) -> None:
        access, url = self._access, self._access.url
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.client.credentials = _credentials(access.credentials_path)
        await self.client.connect(
            servers=[f"{'tls' if url.tls else 'nats'}://{host}:{self._port}"],
            error_cb=self._client_failed,
            lame_duck_mode_cb=self._lame_duck,
            name="voiceingest",
            allow_reconnect=False,
            # nats-py's hints say int; what it does with them are wait_for and sleep.
            connect_timeout=access.let_in_s,  # type: ignore[arg-type]
            ping_interval=_PING_S,
            max_outstanding_pings=_PINGS_UNANSWERED_MAX_COUNT,
            dont_randomize=True,
            tls=access.tls,
            user=url.username,
            password=url.password,
            token=url.token,
            user_credentials=None if self.client.credentials is None else RawCredentials("own"),
        )

    @property
    def inbox(self) -> bytes:
        """What the answer to a message is addressed with, up to its number."""
        return self.client.inbox

    @property
    def message_max_bytes(self) -> int:
        """Headers and payload the server takes, in bytes."""
        return self.client.max_payload

    # --- the hot path

    def write(self, messages: bytes) -> None:
        """Send encoded messages."""
        self._wire.write(messages)

    def _answered(self, number: int, answer: bytes, headers: bytes | None) -> None:
        self._owner.link_answered(self, number, answer, headers)

    def wire_writable(self, writable: bool) -> None:
        """Back-pressure of the connection."""
        if self._is_open:
            self._owner.link_writable(self, writable)

    # --- the end

    def close(self) -> None:
        """Close in good order: everything written is sent, unless that takes longer than a second."""
        if self._is_closing:
            return
        self._is_closing = True
        cut = self._clock.callLater(_CLOSE_S, self._wire.abort)

        def closed(outcome: Failure | None) -> None:
            if cut.active():
                cut.cancel()
            if outcome is not None:
                # nats-py could not; what it was to close is ours to cut.
                self._wire.abort()
            self.gone.callback(None)

        as_deferred(self.client.close()).addBoth(closed)

    def abort(self) -> None:
        """Cut at once."""
        self._wire.abort()
        self.close()

    def wire_lost(self, error: Exception | None) -> None:
        """The connection is gone: what the server last said is why, else the socket's error."""
        self._end(reason_of(self.client.last_error) or reason_of(error) or "lost")

    async def _client_failed(self, error: Exception) -> None:
        if not self._is_open:
            if not self.client.is_connected:
                # Out of nats-py's loop of attempts: see the head of this file.
                raise error
            # From its reading task: there it would only be a traceback.
            self._refusal = error
            self._wire.abort()
            return
        if reason_of(error) == "noperm":
            # The server goes on and the message is lost without an answer.
            self._end("noperm")

    async def _lame_duck(self) -> None:
        self._end("ldm")

    async def _unanswered(self, _message: Any) -> None:
        raise AssertionError("an answer was not intercepted")

    def _end(self, reason: str) -> None:
        """The first reason is the one that counts: an abort of ours also ends in a loss."""
        if self.ended is None:
            self.ended = reason
            self._owner.link_broken(self, reason)


def _credentials(path: Path | None) -> tuple[str, NatsKey] | None:
    """Read anew for each connection: the file is replaced when a user's JWT is renewed."""
    if path is None:
        return None
    try:
        return read_credentials(path)
    except SettingsError:
        raise BusRefusal("credentials") from None
