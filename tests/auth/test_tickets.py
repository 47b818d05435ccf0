from __future__ import annotations

import base64
import hashlib
from unittest.mock import patch

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.auth import tickets as module
from voiceingest.auth.bearer import find_credential
from voiceingest.auth.tickets import TICKET_MAX_CHARS, Tickets
from voiceingest.errors import Unauthenticated
from voiceingest.interfaces import Claims
from voiceingest.limits import TICKETS_MAX_COUNT
from voiceingest.metrics import Metrics

CLAIMS = Claims("user-1", "acme", "call-7", 2_000_000_000.0)


class TicketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.tickets = Tickets(30.0, self.clock, self.metrics)

    def refused(self, ticket: str) -> None:
        error = self.assertRaises(Unauthenticated, self.tickets.redeem, ticket)
        self.assertEqual(error.reason, "ticket")
        self.assertEqual(error.args, ("A valid bearer token is required",))

    def test_it_stands_for_its_claims_once(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual(self.tickets.redeem(ticket), CLAIMS)
        self.refused(ticket)
        self.assertEqual(len(self.tickets), 0)

    def test_each_to_its_own_claims(self) -> None:
        other = Claims("user-2", None, None, 1.0)
        first, second = self.tickets.mint(CLAIMS), self.tickets.mint(other)
        self.assertEqual((self.tickets.redeem(second), self.tickets.redeem(first)), (other, CLAIMS))

    def test_both_sides_of_its_life(self) -> None:
        early, late = self.tickets.mint(CLAIMS), self.tickets.mint(CLAIMS)
        self.clock.advance(29.999)
        self.tickets.redeem(early)
        self.clock.advance(0.001)
        self.refused(late)

    def test_expired_ones_are_swept_without_a_timer(self) -> None:
        for _ in range(10):
            self.tickets.mint(CLAIMS)
        self.clock.advance(20)
        self.tickets.mint(CLAIMS)
        self.clock.advance(10)
        self.tickets.mint(CLAIMS)
        self.assertEqual(len(self.tickets), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_least_128_bits_and_no_two_alike(self) -> None:
        minted = {self.tickets.mint(CLAIMS) for _ in range(200)}
        self.assertEqual(len(minted), 200)
        for ticket in minted:
            self.assertGreaterEqual(len(base64.urlsafe_b64decode(ticket + "==")) * 8, 128)
            self.assertLessEqual(len(ticket), TICKET_MAX_CHARS)

    def test_a_minted_ticket_is_one_a_request_can_carry(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.assertEqual(find_credential([], [], [ticket]).value, ticket)

    def test_only_a_hash_is_kept(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        kept = repr(vars(self.tickets))
        self.assertNotIn(ticket, kept)
        self.assertIn(repr(hashlib.sha256(ticket.encode()).digest()), kept)
        self.refused(hashlib.sha256(ticket.encode()).hexdigest())

    def test_full_drops_the_oldest_and_counts(self) -> None:
        with patch.object(module, "TICKETS_MAX_COUNT", 3):
            minted = [self.tickets.mint(CLAIMS) for _ in range(5)]
            self.assertEqual(len(self.tickets), 3)
        self.assertEqual(self.metrics.tickets["dropped"], 2)
        self.refused(minted[0])
        self.refused(minted[1])
        for ticket in minted[2:]:
            self.assertEqual(self.tickets.redeem(ticket), CLAIMS)

    def test_the_bound_is_the_documented_one(self) -> None:
        for _ in range(TICKETS_MAX_COUNT + 1):
            self.tickets.mint(CLAIMS)
        self.assertEqual(len(self.tickets), TICKETS_MAX_COUNT)

    def test_what_no_ticket_looks_like(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        for wrong in ("", ticket + "x", ticket[:-1], ticket.swapcase(), "x" * 100_000, "\ud800", "\x00"):
            self.refused(wrong)
        self.tickets.redeem(ticket)

    def test_as_often_as_it_may(self) -> None:
        tickets = Tickets(30.0, self.clock, self.metrics, uses=2)
        first, second = tickets.mint(CLAIMS), tickets.mint(CLAIMS)
        self.assertEqual((tickets.redeem(first), tickets.redeem(first)), (CLAIMS, CLAIMS))
        self.assertRaises(Unauthenticated, tickets.redeem, first)
        self.assertEqual(tickets.redeem(second), CLAIMS)
        self.assertEqual(self.metrics.tickets["redeemed"], 3)

    def test_the_second_use_is_within_its_life_too(self) -> None:
        tickets = Tickets(30.0, self.clock, self.metrics, uses=2)
        ticket = tickets.mint(CLAIMS)
        self.clock.advance(29.0)
        tickets.redeem(ticket)
        self.clock.advance(1.0)
        self.assertRaises(Unauthenticated, tickets.redeem, ticket)
        self.assertEqual(self.metrics.tickets["expired"], 1)

    def test_a_ticket_used_once_keeps_its_place_among_the_oldest(self) -> None:
        tickets = Tickets(30.0, self.clock, self.metrics, uses=2)
        with patch.object(module, "TICKETS_MAX_COUNT", 2):
            oldest, newer = tickets.mint(CLAIMS), tickets.mint(CLAIMS)
            tickets.redeem(oldest)
            tickets.mint(CLAIMS)
        self.assertRaises(Unauthenticated, tickets.redeem, oldest)
        self.assertEqual(tickets.redeem(newer), CLAIMS)

    def test_spent_is_spent(self) -> None:
        tickets = Tickets(30.0, self.clock, self.metrics, uses=2)
        spent, other = tickets.mint(CLAIMS), tickets.mint(CLAIMS)
        tickets.redeem(spent)
        for ticket in (spent, spent, "never minted", "x" * 100_000, "\ud800", ""):
            tickets.spend(ticket)
        self.assertRaises(Unauthenticated, tickets.redeem, spent)
        self.assertEqual(tickets.redeem(other), CLAIMS)
        self.assertEqual([self.metrics.tickets[name] for name in ("minted", "expired", "dropped")], [2, 0, 0])

    def test_counters(self) -> None:
        ticket = self.tickets.mint(CLAIMS)
        self.tickets.mint(CLAIMS)
        self.tickets.redeem(ticket)
        self.refused(ticket)
        counted = [self.metrics.tickets[result] for result in ("minted", "redeemed", "refused")]
        self.assertEqual(counted, [2, 1, 1])
        self.clock.advance(31)
        self.refused("x")
        self.assertEqual(self.metrics.tickets["expired"], 1)
