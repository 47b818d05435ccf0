"""Messages between processes, without a Redis: what is one, what is heard, what waits."""

from __future__ import annotations

import json

from tests.support.case import TestCase
from voiceingest.aio import as_deferred
from voiceingest.metrics import Metrics
from voiceingest.session_interfaces import IControlBus
from voiceingest.sessions.bus import QUEUE_MAX_COUNT, Listeners, NoBus, RedisControlBus


def message(**changes: object) -> bytes:
    """One as another process writes it."""
    said = {"kind": "session_ended", "subject": "ses_1", "node": "other", **changes}
    return json.dumps(said).encode()


class ListenerTests(TestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()
        self.listeners = Listeners(self.metrics)
        self.heard: list[tuple[str, str]] = []
        self.listeners.add("session_ended", lambda subject: self.heard.append(("ended", subject)))
        self.listeners.add("device_revoked", lambda subject: self.heard.append(("revoked", subject)))

    def test_each_hears_its_kind(self) -> None:
        self.listeners.hear(message(), "me")
        self.listeners.hear(message(kind="device_revoked", subject="usr_1"), "me")
        self.listeners.hear(message(kind="family_revoked"), "me")
        self.assertEqual(self.heard, [("ended", "ses_1"), ("revoked", "usr_1")])
        counted = {"session_ended": 1, "device_revoked": 1, "family_revoked": 1}
        self.assertEqual(dict(self.metrics.control_messages), counted)

    def test_what_one_says_oneself_is_no_news(self) -> None:
        self.listeners.hear(message(node="me"), "me")
        self.assertEqual((self.heard, dict(self.metrics.control_messages)), ([], {}))

    def test_what_is_no_message_of_ours(self) -> None:
        wrong = [
            *(b"", b"{", b"[]", b"3", b"\xff", b"null", b"{}", message(kind="reboot"), message(kind=None)),
            *(message(subject=1), message(subject="x" * 129), message(node=None), message(pad="x" * 2000)),
            *(message(kind=["session_ended"]), b"[" * 1024),
        ]
        for each in wrong:
            self.listeners.hear(each, "me")
        self.assertEqual(self.heard, [])
        self.assertEqual(dict(self.metrics.control_messages), {"foreign": len(wrong)})

    def test_one_that_fails_keeps_nothing_from_the_others(self) -> None:
        self.listeners.add("family_revoked", lambda subject: 1 // 0)
        self.listeners.add("family_revoked", lambda subject: self.heard.append(("family", subject)))
        self.listeners.hear(message(kind="family_revoked"), "me")
        self.assertEqual(self.heard, [("family", "ses_1")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class BusTests(TestCase):
    async def test_without_redis(self) -> None:
        bus = NoBus()
        seam: IControlBus = bus
        seam.listen("session_ended", self.fail)
        bus.start()
        seam.tell("session_ended", "ses_1")
        await as_deferred(bus.stop())

    def test_what_waits_is_bounded(self) -> None:
        metrics = Metrics()
        bus = RedisControlBus("redis://localhost:1", "me", metrics)
        for number in range(QUEUE_MAX_COUNT + 7):
            bus.tell("session_ended", str(number))
        self.assertEqual(len(bus._waiting), QUEUE_MAX_COUNT)
        self.assertEqual(json.loads(bus._waiting[0])["subject"], "7")
        self.assertEqual(dict(metrics.control_messages), {"dropped": 7})
