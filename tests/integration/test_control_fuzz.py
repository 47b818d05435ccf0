"""Nonsense over HTTP and gRPC: it is refused, and the daemon neither fails nor ends for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import grpc

from voiceingest.transports.grpc_api.generated import session_pb2 as pb
from voiceingest.transports.grpc_api.server import SERVICE

from .case import asynchronous
from .test_control import ControlCase

SEED: Final = 6
BODIES: Final = 60
MESSAGES: Final = 60

_WISHES: Final = {
    "audioConfig": {"sampleRate": 24000, "gain": 0.5},
    "metadata": {"tags": ["a", None, {}], "\u00e9": "\U0001f600"},
    "contextData": {"history": [{"role": "user", "content": "hello"}]},
}
_BODIES: Final[dict[str, Any]] = {
    "POST /api/auth/register": {"deviceIdentifier": "device-of-nonsense", "deviceToken": "vd_" + "a" * 43},
    "POST /api/auth/refresh": {"refreshToken": "vr_" + "a" * 43},
    "POST /api/session/create": _WISHES,
    "PATCH /api/session/{id}": _WISHES,
}

# Whole bodies, and values for a member.
_ODD: Final = (
    *(b"", b"null", b"[]", b'"x"', b"1", b"{", b"{}}", b"\xef\xbb\xbf{}", b'{"a":1,}', b"{'a':1}"),
    *(b"{\0}", "{}".encode("utf-16"), "{}".encode("utf-32"), b"[" * 5000, b'{"metadata":' * 5000),
    *(
        b'{"metadata":{},"metadata":[]}',
        b'{"metadata":{"a":1,"a":2}}',
        b'{"": {}}',
        b"{" + b" " * 70_000 + b"}",
    ),
)
_VALUES: Final = (
    *(
        b"null",
        b"true",
        b"1",
        b"-0",
        b"1e999",
        b"-1e999",
        b"NaN",
        b"Infinity",
        b"1e-999",
        b'""',
        b"[]",
        b"{}",
    ),
    *(b"9223372036854775808", b"-9223372036854775809", b"9" * 5000, b"1." + b"9" * 5000),
    *(
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\uD83D\\uDE00"',
        b'"\xff"',
        b'"' + b"x" * 6000 + b'"',
    ),
    *(b"[" * 40 + b"]" * 40, b'{"a":' * 40 + b"1" + b"}" * 40, b'{"\\u0000":1}', b'{"\\udfff":1}'),
)
_TYPES: Final = (
    *(
        "",
        "text/plain",
        "application/json; charset=utf-16",
        "application/json;;",
        "multipart/form-data",
        "*/*",
    ),
    *("application/x-www-form-urlencoded", "application/json, application/json", "\u00ff", "a" * 3000),
)
_HEADERS: Final = (
    b"Idempotency-Key",
    b"Authorization",
    b"Content-Type",
    b"X-Request-Id",
    b"Accept",
    b"Cookie",
)


def bodies(body: dict[str, Any], random: Random) -> Iterator[bytes]:
    """What is no such body, or hardly one."""
    yield from _ODD
    for name in body:
        for value in _VALUES:
            others = json.dumps({key: one for key, one in body.items() if key != name})[1:-1].encode()
            yield b"{" + (others + b"," if others else b"") + json.dumps(name).encode() + b":" + value + b"}"
    whole = json.dumps(body).encode()
    for _ in range(BODIES):
        yield random.randbytes(random.randrange(1, 200))
        yield mutated(whole, random)


def mutated(whole: bytes, random: Random) -> bytes:
    """The same with some bytes changed, left out, or doubled."""
    changed = bytearray(whole)
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(changed) or 1)
        piece = random.choice((b"", random.randbytes(1), bytes(changed[at : at + 9]) * 2))
        changed[at : at + random.randrange(4)] = piece
    return bytes(changed)


def messages(random: Random) -> Iterator[bytes]:
    """What is no message, or hardly one."""
    request = pb.UpdateSessionConfigRequest(session_id="ses_" + "a" * 22)
    request.metadata.update({"a": [1, None, {"b": "c"}], "d": True})
    whole = request.SerializeToString()
    deep = b""
    for _ in range(150):
        # A Value that holds a list that holds a Value, each with its length in front.
        deep = b"\x0a" + _size(deep) + deep
        deep = b"\x32" + _size(deep) + deep
    yield from (b"", b"\0", b"\xff" * 20, b"\x0a\x02\xff\xff", b"\x0a\xff\xff\xff\xff\x07", b"\x0b" * 500)
    yield b"\x2a" + _size(deep) + deep
    for _ in range(MESSAGES):
        yield random.randbytes(random.randrange(1, 100))
        yield mutated(whole, random)


def _size(content: bytes) -> bytes:
    size, written = len(content), bytearray()
    while size > 0x7F:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size])


class FuzzTests(ControlCase):
    """A daemon with everything on."""

    async def begin(self) -> dict[str, Any]:
        """It stands; a device's tokens."""
        folder = self.mktemp_path()
        folder.mkdir()
        entrance = await self.enter(f"sqlite:///{folder}/sessions.db", SESSIONS_MAX_PER_USER="100000")
        return await entrance.device()

    async def assert_well(self, token: str) -> None:
        """Nothing has failed, and it goes on."""
        daemon = self.entrance.daemon
        for kind in ("rest", "grpc"):
            self.assertEqual((await self.entrance.api(kind, token).create()).code, "ok")
        failed = [line for line in daemon.log if line["level"] in ("error", "critical")]
        self.assertEqual((failed, "Traceback" in daemon.output), ([], False))
        self.assertIsNone(daemon.process.exit_code)

    async def ask(self, token: str, what: str, body: bytes, content_type: str) -> int:
        """One question; its status. What is refused says so in the one shape."""
        method, path = what.split(" ")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        url = self.entrance.daemon.url(path)
        async with self.entrance.client.request(method, url, data=body, headers=headers) as response:
            answer = await response.json()
        if response.status >= 400:
            self.assertLessEqual({"code", "message", "request_id"}, set(answer), (what, body))
        self.assertLess(response.status, 500, (what, body, content_type, answer))
        return response.status

    @asynchronous
    async def test_bodies(self) -> None:
        token, random = (await self.begin())["accessToken"], Random(SEED)
        session = (await self.entrance.api("rest", token).create()).shown.session_id
        seen: set[int] = set()
        for what, body in _BODIES.items():
            path = what.replace("{id}", session)
            for one in bodies(body, random):
                seen.add(await self.ask(token, path, one, "application/json"))
            for content_type in _TYPES:
                status = await self.ask(token, path, json.dumps(body).encode(), content_type)
                self.assertIn(status, (400, 415, 431), (what, content_type))
        self.assertLessEqual({200, 201, 400, 413}, seen)
        await self.assert_well(token)

    @asynchronous
    async def test_headers_and_paths(self) -> None:
        token, random = (await self.begin())["accessToken"], Random(SEED)
        port = self.entrance.daemon.port
        heads = []
        for name in _HEADERS:
            for value in (
                b"",
                b"\0",
                b"\xff\xfe",
                b"\t x \t",
                b"a" * 5000,
                b"Bearer",
                b"Bearer \xc3\xa9",
                b"a,b",
            ):
                heads.append((b"/api/session/create", name + b": " + value))
            for _ in range(8):
                heads.append(
                    (b"/api/session/create", name + b": " + random.randbytes(random.randrange(1, 40)))
                )
        for path in (
            b"%00",
            b"%ff",
            b"..%2f..",
            b"%",
            b"%zz",
            b"a" * 3000,
            b"\xff",
            b"?cursor=%00",
            b"?limit=1e3",
        ):
            heads += [(b"/api/session/" + path, b"X: y"), (b"/api/session" + path, b"X: y")]
        for path, line in heads:
            own = b"" if line.startswith(b"Authorization") else f"Authorization: Bearer {token}\r\n".encode()
            kind = b"" if line.startswith(b"Content-Type") else b"Content-Type: application/json\r\n"
            method = b"POST" if path.endswith(b"create") else b"GET"
            head = b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b%b" % (method, path, own, kind)
            answer = await self.raw(
                port, head + line.replace(b"\n", b"") + b"\r\nContent-Length: 2\r\n\r\n{}"
            )
            # A head that is none may be hung up on without an answer.
            self.assertNotRegex(answer, rb"^HTTP/1.1 5", (path, line))
        await self.assert_well(token)

    async def raw(self, port: int, sent: bytes) -> bytes:
        """All that is answered."""
        import asyncio

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(sent)
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    @asynchronous
    async def test_messages(self) -> None:
        token, random = (await self.begin())["accessToken"], Random(SEED)
        seen = set()
        for name in (
            "StartSession",
            "StopSession",
            "GetSessionStatus",
            "UpdateSessionConfig",
            "ListSessions",
        ):
            call: Any = self.entrance.channel.unary_unary(f"/{SERVICE}/{name}")
            for message in messages(random):
                for metadata in ([("authorization", f"Bearer {token}")], [("x-odd-bin", message)]):
                    try:
                        await call(message, metadata=metadata, timeout=60)
                    except grpc.aio.AioRpcError as error:
                        seen.add(error.code())
                        fault = (
                            grpc.StatusCode.INTERNAL,
                            grpc.StatusCode.UNKNOWN,
                            grpc.StatusCode.UNAVAILABLE,
                        )
                        self.assertNotIn(error.code(), fault, (name, message, error.details()))
        words = ("INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED")
        self.assertLessEqual({getattr(grpc.StatusCode, word) for word in words}, seen)
        await self.assert_well(token)
