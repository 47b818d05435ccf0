"""Fresh tokens a caller offers while its stream lives: one at a time, and not too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .errors import RateLimited, TokenRefused, Unauthenticated, VoiceIngestError
from .house import House
from .interfaces import Claims
from .stream import TokenBucket

# Each costs a signature check of about 50 us.
AUTH_PER_S: Final = 0.5
AUTH_BURST: Final = 5.0


class Renewal:
    """The checks of one connection."""

    _log = Logger()

    def __init__(
        self,
        house: House,
        renewed: Callable[[Claims], None],
        refused: Callable[[VoiceIngestError], None],
        is_over: Callable[[], bool],
        now: float,
    ) -> None:
        """``renewed`` may raise the ``VoiceIngestError`` that refuses the claims after all."""
        self._is_over = is_over
        self._house = house
        self._renewed = renewed
        self._refused = refused
        self._bucket = TokenBucket(AUTH_PER_S, AUTH_BURST, now)
        self._verifying: Deferred[Any] | None = None

    def offer(self, token: str) -> None:
        """Check a token. Raises: ``RateLimited``."""
        if self._verifying is not None or self._bucket.take(1, self._house.clock.seconds()) > 0.0:
            raise RateLimited
        self._verifying = self._house.authenticator.verify(token)
        self._verifying.addCallback(self._verified).addErrback(self._not_verified)

    def cancel(self) -> None:
        """Nobody waits for the answer any more."""
        if self._verifying is not None:
            self._verifying.cancel()

    def _verified(self, claims: Claims) -> None:
        self._verifying = None
        self._renewed(claims)

    def _not_verified(self, failure: Failure) -> None:
        self._verifying = None
        if self._is_over() or failure.check(CancelledError):
            return
        error = failure.value
        if not isinstance(error, VoiceIngestError):
            self._log.failure("a token could not be checked", failure, event="auth_failed")
        if not isinstance(error, VoiceIngestError) or isinstance(error, Unauthenticated):
            error = TokenRefused()
        self._refused(error)
