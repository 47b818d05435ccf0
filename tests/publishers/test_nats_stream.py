"""JetStream's answers in our words, and which stream will do."""

from __future__ import annotations

from typing import Any

from nats import errors as nats_errors
from nats.js import api
from nats.js import errors as js_errors
from twisted.internet.defer import Deferred

from tests.publishers.fakes import make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.publishers.nats_link import BusRefusal
from voiceingest.publishers.nats_stream import ready_stream, stream_config, verdict_of


class VerdictTests(SynchronousTestCase):
    def test_table(self) -> None:
        for answer, headers, expected in (
            (b"", b"NATS/1.0 503\r\n\r\n", ("noleader", False)),
            (b'{"error":{"code":503,"description":"node not leader"},"seq":0}', None, ("noleader", False)),
            (b'{"error":{"code":503,"err_code":10077},"stream":"S","seq":0}', None, ("full", False)),
            (b'{"error":{"code":503,"err_code":10023}}', None, ("resources", False)),
            (b'{"error":{"code":404,"err_code":10059}}', None, ("nostream", False)),
            (b'{"error":{"code":400,"err_code":10054}}', None, ("too_big", True)),
            (b'{"error":{"code":400,"err_code":1}}', None, ("jetstream", False)),
            (b'{"error":{}}', None, ("jetstream", False)),
            (b'{"error":7}', None, ("protocol", False)),
            (b'{"no":1}', None, ("protocol", False)),
            (b"[" * 100_000, None, ("protocol", False)),
            (b"", None, ("protocol", False)),
            (b"\xff", b"NATS/1.0 404\r\n\r\n", ("protocol", False)),
        ):
            self.assertEqual(verdict_of(answer, headers), expected, (answer[:60], headers))


class JetStream:
    """Answers as it is told: what ``stream_info`` and ``add_stream`` do, one after another."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    async def _answer(self, question: Any) -> Any:
        self.asked.append(question)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def stream_info(self, name: str) -> Any:
        return await self._answer(name)

    async def add_stream(self, config: api.StreamConfig) -> Any:
        return await self._answer(config)


def info(leader: str | None = None, **changes: Any) -> api.StreamInfo:
    config = stream_config(make_settings()).evolve(**changes)
    cluster = None if leader is None else api.ClusterInfo(leader=leader)
    return api.StreamInfo(config=config, state=api.StreamState(0, 0, 0, 0, 0, None, None, 0), cluster=cluster)


NOT_FOUND = js_errors.NotFoundError(code=404, err_code=10059)


class ReadyTests(SynchronousTestCase):
    def ready(self, js: JetStream, **settings: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(ready_stream(js, make_settings(**settings))))

    def refused(self, *answers: Any, **settings: Any) -> str:
        attempt = Deferred.fromCoroutine(ready_stream(JetStream(*answers), make_settings(**settings)))
        return self.failureResultOf(attempt, BusRefusal).value.reason

    def test_one_that_is_there_and_fits(self) -> None:
        js = JetStream(info(leader="n1"))
        self.assertEqual(self.ready(js).differences, ())
        self.assertEqual(js.asked, ["VOICEINGEST"])

    def test_one_that_is_absent_is_made(self) -> None:
        js = JetStream(NOT_FOUND, info())
        self.assertEqual(self.ready(js).differences, ())
        made = js.asked[1]
        self.assertEqual((made.name, made.subjects), ("VOICEINGEST", ["audio.frames", "audio.events"]))
        self.assertEqual(made.storage, api.StorageType.FILE)
        self.assertEqual((made.max_age, made.max_bytes, made.duplicate_window), (3600.0, 1 << 30, 120.0))

    def test_the_window_is_no_longer_than_the_age(self) -> None:
        config = stream_config(
            make_settings(nats_max_age_s=60.0, nats_subject="a.{tenant_id}", nats_replicas=3)
        )
        self.assertEqual((config.duplicate_window, config.num_replicas), (60.0, 3))
        self.assertEqual(config.subjects, ["a.*", "audio.events"])
        self.assertEqual(stream_config(make_settings(nats_subject="audio.events")).subjects, ["audio.events"])

    def test_another_process_was_quicker(self) -> None:
        js = JetStream(NOT_FOUND, js_errors.BadRequestError(code=400, err_code=10058), info(max_age=5.0))
        self.assertEqual(self.ready(js).differences, ("max_age_s is 5.0, the settings say 3600.0",))

    def test_differences_are_told(self) -> None:
        other = info(
            subjects=["audio.>"], num_replicas=3, storage="memory", duplicate_window=1.0, max_bytes=-1
        )
        self.assertEqual(
            self.ready(JetStream(other)).differences,
            (
                "storage is memory, the settings say file",
                "replicas is 3, the settings say 1",
                "max_bytes is -1, the settings say 1073741824",
                "duplicate_window_s is 1.0, the settings say 120.0",
            ),
        )

    def test_what_makes_it_useless(self) -> None:
        for reason, *answers in (
            ("subject", info(subjects=["audio.frames"])),
            ("subject", info(subjects=["audio.events", "calls.>"])),
            ("noleader", info(leader="")),
            ("noleader", nats_errors.TimeoutError()),
            ("nojetstream", js_errors.ServiceUnavailableError()),
            ("nojetstream", js_errors.ServiceUnavailableError(code=503, err_code=10039)),
            ("noleader", js_errors.ServiceUnavailableError(code=503, err_code=10008)),
            ("resources", NOT_FOUND, js_errors.ServerError(code=500, err_code=10047)),
            ("replicas", NOT_FOUND, js_errors.ServerError(code=500, err_code=10074)),
            ("subject", NOT_FOUND, js_errors.BadRequestError(code=400, err_code=10065)),
            ("jetstream", NOT_FOUND, js_errors.BadRequestError(code=400, err_code=10052)),
            ("jetstream", js_errors.NotFoundError(code=404, err_code=1)),
            ("noleader", ValueError("not JSON")),
        ):
            self.assertEqual(self.refused(*answers), reason, answers)

    def test_a_template_needs_the_whole_pattern(self) -> None:
        template = "audio.frames.{tenant_id}"
        self.assertEqual(
            self.refused(info(subjects=["audio.frames.acme", "audio.events"]), nats_subject=template),
            "subject",
        )
        fits = info(subjects=["audio.frames.*", "audio.events"])
        self.assertEqual(self.ready(JetStream(fits), nats_subject=template).differences, ())
