"""Who may speak: bearer tokens against the keys of one source, counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from ..errors import KeysUnavailable, Unauthenticated
from ..interfaces import Claims
from .keys import KeySet
from .refusal import UNKNOWN_KEY, attempt_status
from .tokens import Rules, verify

if TYPE_CHECKING:
    from ..metrics import Metrics

_NO_KEYS = KeySet()


class IKeySource(Protocol):
    """Where keys come from: :class:`.pinned.PinnedKeys` or :class:`.jwks.JwksSource`."""

    @property
    def keys(self) -> KeySet | None:
        """The keys to verify with, ``None`` when there are none."""

    @property
    def ready(self) -> str | None:
        """``None`` when there are keys, else the reason why not."""

    def newer_keys(self) -> Deferred[None] | None:
        """What fires when the keys may have changed; ``None`` when nothing is to be expected."""

    def start(self) -> None:
        """Begin, in the background."""

    def stop(self) -> Deferred[None]:
        """End."""

    def reload(self) -> None:
        """Read the keys again. Raises: ``BadKey``."""


class JwtAuthenticator:
    """Verifies tokens (:class:`voiceingest.interfaces.IAuthenticator`)."""

    def __init__(
        self, source: IKeySource, rules: Rules, wall_clock: Callable[[], float], metrics: Metrics
    ) -> None:
        """``wall_clock`` returns seconds since the epoch: tokens are dated by everybody's time."""
        self._source = source
        self._rules = rules
        self._wall_clock = wall_clock
        self._metrics = metrics

    @property
    def ready(self) -> str | None:
        """``None`` when tokens can be verified, else the reason why not."""
        return self._source.ready

    def start(self) -> None:
        """Fetch the keys in the background, where they have to be fetched."""
        self._source.start()

    def stop(self) -> Deferred[None]:
        """Stop fetching; tokens that wait for a key are answered first."""
        return self._source.stop()

    def reload(self) -> None:
        """Read the key again. Raises: ``BadKey``; the key in use is then kept."""
        self._source.reload()

    def verify(self, token: str) -> Deferred[Claims]:
        """Check one token and count the attempt.

        Raises: ``Unauthenticated`` (its ``reason`` says why), ``KeysUnavailable``.
        """
        try:
            verified = succeed(self._verified(token))
        except Unauthenticated as error:
            # Only a token that is in order up to its key may cause a fetch, and wait for it.
            newer = self._source.newer_keys() if error.reason == UNKNOWN_KEY else None
            if newer is None:
                verified = fail(self._verdict(error))
            else:
                verified = newer.addCallback(self._verified_again, token)
        return verified.addBoth(self._counted)

    def _verified(self, token: str) -> Claims:
        return verify(token, self._source.keys or _NO_KEYS, self._rules, self._wall_clock())

    def _verified_again(self, _: None, token: str) -> Claims:
        try:
            return self._verified(token)
        except Unauthenticated as error:
            raise self._verdict(error) from None

    def _verdict(self, error: Unauthenticated) -> Unauthenticated | KeysUnavailable:
        """An unknown key is the token's fault only where keys are known at all."""
        unknown = error.reason == UNKNOWN_KEY
        return KeysUnavailable() if unknown and self._source.keys is None else error

    def _counted(self, outcome: Any) -> Any:
        if not isinstance(outcome, Failure):
            self._metrics.auth_attempts["success"] += 1
        elif isinstance(outcome.value, Unauthenticated):
            self._metrics.auth_attempts[attempt_status(outcome.value)] += 1
        elif not outcome.check(CancelledError):
            self._metrics.auth_attempts["unavailable"] += 1
        return outcome
