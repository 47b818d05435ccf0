"""The composition root, on a reactor in memory: what is built, in which order, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from twisted.application.service import Application
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver, LogLevel

from voiceingest.config import Settings
from voiceingest.errors import BadCertificate, SettingsError
from voiceingest.lifecycle import Daemon
from voiceingest.metrics import Metrics
from voiceingest.service import make_service

from .support.case import SynchronousTestCase

ORDER = [
    *("stdlib_logging", "reactor_lag", "admin", "bus", "http_client", "transcribing", "keys", "deadlines"),
    *("streams", "listen"),
]


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.log = io.StringIO()

    def make(
        self, read_settings: Callable[[], Settings] | None = None, **settings: Any
    ) -> Daemon:
        """A service over the bus in memory."""
        service = make_service(
            Settings(**{"publish_url": "memory://", **settings}),
            self.reactor,
            log_stream=self.log,
            read_settings=read_settings,
            environ={},
            wall_clock=lambda: 1_800_000_000.0,
        )
        assert isinstance(service, Daemon)
        return service

    def up(self, service: Daemon) -> None:
        """Start, as twistd and then the reactor do; the process's own signals are left alone."""
        self.patch(service._signals, "install", lambda: None)
        service.startService()
        self.reactor.run()

    def test_the_order_of_the_tree(self) -> None:
        self.assertEqual([child.part.name for child in self.make()._children], ORDER)

    def test_names_are_labels_of_metrics(self) -> None:
        """Else what does not stop is counted as ``other``."""
        metrics = Metrics()
        for child in self.make()._children:
            metrics.errors["internal", child.part.name] += 1
        self.assertEqual([part for _, part in metrics.errors], ORDER)

    def test_nothing_is_opened_before_the_start(self) -> None:
        """twistd forks after this: what is opened before is lost or shared."""
        self.make()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.log.getvalue(), "")

    def test_admin_first_public_last(self) -> None:
        service = self.make(listen=("tcp:8001", "tcp:8002"))
        self.up(service)
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [9464, 8001, 8002])
        self.assertEqual([server[2] for server in self.reactor.tcpServers], [2048] * 3)
        self.reactor.advance(1)
        service.stopService()
        self.reactor.advance(1)
        self.assertFalse(service.running)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_without_an_admin_site(self) -> None:
        service = self.make(admin="")
        self.up(service)
        self.assertEqual([server[0] for server in self.reactor.tcpServers], [8443])
        service.stopService()
        self.reactor.advance(1)

    def test_the_drain_may_take_as_long_as_it_is_allowed(self) -> None:
        """A child's deadline is longer than what the child itself may take."""
        service = self.make(drain_deadline_s=100, stop_flush_timeout_s=50)
        deadlines = {child.part.name: child.stop_deadline_s for child in service._children}
        self.assertGreater(deadlines["streams"], 100)
        self.assertGreater(deadlines["bus"], 50)

    def test_a_certificate_that_cannot_be_read_is_refused(self) -> None:
        with self.assertRaises(BadCertificate):
            self.make(ssl_key_path="/nowhere/key.pem", ssl_cert_path="/nowhere/cert.pem")

    def test_endpoints_that_cannot_be_read_are_refused(self) -> None:
        for settings in ({"listen": ("tcp:abc",)}, {"admin": "nonsense:1"}):
            with self.assertRaises(SettingsError):
                self.make(**settings)

    def test_logs_are_json_on_the_stream_given(self) -> None:
        service = self.make(service_name="ours", environment="test")
        application = Application("voiceingest")
        service.setServiceParent(application)
        observer = application.getComponent(ILogObserver)
        observer({"log_level": LogLevel.info, "log_format": "hello", "log_namespace": "x", "log_time": 0.0})
        line = json.loads(self.log.getvalue())
        self.assertEqual((line["message"], line["service"], line["environment"]), ("hello", "ours", "test"))

    def test_reload_takes_the_log_level_from_the_settings_of_now(self) -> None:
        service = self.make(read_settings=lambda: Settings(log_level="error"))
        event = {"log_level": LogLevel.warn, "log_format": "hello", "log_namespace": "x", "log_time": 0.0}
        assert service._observer is not None
        service._observer(event)
        self.assertIn("hello", self.log.getvalue())
        service._reloads.reload()
        self.log.truncate(0)
        service._observer(event)
        self.assertNotIn("hello", self.log.getvalue())

    def test_what_is_reloaded(self) -> None:
        self.assertEqual(list(self.make()._reloads._targets), ["certificate", "jwt_key", "log_level"])
