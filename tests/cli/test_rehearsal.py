from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import trustme
from click.testing import CliRunner, Result
from twisted.logger import globalLogPublisher

from tests.support.case import SynchronousTestCase
from voiceingest import tap
from voiceingest.cli.configcmd import check_config
from voiceingest.cli.rehearsal import rehearse, settings_path
from voiceingest.config import Settings
from voiceingest.errors import WrongReactor

MEMORY = {"PUBLISH_URL": "memory://"}


class RehearsalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        self.directory.mkdir()

    def write(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def check(self, environ: dict[str, str], *arguments: str) -> Result:
        with mock.patch.dict(os.environ, environ, clear=True):
            return CliRunner().invoke(check_config, [*arguments])

    def daemon(self, environ: dict[str, str]) -> str:
        """What ``twistd -n voiceingest`` says when it refuses to start; nothing when it would not."""
        options = tap.Options()
        options.parseOptions([])
        # Opening the log takes over SIGUSR1.
        self.patch(tap, "open_log", lambda twistd: io.StringIO())
        with mock.patch.dict(os.environ, environ, clear=True):
            try:
                tap.makeService(options)
            except SystemExit as refused:
                return str(refused.code)
        return ""

    def pair(self, name: str) -> tuple[str, str]:
        """The paths of a key and of its certificate."""
        issued = trustme.CA().issue_cert(f"{name}.example.com")
        key = self.write(f"{name}.key", issued.private_key_pem.bytes())
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        return key, self.write(f"{name}.crt", chain)


class RefusedTests(RehearsalCase):
    def test_what_the_daemon_would_refuse_in_its_words(self) -> None:
        key, certificate = self.pair("one")
        other_key, _ = self.pair("other")
        garbage = self.write("garbage.pem", "garbage")
        missing = str(self.directory / "missing.pem")
        option = "_parseTCP() got an unexpected keyword argument 'bogus'"
        for environ, lines in (
            ({**MEMORY, "JWT_PUBLIC_KEY": "garbage"}, ["the key is not one PEM public key"]),
            (
                {**MEMORY, "LISTEN": "ssl:8443"},
                ["listen: ssl:8443: names no certificate, and ssl_key_path and ssl_cert_path are not set"],
            ),
            (
                {**MEMORY, "LISTEN": "ssl:8443,tls:8444"},
                [
                    "listen: ssl:8443: names no certificate, and ssl_key_path and ssl_cert_path are not set",
                    "listen: tls:8444: tls: is not supported; ssl: is, or tls+ before another endpoint",
                ],
            ),
            ({**MEMORY, "LISTEN": "tcp:8443:bogus=1"}, [f"listen: tcp:8443:bogus=1: {option}"]),
            ({**MEMORY, "ADMIN": "tcp:9464:bogus=1"}, [f"admin: tcp:9464:bogus=1: {option}"]),
            (
                {**MEMORY, "SSL_KEY_PATH": key, "SSL_CERT_PATH": garbage},
                [f"{garbage}: holds no PEM certificate that can be read"],
            ),
            (
                {**MEMORY, "SSL_KEY_PATH": other_key, "SSL_CERT_PATH": certificate},
                [f"{other_key}: is not the key of {certificate}"],
            ),
            (
                {"REDIS_URL": "rediss://h", "REDIS_CA_PATH": missing},
                [f"redis_ca_path: {missing}: No such file or directory"],
            ),
            ({"REDIS_URL": "redis://h/abc"}, ["publish_url: the database is a number"]),
            (
                {**MEMORY, "JWT_JWKS_URL": "http://x.example/"},
                ["jwt_jwks_url: only https: is taken, except on the loopback interface"],
            ),
            ({**MEMORY, "VOICEINGEST_CONFIG": missing}, [f"{missing}: there is no such file"]),
        ):
            result = self.check(environ)
            self.assertEqual(result.exit_code, 1, (environ, result.output))
            self.assertEqual(result.stdout.splitlines(), lines)
            self.assertEqual(self.daemon(environ), "\n".join(f"voiceingest: {line}" for line in lines))

    def test_json(self) -> None:
        result = self.check({"REDIS_URL": "redis://user:canary@h/abc"}, "--json")
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(
            result.stdout, '{"ok": false, "problems": ["publish_url: the database is a number"]}\n'
        )
        self.assertNotIn("canary", result.output)

    def test_settings_that_are_wrong_come_first_and_alone(self) -> None:
        result = self.check({"REDIS_URL": "redis://h/abc", "ACK_INTERVAL": "0"})
        self.assertEqual(len(result.stdout.splitlines()), 1)
        self.assertTrue(result.stdout.startswith("ack_interval: "), result.stdout)

    def test_another_reactor(self) -> None:
        self.patch(sys, "modules", {**sys.modules, "twisted.internet.reactor": object()})
        self.assertRaises(WrongReactor, rehearse, Settings.model_validate({}))


class AcceptedTests(RehearsalCase):
    def test_what_the_daemon_takes(self) -> None:
        key, certificate = self.pair("one")
        own = {"SSL_KEY_PATH": key, "SSL_CERT_PATH": certificate}
        for environ in (
            MEMORY,
            {},
            {"REDIS_URL": "redis://nobody.invalid:1/2"},
            {**MEMORY, **own},
            {**MEMORY, **own, "LISTEN": "ssl:8443,tcp:8080"},
            {**MEMORY, "ADMIN": "tcp:0", "JWT_JWKS_URL": "https://id.invalid/jwks"},
        ):
            result = self.check(environ)
            self.assertEqual((result.exit_code, result.stdout[:3]), (0, "ok\n"), (environ, result.output))
            self.assertEqual(self.daemon(environ), "")

    def test_a_port_in_use_is_not_tried(self) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            self.assertEqual(self.check({**MEMORY, "LISTEN": listen}).exit_code, 0)

    def test_nothing_is_left_behind(self) -> None:
        from twisted.internet import reactor as installed

        reactor: Any = installed

        def state() -> dict[str, object]:
            # What earlier tests have left for the collector is not counted as ours.
            gc.collect()
            return {
                "observers": list(globalLogPublisher._observers),
                "stdlib": (list(logging.getLogger().handlers), logging.getLogger().level),
                "signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
                "timers": reactor.getDelayedCalls(),
                "sockets": (set(reactor.getReaders()), set(reactor.getWriters())),
                "files": len(list(Path("/proc/self/fd").iterdir())),
                "threads": threading.enumerate(),
                "streams": (sys.stdout, sys.stderr, sys.excepthook),
                "environment": dict(os.environ),
            }

        key, certificate = self.pair("one")
        settings = Settings.model_validate(
            {"redis_url": "rediss://h", "ssl_key_path": key, "ssl_cert_path": certificate}
        )
        # The first one imports what is imported late.
        self.assertEqual(rehearse(settings), ())
        before = state()
        self.assertEqual(rehearse(settings), ())
        self.assertEqual(state(), before)


class InheritedSocketsTests(RehearsalCase):
    """What systemd opens is read, and cannot be built."""

    def test_accepted_without_the_sockets(self) -> None:
        key, certificate = self.pair("one")
        for environ in (
            {"LISTEN": "systemd:domain=INET:index=0"},
            {"LISTEN": "systemd:domain=INET:index=0", "ADMIN": "systemd:domain=INET:index=1"},
            {"LISTEN": "haproxy:systemd:domain=INET:index=0,tcp:8080"},
            {"LISTEN": f"tls+systemd:domain=INET:index=0:privateKey={key}:certKey={certificate}"},
            {"LISTEN": "tls+systemd:name=voice", "SSL_KEY_PATH": key, "SSL_CERT_PATH": certificate},
        ):
            result = self.check({**MEMORY, **environ})
            self.assertEqual(result.exit_code, 0, (environ, result.output))
            self.assertIn(environ["LISTEN"].partition(",")[0], result.stdout)

    def test_what_can_be_known_without_them(self) -> None:
        garbage = self.write("garbage.pem", "garbage")
        unreadable = f"{garbage}: holds no PEM private key that can be read"
        no_certificate = "names no certificate, and ssl_key_path and ssl_cert_path are not set"
        for environ, lines in (
            (
                {"LISTEN": "tls+systemd:index=0,systemd:index=1"},
                [f"listen: tls+systemd:index=0: {no_certificate}"],
            ),
            ({"ADMIN": "tls+systemd:index=0"}, [f"admin: tls+systemd:index=0: {no_certificate}"]),
            ({"LISTEN": f"tls+systemd:index=0:privateKey={garbage}"}, [unreadable]),
            ({"LISTEN": "systemd:index=0,tls:1"},
             ["listen: tls:1: tls: is not supported; ssl: is, or tls+ before another endpoint"]),
            ({"LISTEN": "systemd:index=0", "JWT_PUBLIC_KEY": "garbage"},
             ["the key is not one PEM public key"]),
        ):
            result = self.check({**MEMORY, **environ})
            self.assertEqual((result.exit_code, result.stdout.splitlines()), (1, lines), environ)


class SettingsPathTests(SynchronousTestCase):
    def test_the_argument_before_the_variable(self) -> None:
        variable = {"VOICEINGEST_CONFIG": "/etc/v.toml"}
        for named, environ, path in (
            (None, {}, None),
            (None, {"VOICEINGEST_CONFIG": ""}, None),
            (None, variable, Path("/etc/v.toml")),
            (Path("/other.toml"), variable, Path("/other.toml")),
            (Path("relative.toml"), variable, Path.cwd() / "relative.toml"),
        ):
            self.assertEqual(settings_path(named, environ), path)
