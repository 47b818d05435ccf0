"""What several scenarios share: fifty streams to Redis pub/sub, and one consumer."""

from __future__ import annotations

from typing import Any

from tests.support.servers import RedisServer

from ..bench import off_loop, ways_of
from ..scenario import Scenario


class OnPubSub(Scenario):
    """Fifty streams to Redis pub/sub."""

    redis: RedisServer

    async def set_up(self) -> None:
        """A Redis, a daemon, a consumer, the callers."""
        bench = self.bench
        self.redis = await off_loop(bench.redis)
        self.daemon = await bench.start_daemon(self.settings(), **self.options())
        await bench.consume("pubsub", ways_of(self.redis))
        await bench.call(self.daemon, resumes=self.resumes)

    def settings(self) -> dict[str, str]:
        """Of the daemon."""
        return {"REDIS_URL": self.redis.url()}

    def options(self) -> dict[str, Any]:
        """How the daemon is started."""
        return {}
