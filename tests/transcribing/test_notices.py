"""An outage is a few lines of the log."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.transcribing.notices import _REASONS_MAX_COUNT, AGAIN_S, Notices


class NoticesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.notices = Notices(self.clock)
        logged = mock.patch.object(Notices, "_log")
        self.log = logged.start()
        self.addCleanup(logged.stop)

    def said(self) -> list[tuple[Any, ...]]:
        """What was logged, as (reason, times)."""
        return [(call.kwargs["reason"], call.kwargs.get("times")) for call in self.log.warn.call_args_list]

    def test_a_trouble_is_said_once_a_minute(self) -> None:
        for _ in range(1000):
            self.notices.trouble("lost")
        self.notices.trouble("http_429")
        self.assertEqual(self.said(), [("lost", None), ("http_429", None)])
        self.clock.advance(AGAIN_S)
        self.notices.trouble("lost")
        self.assertEqual(self.said()[2:], [("lost", 999), ("lost", None)])

    def test_reasons_are_bounded(self) -> None:
        for code in range(1000):
            self.notices.trouble(f"closed_{code}")
        self.assertEqual(len(self.said()), _REASONS_MAX_COUNT)
