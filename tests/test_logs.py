"""Logs: any event is exactly one line of JSON, and a secret is in none."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import InvalidLogLevelError, LogEvent, Logger, LogLevel, LogPublisher
from twisted.logger._legacy import publishToNewObserver
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.logs import (
    FIELDS_MAX_COUNT,
    RETRY_S,
    TEXT_MAX_CHARS,
    TRACEBACK_MAX_CHARS,
    JsonLog,
    StdlibHandler,
    attach_stdlib,
)
from voiceingest.metrics import Metrics
from voiceingest.redact import TEXT_MAX_CHARS as REDACT_MAX_CHARS
from voiceingest.redact import redact, redact_id

NOON = 1_795_176_000.25  # 2026-11-20T12:00:00.250Z

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
NUMBER = "+919812345678"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIcanary\nabc\n-----END PRIVATE KEY-----"


class Stream:
    """A file that can be made to fail."""

    def __init__(self) -> None:
        self.text = ""
        self.error: Exception | None = None
        self.tries = 0

    def write(self, text: str, /) -> None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.text += text

    def flush(self) -> None:
        pass

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


class Case(SynchronousTestCase):
    """With an observer over a stream, and a clock."""

    def setUp(self) -> None:
        self.now = NOON
        self.stream = Stream()
        self.metrics = Metrics()
        self.observer = JsonLog(
            self.stream, self.metrics, lambda: self.now, service="svc", environment="test", level="debug"
        )
        self.own = Logger("voiceingest.part", observer=LogPublisher(self.observer))
        self.library = Logger("twisted.web.http", observer=LogPublisher(self.observer))

    def line(self) -> dict[str, Any]:
        lines = self.stream.lines()
        self.assertEqual(len(lines), 1)
        return lines[0]


class Lines(Case):
    """What stands in a line."""

    def test_an_event_of_ours(self) -> None:
        self.observer(
            {
                "log_time": NOON,
                "log_level": LogLevel.warn,
                "log_namespace": "voiceingest.part",
                "log_format": "{count} frames",
                "event": "frames_dropped",
                "count": 3,
                "request_id": "abc",
                "ratio": 0.5,
                "yes": True,
                "none": None,
            }
        )
        self.assertEqual(
            self.line(),
            {
                "time": "2026-11-20T12:00:00.250Z",
                "level": "warn",
                "event": "frames_dropped",
                "message": "3 frames",
                "logger": "voiceingest.part",
                "service": "svc",
                "environment": "test",
                "request_id": "abc",
                "count": 3,
                "ratio": 0.5,
                "yes": True,
                "none": None,
            },
        )

    def test_the_time_of_an_event(self) -> None:
        """To the millisecond, across seconds and years; where it says none, that of the clock."""
        times: dict[object, str] = {
            0.0: "1970-01-01T00:00:00.000Z",
            NOON + 0.7499: "2026-11-20T12:00:00.999Z",
            NOON + 0.75: "2026-11-20T12:00:01.000Z",
            NOON + 0.009: "2026-11-20T12:00:00.259Z",
            -0.5: "1969-12-31T23:59:59.500Z",
            253_402_300_799.5: "9999-12-31T23:59:59.500Z",
            float("nan"): "2026-11-20T12:00:00.250Z",
            1e300: "2026-11-20T12:00:00.250Z",
            "soon": "2026-11-20T12:00:00.250Z",
        }
        for when in times:
            self.observer({"log_namespace": "voiceingest.part", "log_time": when})
        self.assertEqual([line["time"] for line in self.stream.lines()], list(times.values()))

    def test_of_a_library_only_the_message(self) -> None:
        self.library.info("serving {what}", what="things", secret_thing="canary")
        line = self.line()
        self.assertEqual(line["event"], "twisted.web.http")
        self.assertEqual(line["message"], "serving things")
        self.assertNotIn("what", line)

    def test_nothing_of_a_library_below_info(self) -> None:
        self.library.debug("octets: {x}", x="canary")
        self.assertEqual(self.stream.text, "")

    def test_a_namespace_that_only_begins_like_ours_is_not_ours(self) -> None:
        Logger("voiceingest_x", observer=LogPublisher(self.observer)).info("hello", field=1)
        self.assertNotIn("field", self.line())

    def test_a_failure(self) -> None:
        try:
            raise ValueError(f"cannot use {TOKEN}")
        except ValueError:
            self.own.failure("it broke", event="it_broke")
        line = self.line()
        self.assertEqual((line["exc_type"], line["level"]), ("builtins.ValueError", "critical"))
        self.assertEqual(line["exc"], "cannot use [redacted]")
        self.assertIn("test_logs.py", line["traceback"])

    def test_log_msg_and_log_err(self) -> None:
        publisher = legacy.LogPublisher()
        publisher.addObserver(
            lambda event: publishToNewObserver(self.observer, dict(event), legacy.textFromEventDict)
        )
        publisher.msg("old", "style", system="x")
        publisher.msg(failure=Failure(KeyError("k")), why="broke", isError=1)
        first, second = self.stream.lines()
        self.assertEqual(
            (first["message"], first["event"], first["level"]), ("old style", "log_legacy", "info")
        )
        self.assertEqual((second["message"], second["exc_type"]), ("broke", "builtins.KeyError"))

    def test_stdlib_logging(self) -> None:
        logger = logging.getLogger("voiceingest-test")
        handler = StdlibHandler(self.observer)
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        logger.warning("slow callback %s", NUMBER)
        try:
            1 // 0  # noqa: B018
        except ZeroDivisionError:
            logger.exception("broke")
        logger.error("wrong %d", "arguments")
        slow, broke, wrong = self.stream.lines()
        self.assertEqual((slow["message"], slow["level"]), ("slow callback [number]", "warn"))
        self.assertEqual((broke["exc_type"], broke["level"]), ("builtins.ZeroDivisionError", "error"))
        self.assertEqual(wrong["message"], "a log record could not be formatted")

    def test_attaching_to_stdlib_logging_can_be_undone(self) -> None:
        root = logging.getLogger()
        before = (root.level, list(root.handlers))
        detach = attach_stdlib(self.observer)
        logging.getLogger("some.library").info("hello")
        detach()
        self.assertEqual(self.line()["logger"], "some.library")
        self.assertEqual((root.level, root.handlers), before)

    def test_the_level_can_be_changed(self) -> None:
        self.observer.set_level("error")
        self.own.warn("no")
        self.observer.set_level("info")
        self.own.debug("no")
        self.own.info("yes")
        self.assertEqual(self.line()["message"], "yes")
        with self.assertRaises(InvalidLogLevelError):
            self.observer.set_level("loud")

    def test_our_names_cannot_be_taken_by_fields(self) -> None:
        self.own.info("x", event="e", service="forged", time="forged", logger="forged", exc="forged")
        self.assertNotIn("forged", self.stream.text)


class Forgery(Case):
    """Control characters of a peer cannot begin a line or move a terminal's cursor."""

    def test_control_characters_are_escaped(self) -> None:
        evil = '\r\n{"level":"critical"}\x1b[2J\x00\x7f\x85\u2028\ud800'
        self.own.info("from {peer}", peer=evil, event="e", request_id=evil)
        self.assertEqual(self.stream.text.count("\n"), 1)
        self.assertTrue(self.stream.text.rstrip("\n").isprintable() and self.stream.text.isascii())
        self.assertEqual(self.line()["peer"], evil)

    def test_fields_are_bounded(self) -> None:
        fields = {f"field_{n}": "x" * 10_000 for n in range(100)}
        self.own.info("y" * 10_000, event="e", **fields)
        line = self.line()
        self.assertEqual(len(line["message"]), TEXT_MAX_CHARS)
        self.assertEqual(len([name for name in line if name.startswith("field_")]), FIELDS_MAX_COUNT)
        self.assertEqual(len(line["field_0"]), TEXT_MAX_CHARS)

    def test_a_traceback_is_bounded(self) -> None:
        try:
            raise ValueError("z " * 20_000)
        except ValueError:
            self.own.failure("it broke", event="it_broke")
        self.assertLessEqual(len(self.line()["traceback"]), TRACEBACK_MAX_CHARS)

    def test_values_json_has_no_word_for(self) -> None:
        self.own.info(
            "x", event="e", nan=float("nan"), big=10**5000, bytes=b"\0" * 9, list=[1], obj=Unprintable()
        )
        line = self.line()
        self.assertEqual(line["nan"], "nan")
        self.assertEqual((line["big"], line["bytes"]), ("<large integer>", "<9 bytes>"))
        self.assertEqual((line["list"], line["obj"]), ("[1]", "<Unprintable>"))

    def test_an_event_that_cannot_be_formatted_does_not_print_itself(self) -> None:
        self.own.info("{missing}", event="e", thing="canary")
        self.own.info("{thing}", event="e", thing=Unprintable())
        self.assertEqual(
            [line["message"] for line in self.stream.lines()], ["an event could not be formatted"] * 2
        )

    @given(
        st.dictionaries(
            st.sampled_from(
                [
                    "log_level",
                    "log_time",
                    "log_namespace",
                    "log_format",
                    "log_failure",
                    "event",
                    "request_id",
                    "a",
                    "b",
                    "token",
                    "message",
                    "failure",
                    "log_legacy",
                    "why",
                ]
            ),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(),
                st.binary(),
                st.lists(st.text()),
                st.just(Failure(ValueError("x"))),
            ),
        ),
        st.sampled_from(["voiceingest", "voiceingest.x", "twisted", None]),
    )
    def test_any_event_is_one_line_or_none(self, event: LogEvent, namespace: str | None) -> None:
        stream = Stream()
        observer = JsonLog(stream, self.metrics, lambda: NOON, level="debug")
        observer({**event, "log_level": LogLevel.error, "log_namespace": namespace})
        self.assertEqual(stream.text.count("\n"), 1)
        self.assertTrue(stream.text.isascii())
        line = json.loads(stream.text, parse_constant=self.fail)
        always = {"time", "level", "event", "message", "logger", "service", "environment"}
        self.assertLessEqual(always, set(line))


class Unprintable:
    """Its text raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Failing(Case):
    """A log that cannot be written."""

    def test_counted_and_not_raised(self) -> None:
        for error in (OSError(28, "No space left"), BrokenPipeError(), ValueError("closed")):
            self.stream.error = error
            before = self.metrics.log_errors
            self.own.info("lost", event="e")
            self.assertEqual(self.metrics.log_errors, before + 1)
            self.now += RETRY_S

    def test_the_next_try_waits(self) -> None:
        self.stream.error = OSError()
        for _ in range(100):
            self.own.info("lost", event="e")
        self.assertEqual((self.stream.tries, self.metrics.log_errors), (1, 100))

    def test_it_goes_on_when_it_can(self) -> None:
        self.stream.error = OSError()
        self.own.info("lost", event="e")
        self.stream.error = None
        self.now += RETRY_S
        self.own.info("back", event="e")
        self.assertEqual(self.line()["message"], "back")

    def test_a_clock_that_is_set_back_does_not_silence_it(self) -> None:
        self.stream.error = OSError()
        self.own.info("lost", event="e")
        self.stream.error = None
        self.now -= 3600
        self.own.info("back", event="e")
        self.assertEqual(self.line()["message"], "back")


class Canaries(Case):
    """Secrets in every disguise, in our events, a library's, an exception's."""

    SECRETS = (
        (f"Authorization: Bearer {TOKEN}", "eyJ"),
        ("authorization: Basic Y2FuYXJ5", "Y2FuYXJ5"),
        ("{'Authorization': ['Bearer canarysecret']}", "canary"),
        ("Sec-WebSocket-Protocol: voice.v1, bearer.canary", "canary"),
        ("said Bearer canary-token", "canary"),
        (f"offered bearer.{TOKEN}", "eyJ"),
        (f"token {TOKEN} refused", "eyJ"),
        ("redis://user:canary@host:6379/0", "canary"),
        ("redis://:can@ary@host", "ary"),
        ("GET /v1/ingest?ticket=canary HTTP/1.1", "canary"),
        ("see https://host/path?a=1&canary=2 there", "canary"),
        (PEM, "canary"),
        (PEM.replace("\n", "\\n"), "canary"),
        ("-----BEGIN RSA PRIVATE KEY-----\ncanary", "canary"),
        (f"call to {NUMBER} failed", "98123"),
        ("call to 919812345678 failed", "98123"),
        ("call to +91 98123 45678 failed", "98123"),
        ("password=canary user=me", "canary"),
        ("{'db_password': 'canary'}", "canary"),
        ('{"token": "canary"}', "canary"),
        ("jwt_token = canary", "canary"),
    )

    def test_messages_fields_and_exceptions(self) -> None:
        for secret, canary in self.SECRETS:
            self.own.info("{text}", event="e", text=secret)
            self.library.info("{text}", text=secret)
            self.observer(
                {"log_namespace": "x", "log_text": secret, "log_format": "{log_text}", "event": secret}
            )
            try:
                raise ValueError(secret)
            except ValueError:
                self.own.failure("broke", event="e")
            self.assertNotIn(canary, self.stream.text, secret)
        self.assertEqual(len(self.stream.lines()), 4 * len(self.SECRETS))

    def test_fields_whose_name_says_it(self) -> None:
        self.own.info(
            "x", event="e", token="canary", admin_password="canary", audio=b"canary", payload="canary"
        )
        self.assertNotIn("canary", self.stream.text)

    def test_numbers_in_such_fields_stay(self) -> None:
        self.own.info("x", event="e", tickets=3, audio_bytes=960)
        self.assertEqual((self.line()["tickets"], self.line()["audio_bytes"]), (3, 960))

    def test_prose_and_ids_stay(self) -> None:
        for text in (
            "A valid bearer token is required",
            "listening on tcp:8443",
            "what? nothing",
            "10.0.0.1:51234",
            "call-id 3f2a-77",
            "GET /v1/ingest HTTP/1.1",
            "took 12.345678 s",
            "http://host:80/path",
        ):
            self.assertEqual(redact(text), text)
        for identifier in ("0f8fad5b-d9cb-469f-a165-70867728950e", "a1234567890123456b", "req_42"):
            self.assertEqual(redact_id(identifier), identifier)
        self.assertEqual(redact_id("919812345678"), "[number]")

    def test_a_secret_cut_in_two_is_cut_away(self) -> None:
        text = "x " * (REDACT_MAX_CHARS // 2 - 10) + "redis://user:canarycanarycanarycanary@host"
        self.assertNotIn("canary", redact(text))
        self.assertEqual(redact("a" * 2 * REDACT_MAX_CHARS), "[redacted]")
        self.assertEqual(redact(" " * 2 * REDACT_MAX_CHARS), "")

    def test_texts_made_to_be_slow_are_not(self) -> None:
        # Linear patterns take some milliseconds for each; a quadratic one takes many seconds.
        for piece in (
            "x",
            "a ",
            "://",
            "token",
            "token ",
            "bearer ",
            "bearer.",
            "+1",
            "eyJ",
            "eyJa.",
            "?",
            "a?",
            "-----BEGIN A-----",
            "authorization",
            "'token':'",
            "token=",
            "9 ",
            "cookie" + " " * 9,
        ):
            started = time.process_time()
            redact(piece * (REDACT_MAX_CHARS // len(piece)))
            self.assertLess(time.process_time() - started, 1.0, piece)
