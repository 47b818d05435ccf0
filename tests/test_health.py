"""Health: the checks, their reasons and the words for them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from voiceingest import health as health_module
from voiceingest.health import Health, rss_bytes
from voiceingest.metrics import Metrics, expose


class HealthTests(SynchronousTestCase):
    """One daemon's health."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.health = Health(self.clock, self.metrics)
        self.reason: str | None = None
        self.health.register("bus", lambda: self.reason)

    def test_well(self) -> None:
        self.assertEqual(self.health.status(), "ok")
        self.assertEqual(self.health.reasons(), {})

    def test_a_failing_check_is_named(self) -> None:
        self.reason = "not connected"
        self.assertEqual(self.health.status(), "degraded")
        self.assertEqual(self.health.reasons(), {"bus": "not connected"})
        self.assertEqual(
            self.health.report()["checks"], {"bus": {"status": "failed", "reason": "not connected"}}
        )

    def test_draining_comes_before_all(self) -> None:
        self.health.drain()
        self.assertTrue(self.health.draining)
        self.assertEqual(self.health.status(), "draining")
        self.assertIn("draining", self.health.reasons())
        self.assertEqual(self.health.report()["status"], "draining")
        self.assertEqual(self.health.report()["checks"], {"bus": {"status": "ok"}})

    def test_a_check_that_breaks_has_failed(self) -> None:
        self.health.register("broken", lambda: str(1 // 0))
        self.assertEqual(self.health.reasons(), {"broken": "the check itself failed"})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_later_check_takes_the_place(self) -> None:
        self.reason = "not connected"
        self.health.register("bus", lambda: None)
        self.assertEqual(self.health.status(), "ok")

    def test_uptime_and_memory(self) -> None:
        self.clock.advance(12.5)
        report = self.health.report()
        self.assertEqual(report["uptime"], 12.5)
        self.assertGreater(report["memory"]["rss_bytes"], 1_000_000)

    def test_memory_without_proc(self) -> None:
        with mock.patch.object(health_module, "STATM", Path("/nowhere/statm")):
            self.assertGreater(rss_bytes(), 1_000_000)

    def test_the_gauge_follows(self) -> None:
        self.assertIn(b"\nvoiceingest_ready 1.0\n", expose(self.metrics)[0])
        self.health.drain()
        self.assertIn(b"\nvoiceingest_ready 0.0\n", expose(self.metrics)[0])
