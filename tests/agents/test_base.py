"""The agent others begin from provides the whole seam, and does nothing."""

from __future__ import annotations

import inspect
from typing import Any, cast

from tests.support.case import SynchronousTestCase
from voiceingest.agents import Agent
from voiceingest.call_interfaces import AgentContext, IAgent, Transcript


class BaseTests(SynchronousTestCase):
    def test_every_method_of_the_seam_is_there_with_its_arguments(self) -> None:
        wanted = [name for name, _ in inspect.getmembers(IAgent, inspect.isfunction) if name[0] != "_"]
        self.assertGreaterEqual(len(wanted), 7)
        for name in wanted:
            seam, own = (inspect.signature(getattr(one, name)) for one in (IAgent, Agent))
            self.assertEqual(list(own.parameters), list(seam.parameters), name)

    def test_it_keeps_its_call_and_says_nothing(self) -> None:
        call: Any = object()  # whatever were asked of it would raise
        agent = Agent(cast("AgentContext", None))
        agent.begin(call)
        agent.audio(bytes(320))
        agent.transcript(Transcript("hello", 0, 100, True))
        agent.dtmf("1")
        agent.played("m")
        agent.interrupted()
        agent.end("stopped")
        self.assertIs(agent.call, call)
        self.assertEqual((agent.sample_rate, agent.wants_transcripts), (0, False))
        self.assertTrue(agent.is_interruptible)
