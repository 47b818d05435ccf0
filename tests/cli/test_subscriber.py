from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol

from tests.support.case import SynchronousTestCase
from tests.support.servers import RedisServer, TlsFiles, tls_supported
from voiceingest.cli import reading
from voiceingest.cli import subscriber as subscriber_module
from voiceingest.cli.failures import CommandFailed, ConnectionFailed, Exit
from voiceingest.cli.running import Interrupt
from voiceingest.cli.subscriber import Subscriber, pattern_of
from voiceingest.cli.target import Trust
from voiceingest.publishers.redis_url import parse_redis_url

from .program import ProgramCase, coroutine


class PatternTests(SynchronousTestCase):
    def test_table(self) -> None:
        for template, tenant, interaction, expected in (
            ("audio:frames", None, None, ("audio:frames", False)),
            ("audio:frames", "acme", None, ("audio:frames", False)),
            ("audio:frames:{tenant_id}", None, None, ("audio:frames:*", True)),
            ("audio:frames:{tenant_id}", "acme", None, ("audio:frames:acme", False)),
            ("a:{tenant_id}:{interaction_id}", "acme", None, ("a:acme:*", True)),
            ("a:{tenant_id}:{interaction_id}", "a:b", "c%", ("a:a%3Ab:c%25", False)),
            ("a[1]?*:{tenant_id}", None, None, (r"a\[1\]\?\*:*", True)),
            ("a:{tenant_id}:{interaction_id}", "x*", None, (r"a:x\*:*", True)),
        ):
            self.assertEqual(pattern_of(template, tenant, interaction), expected)


class SubscriberCase(ProgramCase):
    def subscriber(
        self, url: str, *channels: tuple[str, bool], trust: Trust | None = None
    ) -> tuple[Subscriber, list[tuple[bytes, bytes]], list[str]]:
        from twisted.internet import reactor

        self.reactor = reactor
        received: list[tuple[bytes, bytes]] = []
        said: list[str] = []
        subscriber = Subscriber(
            reactor,
            parse_redis_url(url),
            list(channels) or [("frames", False)],
            lambda channel, payload: received.append((channel, payload)),
            trust or Trust(),
            said.append,
        )
        self.addCleanup(subscriber.stop)
        return subscriber, received, said

    async def publish(self, url: str, channel: str, payload: bytes) -> int:
        """Publish on a connection of its own; returns how many heard it."""
        import redis

        # A blocking client on the loopback: the server answers within a millisecond.
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            return int(client.publish(channel, payload))

    async def publish_until_heard(self, url: str, channel: str, payload: bytes) -> None:
        from twisted.internet.task import deferLater

        for _ in range(600):
            if await self.publish(url, channel, payload):
                return
            await deferLater(self.reactor, 0.05)
        raise AssertionError("nobody listens")

    async def failure(self, subscriber: Subscriber) -> CommandFailed:
        try:
            await subscriber.follow(Interrupt())
        except CommandFailed as failed:
            return failed
        raise AssertionError("it did not fail")


class FollowTests(SubscriberCase):
    @coroutine
    async def test_channels_and_patterns_byte_for_byte(self: Any) -> None:
        from twisted.internet.defer import ensureDeferred
        from twisted.internet.task import deferLater

        server = RedisServer(self, password="pass w/ord")
        url = server.url("default", "pass%20w%2Ford", db=2)
        subscriber, received, said = self.subscriber(url, ("frames", False), ("tenant:*", True))
        following = ensureDeferred(subscriber.follow(Interrupt()))
        await self.publish_until_heard(url, "frames", b"")
        await self.publish_until_heard(url, "tenant:a", bytes(range(256)))
        while len(received) < 2:
            await deferLater(self.reactor, 0.01)
        subscriber.stop()
        await following
        self.assertEqual(received, [(b"frames", b""), (b"tenant:a", bytes(range(256)))])
        self.assertEqual(said, [])

    @coroutine
    async def test_a_connection_that_breaks_is_made_again_and_it_is_said(self: Any) -> None:
        from twisted.internet.defer import ensureDeferred

        self.patch(reading, "RETRY_FIRST_S", 0.05)
        server = RedisServer(self)
        subscriber, received, said = self.subscriber(server.url())
        interrupt = Interrupt()
        following = ensureDeferred(subscriber.follow(interrupt))
        await self.publish_until_heard(server.url(), "frames", b"one")
        server.restart()
        await self.publish_until_heard(server.url(), "frames", b"two")
        from twisted.internet.task import deferLater

        while len(received) < 2:
            await deferLater(self.reactor, 0.01)
        interrupt.ask()
        await following
        self.assertEqual([payload for _, payload in received], [b"one", b"two"])
        self.assertEqual(subscriber.reconnects, 1)
        self.assertIn("messages may be missing", said[0])

    @coroutine
    async def test_an_interrupt_ends_the_wait_between_two_attempts(self: Any) -> None:
        from twisted.internet.defer import ensureDeferred
        from twisted.internet.task import deferLater

        self.patch(reading, "RETRY_FIRST_S", 30.0)
        server = RedisServer(self)
        subscriber, _, said = self.subscriber(server.url())
        interrupt = Interrupt()
        following = ensureDeferred(subscriber.follow(interrupt))
        await self.publish_until_heard(server.url(), "frames", b"one")
        server.kill()
        while not said:
            await deferLater(self.reactor, 0.01)
        interrupt.ask()
        await following
        self.assertEqual(subscriber.reconnects, 1)


class NoRedis(Protocol):
    """Answers as a web server does."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.transport.loseConnection()


class RefusalTests(SubscriberCase):
    @coroutine
    async def test_not_let_in(self: Any) -> None:
        everybody = "user default on >pass ~* &* +@all"
        server = RedisServer(self, acl=[everybody, "user narrow on >pass ~* +@all resetchannels &other"])
        for url, words in (
            (server.url(), "wants a password"),
            (server.url("default", "canary"), "refuses the password"),
            (server.url("default", "pass", db=99), "refuses the database"),
            (server.url("narrow", "pass"), "does not let us subscribe"),
        ):
            failed = await self.failure(self.subscriber(url)[0])
            self.assertEqual(failed.exit_code, Exit.REFUSED)
            self.assertIn(words, failed.message)
            self.assertNotIn("canary", failed.message + str(failed.hint))

    @coroutine
    async def test_something_else_that_listens_there(self: Any) -> None:
        from twisted.internet import reactor

        port: Any = reactor.listenTCP(0, Factory.forProtocol(NoRedis), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        subscriber, _, _ = self.subscriber(f"redis://127.0.0.1:{port.getHost().port}")
        failed = await self.failure(subscriber)
        self.assertEqual(failed.exit_code, Exit.REFUSED)
        self.assertIn("does not speak as Redis does", failed.message)
        self.assertEqual(self.flushLoggedErrors(), [])

    @coroutine
    async def test_nobody_there(self: Any) -> None:
        server = RedisServer(self)
        server.kill()
        failed = await self.failure(self.subscriber(server.url())[0])
        self.assertIsInstance(failed, ConnectionFailed)
        self.assertEqual(failed.exit_code, Exit.NO_CONNECTION)

    @coroutine
    async def test_a_server_that_is_frozen_is_not_waited_for_without_end(self: Any) -> None:
        self.patch(subscriber_module, "CONNECT_TIMEOUT_S", 0.2)
        server = RedisServer(self, password="pass")
        server.freeze()
        self.addCleanup(server.thaw)
        for url in (server.url(), server.url("default", "pass"), server.url().replace("redis:", "rediss:")):
            failed: Any = await self.failure(self.subscriber(url)[0])
            self.assertEqual((failed.exit_code, failed.reason), (Exit.NO_CONNECTION, "timeout"))

    @coroutine
    async def test_over_a_unix_socket(self: Any) -> None:
        from twisted.internet.defer import ensureDeferred

        server = RedisServer(self)
        url = f"unix://{server.socket_path}"
        subscriber, _, _ = self.subscriber(url)
        following = ensureDeferred(subscriber.follow(Interrupt()))
        await self.publish_until_heard(server.url(), "frames", b"one")
        subscriber.stop()
        await following
        self.assertEqual(subscriber.label, str(server.socket_path))


class TlsTests(SubscriberCase):
    if not tls_supported():
        skip = "the Redis server there is cannot speak TLS"

    @coroutine
    async def test_trusted_or_not(self: Any) -> None:
        from twisted.internet.defer import ensureDeferred

        files = TlsFiles(self.mktemp_path())
        server = RedisServer(self, tls=files)
        failed: Any = await self.failure(self.subscriber(server.url())[0])
        self.assertEqual(failed.reason, "tls_verify")
        for trust in (Trust(files.ca_path), Trust(insecure=True)):
            subscriber, _, _ = self.subscriber(server.url(), trust=trust)
            following = ensureDeferred(subscriber.follow(Interrupt()))
            await self.publish_until_heard(server.url() + "?ssl_cert_reqs=none", "frames", b"one")
            subscriber.stop()
            await following
