"""How often may be asked over gRPC: as often as over HTTP, and counted together with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Protocol

# Which route of HTTP a call counts as.
ROUTES: Final[Mapping[str, tuple[str, str]]] = {
    "StartSession": ("POST", "/api/session/create"),
    "StopSession": ("DELETE", "/api/session/{id}"),
    "GetSessionStatus": ("GET", "/api/session/{id}"),
    "UpdateSessionConfig": ("PATCH", "/api/session/{id}"),
    "ListSessions": ("GET", "/api/session"),
}


class IRates(Protocol):
    """What counts requests a minute (``http.api.rates``)."""

    async def take(self, method: str, route: str, who: str, kind: Literal["user", "address"]) -> Any:
        """Count one request. Raises: ``TooManyRequests``."""


class CallLimits:
    """Counts a call for its address, and for its user once that is known (``servicer.ILimits``)."""

    def __init__(self, rates: IRates) -> None:
        self._rates = rates

    async def check(self, method: str, address: str, user_id: str | None) -> None:
        """Count one call. Raises: ``TooManyRequests``."""
        verb, route = ROUTES[method]
        if user_id is None:
            await self._rates.take(verb, route, address, "address")
        else:
            await self._rates.take(verb, route, user_id, "user")
