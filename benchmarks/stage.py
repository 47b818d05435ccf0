"""What every target is given: a Redis, a NATS where there is one, keys, a certificate, and cores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.support.nats_servers import NatsServer
from tests.support.servers import RedisServer, TlsFiles
from tests.support.tokens import Issuer

EXOTEL_TOKEN = "a-token-for-the-bench"
_TOKENS = 100
# A consumer that is behind for a moment is not cut off.
_REDIS = ("--client-output-buffer-limit", "pubsub 512mb 256mb 60")


class Stage:
    """Everything around the process that is measured; ``close`` ends it.

    With more than one core, the process that is measured has the last one for itself and everything
    else shares the others.
    """

    def __init__(self) -> None:
        self._closing = ExitStack()
        cores = sorted(os.sched_getaffinity(0))
        self.core = cores[-1]
        self.others = set(cores[:-1]) or set(cores)
        # Whatever is started from here on has them too.
        os.sched_setaffinity(0, self.others)
        self.folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory()))
        self.redis = RedisServer(self, options=_REDIS)
        self._control = self._closing.enter_context(self.redis.control())
        try:
            self.nats: NatsServer | None = NatsServer(self)
        except SkipTest:
            self.nats = None
        self.tls = TlsFiles(self.folder / "tls")
        self._issuer = Issuer()
        self.key_path = self.folder / "public-key"
        self.key_path.write_text(self._issuer.public_pem)
        self.bearers = self.bearers_for(3600)

    def bearers_for(self, lifetime_s: float) -> tuple[str, ...]:
        """Tokens that are good for so long."""
        return tuple(
            self._issuer.token(tenant_id="bench", jti=str(n), lifetime_s=lifetime_s) for n in range(_TOKENS)
        )

    def addCleanup(self, f: Callable[..., Any], /, *args: Any) -> Any:
        """What the servers of the tests ask for."""
        return self._closing.callback(f, *args)

    def published(self) -> int:
        """How often something has been published to the Redis."""
        told = self._control.info("commandstats")
        return int(told.get("cmdstat_publish", {}).get("calls", 0))

    def close(self) -> None:
        """End everything, the newest first."""
        self._closing.close()
