from __future__ import annotations

from typing import Any

from voiceingest.cli.load import Dose, Load
from voiceingest.cli.reckoning import Reckoning
from voiceingest.cli.running import Interrupt
from voiceingest.cli.streams import Plan
from voiceingest.cli.target import Trust, parse_target
from voiceingest.cli.watermark import read_mark

from .program import ProgramCase, coroutine
from .server import Manners, Server

RUN = b"run1"


class LoadTests(ProgramCase):
    async def load(self, frame_s: float, manners: Manners | None = None, seconds: float = 0.2) -> Load:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = Server(manners)
        await self.server.listen(self, reactor)
        target = parse_target(self.server.url())
        plan = Plan(target, Trust(), "acme", 16000, frame_s=frame_s, token=lambda name: "a.b.c")
        self.interrupt = Interrupt()
        load = Load(reactor, plan, ["a", "b", "c"], Dose(RUN, 160, seconds), self.interrupt)
        self.reckoning = Reckoning(RUN, ["a", "b", "c"], 160)
        await load.open(self.reckoning)
        return load

    @coroutine
    async def test_paced_marked_and_counted(self: Any) -> None:
        load = await self.load(0.01)
        begun_s = self.reactor.seconds()
        await load.run()
        self.assertGreaterEqual(self.reactor.seconds() - begun_s, 0.2)
        reports = await load.stop()
        self.assertEqual([report.failure for report in reports], [None] * 3)
        self.assertEqual((load.frames, load.sent), (60, dict.fromkeys("abc", 20 * 160)))
        streams = set()
        for connection in self.server.connections:
            marks = [read_mark(RUN, audio) for audio in connection.frames]
            self.assertEqual([mark.first for mark in marks], [160 * place for place in range(20)])
            streams |= {mark.stream for mark in marks}
        self.assertEqual(streams, {0, 1, 2})

    @coroutine
    async def test_flat_out(self: Any) -> None:
        load = await self.load(0.0)
        await load.run()
        reports = await load.stop()
        self.assertEqual([report.failure for report in reports], [None] * 3)
        self.assertGreater(load.frames, 60)
        self.assertEqual(sum(load.sent.values()), load.frames * 160)

    @coroutine
    async def test_an_interrupt_ends_it_early(self: Any) -> None:
        load = await self.load(0.01, seconds=60)
        self.reactor.callLater(0.1, self.interrupt.ask)
        await load.run()
        self.assertEqual([report.failure for report in await load.stop()], [None] * 3)

    @coroutine
    async def test_streams_that_were_not_let_in_are_told_and_not_counted(self: Any) -> None:
        load = await self.load(0.01, Manners(deny=(401, "no")))
        await load.run()
        reports = await load.stop()
        self.assertTrue(all(report.failure for report in reports))
        self.assertEqual((load.frames, load.sent), (0, dict.fromkeys("abc", 0)))

    @coroutine
    async def test_numberings_are_told(self: Any) -> None:
        load = await self.load(
            0.01, Manners(resumable=True, lose_at=(5,), resume_error="resume_expired"), seconds=0.5
        )
        await load.run()
        reports = await load.stop()
        bases = [sorted(account.bases.items(), key=str) for account in self.reckoning._accounts.values()]
        anew = [report.tally.restarts for report in reports]
        self.assertEqual(sum(anew), 1)
        self.assertIn(2, [epoch for base in bases for epoch, _ in base])
