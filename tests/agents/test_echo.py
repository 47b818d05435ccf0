"""The echo says what it hears, and cannot be spoken over."""

from __future__ import annotations

from typing import Any, cast

from tests.support.case import SynchronousTestCase
from voiceingest.agents.echo import Echo
from voiceingest.call_interfaces import AgentContext


class Call:
    def __init__(self) -> None:
        self.said: list[bytes] = []

    def say(self, pcm: bytes) -> None:
        self.said.append(pcm)


class EchoTests(SynchronousTestCase):
    def test_it_says_what_it_hears(self) -> None:
        call: Any = Call()
        echo = Echo(cast("AgentContext", None))
        echo.begin(call)
        echo.audio(b"ab")
        echo.audio(b"cdef")
        self.assertEqual(call.said, [b"ab", b"cdef"])
        self.assertFalse(echo.is_interruptible)
