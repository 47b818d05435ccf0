"""Silence: the call is asked for nothing."""

from __future__ import annotations

from typing import Any, cast

from tests.support.case import SynchronousTestCase
from voiceingest.agents.silence import Silence
from voiceingest.call_interfaces import AgentContext


class SilenceTests(SynchronousTestCase):
    def test_it_says_nothing(self) -> None:
        call: Any = object()  # whatever were asked of it would raise
        silence = Silence(cast("AgentContext", None))
        silence.begin(call)
        silence.audio(bytes(320))
        silence.dtmf("1")
        self.assertEqual((silence.wants_transcripts, silence.is_interruptible), (False, False))
