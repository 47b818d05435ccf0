from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tests.support.case import SynchronousTestCase
from voiceingest.cli.configcmd import check_config, default_config, summary, without_credentials
from voiceingest.config import Settings, render


class CheckConfigTests(SynchronousTestCase):
    def file(self, text: str) -> Path:
        path = self.mktemp_path().with_suffix(".toml")
        path.write_text(text)
        return path

    def run_it(self, *arguments: str | Path, **environ: str) -> Any:
        return CliRunner(env={"PORT": "", "REDIS_URL": "", "VOICEINGEST_CONFIG": "", **environ}).invoke(
            check_config, [*map(str, arguments)]
        )

    def test_ok_with_a_summary_and_no_secret(self) -> None:
        file = self.file('redis_url = "rediss://user:canary@redis.example.com:6380/2"\nport = 9000\n')
        result = self.run_it(file)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(result.stdout.startswith("ok\n"))
        self.assertIn("rediss://redis.example.com:6380/2", result.stdout)
        self.assertIn("tcp:9000", result.stdout)
        self.assertNotIn("canary", result.output)

    def test_every_problem_one_line_each(self) -> None:
        result = self.run_it(self.file("port = 0\nno_such = 1\nack_interval = 0\n"))
        self.assertEqual(result.exit_code, 1)
        lines = result.stdout.splitlines()
        self.assertEqual(len(lines), 3)
        for key in ("port", "no_such", "ack_interval"):
            self.assertTrue(any(line.startswith(f"{key}:") for line in lines), lines)

    def test_the_environment_counts(self) -> None:
        self.assertEqual(self.run_it(PORT="nonsense").exit_code, 1)

    def test_the_file_of_the_variable_unless_one_is_named(self) -> None:
        good, bad = self.file("port = 9000\n"), self.file("port = 0\n")
        by_variable = self.run_it(VOICEINGEST_CONFIG=str(good))
        self.assertEqual(by_variable.exit_code, 0, by_variable.output)
        self.assertIn("tcp:9000", by_variable.stdout)
        self.assertEqual(self.run_it(VOICEINGEST_CONFIG=str(bad)).exit_code, 1)
        self.assertEqual(self.run_it(good, VOICEINGEST_CONFIG=str(bad)).exit_code, 0)
        self.assertEqual(self.run_it(bad, VOICEINGEST_CONFIG=str(good)).exit_code, 1)

    def test_json(self) -> None:
        bad = json.loads(self.run_it(self.file("port = 0\n"), "--json").stdout)
        self.assertEqual((bad["ok"], len(bad["problems"])), (False, 1))
        good = json.loads(self.run_it("--json").stdout)
        self.assertEqual((good["ok"], good["summary"]["bus"]), (True, "redis://localhost:6379"))

    def test_a_file_that_is_not_there(self) -> None:
        result = self.run_it(self.mktemp_path())
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(len(result.stdout.splitlines()), 1)


class DefaultConfigTests(SynchronousTestCase):
    def test_it_is_the_rendered_file_and_passes_the_check(self) -> None:
        result = CliRunner().invoke(default_config, [])
        self.assertEqual((result.exit_code, result.stdout.strip()), (0, render.toml().strip()))
        path = self.mktemp_path().with_suffix(".toml")
        path.write_text(result.stdout)
        checked = CliRunner(env={"PORT": "", "REDIS_URL": ""}).invoke(check_config, [str(path)])
        self.assertEqual(checked.exit_code, 0, checked.output)

    def test_json_is_every_default_and_no_secret(self) -> None:
        result = CliRunner(env={"PORT": "9000"}).invoke(default_config, ["--json"])
        self.assertEqual((result.exit_code, result.stderr), (0, ""))
        self.assertEqual(len(result.stdout.splitlines()), 1)
        values = json.loads(result.stdout)
        self.assertEqual(list(values), list(Settings.model_fields))
        for name in values:
            if render.is_secret(name):
                self.assertIsNone(values[name], name)
        # What is left is settings again, and the same ones.
        given = {name: value for name, value in values.items() if value is not None}
        self.assertEqual(Settings.model_validate(given), Settings())
        self.assertEqual((values["port"], values["jwt_algorithms"]), (8443, ["RS256"]))


class SummaryTests(SynchronousTestCase):
    def test_where_the_key_comes_from(self) -> None:
        for values, words in (
            ({}, "none: every token is refused"),
            ({"jwt_public_key": "canary"}, "jwt_public_key"),
            ({"jwt_public_key": "canary", "jwt_public_key_file": "/k.pem"}, "/k.pem"),
            ({"jwt_jwks_url": "https://u:canary@id.example.com/jwks?canary"}, "https://id.example.com/jwks"),
        ):
            facts = summary(Settings.model_validate(values))
            self.assertEqual(facts["token key"], words)
            self.assertNotIn("canary", str(facts))

    def test_urls_without_credentials(self) -> None:
        for url, shown in (
            ("redis://u:p@h:1/2?x=y", "redis://h:1/2"),
            ("redis://:p@[::1]:6379", "redis://[::1]:6379"),
            ("unix://u:p@/run/redis.sock?db=1", "unix:///run/redis.sock"),
            ("redis://h:notaport", "redis://h"),
        ):
            self.assertEqual(without_credentials(url), shown)
