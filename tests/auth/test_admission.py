"""Who may open a WebSocket with a token: each place it may be in, and how it is counted."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.auth.admission import BearerAdmission
from voiceingest.auth.tickets import Tickets
from voiceingest.errors import Unauthenticated
from voiceingest.interfaces import Claims, Handshake
from voiceingest.metrics import Metrics

CLAIMS = Claims("s", "acme", None, 2000.0)
HEADER = ("Bearer a.b.c",)


class Authenticator:
    ready = None

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def verify(self, token: str) -> Deferred[Claims]:
        self.tokens.append(token)
        return succeed(CLAIMS)

    def reload(self) -> None:
        raise AssertionError("not asked for")


class AdmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.authenticator = Authenticator()
        self.tickets = Tickets(30.0, Clock(), self.metrics)
        self.admission = BearerAdmission(self.authenticator, self.tickets, self.metrics)

    def counted(self, *statuses: str) -> list[int]:
        return [self.metrics.auth_attempts[status] for status in statuses]

    def test_a_token_is_the_authenticators_to_judge(self) -> None:
        for shake in (Handshake("a", HEADER), Handshake("a", subprotocols=["voice.v1", "bearer.a.b.c"])):
            admitted = self.admission.admit(shake)
            self.assertIs(self.successResultOf(admitted.claims), CLAIMS)
        self.assertEqual(self.authenticator.tokens, ["a.b.c", "a.b.c"])
        self.assertEqual(admitted.subprotocol, "voice.v1")
        # The authenticator counts what it has judged.
        self.assertEqual(self.metrics.auth_attempts["success"], 0)

    def test_a_ticket_is_good_once_and_counted(self) -> None:
        shake = Handshake("a", query={"ticket": [self.tickets.mint(CLAIMS)]})
        self.assertIs(self.successResultOf(self.admission.admit(shake).claims), CLAIMS)
        self.assertRaises(Unauthenticated, self.admission.admit, shake)
        self.assertEqual(self.counted("success", "invalid"), [1, 1])

    def test_nothing_and_too_much_are_refused_and_counted(self) -> None:
        self.assertRaises(Unauthenticated, self.admission.admit, Handshake("a"))
        both = Handshake("a", HEADER, query={"ticket": ["x"]})
        self.assertRaises(Unauthenticated, self.admission.admit, both)
        self.assertEqual(self.counted("missing", "invalid"), [1, 1])
        self.assertEqual(self.authenticator.tokens, [])
