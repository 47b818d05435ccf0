from __future__ import annotations

from typing import Any, get_args

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.jetstream import JetStreamReader
from voiceingest.cli.readers import READERS, Wish, open_reader
from voiceingest.cli.redis_entries import EntryReader
from voiceingest.cli.subscriber import Subscriber
from voiceingest.cli.target import Trust
from voiceingest.config.settings import PublishScheme


class ReaderTableTests(SynchronousTestCase):
    def open(self, url: str, **fields: Any) -> tuple[Any, list[str]]:
        return open_reader(Clock(), Wish(url, **fields), lambda message: None, lambda text: None)

    def test_every_bus_the_daemon_has_can_be_read(self) -> None:
        self.assertEqual(set(READERS) | {"memory"}, set(get_args(PublishScheme)))

    def test_kinds_and_names(self) -> None:
        for url, kind, names in (
            ("redis://h", Subscriber, ["audio:frames", "audio:events"]),
            ("unix:///run/redis.sock", Subscriber, ["audio:frames", "audio:events"]),
            ("redis+sentinel://a,b/mymaster", Subscriber, ["audio:frames", "audio:events"]),
            ("redis-streams://h", EntryReader, ["audio:frames", "audio:events"]),
            ("rediss-streams+sentinel://a,b/mymaster/1", EntryReader, ["audio:frames", "audio:events"]),
            ("nats://h", JetStreamReader, ["audio.frames", "audio.events"]),
        ):
            reader, found = self.open(url)
            self.assertIsInstance(reader, kind)
            self.assertEqual(found, names)

    def test_labels_hold_no_secret(self) -> None:
        for url in (
            "redis://user:canary@h",
            "redis-streams+sentinel://user:canary@a,b/mymaster",
            "nats://user:canary@h,i:99",
        ):
            reader, _ = self.open(url)
            self.assertNotIn("canary", reader.label)
            self.assertNotIn("canary", repr(Wish(url)))

    def test_one_channel_for_both(self) -> None:
        _, names = self.open("redis://h", channels=("x:{tenant_id}", "x:{tenant_id}"), tenant_id="a:b")
        self.assertEqual(names, ["x:a%3Ab"])

    def test_what_does_not_go_together(self) -> None:
        for url, fields, words in (
            ("redis://h", {"from_start": True}, "--from-start"),
            ("nats://h", {"trust": Trust(insecure=True)}, "--insecure"),
            ("rediss+sentinel://h/s", {"trust": Trust(insecure=True)}, "--insecure"),
            ("redis://user:canary#1@h", {}, "--url"),
            ("nats://user:canary#1@h", {}, "--url"),
            ("redis+sentinel://h", {}, "--url"),
        ):
            with self.assertRaises(UsageFailed) as caught:
                self.open(url, **fields)
            self.assertIn(words, caught.exception.message)
            self.assertNotIn("canary", caught.exception.message)
