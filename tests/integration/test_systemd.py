"""The systemd units: accepted by systemd itself, hardened, and in agreement with the settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SkipTest

from voiceingest.config import Settings
from voiceingest.limits import LISTEN_BACKLOG_COUNT
from voiceingest.registry import FLUSH_GRACE_S
from voiceingest.service import MARGIN_S
from voiceingest.tap import CONFIG_VARIABLE

from ..support.case import SynchronousTestCase

UNITS: Final = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SERVICE: Final = UNITS / "voiceingest.service"
SOCKET: Final = UNITS / "voiceingest.socket"

# In tenths, as systemd-analyze wants it: a bare unit has 9.6.
EXPOSURE_MAX: Final = 20

# Variables of Python and of the shell, which are no settings.
FOREIGN: Final = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", CONFIG_VARIABLE}


def directives(unit: Path) -> dict[str, list[str]]:
    """The values of every directive."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            found.setdefault(name, []).append(value)
    return found


class AnalyzeTests(SynchronousTestCase):
    """What ``systemd-analyze`` says; no systemd has to run."""

    def setUp(self) -> None:
        if shutil.which("systemd-analyze") is None:
            if os.environ.get("CI", "").lower() in ("1", "true"):
                self.fail("systemd-analyze is not installed (apt-get install systemd)")
            raise SkipTest("systemd-analyze is not installed")

    def analyze(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", "--no-pager", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_verify(self) -> None:
        done = self.analyze("verify", str(SERVICE), str(SOCKET))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_exposure(self) -> None:
        done = self.analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(SERVICE))
        self.assertEqual(done.returncode, 0, done.stdout[-400:] + done.stderr)
        overall = re.search(r"Overall exposure level for voiceingest.service: (\d+\.\d+)", done.stdout)
        assert overall is not None, done.stdout
        self.assertLessEqual(float(overall[1]), EXPOSURE_MAX / 10)


class ServiceUnitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.unit = directives(SERVICE)
        self.settings = Settings()

    def only(self, name: str) -> str:
        [value] = self.unit[name]
        return value

    def test_systemd_is_told_and_tells(self) -> None:
        self.assertEqual(self.only("Type"), "notify")
        self.assertEqual(self.only("NotifyAccess"), "main")
        self.assertGreater(int(self.only("WatchdogSec")), 0)
        self.assertEqual(self.only("ExecReload"), "/bin/kill -HUP $MAINPID")

    def test_a_drain_is_not_killed(self) -> None:
        drain_s = self.settings.drain_deadline_s + FLUSH_GRACE_S + self.settings.stop_flush_timeout_s
        self.assertGreater(float(self.only("TimeoutStopSec")), drain_s + 4 * MARGIN_S)

    def test_there_are_file_descriptors_for_every_connection(self) -> None:
        self.assertGreater(int(self.only("LimitNOFILE")), 2 * self.settings.max_connections)

    def test_tls_works(self) -> None:
        """cffi's callbacks need memory that is written and then executed."""
        self.assertNotIn("MemoryDenyWriteExecute", self.unit)
        self.assertIn("MemoryDenyWriteExecute= is left off", SERVICE.read_text())

    def test_memory_is_bounded_above_the_daemons_own_bound(self) -> None:
        gibibytes = int(self.only("MemoryMax").removesuffix("G"))
        self.assertGreater(gibibytes * 2**30, 4 * self.settings.publish_buffer_bytes)

    def test_sessions_are_kept_where_the_service_may_write(self) -> None:
        """The file system is read-only, and the default is a file in the working directory."""
        self.assertEqual(self.only("ProtectSystem"), "strict")
        self.assertEqual(self.only("WorkingDirectory"), f"%S/{self.only('StateDirectory')}")
        self.assertEqual(self.only("StateDirectoryMode"), "0700")
        url = self.settings.database_url.get_secret_value()
        self.assertRegex(url, r"^sqlite:///[a-z]+\.db$")

    def test_every_credential_that_is_suggested_has_its_setting(self) -> None:
        text = SERVICE.read_text()
        suggested = set(re.findall(r"^# LoadCredential=(\w+):", text, re.MULTILINE))
        self.assertGreaterEqual(suggested, {"jwt_secret", "registration_secret", "database_url"})
        for name in suggested - {"tls_key", "tls_cert"}:
            self.assertIn(f"{name}_file", Settings.model_fields)
            self.assertRegex(text, rf"(?m)^# Environment=.*\b{name.upper()}_FILE=%d/{name}\b")

    def test_sockets_of_grpc_and_of_a_database_can_be_made(self) -> None:
        self.assertEqual(self.only("RestrictAddressFamilies").split(), ["AF_INET", "AF_INET6", "AF_UNIX"])

    def test_every_variable_is_a_setting(self) -> None:
        names = {pair.partition("=")[0] for line in self.unit["Environment"] for pair in line.split()}
        unknown = {name for name in names - FOREIGN if name.lower() not in Settings.model_fields}
        self.assertEqual(unknown, set())

    def test_secrets_are_credentials(self) -> None:
        given = {line.partition(":")[0] for line in self.unit["LoadCredential"]}
        pairs = [pair.partition("=") for line in self.unit["Environment"] for pair in line.split()]
        files = {name: value for name, _, value in pairs if name.endswith("_FILE")}
        # Public, and read again on reload, which a credential, copied once, is not.
        self.assertEqual(files.pop("JWT_PUBLIC_KEY_FILE"), "/etc/voiceingest/jwt_public_key.pem")
        self.assertEqual({value.removeprefix("%d/") for value in files.values()}, given)
        for name, _, _ in pairs:
            field = Settings.model_fields.get(name.lower())
            extra = field.json_schema_extra if field is not None else None
            self.assertFalse(isinstance(extra, dict) and extra.get("secret"), f"{name} is in the clear")


class SocketUnitTests(SynchronousTestCase):
    def test_the_accept_queue_is_as_long_as_our_own(self) -> None:
        self.assertEqual(directives(SOCKET)["Backlog"], [str(LISTEN_BACKLOG_COUNT)])

    def test_the_name_is_the_one_the_description_uses(self) -> None:
        [name] = directives(SOCKET)["FileDescriptorName"]
        self.assertIn(f"tls+systemd:domain=INET6:name={name}", SOCKET.read_text())
