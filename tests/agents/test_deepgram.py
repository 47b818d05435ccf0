"""An agent that says nothing and has its call written down."""

from __future__ import annotations

from typing import Any, cast

from tests.support.case import SynchronousTestCase
from voiceingest.agents.deepgram import Deepgram
from voiceingest.call_interfaces import AgentContext, Transcript


class DeepgramTests(SynchronousTestCase):
    def test_it_wants_words_and_says_none(self) -> None:
        call: Any = object()  # whatever were asked of it would raise
        agent = Deepgram(cast("AgentContext", None))
        agent.begin(call)
        agent.audio(bytes(320))
        agent.transcript(Transcript("hello", 0, 100, True, ends_turn=True))
        self.assertEqual((agent.wants_transcripts, agent.is_interruptible), (True, False))
