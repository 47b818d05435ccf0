"""Where the Redis of a URL is now: at one address, or where its sentinels say."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pydantic import SecretStr
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from ..publishers.redis_link import BusRefusal
from ..publishers.redis_sentinel import Sentinels
from ..publishers.redis_url import RedisUrl
from .failures import ConnectionFailed, UsageFailed
from .target import CONNECT_TIMEOUT_S, Trust, endpoint

# (user name, password) for the sentinels.
SentinelLogin = tuple[str | None, str | None]


class RedisPlace:
    """Finds the server, again for each connection; ``moved`` is called when the primary is another."""

    def __init__(
        self,
        reactor: Any,
        url: RedisUrl,
        trust: Trust,
        moved: Callable[[], None],
        login: SentinelLogin = (None, None),
    ) -> None:
        """Raises: ``UsageFailed``."""
        self._reactor = reactor
        self._url = url
        self._trust = trust
        self._moved = moved
        self._login = login
        self._sentinels: Sentinels | None = None
        if url.sentinels and url.tls and trust.insecure:
            raise UsageFailed("--insecure does not go with sentinels; name the authority with --ca")

    @property
    def label(self) -> str:
        """Where it is, without how to be let in."""
        if self._url.sentinels:
            return f"{self._url.service} at {len(self._url.sentinels)} sentinels"
        return self._url.path or f"{self._url.host}:{self._url.port}"

    async def endpoint(self) -> IStreamClientEndpoint:
        """Where to connect to now. Raises: ``ConnectionFailed`` when no sentinel can tell."""
        url = self._url
        if url.path:
            return UNIXClientEndpoint(self._reactor, url.path, timeout=CONNECT_TIMEOUT_S)
        host, port = await self._primary() if url.sentinels else (url.host, url.port)
        return endpoint(self._reactor, host, port, self._trust if url.tls else None)

    async def close(self) -> None:
        """Ask the sentinels no more."""
        sentinels, self._sentinels = self._sentinels, None
        if sentinels is not None:
            await sentinels.stop()

    async def _primary(self) -> tuple[str, int]:
        if self._sentinels is None:
            self._sentinels = self._ask_sentinels()
        try:
            return await self._sentinels.find()
        except BusRefusal as refusal:
            why = refusal.reason.removeprefix("sentinel_")
            raise ConnectionFailed(
                f"the sentinels do not say where {self._url.service} is ({why})",
                reason="sentinel",
                hint="redis+sentinel://[user:password@]host:26379,host:26379/service",
            ) from None

    def _ask_sentinels(self) -> Sentinels:
        username, password = self._login
        # The four settings that are asked for; all the others would have to be made up.
        settings: Any = SimpleNamespace(
            redis_sentinel_username=username,
            redis_sentinel_password=None if password is None else SecretStr(password),
            publish_connect_timeout_s=CONNECT_TIMEOUT_S,
            redis_ca_path=self._trust.ca,
        )
        sentinels = Sentinels(settings, self._url, self._reactor, self._moved)
        sentinels.start()
        return sentinels
