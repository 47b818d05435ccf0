from __future__ import annotations

from typing import Any

from tests.support.case import TestCase
from voiceingest.cli import link as link_module
from voiceingest.cli.link import Link
from voiceingest.cli.target import Trust, parse_target
from voiceingest.cli.waiting import Waiting

from .program import coroutine
from .server import Manners, Server


class Owner:
    def __init__(self, reactor: Any) -> None:
        self.heard_payloads: list[bytes] = []
        self.refusals: list[str] = []
        self.waiting = Waiting(reactor)

    def refused(self, code: str, message: str) -> None:
        self.refusals.append(code)

    def heard(self, link: Link, payload: bytes) -> None:
        self.heard_payloads.append(payload)
        self.waiting.changed()

    def changed(self, link: Link) -> None:
        self.waiting.changed()


class LinkTests(TestCase):
    async def link(self, manners: Manners | None = None) -> Link:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = Server(manners)
        await self.server.listen(self, reactor)
        self.owner = Owner(reactor)
        link = Link(reactor, parse_target(self.server.url()), Trust(), "t.o.k", self.owner)
        self.addCleanup(link.abort)
        await link.connect()
        await self.owner.waiting.until(lambda: link.is_open or link.ending is not None, 60)
        return link

    @coroutine
    async def test_said_sent_and_heard(self) -> None:
        link = await self.link()
        self.assertTrue(link.takes_frames)
        self.assertIsNone(link.failed_to_open())
        link.say(event="start", interaction_id="a")
        link.send(b"ab")
        await self.owner.waiting.until(lambda: self.owner.heard_payloads, 60)
        self.assertIn(b"started", self.owner.heard_payloads[0])
        link.abort()
        await self.owner.waiting.until(lambda: link.ending is not None, 60)
        self.assertFalse(link.takes_messages)
        link.say(event="late")
        link.send(b"late")
        self.assertEqual(self.server.connections[0].frames, [b"ab"])

    @coroutine
    async def test_a_refusal_is_no_failure_of_the_connection(self) -> None:
        link = await self.link(Manners(deny=(503, "no")))
        assert link.ending is not None
        self.assertEqual(link.ending.http_status, 503)
        self.assertIsNone(link.failed_to_open())

    @coroutine
    async def test_a_link_that_is_retired_does_not_stay(self) -> None:
        self.patch(link_module, "FAREWELL_S", 0.05)
        link = await self.link()
        link.retire()
        link.retire()
        self.assertTrue(await self.owner.waiting.until(lambda: link.ending is not None, 60))
