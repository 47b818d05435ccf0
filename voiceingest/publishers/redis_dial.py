"""Connections to the servers of one Redis URL: how they are made, and which of them are still open."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from .redis_link import ILinkOwner, Login, RedisLink
from .redis_url import RedisUrl, tls_for


class Dialer:
    """Dials redis and sentinels alike: with TLS where the URL says so, and never without asking for a
    certificate of the very host that is dialled."""

    def __init__(self, reactor: Any, url: RedisUrl, timeout_s: float, ca_path: Path | None) -> None:
        """Raises: ``BadCertificate``."""
        self._reactor = reactor
        self._path = url.path
        self._tls = tls_for(ca_path) if url.tls else None
        self._timeout_s = timeout_s
        self._open: set[RedisLink] = set()

    async def dial(
        self, owner: ILinkOwner, host: str, port: int, login: Login, *, tells_integers: bool = False
    ) -> RedisLink:
        """A connection that has been let in. Raises: ``BusRefusal``; whatever connecting raises."""

        def build() -> RedisLink:
            return self._build(owner, tells_integers)

        factory = Factory.forProtocol(build)
        factory.noisy = False
        try:
            link = cast(RedisLink, await self._endpoint(host, port).connect(factory))
        except ConnectingCancelledError:
            # An endpoint has a word of its own for it, which whoever cancels does not expect.
            raise CancelledError from None
        try:
            await link.greet(login)
        except Exception:
            link.abort()
            raise
        return link

    def close(self, in_order: RedisLink | None = None) -> Deferred[None]:
        """Cut all that is open, but close ``in_order`` in good order; fires when all are gone."""
        for link in tuple(self._open):
            if link is in_order:
                link.close()
            else:
                link.abort()
        return gatherResults([link.gone for link in self._open]).addCallback(lambda _: None)

    def _build(self, owner: ILinkOwner, tells_integers: bool) -> RedisLink:
        # Here and not above: importing txredisapi installs a reactor where there is none yet.
        import txredisapi

        greeter = txredisapi.RedisProtocol(charset=None, convertNumbers=False)
        link = RedisLink(greeter, txredisapi.RedisError, owner, self._reactor, tells_integers)
        self._open.add(link)
        link.gone.addCallback(lambda _: self._open.discard(link))
        return link

    def _endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        if self._path:
            return UNIXClientEndpoint(self._reactor, self._path, timeout=self._timeout_s)
        endpoint = HostnameEndpoint(self._reactor, host, port, timeout=self._timeout_s)
        return endpoint if self._tls is None else wrapClientTLS(self._tls(host), endpoint)
