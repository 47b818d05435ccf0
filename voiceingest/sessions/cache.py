"""Redis in front of the reads of sessions; it may be away at any time, and nobody notices but the store.

What is kept is replaced by newer versions only, and forgotten after ``TTL_S``. The race that is left: a
session was read from the store, then changed, and Redis did not take the change (it was away, or has thrown
the key away meanwhile), but takes the older one from who read it. That is then shown for ``TTL_S`` at the
longest. Only shown: whatever decides on a session reads the store, and writes by its version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from twisted.logger import Logger

from ..errors import SettingsError
from ..metrics import Metrics
from ..session_interfaces import Session
from .encoding import decode_session, encode_session

PREFIX: Final = "voiceingest:session:"
TTL_S: Final = 30.0

# A session is read from the store in milliseconds: waiting longer for the cache would be no help.
TIMEOUT_S: Final = 0.25

# After an error nobody is kept waiting for the next for so long.
PAUSE_S: Final = 1.0
CONNECTIONS_MAX_COUNT: Final = 8

# Sets the key unless what is there is newer. What is kept is the version, a line break, and the session.
_PUT: Final = """
local kept = redis.call('GET', KEYS[1])
local version = kept and tonumber(string.match(kept, '^(%d+)\\n'))
if version and version > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. '\\n' .. ARGV[2], 'PX', ARGV[3])
return 1
"""

_AWAY: Final = (RedisError, OSError, TimeoutError)


class NoCache:
    """Where there is no Redis: the store is asked every time (``ISessionCache``)."""

    async def get(self, session_id: str) -> Session | None:
        """It has none."""
        return None

    async def put(self, session: Session) -> None:
        """It keeps none."""

    async def drop(self, session_id: str) -> None:
        """It has none."""

    async def stop(self) -> None:
        """There is nothing to close."""


class RedisSessionCache:
    """See the head of this file (``ISessionCache``). ``now`` is a monotonic clock."""

    _log = Logger()

    def __init__(
        self, url: str, metrics: Metrics, now: Callable[[], float], *, ca_path: Path | None = None
    ) -> None:
        """Raises: ``SettingsError``; its text does not repeat the URL, which may hold a password."""
        self._redis = connect(url, ca_path, CONNECTIONS_MAX_COUNT)
        self._metrics = metrics
        self._now = now
        self._quiet_until = 0.0

    async def get(self, session_id: str) -> Session | None:
        """A session, where it is here and not old."""
        kept = await self._ask(lambda: self._redis.get(PREFIX + session_id))
        if not isinstance(kept, bytes):
            if not self._quiet_until:
                self._metrics.session_cache["miss"] += 1
            return None
        try:
            session = decode_session(kept.partition(b"\n")[2].decode())
        except (ValueError, RecursionError):
            # Of another version of the daemon: it goes with its time.
            self._metrics.session_cache["foreign"] += 1
            return None
        self._metrics.session_cache["hit"] += 1
        return session

    async def put(self, session: Session) -> None:
        """Keep a session that was just read, or written."""
        ttl_ms = int(TTL_S * 1000)
        await self._ask(
            lambda: self._redis.eval(
                _PUT, 1, PREFIX + session.session_id, session.version, encode_session(session), ttl_ms
            )
        )

    async def drop(self, session_id: str) -> None:
        """Forget a session everywhere: it was changed."""
        await self._ask(lambda: self._redis.delete(PREFIX + session_id))

    async def stop(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _ask(self, command: Callable[[], Any]) -> Any:
        """What Redis answers; ``None`` where it does not, which is counted."""
        if self._now() < self._quiet_until:
            self._metrics.session_cache["skipped"] += 1
            return None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await command()
        except _AWAY as error:
            self._metrics.session_cache["error"] += 1
            if not self._quiet_until:
                self._log.warn(
                    "the cache of sessions does not answer",
                    event="session_cache_away",
                    error=type(error).__name__,
                )
            self._quiet_until = self._now() + PAUSE_S
            return None
        self._quiet_until = 0.0
        return answer


def connect(url: str, ca_path: Path | None, connections: int) -> Any:
    """A client that is not connected yet. Raises: ``SettingsError``."""
    tls = {} if ca_path is None or not url.startswith("rediss") else {"ssl_ca_certs": str(ca_path)}
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or parts.query or parts.fragment:
            raise ValueError(parts.scheme)
        pool = redis_asyncio.BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )
    except ValueError:
        # Not chained: what it raises may quote the URL.
        raise SettingsError(["session_cache_url: redis[s]://[user:password@]host[:port][/db]"]) from None
    return redis_asyncio.Redis.from_pool(pool)
