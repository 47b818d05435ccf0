"""The words of a model out of bytes, however they are cut."""

from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson, UpstreamFailed
from voiceingest.stream import chat
from voiceingest.stream.chat import ChatReader

FEW = settings(max_examples=100, deadline=None)


def event(text: str, end: str = "\n") -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}, ensure_ascii=False) + end * 2


def read(reader: ChatReader, stream: bytes, *cuts: int) -> list[str]:
    edges = [0, *sorted(cuts), len(stream)]
    pieces = [stream[first:last] for first, last in itertools.pairwise(edges)]
    return [text for piece in pieces for text in reader.feed(piece)]


class StreamTests(SynchronousTestCase):
    def test_words_and_the_end(self) -> None:
        reader = ChatReader()
        self.assertEqual(reader.feed(event("Hel").encode()), ["Hel"])
        self.assertEqual(reader.feed((event("lo") + event("!")).encode()), ["lo", "!"])
        self.assertFalse(reader.is_done)
        self.assertEqual(reader.feed(b"data: [DONE]\n\n"), [])
        self.assertTrue(reader.is_done)
        self.assertEqual(reader.feed(event("more").encode()), [])

    def test_done_without_saying_done(self) -> None:
        reader = ChatReader()
        reader.feed(b'data:{"choices":[{"delta":{"content":"."},"finish_reason":"stop"}]}\n\n')
        self.assertTrue(reader.is_done)

    def test_comments_other_fields_and_data_of_several_lines(self) -> None:
        stream = (
            "\ufeffdata:\n\n: ping\n\nevent: message\nid: 7\nretry: 10\nfield\n"
            'data: {"choices":\ndata:  [{"delta":{"content":"x"}}]}\n\n' + event("y")
        )
        self.assertEqual(read(ChatReader(), stream.encode()), ["x", "y"])

    def test_an_event_is_one_only_when_it_is_whole(self) -> None:
        reader = ChatReader()
        self.assertEqual(reader.feed(event("x").encode()[:-1]), [])
        self.assertEqual(reader.feed(b"\n"), ["x"])

    def test_line_ends_of_all_kinds(self) -> None:
        line = event("x", "")
        for end in ("\r\n\n", "\n\r\n", "\r\r\n", "\r\n\r", "\n\r"):
            stream = (line + end + event("y")).encode()
            self.assertEqual(read(ChatReader(), stream), ["x", "y"], repr(end))
            self.assertEqual(read(ChatReader(), stream, *range(len(stream))), ["x", "y"], repr(end))

    @FEW
    @given(
        st.lists(st.text(min_size=1, max_size=6).filter(str.strip), max_size=5),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.data(),
    )
    def test_however_it_is_cut(self, texts: list[str], end: str, data: st.DataObject) -> None:
        stream = (f": hi{end}{end}" + "".join(event(text, end) for text in texts)).encode()
        cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
        self.assertEqual("".join(read(ChatReader(), stream, *cuts)), "".join(texts))

    def test_byte_by_byte(self) -> None:
        for end in ("\n", "\r\n", "\r"):
            stream = (event("नमस्ते", end) + event("👋", end)).encode()
            self.assertEqual(read(ChatReader(), stream, *range(len(stream))), ["नमस्ते", "👋"], repr(end))


class GarbageTests(SynchronousTestCase):
    def test_what_is_no_answer(self) -> None:
        for stream, error in (
            (b"data: nonsense\n\n", BadJson),
            (b"data: 3\n\n", BadJson),
            (b'data: {"choices":3}\n\n', BadField),
            (b'data: {"error":{"message":"secret"}}\n\n', UpstreamFailed),
        ):
            raised = self.assertRaises(error, ChatReader().feed, stream)
            self.assertNotIn("secret", str(raised))

    def test_a_page_is_read_and_never_done(self) -> None:
        reader = ChatReader()
        self.assertEqual(reader.feed(b"<html>\n\n<p>502\n\n\xff\xfe\n\n"), [])
        self.assertFalse(reader.is_done)

    def test_bounds(self) -> None:
        self.patch(chat, "EVENT_MAX_CHARS", 100)
        self.patch(chat, "ANSWER_MAX_CHARS", 50)
        self.patch(chat, "STREAM_MAX_BYTES", 1000)
        for stream in (b"x" * 101, b"data: " + b"x" * 101 + b"\n", b"data: x\n" * 101, b": hi\n\n" * 200):
            self.assertRaises(UpstreamFailed, read, ChatReader(), stream, *range(0, len(stream), 10))
        long = (event("x" * 20) * 3).encode()
        self.assertRaises(UpstreamFailed, ChatReader().feed, long)
        self.assertEqual(len(ChatReader().feed(long[: len(long) // 3 * 2])), 2)

    @FEW
    @given(st.binary(max_size=60))
    def test_nothing_else_escapes(self, garbage: bytes) -> None:
        try:
            read(ChatReader(), b"data: " + garbage + b"\n\n", 3, 9)
        except (BadJson, BadField, UpstreamFailed):
            return
