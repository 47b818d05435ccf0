"""Who may open a WebSocket with a token: in a header, in a subprotocol, or as a ticket in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import succeed

from ..errors import Unauthenticated
from ..interfaces import Admission, Handshake, IAuthenticator
from .bearer import find_credential
from .calls import CallCredentials
from .refusal import attempt_status
from .tickets import Tickets

if TYPE_CHECKING:
    from ..metrics import Metrics


class BearerAdmission:
    """Verifies the one credential of a handshake (``IAdmission``)."""

    def __init__(self, authenticator: IAuthenticator, tickets: Tickets, metrics: Metrics) -> None:
        self._authenticator = authenticator
        self._tickets = tickets
        self._metrics = metrics

    def admit(self, handshake: Handshake) -> Admission:
        """Look at what was brought. Raises: ``Unauthenticated``, ``KeysUnavailable``."""
        try:
            credential = find_credential(
                handshake.authorization, handshake.subprotocols, handshake.query.get("ticket", ())
            )
            if credential.kind == "token":
                return Admission(self._authenticator.verify(credential.value), credential.subprotocol)
            claims = self._tickets.redeem(credential.value)
        except Unauthenticated as error:
            self._metrics.auth_attempts[attempt_status(error)] += 1
            raise
        self._metrics.auth_attempts["success"] += 1
        return Admission(succeed(claims), credential.subprotocol)


class CallAdmission:
    """Lets Exotel in, by whatever it brings (``IAdmission``)."""

    def __init__(self, credentials: CallCredentials) -> None:
        self._credentials = credentials

    def admit(self, handshake: Handshake) -> Admission:
        """Look at what was brought. Raises: ``Unauthenticated``."""
        tickets = handshake.query.get("ticket", ())
        claims = self._credentials.check(handshake.address, handshake.authorization, tickets)
        return Admission(succeed(claims))
