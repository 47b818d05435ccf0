"""Who brings an access token, and whether it still holds: its signature, and then the store's word."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..auth.device_tokens import DeviceTokens
from ..auth.refusal import attempt_status, refusal
from ..device_interfaces import Caller, IDeviceStore
from ..errors import StoreUnavailable, TokenRevoked, Unauthenticated
from .families import KnownFamilies
from .revocation import IUserStreams

if TYPE_CHECKING:
    from ..metrics import Metrics

# How often the store is asked again about one token because something was revoked meanwhile.
_READS_MAX_COUNT: Final = 5

REVOKED: Final = "revoked"


class Access:
    """Checks access tokens, and counts every check once."""

    def __init__(
        self,
        store: IDeviceStore,
        tokens: DeviceTokens,
        wall_clock: Callable[[], float],
        monotonic: Callable[[], float],
        metrics: Metrics,
        streams: IUserStreams,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._now = wall_clock
        self._monotonic = monotonic
        self._metrics = metrics
        self._streams = streams
        self.families = KnownFamilies()

    def recognise(self, access_token: str) -> Caller | None:
        """Who brings this token, where that is known already; ``None``: ask ``authenticate``.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``.
        """
        try:
            caller = self._tokens.verify(access_token, self._now())
            holds = self.families.holds(caller.family_id, self._monotonic())
            if holds is False:
                raise TokenRevoked(reason=REVOKED)
        except Unauthenticated as error:
            self._metrics.auth_attempts[attempt_status(error)] += 1
            raise
        return self._let_in(caller) if holds else None

    async def authenticate(self, access_token: str) -> Caller:
        """Who brings this token.

        Raises: ``Unauthenticated``, ``TokenExpired``, ``TokenRevoked``, ``StoreUnavailable``.
        """
        known = self.recognise(access_token)
        if known is not None:
            return known
        try:
            caller = self._tokens.verify(access_token, self._now())
            await self._check(caller)
        except Unauthenticated as error:
            self._metrics.auth_attempts[attempt_status(error)] += 1
            raise
        except StoreUnavailable:
            self._metrics.auth_attempts["unavailable"] += 1
            raise
        return self._let_in(caller)

    async def _check(self, caller: Caller) -> None:
        """Ask the store whether a token still holds, until nothing was revoked while it answered."""
        families = self.families
        for _ in range(_READS_MAX_COUNT):
            asked = families.forgotten
            found = await self._store.family(caller.family_id)
            if families.forgotten == asked:
                break
        else:
            raise StoreUnavailable
        if found is None:
            raise TokenRevoked(reason=REVOKED)
        family, device = found
        if (family.user_id, family.device_id) != (caller.user_id, caller.device_id):
            raise refusal("family")
        holds = family.revoked_at is None and device.revoked_at is None
        families.keep(family.family_id, family.device_id, self._monotonic(), holds=holds)
        if not holds:
            raise TokenRevoked(reason=REVOKED)

    def _let_in(self, caller: Caller) -> Caller:
        self._metrics.auth_attempts["success"] += 1
        self._streams.let_in(caller.user_id)
        return caller
