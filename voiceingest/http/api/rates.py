"""How many requests a minute: by route, for each user and for each address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from pathlib import Path
from typing import Any, Final, Literal

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from twisted.logger import Logger

from ...errors import TooManyRequests
from ...gate import plain_address
from ...metrics import Metrics
from .windows import MemoryWindows

_MINUTE_S: Final = 60

# How long Redis may take, and how long it is left alone once it did not answer.
REDIS_TIMEOUT_S: Final = 0.25
REDIS_PAUSE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a minute. ``per_address`` also counts those that bring no token, or a wrong one."""

    per_user: int
    per_address: int


# The one table. What has no line is as cheap as a page.
PAGE_RATE: Final = Rate(per_user=300, per_address=300)
RATES: Final[Mapping[str, Rate]] = {
    "POST /api/auth/register": Rate(per_user=100, per_address=100),
    "POST /api/auth/refresh": Rate(per_user=100, per_address=100),
    "POST /api/auth/revoke": Rate(per_user=100, per_address=100),
    "POST /api/session/create": Rate(per_user=100, per_address=300),
    "GET /api/session": Rate(per_user=200, per_address=300),
    "GET /api/session/{id}": Rate(per_user=500, per_address=500),
    "PATCH /api/session/{id}": Rate(per_user=300, per_address=500),
    "DELETE /api/session/{id}": Rate(per_user=200, per_address=300),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit; ``reset_s`` is when there is room for one more."""

    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """As a caller is told."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }


class RateLimits:
    """Counts in a moving window of a minute: here, or in Redis for several processes together.

    ``factor`` multiplies every limit; 0: there are none. Where Redis does not answer, it is counted here.
    """

    _log = Logger()

    def __init__(
        self,
        factor: float,
        metrics: Metrics,
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        redis_url: str | None = None,
        ca_path: Path | None = None,
    ) -> None:
        """``ca_path`` has the authorities that a ``rediss`` is trusted by; those of the system without."""
        self._factor = factor
        self._metrics = metrics
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._memory = MovingWindowRateLimiter(MemoryWindows(seconds))
        self._shared: MovingWindowRateLimiter | None = None
        self._pool: ConnectionPool | None = None
        if redis_url is not None and factor:
            self._shared, self._pool = _redis(redis_url, ca_path)
        self._away_until = 0.0

    async def take(
        self,
        method: str,
        route: str,
        who: str,
        kind: Literal["user", "address"],
        tell: Callable[[Standing], object] = lambda _: None,
    ) -> Standing | None:
        """Count one request of ``who``, and ``tell`` what is left. Raises: ``TooManyRequests``, counted."""
        if not self._factor:
            return None
        rate = RATES.get(f"{method} {route}", PAGE_RATE)
        per_minute = rate.per_user if kind == "user" else rate.per_address
        item = RateLimitItemPerMinute(max(1, round(per_minute * self._factor)), namespace="voiceingest")
        key = (kind, network_of(who) if kind == "address" else who, method, route)
        taken, standing = await self._hit(item, key)
        tell(standing)
        if not taken:
            self._metrics.requests_limited[route] += 1
            raise TooManyRequests(retry_after_s=standing.reset_s)
        return standing

    async def close(self) -> None:
        """Leave Redis."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def _hit(self, item: RateLimitItemPerMinute, key: tuple[str, ...]) -> tuple[bool, Standing]:
        if self._shared is not None and self._seconds() >= self._away_until:
            try:
                return await _counted(self._shared, item, key, self._wall_clock())
            except (StorageError, OSError) as problem:
                self._away_until = self._seconds() + REDIS_PAUSE_S
                self._log.warn(
                    "Redis does not count requests, this process does: {reason}",
                    event="rate_store_away",
                    reason=type(problem).__name__,
                )
        return await _counted(self._memory, item, key, self._seconds())


async def _counted(
    limiter: MovingWindowRateLimiter, item: RateLimitItemPerMinute, key: tuple[str, ...], now: float
) -> tuple[bool, Standing]:
    taken = await limiter.hit(item, *key)
    stats = await limiter.get_window_stats(item, *key)
    reset_s = min(_MINUTE_S, max(1, int(stats.reset_time - now) + 1))
    return taken, Standing(item.amount, max(0, stats.remaining), reset_s)


def network_of(address: str) -> str:
    """Whose address it is: a household or a machine has a /64 of IPv6, not one address."""
    try:
        parsed = plain_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def _redis(url: str, ca_path: Path | None) -> tuple[MovingWindowRateLimiter, ConnectionPool]:
    tls = {} if ca_path is None or not url.startswith("rediss") else {"ssl_ca_certs": str(ca_path)}
    # A pool of ours: the URLs of ``limits`` have to name a port, and its extra wants redis-py below 8.
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    options: dict[str, Any] = {"connection_pool": pool}
    storage = RedisStorage(
        "async+redis://", wrap_exceptions=True, implementation="redispy", key_prefix="voiceingest", **options
    )
    return MovingWindowRateLimiter(storage), pool
