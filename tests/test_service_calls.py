"""What calls add to the daemon: which pages, for whom, and what stops the start."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher

from tests.support.case import SynchronousTestCase
from tests.support.world import World
from voiceingest.agents.echo import Echo
from voiceingest.audio import AudioFormat
from voiceingest.config import Settings
from voiceingest.errors import Draining, ExtraMissing, SettingsError, Unauthenticated, UnknownAgent
from voiceingest.http.exotel import ConnectResource, StatusResource
from voiceingest.http.upgrade import UpgradeResource
from voiceingest.interfaces import Claims, StreamFacts
from voiceingest.service_calls import CallPages, make_calls, make_transcription, needs_keys, publish_status

ONE_KEY = {"exotel_ws_token": "t"}
EVERYBODY = {"/voicebot/ws", "/api/v1/exotel/voice/connect", "/api/v1/exotel/status"}


class PagesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()

    def make(self, **given: Any) -> CallPages:
        settings, house = Settings.model_validate(given), self.world.house
        clock = cast("Any", Clock())
        transcription = make_transcription(self.world, settings, clock, house.metrics)
        return make_calls(settings, house, clock, transcription, cast("Any", None))

    def test_nothing_is_there_for_a_daemon_that_takes_no_calls(self) -> None:
        for given in ({}, {**ONE_KEY, "voicebot": "off"}):
            pages = self.make(**given)
            self.assertEqual((set(pages.public), set(pages.operators)), (set(), {"/call"}))

    def test_what_is_there_for_one_that_does(self) -> None:
        pages = self.make(**ONE_KEY)
        self.assertEqual(set(pages.public), EVERYBODY)
        self.assertEqual(set(pages.operators), {"/call", "/voicebot/sessions"})
        moved = self.make(**ONE_KEY, ws_path="/bot")
        self.assertIn("/bot", moved.public)
        self.assertNotIn("/voicebot/ws", moved.public)

    def test_what_exotel_may_do_with_it(self) -> None:
        pages = self.make(**ONE_KEY)
        # Its largest chunk, 100 000 bytes, in base64.
        sockets = cast("UpgradeResource", pages.public["/voicebot/ws"])._sockets
        self.assertGreater(sockets._rules.max_message_bytes, 140_000)
        # It tries a handshake that failed once more, and no more than once.
        tickets = cast("ConnectResource", pages.public["/api/v1/exotel/voice/connect"])._tickets
        ticket = tickets.mint(Claims("exotel", "acme", "c", 1e9))
        self.assertEqual([tickets.redeem(ticket).tenant_id for _ in range(2)], ["acme"] * 2)
        self.assertRaises(Unauthenticated, tickets.redeem, ticket)

    def test_an_agent_that_is_not_there(self) -> None:
        error = self.assertRaises(UnknownAgent, self.make, **ONE_KEY, voicebot_agent="nobody")
        self.assertIn("echo, silence, deepgram, pipeline", error.message)

    def test_an_agent_that_lacks_something(self) -> None:
        for name in ("deepgram", "pipeline"):
            error = self.assertRaises(SettingsError, self.make, **ONE_KEY, voicebot_agent=name)
            self.assertTrue(any("deepgram_api_key" in problem for problem in error.problems), error.problems)
        self.make(**ONE_KEY, voicebot_agent="deepgram", deepgram_api_key="k")

    def test_a_path_that_is_something_elses(self) -> None:
        for path in ("/v1/ingest", "/livez", "/call", "/api/v1/exotel/status", "/api/auth/ticket"):
            error = self.assertRaises(SettingsError, self.make, **ONE_KEY, ws_path=path)
            self.assertEqual(error.problems, (f"ws_path: {path} is the path of something else",))

    def test_an_agent_with_a_rate_of_its_own_and_nothing_to_resample_with(self) -> None:
        self.patch(Echo, "sample_rate", 16000)
        self.make(**ONE_KEY)
        self.patch(sys, "modules", {**sys.modules, "soxr": None})
        error = self.assertRaises(ExtraMissing, self.make, **ONE_KEY)
        self.assertIn("pip install 'voiceingest[resample]'", error.message)

    def test_an_open_door_is_told_of(self) -> None:
        told: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(told.append)
        self.addCleanup(globalLogPublisher.removeObserver, told.append)
        self.make(**ONE_KEY)
        self.assertEqual([event for event in told if event.get("event") == "calls_open"], [])
        self.make(exotel_ws_auth="none")
        self.assertEqual(len([event for event in told if event.get("event") == "calls_open"]), 1)

    def test_a_missing_key_is_told_once(self) -> None:
        error = self.assertRaises(SettingsError, self.make, **ONE_KEY, voicebot_agent="pipeline")
        self.assertEqual(len(error.problems), 1)

    def test_a_daemon_for_calls_alone_needs_no_key_for_tokens(self) -> None:
        for given, needed in (
            ({}, True),
            (ONE_KEY, False),
            ({**ONE_KEY, "jwt_jwks_url": "https://h/keys"}, True),
            ({**ONE_KEY, "jwt_public_key": "pem"}, True),
        ):
            self.assertEqual(needs_keys(Settings.model_validate(given)), needed, given)


class TranscribedStatusTests(SynchronousTestCase):
    def test_what_became_of_a_call_does_not_cut_off_its_last_words(self) -> None:
        """Exotel tells it within the seconds in which they may still come."""
        world, clock = World(), cast("Any", MemoryReactorClock())
        bridge = {"exo_bridge_enabled": True, "deepgram_url": "ws://127.0.0.1:1/v1/listen"}
        settings = Settings.model_validate({**ONE_KEY, **bridge, "deepgram_api_key": "k"})
        transcription = make_transcription(world, settings, clock, world.metrics)
        house = replace(world.house, publisher=transcription.publisher)
        pages = make_calls(settings, house, clock, transcription, cast("Any", None))
        facts = StreamFacts("acme", "call", AudioFormat(8000))
        lane = house.publisher.open_lane(facts, cast("Any", None))
        lane.publish(1, 0, bytes(1600))
        lane.close()
        told = cast("StatusResource", pages.public["/api/v1/exotel/status"])
        told._publish("acme", "call", "call_status", {"status": "completed"})
        self.assertEqual([one.closed for one in world.lanes], [False, True])
        assert transcription.transcribing is not None
        stopped = transcription.stop()
        clock.pump([0.5] * 10)
        self.successResultOf(stopped)


class StatusTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()

    def publish(self, tenant_id: str = "acme") -> None:
        publish_status(self.world.house, tenant_id, "call", "call_status", {"status": "completed"})

    def test_among_the_events_of_a_live_call(self) -> None:
        _, _, lane = self.world.live("call")
        self.publish()
        self.assertEqual(lane.events[-1], ("call_status", {"status": "completed"}))
        self.assertEqual(len(self.world.lanes), 1)

    def test_by_itself_when_the_call_is_over_or_anothers(self) -> None:
        self.publish()
        self.world.live("call")
        self.publish("another-tenant")
        for lane, tenant_id in ((self.world.lanes[0], "acme"), (self.world.lanes[2], "another-tenant")):
            self.assertEqual((lane.facts.tenant_id, lane.closed), (tenant_id, True))
            self.assertEqual(lane.events, [("call_status", {"status": "completed"})])

    def test_not_while_the_daemon_shuts_down(self) -> None:
        self.world.live("call")
        self.world.registry.drain(30.0)
        self.assertRaises(Draining, self.publish)
