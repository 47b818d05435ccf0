"""The command line of ``twistd voiceingest``."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

from twisted.python import usage
from twisted.python.logfile import LogFile

from tests.config.test_settings import Secrets
from voiceingest import tap
from voiceingest.config import Settings
from voiceingest.errors import OperatorError
from voiceingest.lifecycle import Daemon

from .support.case import SynchronousTestCase


def parse(*arguments: str) -> tap.Options:
    """The options that ``arguments`` make."""
    options = tap.Options()
    options.parseOptions(list(arguments))
    return options


class FlagsTests(SynchronousTestCase):
    def test_every_setting_that_is_no_secret_has_a_flag(self) -> None:
        flags = tap.flags()
        self.assertEqual(set(Settings.model_fields) - set(flags), {*Secrets.FIELDS, "port"})
        self.assertEqual(len(set(flags.values())), len(flags))

    def test_nothing_said_is_nothing_given(self) -> None:
        self.assertEqual(parse().given, {})

    def test_port_may_be_repeated(self) -> None:
        self.assertEqual(
            parse("--port", "tcp:1", "--port=ssl:2").given, {"listen": ("tcp:1", "ssl:2")}
        )

    def test_flags_are_keyed_by_setting(self) -> None:
        options = parse(
            "--drain-deadline-s", "5", "--admin=", "--allowed-origins", "https://a", "--allowed-origins=https://b",
            "--jwt-public-key-file", "/k",
        )
        self.assertEqual(options.given, {
            "drain_deadline_s": "5", "admin": "", "allowed_origins": ("https://a", "https://b"),
            "jwt_public_key_file": "/k",
        })

    def test_two_parsers_do_not_share_what_was_repeated(self) -> None:
        parse("--port", "tcp:1")
        self.assertEqual(parse("--port", "tcp:2").given, {"listen": ("tcp:2",)})

    def test_secrets_are_not_taken(self) -> None:
        for flag in ("--redis-url", "--admin-token", "--jwt-public-key", "--publish-url"):
            for arguments in ([flag, "hush"], [f"{flag}=hush"]):
                with self.assertRaises(usage.UsageError) as refused:
                    parse(*arguments)
                self.assertIn(f"use {flag}-file or ", str(refused.exception))
                self.assertNotIn("hush", str(refused.exception))

    def test_help_into_a_pipe_that_nobody_reads(self) -> None:
        with self.mktemp_path().open("w+") as file:

            class Closed(io.StringIO):
                def write(self, text: str) -> int:
                    raise BrokenPipeError

                def fileno(self) -> int:
                    return file.fileno()

            self.patch(sys, "stdout", Closed())
            with self.assertRaises(SystemExit) as caught:
                tap.Options().opt_help()
            self.assertEqual(caught.exception.code, 0)
            # What the interpreter would still flush goes nowhere.
            self.assertEqual(os.fstat(file.fileno()).st_rdev, Path(os.devnull).stat().st_rdev)

    def test_help_names_every_flag_and_its_default(self) -> None:
        text = str(tap.Options())
        for flag in tap.flags().values():
            self.assertIn(f"--{flag}=", text)
        self.assertIn("[default: 30.0]", text)
        self.assertIn("May be repeated.", text)
        self.assertIn("VOICEINGEST_CONFIG", text)
        self.assertIn("Examples:", text)
        self.assertTrue(text.startswith("Usage: twistd [options of twistd] voiceingest [options]"))


class LogTests(SynchronousTestCase):
    """Where the lines go is for twistd's own flags to say."""

    def setUp(self) -> None:
        import signal

        self.patch(signal, "signal", lambda number, handler: None)

    def test_foreground(self) -> None:
        for twistd in ({"nodaemon": 1}, {"nodaemon": 1, "logfile": "-"}, {"debug": True}):
            self.assertIs(tap.open_log(twistd), sys.stdout)

    def test_a_daemon_has_no_standard_output(self) -> None:
        with self.assertRaises(OperatorError):
            tap.open_log({"logfile": "-"})

    def test_log_file(self) -> None:
        path = self.mktemp_path()
        for foreground in (0, 1):
            log: Any = tap.open_log({"logfile": str(path), "nodaemon": foreground})
            self.assertIsInstance(log, LogFile)
            log.write("a line\n")
            log.close()
        self.assertEqual(path.read_text(), "a line\n" * 2)
        self.assertEqual((log.rotateLength, log.maxRotatedFiles), (tap.LOG_FILE_BYTES, tap.LOG_FILES_COUNT))

    def test_a_daemon_writes_twistd_log(self) -> None:
        before = Path.cwd()
        directory = self.mktemp_path()
        directory.mkdir()
        os.chdir(directory)
        self.addCleanup(os.chdir, before)
        tap.open_log({}).close()
        self.assertEqual([path.name for path in directory.iterdir()], ["twistd.log"])

    def test_a_log_file_that_cannot_be_written(self) -> None:
        with self.assertRaises(OperatorError) as refused:
            tap.open_log({"logfile": "/nowhere/at/all.log"})
        self.assertIn("/nowhere/at/all.log", refused.exception.message)

    def test_syslog(self) -> None:
        log = tap.open_log({"syslog": 1, "prefix": "voice"})
        lines: list[str] = []
        log._syslog = lines.append
        log.write('{"a": 1}\n')
        log.flush()
        self.assertEqual(lines, ['{"a": 1}'])


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        for name in [name for name in os.environ if name.lower() in Settings.model_fields]:
            self.patch(os, "environ", {key: value for key, value in os.environ.items() if key != name})

    def make(self, *arguments: str, **environ: str) -> Any:
        options = parse(*arguments)
        options.parent = {"nodaemon": 1}  # type: ignore[assignment]
        self.patch(os, "environ", {**os.environ, **environ})
        return tap.makeService(options)

    def test_a_daemon(self) -> None:
        self.assertIsInstance(self.make(PUBLISH_URL="memory://"), Daemon)

    def test_every_problem_on_a_line_and_no_traceback(self) -> None:
        with self.assertRaises(SystemExit) as refused:
            self.make("--ack-interval", "0", "--drain-deadline-s", "x", PUBLISH_URL="memory://")
        lines = str(refused.exception.code).splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[0].startswith("voiceingest: ack_interval"), lines)
        self.assertTrue(lines[1].startswith("voiceingest: drain_deadline_s"), lines)

    def test_the_settings_file_by_flag_or_variable(self) -> None:
        path = self.mktemp_path()
        path.write_text("colour = 'red'\n")
        for arguments, environ in ((["--config", str(path)], {}), ([], {"VOICEINGEST_CONFIG": str(path)})):
            with self.assertRaises(SystemExit) as refused:
                self.make(*arguments, **environ)
            self.assertIn("voiceingest: colour: there is no such setting", str(refused.exception.code))

    def test_other_problems_of_the_operator_in_one_line(self) -> None:
        with self.assertRaises(SystemExit) as refused:
            self.make("--ssl-key-path", "/nowhere/k", "--ssl-cert-path", "/nowhere/c", PUBLISH_URL="memory://")
        self.assertEqual(refused.exception.code, "voiceingest: /nowhere/k: No such file or directory")
