"""One connection to a Redis or a sentinel: txredisapi introduces us, then replies are only counted.

The introduction (AUTH, SELECT, PING, ROLE) is a handful of commands and goes through txredisapi's
protocol, which this one owns and feeds; so does all that a sentinel is asked. Once nothing is
outstanding there, the bytes that come in go to our scanner instead: txredisapi's parser and its
Deferred per reply cost 23-89 us a message, counting costs under one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet import error as net_error
from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IClock
from ..wire.resp import NotResp, ReplyScanner, Run

# How long replicas have to say that they are there; a round trip when they are.
REPLICAS_WAIT_MS: Final = 500

# A peer that does not finish a close is cut.
_CLOSE_S: Final = 1.0

# What a failed connection is called, first match wins; the words are labels of a metric.
_REASONS: Final[tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]] = (
    ((SSL.Error, VerificationError, CertificateError), "tls"),
    ((net_error.DNSLookupError, net_error.UnknownHostError), "dns"),
    ((DeferredTimeout, net_error.TimeoutError, net_error.TCPTimedOutError, TimeoutError), "timeout"),
    ((net_error.ConnectError, OSError), "refused"),
    (net_error.ConnectionClosed, "lost"),
)


# What a server says before it lets anybody in, by the first word of its error.
_REFUSALS: Final = {"NOAUTH": "auth", "WRONGPASS": "auth", "LOADING": "loading", "DENIED": "denied"}
_FULL: Final = "max number of clients reached"


class Login(NamedTuple):
    """How to be let in. Not a dataclass of its own making: it is never shown."""

    username: str | None = None
    password: str | None = None
    db: int = 0

    def __repr__(self) -> str:
        return f"Login(db={self.db})"


class BusRefusal(Exception):
    """The server is there and will not have us; ``reason`` is a short stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(error: BaseException | None) -> str | None:
    """The word for a failed connection; ``None`` for an error that is none of the known ones."""
    if isinstance(error, BusRefusal):
        return error.reason
    return next((word for kinds, word in _REASONS if isinstance(error, kinds)), None)


class ILinkOwner(Protocol):
    """Whom a link tells."""

    def link_replied(self, link: RedisLink, runs: list[Run]) -> None:
        """Replies have come in: see ``ReplyScanner.feed``."""

    def link_broken(self, link: RedisLink, reason: str) -> None:
        """The link can no longer be used."""

    def link_writable(self, link: RedisLink, writable: bool) -> None:
        """The transport has enough for now, or takes bytes again."""


@implementer(IPushProducer)
class RedisLink(TwistedProtocol):
    """The protocol of the connection, and the producer the transport holds back."""

    def __init__(
        self,
        greeter: Any,
        garbled: type[Exception],
        owner: ILinkOwner,
        clock: IClock,
        tells_integers: bool = False,
    ) -> None:
        """``greeter`` is a fresh txredisapi protocol; ``garbled`` what it raises for what is not RESP.

        ``tells_integers``: see ``ReplyScanner``.
        """
        self._greeter = greeter
        self._garbled = garbled
        self._owner = owner
        self._clock = clock
        self._receive: Callable[[bytes], object] = greeter.dataReceived
        self._scanner = ReplyScanner(tells_integers)
        self._ended: str | None = None
        self._is_lost = False
        self.gone: Deferred[None] = Deferred()

    # --- the introduction

    def connectionMade(self) -> None:
        """Small packets at once; a peer that is gone is noticed by the kernel too."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self._greeter.makeConnection(self.transport)

    async def greet(self, login: Login) -> None:
        """Be let in and be answered. Raises: ``BusRefusal``."""
        if login.password is not None:
            name = () if login.username is None else (login.username,)
            await self.ask("AUTH", *name, login.password, otherwise="auth")
        if login.db:
            await self.ask("SELECT", login.db, otherwise="select")
        # A connection to a frozen server is accepted by its kernel: only an answer proves a life.
        await self.ask("PING", otherwise="protocol", enough="NOPERM")

    async def must_lead(self) -> None:
        """Make sure of talking to a primary: a replica takes PUBLISH without a word.

        Raises: ``BusRefusal``.
        """
        role = await self.ask("ROLE", otherwise="role")
        if not isinstance(role, list) or role[:1] != [b"master"]:
            raise BusRefusal("replica")

    async def must_replicate(self, replicas: int) -> None:
        """Make sure that so many replicas are there, before anything is written in vain.

        They are asked to acknowledge: ``WAIT 0`` would count those in step by chance, for the sentinels
        publish on the server too, and replicas report once a second. Raises: ``BusRefusal``.
        """
        there = await self.ask("WAIT", replicas, REPLICAS_WAIT_MS, otherwise="wait")
        if not isinstance(there, int) or there < replicas:
            raise BusRefusal("unreplicated")

    def ask(self, *words: str | int, otherwise: str, enough: str = "\0") -> Deferred[Any]:
        """Ask one thing; an error that begins with ``enough`` is as good as any answer.

        Fails with ``BusRefusal``: its reason is ``otherwise`` where the error has no word of its own.
        """
        try:
            answer: Deferred[Any] = self._greeter.execute_command(*words)
        except self._garbled:
            return fail(BusRefusal(self._ended or "lost"))
        return answer.addErrback(self._refused, otherwise, enough)

    def _refused(self, failure: Failure, otherwise: str, enough: str) -> None:
        failure.trap(self._garbled)
        if self._ended is not None:
            raise BusRefusal(self._ended)
        # The text goes no further: it is the server's, and may quote us.
        text = str(failure.value)
        word = text.split(" ", 1)[0]
        if word != enough:
            raise BusRefusal("maxclients" if _FULL in text else _REFUSALS.get(word, otherwise))

    # --- the hot path

    def begin(self) -> None:
        """From now on replies are counted, and the transport may hold us back."""
        self._receive = self._count
        self._transport.registerProducer(self, True)

    def write(self, commands: bytes) -> None:
        """Send encoded commands."""
        self._transport.write(commands)

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the server."""
        try:
            self._receive(data)
        except (NotResp, self._garbled):
            self._end("protocol")
            self.abort()

    def _count(self, data: bytes) -> None:
        runs = self._scanner.feed(data)
        if runs:
            self._owner.link_replied(self, runs)

    def pauseProducing(self) -> None:
        """The transport holds more than its high-water mark."""
        self._owner.link_writable(self, False)

    def resumeProducing(self) -> None:
        """The transport has written everything."""
        self._owner.link_writable(self, True)

    def stopProducing(self) -> None:
        """The transport closes; ``connectionLost`` says why."""

    # --- the end

    def close(self) -> None:
        """Close in good order; cut if that takes longer than a second."""
        if self._is_lost:
            return
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        cut = self._clock.callLater(_CLOSE_S, self.abort)
        self.gone.addCallback(lambda _: cut.cancel() if cut.active() else None)

    def abort(self) -> None:
        """Cut at once."""
        if not self._is_lost:
            self._transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection is gone."""
        self._is_lost = True
        self._end(reason_of(reason.value) or "lost")
        # Fails what the introduction still waits for.
        self._greeter.connectionLost(reason)
        self.gone.callback(None)

    def _end(self, reason: str) -> None:
        """The first reason is the one that counts: an abort of ours also ends in a loss."""
        if self._ended is None:
            self._ended = reason
            self._owner.link_broken(self, reason)

    @property
    def _transport(self) -> Any:
        # ITransport has no abortConnection; every transport of an endpoint here has.
        return self.transport
