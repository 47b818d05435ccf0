"""Reading the channels of a Redis (pub/sub): one connection on txredisapi, made again when it breaks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import txredisapi
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as OutOfTime
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.protocol import Factory

from ..publishers.redis_url import RedisUrl
from .failures import CommandFailed, Exit
from .reading import Reader, Say
from .redis_place import RedisPlace, SentinelLogin
from .target import CONNECT_TIMEOUT_S, Trust, connection_failed

Heard = Callable[[bytes, bytes], None]

_PLACEHOLDER: Final = re.compile(r"{(?:tenant_id|interaction_id)}")
_GLOB: Final = re.compile(r"([*?\[\]\\])")


def pattern_of(
    template: str, tenant_id: str | None = None, interaction_id: str | None = None
) -> tuple[str, bool]:
    """The channel of a template, and whether it is a pattern: what is not known becomes ``*``."""
    from ..wire.envelope import channel_name

    known = {"{tenant_id}": tenant_id, "{interaction_id}": interaction_id}
    open_ends = [name for name in _PLACEHOLDER.findall(template) if known[name] is None]
    if not open_ends:
        return channel_name(template, tenant_id or "", interaction_id or "").decode(), False
    pieces = re.split(r"({(?:tenant_id|interaction_id)})", template)
    filled = [
        "*"
        if piece in open_ends
        else _GLOB.sub(r"\\\1", channel_name(piece, tenant_id or "", interaction_id or "").decode())
        for piece in pieces
    ]
    return "".join(filled), True


class _Subscription(txredisapi.SubscriberProtocol):  # type: ignore[misc]
    """txredisapi's side: hooks that tell the subscriber."""

    def __init__(self, url: RedisUrl, received: Heard) -> None:
        super().__init__(
            charset=None,
            convertNumbers=False,
            username=url.username,
            password=url.password,
            dbid=url.db or None,
        )
        self._received = received
        self.lost: Deferred[BaseException | None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """What comes in; Twisted would print a traceback about what is not Redis' protocol."""
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData:
            self.factory.refusal = "does not speak as Redis does"
            self.transport.abortConnection()

    def messageReceived(self, pattern: bytes | None, channel: bytes, message: bytes) -> None:
        self._received(channel, message)

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        if not self.lost.called:
            self.lost.callback(reason.value)


class _SubscriptionFactory(Factory):
    """What txredisapi's protocol asks of its factory when the server does not let it in."""

    noisy = False
    isLazy = False

    def __init__(self, url: RedisUrl, received: Heard) -> None:
        self._url = url
        self._received = received
        self.refusal: str | None = None

    def buildProtocol(self, addr: Any) -> _Subscription:
        """One protocol for one connection."""
        protocol = _Subscription(self._url, self._received)
        protocol.factory = self
        return protocol

    def stopTrying(self) -> None:
        """Asked for after a refusal; whether to try again is the subscriber's to say."""

    def connectionError(self, why: str) -> None:
        """The server refused the password or the database; its words are not for display."""
        self.refusal = "refuses the database" if "dbid" in why else "refuses the password"


class Subscriber(Reader):
    """Delivers every message of some channels to ``received(channel, payload)``."""

    def __init__(
        self,
        reactor: Any,
        url: RedisUrl,
        channels: list[tuple[str, bool]],
        received: Heard,
        trust: Trust,
        say: Say,
        login: SentinelLogin = (None, None),
    ) -> None:
        """``channels`` are names, and whether each is a pattern. Raises: ``UsageFailed``."""
        super().__init__(reactor, say)
        self._url = url
        self._channels = channels
        self._received = received
        self._place = RedisPlace(reactor, url, trust, self._hang_up, login)
        self._protocol: _Subscription | None = None

    @property
    def label(self) -> str:
        """Where the server is, without how to be let in."""
        return self._place.label

    def _hang_up(self) -> None:
        if self._protocol is not None:
            self._protocol.transport.abortConnection()

    async def _close(self) -> None:
        await self._place.close()

    async def _listen(self) -> None:
        """One connection, from the first byte to the last."""
        factory = _SubscriptionFactory(self._url, self._received)
        try:
            far_end = await self._place.endpoint()
            if self._stopped:
                return
            protocol: _Subscription | None = await self._wait(far_end.connect(factory))
        except (ConnectError, ConnectingCancelledError, OSError) as problem:
            raise connection_failed(problem, self.label) from problem
        if protocol is None:
            return
        self._protocol = protocol
        try:
            await self._subscribe(factory, protocol)
            self._is_ready()
            broken = await protocol.lost
        finally:
            self._protocol = None
        if broken is not None and not isinstance(broken, (ConnectionClosed, SSL.Error)):
            # Not the line broke but whoever was told of a message: a mistake of ours.
            raise broken
        self._broke(type(broken).__name__)

    async def _subscribe(self, factory: _SubscriptionFactory, protocol: _Subscription) -> None:
        ready = protocol.whenConnected()
        ready.addTimeout(CONNECT_TIMEOUT_S, self._reactor)
        protocol.lost.addCallback(_cancel, ready)
        try:
            await ready
        except (CancelledError, OutOfTime) as problem:
            await self._not_let_in(factory, protocol, problem)
        try:
            for name, is_pattern in self._channels:
                answer = protocol.psubscribe(name) if is_pattern else protocol.subscribe(name)
                # A server that is frozen, or does not speak TLS, takes the connection and says nothing.
                await answer.addTimeout(CONNECT_TIMEOUT_S, self._reactor)
        except txredisapi.ResponseError as problem:
            protocol.transport.abortConnection()
            raise self._refused(str(problem)) from None
        except OutOfTime as problem:
            protocol.transport.abortConnection()
            raise connection_failed(ConnectTimeout(), self.label) from problem
        except txredisapi.ConnectionError as problem:
            # It only says that the connection is lost; why is known a moment later.
            await self._not_let_in(factory, protocol, problem)

    def _refused(self, said: str) -> CommandFailed:
        if said.startswith("NOAUTH"):
            text, hint = f"{self.label} wants a password", "redis://user:password@host:port/db"
        else:
            text, hint = (
                f"{self.label} does not let us subscribe",
                "the user's ACL needs the channels (&audio:*)",
            )
        return CommandFailed(text, hint=hint, exit_code=Exit.REFUSED)

    async def _not_let_in(
        self, factory: _SubscriptionFactory, protocol: _Subscription, problem: BaseException
    ) -> None:
        """Say why the introduction failed: a refusal, a broken connection, or silence."""
        protocol.transport.abortConnection()
        if factory.refusal is not None:
            text = f"{self.label} {factory.refusal}"
            raise CommandFailed(text, hint="redis://user:password@host:port/db", exit_code=Exit.REFUSED)
        if isinstance(problem, OutOfTime):
            raise connection_failed(ConnectTimeout(), self.label) from problem
        raise connection_failed(await protocol.lost, self.label) from problem


def _cancel(value: BaseException | None, waiting: Deferred[Any]) -> BaseException | None:
    if not waiting.called:
        waiting.cancel()
    return value
