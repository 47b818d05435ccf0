"""An agent that raises: told on, counted, asked no more, and what it says in its errors is in no log."""

from __future__ import annotations

from typing import NoReturn

from tests.support.case import SynchronousTestCase
from voiceingest.calls.patience import AGENT_FAILURES_MAX_COUNT, AgentMistake, Patience
from voiceingest.metrics import Metrics


class Mistakes(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.patience = Patience(self.metrics)
        self.told: list[str] = []

    def fail(self, text: str) -> NoReturn:  # type: ignore[override]
        self.told.append(text)
        raise ValueError(f"what is {text}?")

    def test_after_ten_it_is_told_of_its_end_and_of_nothing_else(self) -> None:
        for _ in range(AGENT_FAILURES_MAX_COUNT + 1):
            self.patience.tell(self.fail, "word")
        self.assertEqual(len(self.told), AGENT_FAILURES_MAX_COUNT)
        self.patience.tell_last(self.fail, "end")
        self.assertEqual(self.told[-1], "end")
        self.assertEqual(self.metrics.agent_failures["exception"], AGENT_FAILURES_MAX_COUNT + 1)
        self.assertEqual(len(self.flushLoggedErrors(AgentMistake)), 2)

    def test_the_log_has_where_and_what_class_but_not_the_words(self) -> None:
        """A caller's words stand in the error of whoever makes a number of them."""
        self.patience.tell(self.fail, "my secret")
        (mistake,) = self.flushLoggedErrors(AgentMistake)
        written = f"{mistake.getErrorMessage()}\n{mistake.getTraceback()}\n{mistake}"
        self.assertNotIn("secret", written)
        self.assertIn("ValueError", written)
        self.assertIn("in fail", written)
