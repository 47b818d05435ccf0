"""A Redis as a bus: commands written ahead of their replies, in order, on one connection.

This is the life of the connection: found, made, greeted, watched, dropped, made again; and whose
message a reply is to. What is written is the business of the kinds of bus that derive from it
(``redis_pubsub``, ``redis_streams``). The bus keeps no queue and loses nothing by itself: what was
sent and not answered when the connection goes is the delivery's to send again.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IBusListener, IDelayedCall, StreamFacts
from ..wire.resp import PING, Run
from .redis_dial import Dialer
from .redis_link import Login, RedisLink, reason_of
from .redis_sentinel import Sentinels
from .redis_url import parse_redis_url
from .retry import RETRY_FIRST_S, Backoff

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics

# A connection that has carried nothing for so long is asked whether it still lives.
PING_IDLE_S: Final = 10.0

# Errors that are about the connection or the server's state, not about one message: the message is
# kept and the connection made anew, later and later (a fail-over answers READONLY, a full memory OOM).
STATE_ERRORS: Final = {
    "NOAUTH": "auth",
    "READONLY": "readonly",
    "LOADING": "loading",
    "OOM": "oom",
    "MISCONF": "misconf",
    "NOREPLICAS": "noreplicas",
    "MASTERDOWN": "masterdown",
    "CLUSTERDOWN": "clusterdown",
    "TRYAGAIN": "tryagain",
    "BUSY": "busy",
    "UNBLOCKED": "unblocked",
}


class RedisBus(ABC):
    """Provides ``IBus`` over one Redis at a time."""

    name: ClassVar[str] = "redis"
    # Whether an integer among the replies says something: see ``ReplyScanner``.
    tells_integers: ClassVar[bool] = False
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
        url = self._url = parse_redis_url(settings.bus_url)
        self._login = Login(url.username, url.password, url.db)
        self._connect_timeout_s = settings.publish_connect_timeout_s
        self._dialer = Dialer(reactor, url, self._connect_timeout_s, settings.redis_ca_path)
        self._sentinels = Sentinels(settings, url, reactor, self._moved) if url.sentinels else None
        self._reply_timeout_s = settings.publish_reply_timeout_s
        self._backoff = Backoff(RETRY_FIRST_S, settings.publish_retry_max_s, jitter)
        self._listener: IBusListener
        self._link: RedisLink | None = None
        self._attempt: Deferred[Any] | None = None
        self._retry_call: IDelayedCall | None = None
        self._idle_call: IDelayedCall | None = None
        self._pong_call: IDelayedCall | None = None
        self._unanswered = 0
        self._active_at = 0.0
        self._is_stopping = False
        self.writable = False

    # --- what a kind of bus decides

    @abstractmethod
    def prepare(self, facts: StreamFacts) -> Any:
        """Encode once what every message of a stream has in common."""

    @abstractmethod
    def encode(self, batch: Sequence[tuple[Any, int, int, bytes]]) -> bytes:
        """The commands of a batch, one for each message, in order."""

    async def look_over(self, link: RedisLink) -> None:
        """Ask a server that has let us in for what else is needed. Raises: ``BusRefusal``."""
        if self._sentinels is not None:
            # A sentinel that was away may still name one that has been replaced.
            await link.must_lead()

    def begin(self) -> None:
        """A connection begins: nothing is unanswered."""
        self._unanswered = 0
        self._active_at = self._reactor.seconds()

    def take(self, run: Run) -> None:
        """Confirm, refuse or give up, for one run of replies."""
        if isinstance(run, int):
            self._confirmed(run)
        elif isinstance(run, str):
            self._refused(run)
        else:
            self.drop_connection("protocol")

    # --- IBus

    def start(self, listener: IBusListener) -> None:
        """Begin to connect, in the background."""
        self._listener = listener
        if self._sentinels is not None:
            self._sentinels.start()
        self._connect()

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when it is gone."""
        self._is_stopping = True
        self._cancel(self._retry_call)
        link, all_answered = self._link, not self._unanswered
        self._detach()
        if self._attempt is not None:
            self._attempt.cancel()
        closed = self._dialer.close(link if all_answered else None)
        if self._sentinels is not None:
            asked_no_more = self._sentinels.stop()
            closed.addCallback(lambda _: asked_no_more)
        return closed

    def send(self, batch: Sequence[tuple[Any, int, int, bytes]]) -> int:
        """Write a batch in order, in one write; returns its bytes."""
        link = self._link
        if link is None:
            # Only between bus_up and bus_down; what was not sent will not be confirmed either.
            raise RuntimeError("send on a bus that is down")
        commands = self.encode(batch)
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

    def link_replied(self, link: RedisLink, runs: list[Run]) -> None:
        """Take the replies, in their order."""
        if link is not self._link:
            return
        self._active_at = self._reactor.seconds()
        for run in runs:
            if self._pong_call is not None:
                # A PING is only sent when nothing is unanswered, so the first reply is its own.
                # An error is a sign of life too: a user may be let publish and not ping.
                self._cancel(self._pong_call)
                self._pong_call = None
                self._backoff.begin_again()
                if isinstance(run, int) and run > 1:
                    self.take(run - 1)
            else:
                self.take(run)
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
        # One limit for all of it: sentinels, name, TCP, TLS and introduction.
        self._attempt.addTimeout(self._connect_timeout_s, self._reactor)
        self._attempt.addCallbacks(self._connected, self._not_connected)

    async def _introduce(self) -> RedisLink:
        host, port = self._url.host, self._url.port
        if self._sentinels is not None:
            host, port = await self._sentinels.find()
        link = await self._dialer.dial(self, host, port, self._login, tells_integers=self.tells_integers)
        try:
            await self.look_over(link)
        except Exception:
            link.abort()
            raise
        return link

    def _connected(self, link: RedisLink) -> None:
        self._attempt = None
        self._link, self.writable = link, True
        self._backoff.connected(self._reactor.seconds())
        self.begin()
        link.begin()
        self._idle_call = self._reactor.callLater(PING_IDLE_S, self._look_alive)
        self._listener.bus_up()

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if failure.check(CancelledError):
            if not self._is_stopping:
                self._down("switched")
            return
        reason = reason_of(failure.value)
        if reason is None:
            # The class only: a text may hold what we said to the server.
            kind = type(failure.value).__name__
            self._log.error("Connecting failed in an unknown way", event="bus_connect_failed", error=kind)
            reason = "unknown"
        self._down(reason)

    def _moved(self) -> None:
        """The sentinels name another primary than the one in use or tried: do not wait for anything."""
        # Its failures are its own.
        self._backoff.begin_again()
        if self._link is not None:
            self.drop_connection("switched")
        elif self._attempt is not None:
            self._attempt.cancel()
        elif self._retry_call is not None:
            self._cancel(self._retry_call)
            self._connect()

    def _confirmed(self, count: int) -> None:
        self._backoff.worked(self._reactor.seconds())
        self._unanswered -= count
        self._listener.bus_confirmed(count)

    def _refused(self, prefix: str) -> None:
        reason = STATE_ERRORS.get(prefix)
        if reason is not None:
            self.drop_connection(reason)
        else:
            self._unanswered -= 1
            self._listener.bus_refused(prefix.lower())

    def _down(self, reason: str) -> None:
        self._detach()
        if self._is_stopping:
            return
        self._retry_call = self._reactor.callLater(self._backoff.failed(), self._connect)
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
