from __future__ import annotations

import io
import json
from typing import Any

from twisted.internet.defer import Deferred

from voiceingest.cli import rig as rig_module
from voiceingest.cli.console import Console
from voiceingest.cli.failures import CommandFailed, Exit
from voiceingest.cli.reading import BusMessage
from voiceingest.cli.rig import Rig
from voiceingest.cli.running import Interrupt
from voiceingest.cli.streams import Plan
from voiceingest.cli.target import Trust, parse_target
from voiceingest.wire.envelope import FrameMessage

from .program import ProgramCase, coroutine
from .server import Server

CHOSEN = {"seconds": 0.2, "streams": 2, "rate": "8000", "frame_ms": 20, "flat_out": False, "resume": True}


class Bus:
    """A reader of what the server of the tests has taken; ``loses`` every so many of its frames."""

    label = "the test"

    def __init__(self, heard: Any, loses: int = 0, fails: bool = False) -> None:
        self.heard, self.loses, self.fails = heard, loses, fails
        self.ready: Deferred[None] = Deferred()
        self.over: Deferred[None] = Deferred()
        self.count = 0

    async def follow(self, interrupt: Interrupt) -> None:
        if self.fails:
            raise CommandFailed("no bus")
        self.ready.callback(None)
        await self.over

    def stop(self) -> None:
        if not self.over.called:
            self.over.callback(None)

    def frame(self, name: str, audio: bytes) -> None:
        self.count += 1
        if not self.loses or self.count % self.loses:
            self.heard(BusMessage(frame=FrameMessage("acme", name, 1, 0, 8000, "pcm16", audio)))


class RigTests(ProgramCase):
    async def measure(self, **options: Any) -> Any:
        from twisted.internet import reactor

        self.patch(rig_module, "SETTLE_S", 0.2)
        server = Server()
        await server.listen(self, reactor)
        out = io.StringIO()
        rig = Rig(reactor, Interrupt(), Console(out=out, err=out), 160, dict(CHOSEN))
        bus = Bus(rig._heard, **options)
        names: dict[Any, str] = {}

        def taken(speaker: Any, payload: bytes, is_binary: bool) -> None:
            if is_binary:
                bus.frame(names[speaker], payload)
            elif (message := json.loads(payload))["event"] == "start":
                names[speaker] = message["interaction_id"]

        server.taken = taken
        plan = Plan(parse_target(server.url()), Trust(), "acme", 8000, frame_s=0.02, token=lambda name: "t")
        return await rig._measure(plan, bus)

    @coroutine
    async def test_all_that_was_said_was_heard(self: Any) -> None:
        verdict = await self.measure()
        self.assertEqual((verdict.exit_code, verdict.faults), (Exit.OK, []))
        self.assertEqual(verdict.balance["received"], 2 * 10 * 160)

    @coroutine
    async def test_what_the_bus_loses_is_found(self: Any) -> None:
        verdict = await self.measure(loses=5)
        self.assertEqual(verdict.balance["lost"], 4 * 160)
        self.assertEqual(verdict.exit_code, Exit.REFUSED)

    @coroutine
    async def test_without_a_bus_nothing_is_sent(self: Any) -> None:
        try:
            await self.measure(fails=True)
        except CommandFailed as failed:
            self.assertEqual(failed.message, "no bus")
        else:
            self.fail("it was measured")
