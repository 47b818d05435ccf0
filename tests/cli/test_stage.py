from __future__ import annotations

import socket
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import CommandFailed
from voiceingest.cli.stage import HOST, LOG_LINES_MAX_COUNT, LogLines, Stage, held_port

from .program import ProgramCase, coroutine


class StageTests(ProgramCase):
    """Up and down is what every run of the demo does; here is what it does not do."""

    @coroutine
    async def test_before_it_is_up_there_is_nothing_to_hear_and_no_token(self: Any) -> None:
        from twisted.internet import reactor

        stage = Stage(reactor, "demo")
        for early in (lambda: stage.token(60), lambda: stage.subscribe(lambda channel, payload: None)):
            with self.assertRaises(CommandFailed):
                early()
        await stage.down()
        self.assertFalse(stage.ca_path.parent.exists())

    @coroutine
    async def test_its_keys_are_its_own_and_are_thrown_away(self: Any) -> None:
        from twisted.internet import reactor

        stage = Stage(reactor, "demo")
        settings = stage._settings()
        self.assertEqual(settings.ssl_key_path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(settings.bus_url, "memory://")
        self.assertNotEqual(stage.port, stage.admin_port)
        await stage.down()
        self.assertFalse(settings.ssl_key_path.exists())


class LogLinesTests(SynchronousTestCase):
    def test_only_the_newest_are_kept(self) -> None:
        log = LogLines()
        for number in range(LOG_LINES_MAX_COUNT + 5):
            log.write(f"{number}\n")
        log.flush()
        self.assertEqual((len(log.lines), log.lines[-1]), (LOG_LINES_MAX_COUNT, str(LOG_LINES_MAX_COUNT + 4)))


class PortTests(SynchronousTestCase):
    def test_a_port_is_kept_for_those_who_share_it(self) -> None:
        with held_port() as held, socket.socket() as stranger, socket.socket() as listener:
            with self.assertRaises(OSError):
                stranger.bind(held.getsockname())
            # Who holds it does not listen: callers are the listener's.
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(held.getsockname(), 5)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(held.getsockname())
            listener.listen()
            for _ in range(8):
                socket.create_connection((HOST, held.getsockname()[1]), 5).close()
