"""A head that is read at once says what it says to ``twisted.web``; the others are left to it."""

from __future__ import annotations

from typing import Final

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from tests.http.test_channel import Channel
from tests.support.case import SynchronousTestCase
from tests.support.sockets import handshake
from voiceingest.http.head import FIELDS_MAX_COUNT, Head, read_head
from voiceingest.limits import HEAD_MAX_BYTES

WHOLE: Final = handshake("/v1/ingest?a=1&b=%20", Authorization="Bearer x.y.z", X_Empty=" ")


def changed(old: bytes, new: bytes) -> bytes:
    assert old in WHOLE
    return WHOLE.replace(old, new, 1)


class ReadTests(SynchronousTestCase):
    def read(self, data: bytes) -> Head:
        head = read_head(data)
        assert head is not None
        return head

    def test_what_clients_write(self) -> None:
        head = self.read(WHOLE + b"\x82\x00")
        self.assertEqual((head.path, head.query, head.size), (b"/v1/ingest", b"a=1&b=%20", len(WHOLE)))
        self.assertEqual(head.lines(b"AUTHORIZATION"), [b"Bearer x.y.z"])
        self.assertEqual(head.lines(b"X-Empty"), [b""])
        self.assertEqual(head.lines(b"Origin"), [])

    def test_what_is_left_to_twisted_web(self) -> None:
        """Whatever two parsers could read differently, or has an answer of its own."""
        many = b"".join(b"X-%d: 1\r\n" % number for number in range(FIELDS_MAX_COUNT))
        others = {
            "nothing": b"",
            "a part": WHOLE[:-1],
            "an empty line first": b"\r\n" + WHOLE,
            "another method": changed(b"GET", b"POST"),
            "HTTP/1.0": changed(b"HTTP/1.1", b"HTTP/1.0"),
            "no version": changed(b" HTTP/1.1", b""),
            "two blanks": changed(b"GET ", b"GET  "),
            "a whole URL": changed(b"/v1", b"http://a/v1"),
            "letters beyond ASCII": changed(b"/v1", b"/\xe9"),
            "a fragment with a blank": changed(b"a=1", b"a= 1"),
            "a field twice": changed(b"Host:", b"host: b\r\nHost:"),
            "a folded line": changed(b"Host: ", b"Host:\r\n "),
            "a folded line after the request": changed(b"Host:", b" Host:"),
            "no colon": changed(b"Host: localhost", b"Host"),
            "no name": changed(b"Host:", b":"),
            "a blank in a name": changed(b"Host:", b"Host :"),
            "an odd name": changed(b"Host:", b"H_st:"),
            "a bare line feed": changed(b"localhost", b"a\nb"),
            "a bare carriage return": changed(b"localhost", b"a\rb"),
            "a control byte": changed(b"localhost", b"a\x0bb"),
            "another line break": changed(b"localhost", b"a\x85b"),
            "only line feeds": WHOLE.replace(b"\r\n", b"\n"),
            "a length": changed(b"Host:", b"Content-Length: 0\r\nHost:"),
            "chunks": changed(b"Host:", b"Transfer-Encoding: chunked\r\nHost:"),
            "an expectation": changed(b"Host:", b"Expect: 100-continue\r\nHost:"),
            "too many fields": changed(b"Host:", many + b"Host:"),
            "too large": changed(b"localhost", b"a" * HEAD_MAX_BYTES),
        }
        for name, data in others.items():
            self.assertIsNone(read_head(data), name)


class SameTests(Channel):
    """Both parsers over the same bytes."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.integers(0, len(WHOLE)),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=6),
            st.text("aZ09-_:;&=%?/ \t\r\n", max_size=12).map(str.encode),
            st.sampled_from([b"\r\nX-A: ", b"\r\n\r\n", b"\r\n ", b"Content-Length: 5\r\n", b"\r\nhOsT:x"]),
        ),
    )
    @example(len(WHOLE), 0, b"")
    @example(0, 0, b"\r\n")
    def test_what_is_read_at_once_is_what_twisted_web_reads(self, at: int, cut: int, put: bytes) -> None:
        data = WHOLE[:at] + put + WHOLE[at + cut :]
        head = read_head(data)
        if head is None:
            return
        self.setUp()
        channel, _ = self.connect()
        channel.dataReceived(data[: head.size])
        (request,) = self.root.seen
        self.assertEqual((request.method, request.clientproto), (b"GET", b"HTTP/1.1"))
        self.assertEqual(request.path, head.path)
        self.assertEqual(request.uri, head.path + (b"?" + head.query if b"?" in request.uri else b""))
        fields = Headers({name: [value] for name, value in head.fields.items()})
        self.assertEqual(request.requestHeaders, fields)
