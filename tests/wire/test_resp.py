"""The Redis protocol: commands out, replies counted in chunks of any size."""

from __future__ import annotations

from itertools import pairwise

import hiredis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.wire.resp import (
    ERROR_PREFIXES,
    LINE_MAX_BYTES,
    NotResp,
    Number,
    ReplyScanner,
    Run,
    encode_bulk,
    encode_command,
    publish_prefix,
)

FEW = settings(max_examples=200, deadline=None)

ID = st.tuples(st.integers(0, 2**48), st.integers(0, 99)).map(
    lambda pair: b"$%d\r\n%b\r\n" % (len(b"%d-%d" % pair), b"%d-%d" % pair)
)
TOLD = st.integers(-1, 10**6).map(lambda n: (b":%d\r\n" % n, Number(n)))
INTEGER = st.integers(-1, 10**6).map(lambda n: (b":%d\r\n" % n, 1))
SIMPLE = st.sampled_from([(b"+OK\r\n", 1), (b"+PONG\r\n", 1)])
BULK = st.binary(max_size=30).map(lambda b: (b"$%d\r\n%b\r\n" % (len(b), b), 1)) | st.just((b"$-1\r\n", 1))
ERROR = st.sampled_from(
    [
        (b"-NOPERM User x has no permissions\r\n", "NOPERM"),
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH"),
        (b"-READONLY You can't write against a read only replica.\r\n", "READONLY"),
        (b"-OOM command not allowed\r\n", "OOM"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        (b"-ERR unknown command\r\n", "ERR"),
        (b"-SOMETHING new\r\n", "ERR"),
        (b"-UNBLOCKED force unblock from blocking operation\r\n", "UNBLOCKED"),
        (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "WRONGTYPE"),
        (b"-\r\n", "ERR"),
    ]
)


def arrays(elements: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(elements, max_size=4).map(
        lambda parts: (b"*%d\r\n%b" % (len(parts), b"".join(part for part, _ in parts)), 1)
    )


NESTED = st.recursive(INTEGER | SIMPLE | BULK | ERROR, arrays, max_leaves=8)
PUSH = arrays(BULK | INTEGER).map(lambda reply: (b">" + reply[0][1:], 0))
NO_ARRAY = st.just((b"*-1\r\n", 1))
REPLY = st.one_of(INTEGER, INTEGER, INTEGER, SIMPLE, BULK, ERROR, arrays(NESTED), PUSH, NO_ARRAY)


def flat(runs: list[Run]) -> list[str | Number]:
    """One entry per reply: a success is ``""``."""
    return [one for run in runs for one in ([""] * run if isinstance(run, int) else [run])]


def scan(*chunks: bytes, tells_integers: bool = False) -> list[str | Number]:
    scanner = ReplyScanner(tells_integers)
    return [one for chunk in chunks for one in flat(scanner.feed(chunk))]


class CommandTests(SynchronousTestCase):
    def test_exact_bytes(self) -> None:
        self.assertEqual(encode_command(b"PING"), b"*1\r\n$4\r\nPING\r\n")
        payload = b"a\r\nb"
        self.assertEqual(
            publish_prefix(b"ch") + b"%d\r\n" % len(payload) + payload + b"\r\n",
            encode_command(b"PUBLISH", b"ch", payload),
        )

        self.assertEqual(encode_command(b"GET", payload), b"*2\r\n$3\r\nGET\r\n" + encode_bulk(payload))

    @FEW
    @given(st.binary(max_size=50), st.binary(max_size=300))
    def test_another_reader_finds_the_same(self, channel: bytes, payload: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(publish_prefix(channel) + b"%d\r\n" % len(payload) + payload + b"\r\n")
        self.assertEqual(reader.gets(), [b"PUBLISH", channel, payload])


class ScannerTests(SynchronousTestCase):
    def test_the_common_case_is_one_run(self) -> None:
        self.assertEqual(ReplyScanner().feed(b":0\r\n:1\r\n:12\r\n"), [3])
        self.assertEqual(ReplyScanner().feed(b""), [])

    def test_errors_stand_where_they_came(self) -> None:
        runs = ReplyScanner().feed(b":0\r\n:0\r\n-NOPERM no\r\n:0\r\n-WHAT\r\n-OOM\r\n+OK\r\n")
        self.assertEqual(runs, [2, "NOPERM", 1, "ERR", "OOM", 1])

    def test_what_looks_like_replies_inside_a_bulk_is_skipped(self) -> None:
        self.assertEqual(scan(b"$8\r\n:1\r\n:2\r\n\r\n:3\r\n"), ["", ""])

    def test_a_push_is_no_reply(self) -> None:
        self.assertEqual(scan(b">2\r\n$1\r\na\r\n:1\r\n:0\r\n"), [""])

    def test_an_error_inside_an_array_is_not_an_error_reply(self) -> None:
        self.assertEqual(scan(b"*2\r\n-ERR a\r\n:1\r\n:0\r\n"), ["", ""])

    @FEW
    @given(st.lists(REPLY, max_size=12), st.lists(st.integers(0, 400), max_size=12))
    @example([(b":0\r\n", 1)] * 3, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
    def test_any_chunking_gives_the_same(
        self, replies: list[tuple[bytes, int | str]], cuts: list[int]
    ) -> None:
        wire = b"".join(reply for reply, _ in replies)
        places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        chunks = [wire[a:b] for a, b in pairwise(places)]
        expected = [one for _, result in replies for one in flat([result])]
        self.assertEqual(scan(*chunks), expected)
        self.assertEqual(scan(*(wire[i : i + 1] for i in range(len(wire)))), expected)

    def test_every_error_that_is_told_apart(self) -> None:
        for prefix in ERROR_PREFIXES:
            self.assertEqual(scan(b"-%b because\r\n" % prefix.encode()), [prefix])

    def test_an_integer_among_ids_is_told_by_its_value(self) -> None:
        scanner = ReplyScanner(tells_integers=True)
        wire = b"$3\r\n1-0\r\n$15\r\n1763655000000-1\r\n:2\r\n-OOM no\r\n+OK\r\n:-1\r\n$-1\r\n*1\r\n:7\r\n"
        self.assertEqual(scanner.feed(wire), [2, Number(2), "OOM", 1, Number(-1), 2])
        for garbage in (b":\r\n", b":x\r\n", b":--1\r\n", b":" + b"9" * 30 + b"\r\n"):
            with self.assertRaises(NotResp):
                ReplyScanner(tells_integers=True).feed(garbage)

    @FEW
    @given(
        st.lists(ID.map(lambda reply: (reply, "")) | TOLD | ERROR | SIMPLE, max_size=12),
        st.lists(st.integers(0, 400), max_size=12),
    )
    def test_any_chunking_of_ids_and_integers_gives_the_same(
        self, replies: list[tuple[bytes, str | int | Number]], cuts: list[int]
    ) -> None:
        wire = b"".join(reply for reply, _ in replies)
        places = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        chunks = [wire[a:b] for a, b in pairwise(places)]
        expected = ["" if result == 1 else result for _, result in replies]
        self.assertEqual(scan(*chunks, tells_integers=True), expected)
        single = (wire[i : i + 1] for i in range(len(wire)))
        self.assertEqual(scan(*single, tells_integers=True), expected)

    @FEW
    @given(st.lists(st.binary(max_size=60), max_size=5))
    @example([b":", b"\r\n"])
    @example([b"*" + b"9" * 11 + b"\r\n"])
    @example([b"$1e3\r\n"])
    @example([b"HTTP/1.1 400 Bad Request\r\n"])
    def test_only_not_resp_comes_out_of_any_bytes(self, chunks: list[bytes]) -> None:
        scanner = ReplyScanner()
        try:
            found = [one for chunk in chunks for one in flat(scanner.feed(chunk))]
        except NotResp:
            return
        # Every reply takes a line, and what is no reply yet is kept.
        self.assertLessEqual(len(found), b"".join(chunks).count(b"\r\n"))
        self.assertTrue(b"".join(chunks).endswith(scanner._rest))

    def test_nothing_grows_without_end(self) -> None:
        scanner = ReplyScanner()
        with self.assertRaises(NotResp):
            for _ in range(LINE_MAX_BYTES + 1):
                scanner.feed(b"+")
        # A long bulk is skipped as it comes; nothing of it is kept.
        scanner = ReplyScanner()
        scanner.feed(b"$1000000\r\n")
        for _ in range(100):
            self.assertEqual(scanner.feed(b"x" * 10_000), [])
            self.assertEqual(scanner._rest, b"")
        self.assertEqual(scanner.feed(b"\r\n"), [1])
