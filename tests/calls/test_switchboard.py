"""Who answers, in which house, and what is known of it."""

from __future__ import annotations

from typing import Any, cast

from tests.calls.test_call import Leg, Noting
from tests.support.case import SynchronousTestCase
from tests.support.world import World
from voiceingest.audio import AudioFormat
from voiceingest.call_interfaces import AgentContext, CallFacts, IListener
from voiceingest.calls.call import CallRules, Line
from voiceingest.calls.switchboard import Desk, Switchboard
from voiceingest.interfaces import IPublisher


class Transcribing:
    def __init__(self, made: IPublisher) -> None:
        self.made = made
        self.asked: list[tuple[IPublisher, IListener | None]] = []

    def around(self, publisher: IPublisher, listener: IListener | None = None) -> IPublisher:
        self.asked.append((publisher, listener))
        return self.made


class SwitchboardTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world, self.tapped = World(resume_window_s=30.0), World()
        self.transcribing: Transcribing | None = Transcribing(self.tapped)
        self.context = cast("AgentContext", object())

    def board(self, *, transcribes_all: bool = False, **rules: Any) -> Switchboard:
        desk = Desk(
            CallRules(**rules), "noting", self.make_agent, self.context, self.world, self.transcribing,
            transcribes_all, "default", 65536,
        )  # fmt: skip
        return Switchboard(self.world.house, desk)

    def make_agent(self, context: AgentContext) -> Noting:
        self.assertIs(context, self.context)
        return Noting()

    def test_a_call_has_no_way_to_come_back_and_everything_else_has(self) -> None:
        board = self.board()
        self.assertEqual(board.house.rules.resume_window_s, 0.0)
        self.assertEqual(self.world.house.rules.resume_window_s, 30.0)
        self.assertIs(board.house.registry, self.world.registry)

    def test_each_call_has_an_agent_of_its_own(self) -> None:
        board = self.board()
        self.assertIsNot(board.new_agent(), board.new_agent())

    def test_only_who_wants_words_is_transcribed(self) -> None:
        listener = cast("IListener", object())
        assert self.transcribing is not None
        deaf, eager = Noting(), Noting()
        eager.wants_transcripts = True
        self.assertIs(self.board().house_for(deaf, listener).publisher, self.world)
        self.assertEqual(self.transcribing.asked, [])
        self.assertIs(self.board().house_for(eager, listener).publisher, self.tapped)
        # Around what does not transcribe: nothing is heard twice.
        self.assertEqual(self.transcribing.asked, [(self.world, listener)])
        self.assertIs(self.board(transcribes_all=True).house_for(deaf, listener).publisher, self.tapped)
        self.transcribing = None
        self.assertIs(self.board().house_for(eager, listener).publisher, self.world)

    def test_a_call_is_answered_by_the_rules_of_the_desk(self) -> None:
        board, agent, leg = self.board(chunk_bytes=640), Noting(), Leg(self.world.clock)
        call = board.answer(CallFacts("c", "s", "acme", AudioFormat(8000)), Line(8000), leg, agent)
        call.begin()
        call.say(bytes(6400))
        self.assertEqual(len(leg.sent[0][1]), 640)
        self.assertEqual(self.world.metrics.calls_active, 1)

    def test_the_record_of_a_connection_names_its_agent(self) -> None:
        board = self.board()
        session = board.new_session()
        self.assertEqual((session.shown()["agent"], len(board.sessions)), ("noting", 0))
