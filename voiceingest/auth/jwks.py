"""The key set of an issuer, kept fresh in the background.

Verification never waits for the network as long as the key is known. The set is fetched at the
start and again by age; a ``kid`` that is not in it asks for one fetch in each cool-down, however
many ask. When the endpoint fails the last good set stays, for a day at most: after that a key
the issuer has withdrawn must not open the door any longer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import BadKey
from ..interfaces import IClock, IDelayedCall
from .jwks_http import FetchFailed
from .keys import KeySet, from_jwks

if TYPE_CHECKING:
    from ..metrics import Metrics

# How long a set outlives its last successful fetch.
KEPT_MAX_S: Final = 24 * 3600.0

# Verifications that may wait for one fetch; further ones are answered with what is known.
WAITERS_MAX_COUNT: Final = 1000

# Pauses after failures: 1, 2, 4 ... 60 s, each shortened by up to a half so that a fleet of
# daemons does not come back to its issuer in step.
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
_RETRY_DOUBLINGS: Final = 6


class JwksSource:
    """Holds the newest good key set and fetches the next one; one fetch at a time."""

    _log = Logger()

    def __init__(
        self,
        fetch: Callable[[], Deferred[bytes]],
        algorithms: Collection[str],
        clock: IClock,
        metrics: Metrics,
        *,
        max_age_s: float,
        cooldown_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fetch = fetch
        self._algorithms = algorithms
        self._clock = clock
        self._metrics = metrics
        self._max_age_s = max_age_s
        self._cooldown_s = cooldown_s
        self._jitter = jitter
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._asked_at = float("-inf")
        self._failures = 0
        self._running = False
        self._fetching: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._waiters: list[Deferred[None]] = []

    @property
    def keys(self) -> KeySet | None:
        """The last good set; ``None`` before the first and when it has become too old."""
        return None if self._too_old else self._keys

    @property
    def ready(self) -> str | None:
        """``None``, or ``jwks_not_loaded``, ``jwks_too_old``."""
        if self._keys is None:
            return "jwks_not_loaded"
        return "jwks_too_old" if self._too_old else None

    @property
    def _too_old(self) -> bool:
        return self._clock.seconds() - self._fetched_at > KEPT_MAX_S

    def start(self) -> None:
        """Fetch for the first time, in the background."""
        self._running = True
        self.reload()

    def stop(self) -> Deferred[None]:
        """Give up what is under way and answer whoever waits for it."""
        self._running = False
        self._disarm()
        if self._fetching is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._fetching.addBoth(stopped.callback)
        self._fetching.cancel()
        return stopped

    def reload(self) -> None:
        """Fetch now, unless a fetch is under way."""
        if self._fetching is not None or not self._running:
            return
        self._disarm()
        document = self._fetch()
        self._fetching = fetching = document.addCallback(self._take)
        fetching.addErrback(self._keep)
        fetching.addBoth(self._fetched)

    def newer_keys(self) -> Deferred[None] | None:
        """Return what fires after the fetch an unknown key asks for; ``None``: nothing to wait for.

        That is so within the cool-down and when too many wait already. Cancelling is leaving.
        """
        if len(self._waiters) >= WAITERS_MAX_COUNT or not self._running:
            return None
        if self._fetching is None:
            now = self._clock.seconds()
            if now - self._asked_at < self._cooldown_s:
                return None
            self._asked_at = now
            self.reload()
            if self._fetching is None:
                return succeed(None)
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        return waiter

    def _take(self, document: bytes) -> None:
        keys = from_jwks(document, self._algorithms)
        self._keys, self._fetched_at, self._failures = keys, self._clock.seconds(), 0
        self._metrics.jwks_fetches["ok"] += 1
        self._log.info(
            "key set loaded: {keys} keys, {ignored} ignored",
            event="jwks_loaded",
            keys=len(keys),
            ignored=keys.ignored,
        )

    def _keep(self, failure: Failure) -> None:
        if not self._running:
            # Cancelled by stop: nobody's failure.
            return
        if isinstance(failure.value, FetchFailed):
            result, detail = failure.value.result, failure.value.detail
        elif isinstance(failure.value, BadKey):
            result, detail = "bad_document", failure.value.message
        else:
            result, detail = "internal", type(failure.value).__name__
            self._log.failure("the key set could not be fetched", failure, event="jwks_internal_error")
        self._failures += 1
        self._metrics.jwks_fetches[result] += 1
        self._log.warn(
            "key set not fetched: {result} {detail}",
            event="jwks_fetch_failed",
            result=result,
            detail=detail,
            kept=self.keys is not None,
        )

    def _fetched(self, _: None) -> None:
        self._fetching = None
        if self._running:
            self._timer = self._clock.callLater(self._pause_s(), self.reload)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(None)

    def _pause_s(self) -> float:
        if not self._failures:
            return self._max_age_s
        grown: float = RETRY_FIRST_S * 2 ** min(self._failures - 1, _RETRY_DOUBLINGS)
        return min(grown, RETRY_MAX_S, self._max_age_s) * (1.0 - self._jitter() / 2)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
