"""Who a call is: every place that may say it, and what holds where two disagree."""

from __future__ import annotations

import math
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.calls.introduction import Introduction, introduce
from voiceingest.interfaces import Claims
from voiceingest.wire.exotel import Start
from voiceingest.wire.exotel_query import CallQuery

ANY = Claims("exotel", None, None, math.inf, any_tenant=True)


def start(**said: Any) -> Start:
    """A ``start`` that says so much."""
    nothing: dict[str, Any] = {
        **dict.fromkeys(("stream_sid", "call_id", "account_sid", "caller", "callee"), ""),
        "parameters": {},
        "encoding": "pcm16",
        "sample_rate": 0,
        "sequence": 1,
    }
    return Start(**{**nothing, **said})


def query(**said: Any) -> CallQuery:
    """A URL that says so much."""
    return CallQuery(**{"call_id": "", "stream_sid": "", "sample_rate": 0, "ticket": "", **said})


class IntroductionTests(SynchronousTestCase):
    def who(self, said: Start, url: CallQuery | None = None, claims: Claims = ANY) -> Introduction:
        return introduce(said, url or query(), claims, "default", "fallback")

    def test_the_call_id_by_precedence(self) -> None:
        ticket = Claims("exotel", "acme", "by-ticket", math.inf)
        said, url = start(call_id="by-start", stream_sid="sid"), query(call_id="by-url")
        for claims, begin, asked, found, mismatches in (
            (ticket, said, url, "by-ticket", ("call_id",)),
            (ANY, said, url, "by-start", ("call_id",)),
            (ANY, start(stream_sid="sid"), url, "by-url", ()),
            (ANY, start(stream_sid="sid"), query(), "sid", ()),
            (ANY, start(), query(stream_sid="url-sid"), "url-sid", ()),
            (ANY, start(), query(), "fallback", ()),
            (ANY, start(call_id="same"), query(call_id="same"), "same", ()),
        ):
            who = self.who(begin, asked, claims)
            self.assertEqual((who.call_id, who.mismatches), (found, mismatches))

    def test_the_tenant_by_precedence(self) -> None:
        ticket = Claims("exotel", "acme", None, math.inf)
        named = start(parameters={"tenant_id": "named"})
        self.assertEqual(self.who(named, claims=ticket).tenant_id, "acme")
        self.assertEqual(self.who(named, claims=ticket).mismatches, ("tenant_id",))
        self.assertEqual(self.who(named).tenant_id, "named")
        self.assertEqual(self.who(start(parameters={"tenantId": "camel"})).tenant_id, "camel")
        self.assertEqual(self.who(start()).tenant_id, "default")

    def test_a_tenant_that_is_no_identifier_names_nobody(self) -> None:
        for bad in ("", "{tenant_id}", "a\nb", "x" * 129):
            self.assertEqual(self.who(start(parameters={"tenant_id": bad})).tenant_id, "default", bad)

    def test_the_rate(self) -> None:
        self.assertEqual(self.who(start(sample_rate=16000)).sample_rate, 16000)
        self.assertEqual(self.who(start(), query(sample_rate=24000)).sample_rate, 24000)
        self.assertEqual(self.who(start()).sample_rate, 8000)
        odd = self.who(start(sample_rate=8000), query(sample_rate=16000))
        self.assertEqual((odd.sample_rate, odd.mismatches), (8000, ("sample_rate",)))
