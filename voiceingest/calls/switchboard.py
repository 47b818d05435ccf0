"""Where calls are answered: makes the agent of each, and knows all that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ..call_interfaces import AgentContext, CallFacts, IAgent, IListener
from ..house import House
from ..interfaces import IPublisher
from .call import Call, CallRules, ILeg, Line, Surroundings
from .session import VoiceSession, VoiceSessions


class ITranscribing(Protocol):
    """What puts a transcriber beside a stream."""

    def around(self, publisher: IPublisher, listener: IListener | None = None) -> IPublisher:
        """The same publisher, and its audio is transcribed too."""


@dataclass(frozen=True, slots=True)
class Desk:
    """How the calls of this daemon are answered.

    ``bare_publisher`` publishes and does not transcribe; ``transcribes_all``: everything is transcribed
    anyway. ``tenant_id`` has the calls that nobody claims.
    """

    rules: CallRules
    agent_name: str
    make_agent: Callable[[AgentContext], IAgent]
    context: AgentContext
    bare_publisher: IPublisher
    transcribing: ITranscribing | None
    transcribes_all: bool
    tenant_id: str
    max_frame_bytes: int


class Switchboard:
    """See the head of this file."""

    def __init__(self, house: House, desk: Desk) -> None:
        # Exotel has no way to come back to a stream: a lost connection is the end of the call.
        self.house = replace(house, rules=replace(house.rules, resume_window_s=0.0))
        self.desk = desk
        self.sessions = VoiceSessions()
        self._surroundings = Surroundings(house.clock, house.deadlines, house.metrics)

    def new_session(self) -> VoiceSession:
        """The record of a new connection; it is among ``sessions`` from when that stands."""
        return VoiceSession(self.desk.agent_name, self.house.wall_clock)

    def new_agent(self) -> IAgent:
        """Who answers the next call. Raises: whatever the agent does."""
        return self.desk.make_agent(self.desk.context)

    def house_for(self, agent: IAgent, listener: IListener) -> House:
        """What the stream of a call lives in; where its agent wants words, it hears them."""
        desk = self.desk
        if desk.transcribing is None or not (agent.wants_transcripts or desk.transcribes_all):
            return self.house
        publisher = desk.transcribing.around(desk.bare_publisher, listener)
        return replace(self.house, publisher=publisher)

    def answer(self, facts: CallFacts, line: Line, leg: ILeg, agent: IAgent) -> Call:
        """A call whose stream is live."""
        return Call(facts, line, leg, agent, self.desk.rules, self._surroundings)
