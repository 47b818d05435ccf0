"""Connections over real sockets, to the fake Deepgram and to what is none."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import Any

import trustme
from twisted.internet.ssl import Certificate, trustRootFromCertificates

from tests.integration.case import asynchronous
from tests.support.case import SynchronousTestCase, TestCase
from tests.support.daemon import HOST, free_port
from tests.support.deepgram import FakeDeepgram, Session
from voiceingest.config import Settings
from voiceingest.limits import HEAD_MAX_BYTES, TRANSCRIBER_MESSAGE_MAX_BYTES
from voiceingest.transcribing.dial import Dial
from voiceingest.transcribing.socket import DeepgramSocket, Ending, read_status

KEY = "dg-secret"


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.request_id: str | None = None
        self.messages: list[bytes] = []
        self.blocks: list[bool] = []
        self.endings: list[Ending] = []

    def opened(self, request_id: str) -> None:
        self.request_id = request_id

    def heard(self, payload: bytes) -> None:
        self.messages.append(payload)

    def blocked(self, is_blocked: bool) -> None:
        self.blocks.append(is_blocked)

    def ended(self, ending: Ending) -> None:
        self.endings.append(ending)


class Peer(asyncio.Protocol):
    """A server that says one thing, whatever it is asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)


class SocketCase(TestCase):
    def setUp(self) -> None:
        self.owner = Owner()

    async def connect(self, url: str, key: str = KEY, trust: Any = None) -> DeepgramSocket:
        """Dial; whether it stands is the owner's to know."""
        from twisted.internet import reactor

        link = DeepgramSocket(self.owner)
        settings = Settings(deepgram_url=url, deepgram_api_key=key)
        Dial(settings, reactor, trust).connect(link, 8000)
        self.addCleanup(link.abort)
        return link

    async def until(self, condition: Any, what: str) -> None:
        """Wait; the owner has no way to wake anybody."""
        for _ in range(1500):
            if condition():
                return
            await asyncio.sleep(0.01)
        self.fail(f"{what}: {vars(self.owner)}")

    async def ending(self) -> Ending:
        """How it ended."""
        await self.until(lambda: self.owner.endings, "the end")
        return self.owner.endings[0]

    async def listen(self, answer: bytes) -> str:
        """The address of a server that answers so."""
        port = free_port()
        server = await asyncio.get_running_loop().create_server(lambda: Peer(answer), HOST, port)
        self.addCleanup(server.close)
        return f"ws://{HOST}:{port}/v1/listen"


class DeepgramTests(SocketCase):
    async def begin(self) -> tuple[FakeDeepgram, DeepgramSocket, Session]:
        """A connection that stands."""
        deepgram = FakeDeepgram(self)
        await deepgram.start()
        link = await self.connect(deepgram.url)
        session = await deepgram.session()
        await self.until(lambda: self.owner.request_id is not None, "the upgrade")
        return deepgram, link, session

    @asynchronous
    async def test_both_ways(self) -> None:
        _, link, session = await self.begin()
        self.assertEqual(self.owner.request_id, "request-1")
        self.assertEqual(session.headers["authorization"], f"Token {KEY}")
        self.assertRegex(session.headers["user-agent"], r"^voiceingest/")
        self.assertNotIn("sec-websocket-extensions", session.headers)
        for size in (2, 124, 126, 65536, 200_000):
            link.send(b"\1\0" * (size // 2))
        link.say(b'{"type":"KeepAlive"}')
        await session.until(lambda: session.texts, "the text")
        self.assertEqual(bytes(session.audio), b"\1\0" * ((2 + 124 + 126 + 65536 + 200_000) // 2))
        self.assertEqual((session.texts, session.violations), (["KeepAlive"], []))
        await self.until(lambda: self.owner.messages, "an answer")
        self.assertEqual(json.loads(self.owner.messages[0])["type"], "Results")
        link.abort()
        await session.until(lambda: session.is_lost, "the end")
        self.assertEqual(self.owner.endings, [], "who hangs up is not told")

    @asynchronous
    async def test_refusals(self) -> None:
        deepgram = FakeDeepgram(self)
        await deepgram.start()
        for status in (400, 401, 402, 403, 429, 503):
            self.owner = Owner()
            deepgram.refuse = (status, "SOME_ERROR")
            await self.connect(deepgram.url)
            self.assertEqual(await self.ending(), Ending(f"http_{status}", http_status=status))
        deepgram.refuse = None
        self.owner = Owner()
        await self.connect(deepgram.url, key="wrong")
        self.assertEqual((await self.ending()).http_status, 401)

    @asynchronous
    async def test_ends(self) -> None:
        for code in (1000, 1008, 1011):
            self.owner = Owner()
            deepgram, _, session = await self.begin()
            deepgram.close_all(code, "NET-0000")
            self.assertEqual(await self.ending(), Ending(f"closed_{code}", close_code=code))
            await session.until(lambda session=session: session.is_lost, "the end of TCP")
        self.owner = Owner()
        deepgram, _, _ = await self.begin()
        deepgram.drop_all()
        self.assertEqual(await self.ending(), Ending("lost"))

    @asynchronous
    async def test_one_that_does_not_read_blocks_soon(self) -> None:
        deepgram, link, session = await self.begin()
        deepgram.freeze()
        written = 0
        while not self.owner.blocks:
            link.send(bytes(3200))
            written += 3200
            self.assertLess(written, 2**20)
            await asyncio.sleep(0)
        self.assertEqual(self.owner.blocks, [True])
        deepgram.thaw()
        await self.until(lambda: self.owner.blocks == [True, False], "room")
        await session.until(lambda: len(session.audio) == written, "all of it")

    @asynchronous
    async def test_a_message_that_is_too_large(self) -> None:
        _, _, session = await self.begin()
        session.say_bytes(b"x" * (TRANSCRIBER_MESSAGE_MAX_BYTES + 1))
        self.assertEqual(await self.ending(), Ending("protocol"))
        self.assertEqual(self.owner.messages, [])
        await session.until(lambda: session.is_lost, "the end of TCP")


class NoDeepgramTests(SocketCase):
    @asynchronous
    async def test_nobody_listens(self) -> None:
        await self.connect(f"ws://{HOST}:{free_port()}/v1/listen")
        self.assertEqual(await self.ending(), Ending("connect_refused"))

    @asynchronous
    async def test_something_else_listens(self) -> None:
        for answer, expected in (
            (b"SSH-2.0-x\r\n" + b"x" * HEAD_MAX_BYTES, Ending("protocol")),
            (b"HTTP/1.1 302 Found\r\nLocation: ws://x/\r\n\r\n", Ending("http_302", http_status=302)),
            (b"HTTP/1.1 101 Yes\r\n\r\n", Ending("protocol")),
        ):
            self.owner = Owner()
            await self.connect(await self.listen(answer))
            self.assertEqual(await self.ending(), expected)

    @asynchronous
    async def test_given_up_while_it_connects(self) -> None:
        with socket.socket() as silent:
            silent.bind((HOST, 0))
            silent.listen()
            link = await self.connect(f"ws://{HOST}:{silent.getsockname()[1]}/v1/listen")
            link.abort()
            link.abort()
            await asyncio.sleep(0)
        self.assertEqual(self.owner.endings, [])


class TlsTests(SocketCase):
    @asynchronous
    async def test_only_who_is_trusted(self) -> None:
        authority, other = trustme.CA(), trustme.CA()
        deepgram = FakeDeepgram(self)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Session(deepgram), HOST, deepgram.port, ssl=context)
        self.addCleanup(server.close)
        self.addCleanup(deepgram.drop_all)
        url = f"wss://localhost:{deepgram.port}/v1/listen"
        for trusted in (authority, other):
            self.owner = Owner()
            roots = trustRootFromCertificates([Certificate.loadPEM(trusted.cert_pem.bytes())])
            link = await self.connect(url, trust=roots)
            if trusted is other:
                self.assertEqual(await self.ending(), Ending("tls"))
                continue
            session = await deepgram.session()
            await self.until(lambda: self.owner.request_id is not None, "the upgrade")
            link.send(bytes(320))
            await session.until(lambda session=session: len(session.audio) == 320, "the audio")
            link.abort()
        self.owner = Owner()
        roots = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
        await self.connect(url.replace("localhost", HOST), trust=roots)
        self.assertEqual(await self.ending(), Ending("tls"), "a certificate for another name")


class StatusTests(SynchronousTestCase):
    def test_table(self) -> None:
        for answer, expected in (
            (b"", None),
            (b"HTTP/1.1 401 Unauthor", None),
            (b"HTTP/1.1 401 No\r\n\r\n", 401),
            (b"HTTP/1.1 101\r\nA: b\r\n\r\nrest", 101),
            (b"HTTP/1.1 no\r\n\r\n", None),
            (b"HTTP/1.1 99999999\r\n\r\n", None),
            (b"\r\n\r\n", None),
        ):
            self.assertEqual(read_status(answer), expected, answer)
