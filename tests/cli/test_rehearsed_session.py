from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from tests.support.case import SynchronousTestCase
from voiceingest.cli import rehearsed_session
from voiceingest.cli.rehearsed_session import SessionOutcome
from voiceingest.config import Settings


class SessionOutcomeTests(SynchronousTestCase):
    def test_as_it_should_be(self) -> None:
        shown = {"status": "completed", "frames": 5, "transport": "ingest", "reason": "stopped", "x": 1}
        outcome = SessionOutcome(5, shown)
        self.assertEqual(outcome.problems(), [])
        self.assertTrue(outcome.pairs()["session"].startswith("completed, 5 of 5 frames"))
        self.assertEqual(
            outcome.document(),
            {
                "sent_frames": 5,
                "status": "completed",
                "frames": 5,
                "transport": "ingest",
                "reason": "stopped",
            },
        )

    def test_what_was_not_as_it_should_be(self) -> None:
        table = [
            (SessionOutcome(5, {"status": "active", "frames": 5}), ["session: it is active, not completed"]),
            (
                SessionOutcome(5, {"status": "completed", "frames": 4}),
                ["session: it knows of 4 frames of 5"],
            ),
            (SessionOutcome(0, {}, "no answer"), ["session: no answer"]),
        ]
        for outcome, problems in table:
            self.assertEqual(outcome.problems(), problems)
        self.assertEqual(table[-1][0].pairs(), {"session": "no answer"})


class SettingsTests(SynchronousTestCase):
    def test_a_daemon_takes_them_and_keeps_all_of_it_in_the_folder(self) -> None:
        made = rehearsed_session.settings(Path("/somewhere"))
        settings = Settings.model_validate(made)
        self.assertTrue(settings.has_control)
        self.assertEqual(settings.database_url.get_secret_value(), "sqlite:////somewhere/sessions.db")
        self.assertNotEqual(made["jwt_secret"], rehearsed_session.settings(Path("/"))["jwt_secret"])

    def test_without_the_extra_there_is_none(self) -> None:
        self.assertTrue(rehearsed_session.is_possible())
        with patch.dict("sys.modules", {"aiosqlite": None}):
            self.assertFalse(rehearsed_session.is_possible())
