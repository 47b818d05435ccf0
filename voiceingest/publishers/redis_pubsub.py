"""Redis pub/sub as a bus: ``PUBLISH`` written ahead of its replies, in order, on one connection.

txredisapi introduces us (see ``redis_link``). What the channel is and most of a frame's JSON are
encoded once per stream; a batch is one write. The bus keeps no queue and loses nothing by itself:
what was sent and not answered when the connection goes is the delivery's to send again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IBusListener, IDelayedCall, StreamFacts
from ..wire.envelope import FrameParts, channel_name, encode_frame, frame_parts
from ..wire.resp import PING, publish_prefix
from .redis_link import RedisLink, reason_of
from .redis_url import client_tls, parse_redis_url

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# A connection that has carried nothing for so long is asked whether it still lives.
PING_IDLE_S: Final = 10.0

# First pause between two attempts to connect; doubled up to ``publish_retry_max_s``.
_RETRY_FIRST_S: Final = 0.1
_RETRY_DOUBLINGS_MAX_COUNT: Final = 16

# Errors that are about the connection or the server's state, not about one message: the message
# is kept and the connection made anew (a failover answers READONLY, a restart LOADING).
_CONNECTION_ERRORS: Final = {"NOAUTH": "auth", "READONLY": "readonly", "LOADING": "loading"}

# (command up to the frame's length, what frames share, command up to the event's length)
Prepared = tuple[bytes, FrameParts, bytes]


class RedisPubSub:
    """Provides ``IBus`` over one Redis."""

    name = "redis"
    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        metrics: Metrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``jitter`` answers 0..1; ``metrics`` are the delivery's to count and unused here.

        Raises: ``SettingsError``, ``BadCertificate``.
        """
        self._reactor = reactor
        self._url = parse_redis_url(settings.bus_url)
        self._tls = client_tls(self._url.host, settings.redis_ca_path) if self._url.tls else None
        self._channel = settings.redis_channel
        self._events_channel = settings.redis_events_channel
        self._connect_timeout_s = settings.publish_connect_timeout_s
        self._reply_timeout_s = settings.publish_reply_timeout_s
        self._retry_max_s = settings.publish_retry_max_s
        self._jitter = jitter
        self._failures = 0
        self._listener: IBusListener
        self._link: RedisLink | None = None
        self._open: set[RedisLink] = set()
        self._attempt: Deferred[Any] | None = None
        self._retry_call: IDelayedCall | None = None
        self._idle_call: IDelayedCall | None = None
        self._pong_call: IDelayedCall | None = None
        self._unanswered = 0
        self._active_at = 0.0
        self._is_stopping = False
        self.writable = False

    # --- IBus

    def start(self, listener: IBusListener) -> None:
        """Begin to connect, in the background."""
        self._listener = listener
        self._connect()

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when it is gone."""
        self._is_stopping = True
        self._cancel(self._retry_call)
        link, all_answered = self._link, not self._unanswered
        self._detach()
        if self._attempt is not None:
            self._attempt.cancel()
        for one in tuple(self._open):
            if one is link and all_answered:
                one.close()
            else:
                one.abort()
        return gatherResults([one.gone for one in self._open]).addCallback(lambda _: None)

    def prepare(self, facts: StreamFacts) -> Prepared:
        """Encode once what every message of a stream has in common."""
        tenant_id, interaction_id, audio = facts.tenant_id, facts.interaction_id, facts.audio
        return (
            publish_prefix(channel_name(self._channel, tenant_id, interaction_id)),
            frame_parts(tenant_id, interaction_id, audio.sample_rate, audio.encoding),
            publish_prefix(channel_name(self._events_channel, tenant_id, interaction_id)),
        )

    def send(self, batch: Sequence[tuple[Prepared, int, int, bytes]]) -> int:
        """Write a batch in order, in one write; returns its bytes."""
        link = self._link
        if link is None:
            # Only between bus_up and bus_down; what was not sent will not be confirmed either.
            raise RuntimeError("send on a bus that is down")
        parts: list[bytes] = []
        for (frame_command, shared, event_command), seq, timestamp_ms, payload in batch:
            if seq:
                frame = encode_frame(shared, seq, timestamp_ms, payload)
                parts += (frame_command, b"%d\r\n" % len(frame), frame, b"\r\n")
            else:
                parts += (event_command, b"%d\r\n" % len(payload), payload, b"\r\n")
        commands = b"".join(parts)
        self._unanswered += len(batch)
        self._active_at = self._reactor.seconds()
        link.write(commands)
        return len(commands)

    def drop_connection(self, reason: str) -> None:
        """Cut the connection at once; the listener hears ``bus_down(reason)`` before this returns."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()
            self._down(reason)

    # --- what the link tells

    def link_replied(self, link: RedisLink, runs: list[int | str]) -> None:
        """Confirm, refuse or give up, in the order of the replies."""
        if link is not self._link:
            return
        self._active_at = self._reactor.seconds()
        for run in runs:
            if self._pong_call is not None:
                # A PING is only sent when nothing is unanswered, so the first reply is its own.
                # An error is a sign of life too: a user may be let publish and not ping.
                self._cancel(self._pong_call)
                self._pong_call = None
                self._confirmed(run - 1 if isinstance(run, int) else 0)
            elif isinstance(run, str):
                self._refused(run)
            else:
                self._confirmed(run)
            if link is not self._link:
                return

    def link_broken(self, link: RedisLink, reason: str) -> None:
        """The connection is gone or useless."""
        if link is self._link:
            self._down(reason)

    def link_writable(self, link: RedisLink, writable: bool) -> None:
        """Back-pressure of the transport."""
        if link is self._link:
            self.writable = writable
            if writable:
                self._listener.bus_writable()

    # --- connecting

    def _connect(self) -> None:
        self._retry_call = None
        self._attempt = Deferred.fromCoroutine(self._introduce())
        # One limit for all of it: name, TCP, TLS and introduction.
        self._attempt.addTimeout(self._connect_timeout_s, self._reactor)
        self._attempt.addCallbacks(self._connected, self._not_connected)

    async def _introduce(self) -> RedisLink:
        factory = Factory.forProtocol(self._build_link)
        factory.noisy = False
        link: Any = await self._endpoint().connect(factory)
        try:
            await link.greet(self._url)
        except Exception:
            link.abort()
            raise
        return cast(RedisLink, link)

    def _build_link(self) -> RedisLink:
        # Here and not above: importing txredisapi installs a reactor where there is none yet.
        import txredisapi

        greeter = txredisapi.RedisProtocol(charset=None, convertNumbers=False)
        link = RedisLink(greeter, txredisapi.RedisError, self, self._reactor)
        self._open.add(link)
        link.gone.addCallback(lambda _: self._open.discard(link))
        return link

    def _endpoint(self) -> IStreamClientEndpoint:
        url = self._url
        if url.path:
            return UNIXClientEndpoint(self._reactor, url.path, timeout=self._connect_timeout_s)
        endpoint = HostnameEndpoint(self._reactor, url.host, url.port, timeout=self._connect_timeout_s)
        return endpoint if self._tls is None else wrapClientTLS(self._tls, endpoint)

    def _connected(self, link: RedisLink) -> None:
        self._attempt = None
        self._link = link
        self._unanswered = 0
        self._active_at = self._reactor.seconds()
        self.writable = True
        link.begin()
        self._idle_call = self._reactor.callLater(PING_IDLE_S, self._look_alive)
        self._listener.bus_up()

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if self._is_stopping and failure.check(CancelledError):
            return
        reason = reason_of(failure.value)
        if reason is None:
            # The class only: a text may hold what we said to the server.
            kind = type(failure.value).__name__
            self._log.error("Connecting failed in an unknown way", event="bus_connect_failed", error=kind)
            reason = "unknown"
        self._down(reason)

    def _confirmed(self, count: int) -> None:
        # Only now: a server that lets us in and then takes nothing is not one to hurry back to.
        self._failures = 0
        self._unanswered -= count
        if count:
            self._listener.bus_confirmed(count)

    def _refused(self, prefix: str) -> None:
        reason = _CONNECTION_ERRORS.get(prefix)
        if reason is not None:
            self.drop_connection(reason)
        else:
            self._unanswered -= 1
            self._listener.bus_refused(prefix.lower())

    def _down(self, reason: str) -> None:
        self._detach()
        if self._is_stopping:
            return
        # Full jitter on the upper half: many daemons do not come back at the same moment.
        doublings = min(self._failures, _RETRY_DOUBLINGS_MAX_COUNT)
        pause_s = min(_RETRY_FIRST_S * 2**doublings, self._retry_max_s) * (1 + self._jitter()) / 2
        self._failures += 1
        self._retry_call = self._reactor.callLater(pause_s, self._connect)
        self._listener.bus_down(reason)

    def _detach(self) -> None:
        self._link = None
        self.writable = False
        self._cancel(self._idle_call)
        self._cancel(self._pong_call)
        self._pong_call = None

    def _look_alive(self) -> None:
        """Ask a connection that carries nothing whether it lives."""
        link = self._link
        if link is None:
            return
        idle_s = self._reactor.seconds() - self._active_at
        if idle_s < PING_IDLE_S or self._unanswered or self._pong_call is not None:
            # Unanswered messages have a deadline of their own, in the delivery.
            self._idle_call = self._reactor.callLater(max(PING_IDLE_S - idle_s, 1.0), self._look_alive)
            return
        self._idle_call = self._reactor.callLater(PING_IDLE_S, self._look_alive)
        self._pong_call = self._reactor.callLater(self._reply_timeout_s, self.drop_connection, "timeout")
        link.write(PING)

    @staticmethod
    def _cancel(call: IDelayedCall | None) -> None:
        if call is not None and call.active():
            call.cancel()
