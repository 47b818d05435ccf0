from __future__ import annotations

from typing import Any

from tests.support.case import SynchronousTestCase
from tests.support.daemon import free_port
from voiceingest.cli.failures import Exit
from voiceingest.cli.running import Interrupt
from voiceingest.cli.streams import Plan, StreamReport, run_streams, worst
from voiceingest.cli.tally import Tally
from voiceingest.cli.target import Trust, parse_target

from .program import ProgramCase, coroutine
from .server import Manners, Server

FRAMES = [bytes([number]) * 320 for number in range(12)]


class RunTests(ProgramCase):
    async def serve(self, manners: Manners | None = None) -> Server:
        from twisted.internet import reactor

        self.reactor = reactor
        server = Server(manners)
        await server.listen(self, reactor)
        return server

    def plan(self, url: str, **options: Any) -> Plan:
        given: dict[str, Any] = {"frame_s": 0.01, "token": lambda interaction: "a.b.c", **options}
        return Plan(parse_target(url), Trust(), "acme", 16000, **given)

    @coroutine
    async def test_every_stream_sends_everything_in_order_and_in_step(self: Any) -> None:
        server = await self.serve()
        begun_s = self.reactor.seconds()
        reports = await run_streams(
            self.reactor, self.plan(server.url()), ["a", "b", "c"], lambda: FRAMES, Interrupt()
        )
        self.assertGreaterEqual(self.reactor.seconds() - begun_s, 0.12)
        self.assertEqual([report.failure for report in reports], [None] * 3)
        self.assertEqual([report.interaction_id for report in reports], ["a", "b", "c"])
        self.assertEqual([connection.frames for connection in server.connections], [FRAMES] * 3)
        self.assertEqual([report.close_code for report in reports], [1000] * 3)
        self.assertEqual(worst(reports), Exit.OK)

    @coroutine
    async def test_fast_is_faster_than_real_time(self: Any) -> None:
        server = await self.serve()
        plan = self.plan(server.url(), frame_s=0.0)
        begun_s = self.reactor.seconds()
        (report,) = await run_streams(self.reactor, plan, ["a"], lambda: FRAMES * 100, Interrupt())
        self.assertLess(self.reactor.seconds() - begun_s, 12.0)
        self.assertEqual((report.failure, report.tally.acked), (None, 1200))
        self.assertEqual(report.tally.late_max_s, 0.0)

    @coroutine
    async def test_an_interrupt_stops_in_the_ordinary_way(self: Any) -> None:
        server = await self.serve()
        interrupt = Interrupt()
        # When some audio has come, and nothing before that.
        server.taken = lambda speaker, payload, is_audio: interrupt.ask() if is_audio else None
        (report,) = await run_streams(
            self.reactor, self.plan(server.url()), ["a"], lambda: FRAMES * 1000, interrupt
        )
        self.assertIsNone(report.failure)
        self.assertTrue(0 < report.tally.sent_frames < 12000)
        self.assertEqual(server.controls[-1], {"event": "stop"})

    @coroutine
    async def test_an_interrupt_does_not_wait_for_a_server_that_does_not_answer(self: Any) -> None:
        server = await self.serve(Manners(silent_start=True))
        interrupt = Interrupt()
        # When the start has come, which is never answered.
        server.taken = lambda speaker, payload, is_audio: interrupt.ask()
        (report,) = await run_streams(self.reactor, self.plan(server.url()), ["a"], lambda: FRAMES, interrupt)
        self.assertEqual(report.exit_code, Exit.REFUSED)
        self.assertEqual(report.tally.sent_frames, 0)

    @coroutine
    async def test_one_failure_does_not_end_the_others(self: Any) -> None:
        server = await self.serve(Manners(close_at=(3, 4408)))
        reports = await run_streams(
            self.reactor, self.plan(server.url()), ["a", "b"], lambda: FRAMES, Interrupt()
        )
        self.assertEqual([report.close_code for report in reports], [4408, 4408])
        self.assertTrue(all(report.failure for report in reports))
        self.assertEqual(worst(reports), Exit.REFUSED)

    @coroutine
    async def test_nobody_there(self: Any) -> None:
        await self.serve()
        plan = self.plan(f"ws://127.0.0.1:{free_port()}/")
        (report,) = await run_streams(self.reactor, plan, ["a"], lambda: FRAMES, Interrupt())
        self.assertEqual((report.exit_code, worst([report])), (Exit.NO_CONNECTION, Exit.NO_CONNECTION))

    @coroutine
    async def test_the_progress_is_told_frame_by_frame(self: Any) -> None:
        server = await self.serve()
        told: list[tuple[bytes, int]] = []
        await run_streams(
            self.reactor,
            self.plan(server.url()),
            ["a"],
            lambda: FRAMES,
            Interrupt(),
            lambda frame, tally: told.append((frame, tally.sent_frames)),
        )
        self.assertEqual(told, [(frame, number) for number, frame in enumerate(FRAMES, 1)])

    @coroutine
    async def test_a_key_renews_a_token_that_expires(self: Any) -> None:
        server = await self.serve(Manners(expiring_at=2))
        tokens = iter(["first.a.b", "second.a.b"])
        plan = self.plan(server.url(), token=lambda interaction: next(tokens), renewable=True)
        (report,) = await run_streams(self.reactor, plan, ["a"], lambda: FRAMES, Interrupt())
        self.assertIsNone(report.failure)
        self.assertIn({"event": "auth", "token": "second.a.b"}, server.controls)


class WorstTests(SynchronousTestCase):
    def test_table(self) -> None:
        for codes, expected in (
            ([0, 0], Exit.OK),
            ([0, 1], Exit.REFUSED),
            ([3, 3], Exit.NO_CONNECTION),
            ([0, 3], Exit.NO_CONNECTION),
            ([1, 3], Exit.REFUSED),
            ([2, 3], Exit.USAGE),
        ):
            reports = [
                StreamReport("x", Tally(), failure="f" if code else None, exit_code=code) for code in codes
            ]
            self.assertEqual(worst(reports), expected)
