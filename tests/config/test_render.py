"""Settings written down: nothing secret, nothing left out."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.config.test_settings import Secrets
from voiceingest.config import Settings, render
from voiceingest.config.load import load_settings

CANARY = "canary-7f3a"


class Dump(SynchronousTestCase):
    """The settings in force, for people and for ``check-config``."""

    def test_secrets_are_masked(self) -> None:
        secrets = [name for name in Settings.model_fields if render.is_secret(name)]
        self.assertEqual(set(secrets), set(Secrets.FIELDS))
        value = f"redis://{CANARY}-and-some-more-to-be-long-enough"
        database = {"database_url": value.replace("redis", "postgresql")}
        given = {**dict.fromkeys(secrets, value), **database, "exotel_ws_user": "u"}
        settings = load_settings(given, {}, None)
        shown = render.dump(settings)
        self.assertNotIn(CANARY, json.dumps(shown))
        self.assertEqual({shown[name] for name in secrets}, {render.MASK})

    def test_every_setting_is_there_as_plain_json(self) -> None:
        settings = load_settings(
            {"listen": "tcp:1,tcp:2", "ssl_key_path": "k", "ssl_cert_path": "c"}, {}, None
        )
        shown = render.dump(settings)
        self.assertEqual(set(json.loads(json.dumps(shown))), set(Settings.model_fields))
        self.assertEqual(
            (shown["listen"], shown["ssl_key_path"], shown["port"]), (["tcp:1", "tcp:2"], "k", 8443)
        )
        self.assertIsNone(shown["admin_token"])


class Flags(SynchronousTestCase):
    """Which settings have a flag."""

    def test_flags(self) -> None:
        expected = {
            "listen": "--port",
            "port": None,
            "admin_token": None,
            "log_level": "--log-level",
            "jwt_public_key_file": "--jwt-public-key-file",
            "redis_url": None,
        }
        self.assertEqual({name: render.flag_of(name) for name in expected}, expected)


class Pages(SynchronousTestCase):
    """The table and the default file."""

    def test_every_section_is_a_heading(self) -> None:
        page = render.markdown()
        for section in render.sections():
            self.assertIn(f"\n## {section}\n", page)

    def test_ranges_and_choices(self) -> None:
        page = render.markdown()
        self.assertIn("| `8443` | >= 1, <= 65535 |", page)
        self.assertIn("| `published` | `published`, `received` |", page)
        self.assertIn("| `5.0` | > 0, <= 30 |", page)

    def test_every_row_has_six_cells(self) -> None:
        rows = [line for line in render.markdown().splitlines() if line.startswith("| `")]
        self.assertEqual(len(rows), len(Settings.model_fields))
        for row in rows:
            self.assertEqual(row.replace("\\|", "").count("|"), 7, row)
