from __future__ import annotations

from typing import Any

from twisted.internet.utils import getProcessOutputAndValue

from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT
from voiceingest.cli.running import Interrupt

from .program import ProgramCase, coroutine

HEAD = """
import os, signal, sys
from twisted.internet.task import deferLater
from voiceingest.cli.failures import CommandFailed
from voiceingest.cli.running import run

def me(name):
    os.kill(os.getpid(), getattr(signal, name))
"""


class RunTests(ProgramCase):
    async def outcome(self, body: str) -> tuple[int, str]:
        import sys

        out, err, code = await getProcessOutputAndValue(
            sys.executable, ["-c", HEAD + body], env={"PYTHONPATH": str(ROOT)}
        )
        return code, (out + err).decode()

    @coroutine
    async def test_the_result_is_returned_and_the_reactor_is_ours(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    await deferLater(reactor, 0)
    return type(reactor).__name__
print(run(work))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
        )
        self.assertEqual((code, out), (0, "VoiceReactor\nTrue\n"))

    @coroutine
    async def test_a_failure_is_raised(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    raise CommandFailed("no", exit_code=3)
try:
    run(work)
except CommandFailed as failed:
    print(failed.message, failed.exit_code)
"""
        )
        self.assertEqual((code, out), (0, "no 3\n"))

    @coroutine
    async def test_the_first_ctrl_c_asks_and_so_do_sigterm_and_a_terminal_that_is_closed(self: Any) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            code, out = await self.outcome(
                f"""
async def work(reactor, interrupt):
    reactor.callLater(0, me, {name!r})
    await interrupt.when()
    return "asked"
print(run(work))
"""
            )
            self.assertEqual((code, out), (0, "asked\n"))

    @coroutine
    async def test_with_nohup_it_outlives_the_terminal(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    me("SIGHUP")
    await deferLater(reactor, 0)
    return interrupt.asked
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print(run(work))
"""
        )
        self.assertEqual((code, out), (0, "False\n"))

    @coroutine
    async def test_the_second_does_not_wait(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    reactor.callLater(0, me, "SIGINT")
    await interrupt.when()
    reactor.callLater(0, me, "SIGINT")
    await deferLater(reactor, 60)
try:
    run(work)
except CommandFailed as failed:
    sys.exit(failed.exit_code)
"""
        )
        self.assertEqual((code, out), (130, ""))

    @coroutine
    async def test_signals_can_be_taken_back_from_somebody_else(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    signal.signal(signal.SIGINT, lambda *_: print("not this one"))
    interrupt.take_signals(reactor)
    reactor.callLater(0, me, "SIGINT")
    await interrupt.when()
    return "asked"
print(run(work))
"""
        )
        self.assertEqual((code, out), (0, "asked\n"))

    @coroutine
    async def test_a_reactor_that_was_stopped_by_somebody_else_is_no_success(self: Any) -> None:
        code, out = await self.outcome(
            """
async def work(reactor, interrupt):
    reactor.callLater(0, reactor.stop)
    await interrupt.when()
try:
    run(work)
except CommandFailed as failed:
    print(failed.message)
"""
        )
        self.assertEqual((code, out), (0, "the reactor was stopped before the command was done\n"))


class InterruptTests(SynchronousTestCase):
    def test_whoever_waits_is_told_and_whoever_comes_later_too(self) -> None:
        interrupt, told = Interrupt(), []
        interrupt.when().addCallback(lambda _: told.append("early"))
        self.assertFalse(interrupt.asked)
        interrupt.ask()
        interrupt.when().addCallback(lambda _: told.append("late"))
        interrupt.ask()
        self.assertEqual((told, interrupt.asked), (["early", "late"], True))
