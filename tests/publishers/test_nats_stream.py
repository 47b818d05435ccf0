"""JetStream's answers in our words, and which stream will do."""

from __future__ import annotations

import asyncio
from typing import Any

from nats import errors as nats_errors
from nats.js import api
from nats.js import errors as js_errors

from tests.publishers.contract import until
from tests.publishers.fakes import make_settings
from tests.support.case import SynchronousTestCase, TestCase
from voiceingest.aio import as_deferred
from voiceingest.publishers.nats_link import BusRefusal
from voiceingest.publishers.nats_stream import _first_answer, ready_stream, stream_config, verdict_of


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


class ReadyTests(TestCase):
    async def ready(self, js: Any, **settings: Any) -> Any:
        return await as_deferred(ready_stream(js, make_settings(**settings)))

    async def refused(self, *answers: Any, **settings: Any) -> str:
        with self.assertRaises(BusRefusal) as caught:
            await self.ready(JetStream(*answers), **settings)
        return caught.exception.reason

    async def test_one_that_is_there_and_fits(self) -> None:
        js = JetStream(info(leader="n1"))
        self.assertEqual((await self.ready(js)).differences, ())
        self.assertEqual(js.asked, ["VOICEINGEST"])

    async def test_one_that_is_absent_is_made(self) -> None:
        js = JetStream(NOT_FOUND, info())
        self.assertEqual((await self.ready(js)).differences, ())
        made = js.asked[1]
        self.assertEqual((made.name, made.subjects), ("VOICEINGEST", ["audio.frames", "audio.events"]))
        self.assertEqual(made.storage, api.StorageType.FILE)
        self.assertEqual((made.max_age, made.max_bytes, made.duplicate_window), (3600.0, 1 << 30, 120.0))

    async def test_the_window_is_no_longer_than_the_age(self) -> None:
        config = stream_config(
            make_settings(nats_max_age_s=60.0, nats_subject="a.{tenant_id}", nats_replicas=3)
        )
        self.assertEqual((config.duplicate_window, config.num_replicas), (60.0, 3))
        self.assertEqual(config.subjects, ["a.*", "audio.events"])
        self.assertEqual(stream_config(make_settings(nats_subject="audio.events")).subjects, ["audio.events"])

    async def test_another_process_was_quicker(self) -> None:
        js = JetStream(NOT_FOUND, js_errors.BadRequestError(code=400, err_code=10058), info(max_age=5.0))
        self.assertEqual((await self.ready(js)).differences, ("max_age_s is 5.0, the settings say 3600.0",))

    async def test_differences_are_told(self) -> None:
        other = info(
            subjects=["audio.>"], num_replicas=3, storage="memory", duplicate_window=1.0, max_bytes=-1
        )
        self.assertEqual(
            (await self.ready(JetStream(other))).differences,
            (
                "storage is memory, the settings say file",
                "replicas is 3, the settings say 1",
                "max_bytes is -1, the settings say 1073741824",
                "duplicate_window_s is 1.0, the settings say 120.0",
            ),
        )

    async def test_what_makes_it_useless(self) -> None:
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
            self.assertEqual(await self.refused(*answers), reason, answers)

    async def test_a_template_needs_the_whole_pattern(self) -> None:
        template = "audio.frames.{tenant_id}"
        self.assertEqual(
            await self.refused(info(subjects=["audio.frames.acme", "audio.events"]), nats_subject=template),
            "subject",
        )
        fits = info(subjects=["audio.frames.*", "audio.events"])
        self.assertEqual((await self.ready(JetStream(fits), nats_subject=template)).differences, ())


class Silent:
    """A server whose JetStream has no leader: it leaves questions without an answer."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Any]] = []

    async def stream_info(self, name: str) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return await future


class AskingTests(TestCase):
    def ask(self) -> asyncio.Task[api.StreamInfo]:
        self.js = Silent()
        return asyncio.get_event_loop().create_task(_first_answer(lambda: self.js.stream_info("S"), 0.01))

    async def asked(self, count: int) -> None:
        await until(lambda: len(self.js.waiting) >= count, f"{count} questions")

    async def test_a_question_nobody_answers_is_put_again_and_the_first_answer_counts(self) -> None:
        for which in (0, 2):
            task = self.ask()
            await self.asked(3)
            self.js.waiting[which].set_result(info(leader="n2"))
            told = await as_deferred(_outcome(task))
            self.assertEqual(told.cluster.leader, "n2")
            # Nothing of it stays behind.
            self.assertTrue(all(one.done() for one in self.js.waiting))

    async def test_it_ends_when_the_first_question_has_waited_long_enough(self) -> None:
        task = self.ask()
        await self.asked(2)
        self.js.waiting[0].set_exception(nats_errors.TimeoutError())
        self.assertIsInstance(await as_deferred(_outcome(task)), nats_errors.TimeoutError)
        self.assertTrue(self.js.waiting[1].cancelled())

    async def test_several_that_fail_at_once_are_one_failure(self) -> None:
        task = self.ask()
        await self.asked(2)
        for one in self.js.waiting:
            one.set_exception(nats_errors.ConnectionClosedError())
        self.assertIsInstance(await as_deferred(_outcome(task)), nats_errors.ConnectionClosedError)

    async def test_given_up_it_asks_no_more(self) -> None:
        task = self.ask()
        await self.asked(2)
        task.cancel()
        self.assertIsInstance(await as_deferred(_outcome(task)), asyncio.CancelledError)
        self.assertTrue(all(one.cancelled() for one in self.js.waiting))


async def _outcome(task: asyncio.Task[Any]) -> Any:
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome
