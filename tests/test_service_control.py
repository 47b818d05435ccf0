"""What devices and sessions add to the daemon: which pages, which parts, and what stops the start."""

from __future__ import annotations

import importlib.util
from typing import Any, cast
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.integration.case import asynchronous
from tests.support.case import SynchronousTestCase, TestCase
from tests.support.servers import TlsFiles
from voiceingest import service_control
from voiceingest.aio import as_future
from voiceingest.auth.either import EitherAuthenticator
from voiceingest.config import Settings
from voiceingest.deadlines import Deadlines
from voiceingest.devices import Chain
from voiceingest.errors import BadCertificate, ExtraMissing, SettingsError
from voiceingest.metrics import Metrics
from voiceingest.service_control import FLUSH_S, Control, Keeping, Tools, make_control
from voiceingest.session_interfaces import NoRecords
from voiceingest.sessions.bus import NoBus, RedisControlBus

KEY = {"jwt_secret": "s" * 32, "database_url": "sqlite:///there-is-no-such-folder/x.db"}


def without(*packages: str) -> Any:
    """As if these were not installed."""
    found = importlib.util.find_spec

    def look(name: str, package: str | None = None) -> Any:
        return None if name in packages else found(name, package)

    return patch.object(service_control, "find_spec", look)


class ControlCase(SynchronousTestCase):
    def make(self, issuer: Any = None, **given: Any) -> Control:
        clock = cast("Any", Clock())
        tools = Tools(clock, Deadlines(clock), Metrics(), lambda: 0.0)
        return make_control(Settings.model_validate(given), issuer, tools)


class PartsTests(ControlCase):
    def test_nothing_is_there_without_a_key_for_tokens(self) -> None:
        issuer = cast("Any", object())
        for given in ({}, {**KEY, "control": "off"}):
            with without("fastapi", "sqlalchemy", "grpc"):
                control = self.make(issuer, **given)
            self.assertIs(control.authenticator, issuer)
            self.assertIsInstance(control.records, NoRecords)
            self.assertEqual(
                (control.public, control.operators, control.kept, control.asked), ({}, {}, (), ())
            )

    def test_everything_is_there_with_one(self) -> None:
        control = self.make(**KEY)
        self.assertIsInstance(control.authenticator, EitherAuthenticator)
        self.assertIsInstance(control.records, Chain)
        self.assertLessEqual(
            {"/api/auth/register", "/api/session", "/api/session/{id}", "/docs", "/openapi.json"},
            set(control.public),
        )
        self.assertEqual({path[:11] for path in control.operators}, {"/api/admin/"})
        self.assertEqual(
            [child.part.name for child in (*control.kept, *control.asked)], ["store", "grpc", "api"]
        )
        self.assertEqual((set(control.checks), set(control.reloads)), ({"database"}, {"device_key"}))

    def test_processes_hear_of_one_another_where_they_share_a_redis(self) -> None:
        for given, kind in (
            ({"publish_url": "memory://"}, NoBus),
            ({"publish_url": "redis://localhost"}, RedisControlBus),
            ({"publish_url": "redis://localhost", "session_cache": "off"}, NoBus),
            ({"publish_url": "nats://localhost"}, NoBus),
            ({"publish_url": "nats://localhost", "session_cache_url": "redis://localhost"}, RedisControlBus),
        ):
            keeping = cast("Any", self.make(**KEY, **given).kept[0].part)
            self.assertIsInstance(keeping._bus, kind, given)

    def test_grpc_is_on_the_loopback_without_a_certificate(self) -> None:
        files = TlsFiles(self.mktemp_path())
        pair = {"ssl_key_path": str(files.key_path), "ssl_cert_path": str(files.cert_path)}
        for given, address, reloads in (
            ({}, "127.0.0.1:50051", set()),
            ({"grpc_interface": "0.0.0.0", "grpc_port": 1}, "0.0.0.0:1", set()),
            (pair, "[::]:50051", {"grpc_certificate"}),
        ):
            control = self.make(**KEY, **given)
            server = cast("Any", control.asked[0].part)
            self.assertEqual(server._address, address)
            self.assertEqual(set(control.reloads) - {"device_key"}, reloads)
        self.assertEqual([child.part.name for child in self.make(**KEY, grpc="off").asked], ["api"])


class RefusalTests(ControlCase):
    def test_what_is_not_installed_is_named_with_the_command(self) -> None:
        for package in ("fastapi", "sqlalchemy", "alembic", "limits", "redis"):
            with without(package):
                error = self.assertRaises(ExtraMissing, self.make, **KEY)
            self.assertEqual(error.message, f"{package} is not installed: pip install 'voiceingest[control]'")
        for package in ("grpc", "grpc_health", "grpc_reflection"):
            with without(package):
                error = self.assertRaises(ExtraMissing, self.make, **KEY, grpc="on")
                self.assertEqual(
                    error.message, f"{package} is not installed: pip install 'voiceingest[grpc]'"
                )
                # Where nobody has asked for it, it is off.
                self.assertEqual([child.part.name for child in self.make(**KEY).asked], ["api"])

    def test_what_cannot_be_used(self) -> None:
        files = TlsFiles(self.mktemp_path())
        files.key_path.write_text("no key")
        pair = {"ssl_key_path": str(files.key_path), "ssl_cert_path": str(files.cert_path)}
        self.assertRaises(BadCertificate, self.make, **KEY, **pair)
        self.assertRaises(SettingsError, self.make, **KEY, session_cache_url="unix:///tmp/redis.sock")


class Part:
    """Notes that it was stopped; fails with it where it is told to."""

    def __init__(self, name: str, stopped: list[Any], failing: str) -> None:
        self._name, self._stopped, self._failing = name, stopped, failing

    async def stop(self, *given: float) -> None:
        """Any of those that ``Keeping`` stops."""
        self._stopped.append((self._name, *given))
        if self._name == self._failing:
            raise RuntimeError(self._name)


class KeepingTests(TestCase):
    @asynchronous
    async def test_all_of_it_ends_whatever_fails(self) -> None:
        names = ("store", "writer", "sweeper", "bus", "cache", "upkeep")
        for failing in names:
            stopped: list[Any] = []
            parts = [cast("Any", Part(name, stopped, failing)) for name in names]
            keeping = Keeping(*parts)
            with self.assertRaises(RuntimeError):
                await as_future(keeping.stop())
            self.assertEqual(
                stopped, [("upkeep",), ("sweeper",), ("writer", FLUSH_S), ("bus",), ("cache",), ("store",)]
            )

    @asynchronous
    async def test_it_begins_and_ends_without_redis(self) -> None:
        clock = cast("Any", Clock())
        given = {**KEY, "database_url": f"sqlite:///{self.mktemp_path()}", "grpc": "off"}
        tools = Tools(clock, Deadlines(clock), Metrics(), lambda: 0.0)
        control = make_control(Settings.model_validate(given), cast("Any", None), tools)
        (kept,) = control.kept
        await as_future(cast("Deferred[None]", kept.part.start()))
        self.assertIsNone(control.checks["database"].ready)
        await as_future(cast("Deferred[None]", kept.part.stop()))
        self.assertIsNotNone(control.checks["database"].ready)
