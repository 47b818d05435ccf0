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
        return CliRunner(env={"PORT": "", "REDIS_URL": "", **environ}).invoke(
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
