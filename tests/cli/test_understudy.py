from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred

from voiceingest.cli import understudy as understudy_module
from voiceingest.cli.failures import CommandFailed
from voiceingest.cli.running import Interrupt
from voiceingest.cli.understudy import Understudy

from .program import ProgramCase, coroutine


class UnderstudyTests(ProgramCase):
    def understudy(self) -> Understudy:
        from twisted.internet import reactor

        self.reactor = reactor
        # Not trial's own directory: the path of a Unix socket has at most 107 bytes.
        folder = tempfile.TemporaryDirectory(prefix="voiceingest-test-")
        self.addCleanup(folder.cleanup)
        understudy = Understudy(reactor, Path(folder.name), lambda message: None)
        self.addCleanup(lambda: ensureDeferred(understudy.down()))
        return understudy

    @coroutine
    async def test_up_and_down(self: Any) -> None:
        understudy = self.understudy()
        await understudy.up()
        self.assertFalse(understudy.target.secure)
        self.assertEqual(understudy.token.count("."), 2)
        following = ensureDeferred(understudy.follow(Interrupt()))
        await understudy.down()
        await following

    @coroutine
    async def test_a_child_that_dies_is_told(self: Any) -> None:
        understudy = self.understudy()
        await understudy.up()
        following = ensureDeferred(understudy.follow(Interrupt()))
        understudy._kill()
        try:
            await following
        except CommandFailed as failed:
            self.assertIn("is gone", failed.message)
        else:
            self.fail("nothing was told")

    @coroutine
    async def test_a_folder_with_too_long_a_name(self: Any) -> None:
        from twisted.internet import reactor

        understudy = Understudy(reactor, Path("/tmp") / ("x" * 120), lambda message: None)
        try:
            await understudy.up()
        except CommandFailed as failed:
            self.assertIn("TMPDIR", str(failed.hint))
        else:
            self.fail("it came up")
        await understudy.down()

    @coroutine
    async def test_a_child_that_does_not_come_up_is_told_with_its_last_words(self: Any) -> None:
        self.patch(understudy_module, "__name__", "voiceingest.cli.nowhere")
        try:
            await self.understudy().up()
        except CommandFailed as failed:
            self.assertIn("did not come up", failed.message)
            self.assertIn("nowhere", str(failed.hint))
        else:
            self.fail("it came up")
