"""What the end of a stream makes of its session."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.errors import (
    Draining,
    FlushTimeout,
    Forbidden,
    InternalError,
    PeerTooSlow,
    RateLimited,
    TokenRevoked,
    every_error,
)
from voiceingest.sessions.outcomes import GOES_ON, WELL, step_for
from voiceingest.stream import SessionStep


class OutcomeTests(SynchronousTestCase):
    def test_what_ends_well(self) -> None:
        for reason in ("stopped", "ended", "disconnected", "idle_timeout", TokenRevoked.code):
            self.assertIs(step_for(reason, is_its_name=True), SessionStep.END)

    def test_what_is_an_error(self) -> None:
        for error in (InternalError, FlushTimeout, PeerTooSlow, RateLimited, Forbidden, Draining):
            self.assertIs(step_for(error.code, is_its_name=True), SessionStep.FAIL)

    def test_what_nobody_knows_is_an_error(self) -> None:
        self.assertIs(step_for("never heard of", is_its_name=False), SessionStep.FAIL)

    def test_what_goes_on_elsewhere_stays(self) -> None:
        for is_its_name in (True, False):
            self.assertIsNone(step_for(GOES_ON, is_its_name=is_its_name))

    def test_who_begins_anew_in_the_name_of_the_session_goes_on_with_it(self) -> None:
        self.assertIsNone(step_for("replaced", is_its_name=True))
        self.assertIs(step_for("replaced", is_its_name=False), SessionStep.END)

    def test_the_table_names_nothing_that_is_not_there(self) -> None:
        codes = {error.code for error in every_error()}
        self.assertEqual(WELL - codes, {"stopped", "ended", "disconnected"})
