"""A whole ingest session with four libraries that are not ours, without and with TLS, up to Redis.

The wire is that of ``/v1/ingest``: 25 frames of 200 ms, an ``ack`` every ten, ``stopped`` with the
last number, close code 1000; and a refusal, 401, before the upgrade.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import shutil
import sys
from collections.abc import Generator
from typing import Any

import redis
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.interop.clients import session
from tests.support.case import TestCase
from tests.support.daemon import ROOT, Daemon
from tests.support.servers import RedisServer
from tests.support.tokens import Issuer

TENANT = "t1"
NODE = ROOT / "tests" / "interop" / "node"

Steps = Generator[Deferred[Any], Any, None]


def python_client(name: str) -> list[str]:
    """The command of a client that is written in Python."""
    return [sys.executable, "-m", f"tests.interop.clients.{name}_client"]


def node_client() -> list[str]:
    """The command of the client on npm's ``ws``. Raises: ``SkipTest`` when it cannot run."""
    node = shutil.which("node")
    if node is None:
        raise SkipTest("node is not installed")
    if not (NODE / "node_modules" / "ws").is_dir():
        raise SkipTest("npm's ws is not installed: run npm ci in tests/interop/node")
    return [node, str(NODE / "ws_client.js")]


@functools.cache
def one_issuer() -> Issuer:
    """One key for all tests: making it takes its time, and trial calls no ``setUpClass``."""
    return Issuer()


class InteropCase(TestCase):
    """Starts a daemon and runs a client against it."""

    def setUp(self) -> None:
        self.issuer = one_issuer()

    @inlineCallbacks
    def start_daemon(self, tls: bool = False, **settings: str) -> Generator[Deferred[Any], Any, Daemon]:
        """A daemon that believes ``issuer``, ready."""
        daemon = Daemon(self, {"JWT_PUBLIC_KEY": self.issuer.public_pem, **settings}, tls=tls)
        yield daemon.start()
        return daemon

    @inlineCallbacks
    def run_client(
        self, command: list[str], url: str, ca_path: str, interaction_id: str
    ) -> Generator[Deferred[Any], Any, None]:
        """Let a client have its session and its refusal, and check what it tells of them."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "WS_URL": url,
            "CA_PATH": ca_path,
            "JWT_TOKEN": self.issuer.token(TENANT),
            "TENANT_ID": TENANT,
            "INTERACTION_ID": interaction_id,
        }
        out, errors, code = yield getProcessOutputAndValue(command[0], command[1:], environment)
        self.assertEqual(code, 0, errors.decode(errors="replace")[-2000:])
        told = json.loads(out)
        self.assertEqual(told["started"]["interaction_id"], interaction_id)
        self.assertEqual(told["acks"], [10, 20])
        counts = {"seq": 25, "received": 25, "published": 25, "dropped": 0, "pending": 0}
        self.assertEqual({name: told["stopped"][name] for name in counts}, counts)
        self.assertEqual((told["close"], told["refused"]), (1000, 401))
        self.assertNotIn("error", told)


class MemoryTests(InteropCase):
    """Without a broker: the same session over plain TCP and over TLS."""

    @inlineCallbacks
    def session(self, command: list[str]) -> Steps:
        """Both sessions on one daemon, which then ends in order."""
        daemon = yield self.start_daemon(tls=True, PUBLISH_URL="memory://")
        yield self.run_client(command, daemon.ws_url("/v1/ingest"), "", "plain")
        yield self.run_client(command, daemon.wss_url("/v1/ingest"), str(daemon.ca_path), "encrypted")

    def test_npm_ws(self) -> Deferred[None]:
        return self.session(node_client())

    def test_websockets(self) -> Deferred[None]:
        return self.session(python_client("websockets"))

    def test_aiohttp(self) -> Deferred[None]:
        return self.session(python_client("aiohttp"))

    def test_websocat(self) -> Deferred[None]:
        return self.session(python_client("websocat"))


class RedisTests(InteropCase):
    """With a real broker: what a subscriber gets is what the client sent, byte for byte."""

    @inlineCallbacks
    def session(self, command: list[str]) -> Steps:
        """One session, seen from both of its ends."""
        server = RedisServer(self)
        consumer = redis.Redis(port=server.port, socket_timeout=30)
        self.addCleanup(consumer.close)
        subscription = consumer.pubsub(ignore_subscribe_messages=True)
        self.addCleanup(subscription.close)
        subscription.subscribe("audio:frames")
        subscription.get_message(timeout=5)
        daemon = yield self.start_daemon(REDIS_URL=server.url())
        yield self.run_client(command, daemon.ws_url("/v1/ingest"), "", "call-1")
        self.check_frames([next_message(subscription) for _ in range(session.FRAMES)])

    def check_frames(self, messages: list[bytes]) -> None:
        """Every frame, in order, with exactly the fields of the wire, in theirs."""
        fields = ["tenant_id", "interaction_id", "seq", "timestamp_ms", "sample_rate", "encoding", "audio"]
        for seq, message in enumerate(messages, 1):
            told = json.loads(message)
            self.assertEqual(list(told), fields)
            self.assertEqual((told["tenant_id"], told["interaction_id"]), (TENANT, "call-1"))
            self.assertEqual(told["seq"], seq)
            self.assertEqual((told["sample_rate"], told["encoding"]), (24000, "pcm16"))
            self.assertEqual(base64.b64decode(told["audio"], validate=True), session.frame(seq))

    def test_npm_ws(self) -> Deferred[None]:
        return self.session(node_client())

    def test_websockets(self) -> Deferred[None]:
        return self.session(python_client("websockets"))

    def test_aiohttp(self) -> Deferred[None]:
        return self.session(python_client("aiohttp"))

    def test_websocat(self) -> Deferred[None]:
        return self.session(python_client("websocat"))


def next_message(subscription: Any) -> bytes:
    """The next message, which the broker has already sent."""
    message = subscription.get_message(timeout=30)
    assert message is not None, "the broker had no more messages"
    data = message["data"]
    assert isinstance(data, bytes)
    return data
