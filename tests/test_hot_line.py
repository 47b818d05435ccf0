"""The guard of the hot line: what a frame costs, counted and not timed, so that a busy machine is no excuse.

Times differ from run to run by more than the 15 % that matter; calls do not differ at all. On CPython a
call costs about 0.05 us, and a frame of 960 bytes is about fifty of them: one more is 2 % of a frame.
Lines catch work that calls nothing, and copies what is moved about behind few calls.

When a test here fails, either mend what was added, or raise the figure and say in the commit what the
frame has got for it. When it costs less, lower the figure: the next one may not spend it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from unittest import mock

from voiceingest import driver
from voiceingest.limits import QUEUED_FRAME_OVERHEAD_BYTES
from voiceingest.publishers import lane, redis_pubsub
from voiceingest.websocket import HardenedProtocol

from .support.case import SynchronousTestCase
from .support.door import Door
from .support.hot_line import WALL, HotLine, Names, Socket, calls, lines, memory
from .support.tokens import Issuer


class Cost(NamedTuple):
    """Of one frame, at one stage."""

    calls: int
    lines: int


# Each stage of each load: what a frame more costs, whatever else is done in the same turn.
# ``read`` is from the read of the socket to the queue, ``flush`` to the bytes for Redis, ``confirm`` from
# its answer to the ledger.
SEND: Final = Cost(10, 18)  # taken from the queue and encoded: two calls (base64 is one), moves, lengths
CONFIRM: Final = Cost(9, 35)  # latency, lane, stream and ledger; each keeps its own account
CEILINGS: Final[dict[str, dict[str, Cost]]] = {
    # Eleven functions of ours from the read to the queue, three looks at the clock.
    "960 B": {"read": Cost(27, 98), "flush": SEND, "confirm": CONFIRM},
    # Unmasked in C, in two calls, which takes the place of three on integers.
    "9600 B": {"read": Cost(25, 95), "flush": SEND, "confirm": CONFIRM},
    # The JSON of Exotel: one decoder, each field looked at once; paced as text; the agent hears along.
    "exotel 320 B": {"read": Cost(73, 177), "flush": SEND, "confirm": CONFIRM},
    "exotel 3200 B": {"read": Cost(72, 175), "flush": SEND, "confirm": CONFIRM},
}

# What an ack adds to the confirmation it comes with: encoded, framed, written.
ACK: Final = Cost(7, 10)

# What a turn costs beside its frames, however many there are.
TURN: Final = {"flush": Cost(16, 35), "confirm": Cost(27, 57)}

# A connection that is made, verified, opened, lost, and said in the log to be open and to be closed. Some of
# it is for a second that has not been written as a date yet.
HANDSHAKE: Final = Cost(477, 783)

# What is there at once at most of a frame, in sizes of the frame: cut and unmasked; in base64 and as
# a command.
COPIES: Final = {"read": 2.1, "flush": 2.8}

# What a connection holds that has said nothing, and what a stream adds, without its frames; objects of ours
# and of Autobahn, and not the socket, nor the channel it came by. Measured 3.5 to 3.7 KB and 4.1 to 5.1,
# by how much a log and a dictionary happen to grow meanwhile.
IDLE_BYTES: Final = 4608
STARTED_BYTES: Final = 6144
CONNECTIONS: Final = 100

# Lines are told apart a little differently by different Pythons.
LINES_ROOM: Final = 1.05

STAGES: Final = ("read", "flush", "confirm")

# Frames of a turn: all fit into one write of the largest.
FEW, MANY = 4, 8


def make(load: str, **options: Any) -> tuple[HotLine, int]:
    """A line for a load, and the bytes of audio in a frame of it; it has run for a while."""
    dialect, _, size = load.removesuffix(" B").rpartition(" ")
    line = HotLine(dialect=dialect or "ingest", **options)
    for _ in range(3):
        turn(line, int(size), MANY, plainly)
    return line, int(size)


def plainly(act: Callable[..., object], *arguments: Any) -> None:
    """Measure nothing."""
    act(*arguments)


def turn(line: HotLine, size: int, count: int, measure: Callable[..., Any]) -> dict[str, Any]:
    """Measure the stages of one turn of ``count`` frames."""
    reads = line.reads(count, size)
    return {
        "read": measure(line.read, *reads),
        "flush": measure(line.flush),
        "confirm": measure(line.confirm, count),
    }


def per_frame(line: HotLine, size: int) -> dict[str, tuple[Names, float]]:
    """What a frame more adds to each stage: calls by name, and lines."""
    few, many = (turn(line, size, count, calls) for count in (FEW, MANY))
    few_lines, many_lines = (turn(line, size, count, lines) for count in (FEW, MANY))
    more = MANY - FEW
    return {
        stage: (
            Counter({name: made / more for name, made in (many[stage] - few[stage]).items()}),
            (many_lines[stage] - few_lines[stage]) / more,
        )
        for stage in STAGES
    }


class HotLineTests(SynchronousTestCase):
    """No frame costs more than it did."""

    def assert_within(self, what: str, made: Names, ran: float, ceiling: Cost) -> None:
        told = "\n".join(f"{count:8g} {name}" for name, count in sorted(made.items()))
        self.assertLessEqual(made.total(), ceiling.calls, f"calls of {what}:\n{told}")
        self.assertLessEqual(ran, ceiling.lines * LINES_ROOM, f"lines of {what}")

    def check(self, load: str) -> None:
        costs = per_frame(*make(load))
        for stage, ceiling in CEILINGS[load].items():
            self.assert_within(f"{load}, {stage}", *costs[stage], ceiling)

    def test_plain(self) -> None:
        self.check("960 B")

    def test_large(self) -> None:
        self.check("9600 B")

    def test_exotel_small(self) -> None:
        self.check("exotel 320 B")

    def test_exotel_large(self) -> None:
        self.check("exotel 3200 B")

    def test_ack(self) -> None:
        without, with_acks = make("960 B"), make("960 B", ack_interval=1)
        written = len(with_acks[0].caller.written)
        (bare, bare_lines), (acked, acked_lines) = (
            per_frame(*made)["confirm"] for made in (without, with_acks)
        )
        self.assertEqual(len(with_acks[0].caller.written) - written, 2 * (FEW + MANY))
        self.assert_within("an ack", acked - bare, acked_lines - bare_lines, ACK)

    def test_turn(self) -> None:
        line, size = make("960 B")
        made, ran = turn(line, size, FEW, calls), turn(line, size, FEW, lines)
        costs = per_frame(line, size)
        for stage, ceiling in TURN.items():
            names, frames_lines = costs[stage]
            fixed = Counter({name: count - FEW * names[name] for name, count in made[stage].items()})
            self.assert_within(f"a turn, {stage}", +fixed, ran[stage] - FEW * frames_lines, ceiling)

    def test_handshake(self) -> None:
        door = Door(make("960 B")[0], Issuer(now=lambda: WALL))
        door.shake(3)
        self.assertEqual(door.said.getvalue().count("\n"), 6)
        self.assert_within("a handshake", calls(door.shake, 1), lines(door.shake, 1), HANDSHAKE)

    def test_copies(self) -> None:
        line, size = make("60000 B")
        peaks = {stage: peak / size for stage, (peak, _) in turn(line, size, 1, memory).items()}
        for stage, ceiling in COPIES.items():
            self.assertLessEqual(peaks[stage], ceiling, stage)

    def test_a_frame_that_waits_takes_no_more_than_its_bound_counts(self) -> None:
        line, size = make("960 B")
        (_, few), (_, many) = (memory(line.read, *line.reads(count, size)) for count in (100, 400))
        self.assertLessEqual((many - few) / 300, size + QUEUED_FRAME_OVERHEAD_BYTES)

    def test_an_idle_connection_and_its_stream(self) -> None:
        line, _ = make("960 B")
        callers = [Socket() for _ in range(2 * CONNECTIONS)]
        names = [f"call-{number}" for number in range(2 * CONNECTIONS)]
        protocols: list[HardenedProtocol] = []

        def connect(some: list[Socket]) -> None:
            protocols.extend(line.connect(caller) for caller in some)

        def start(begin: int, end: int) -> None:
            for protocol, name in zip(protocols[begin:end], names[begin:end], strict=True):
                line.start(protocol, name)
            line.flush()
            line.confirm(end - begin)

        connect(callers[:CONNECTIONS])
        _, idle = memory(connect, callers[CONNECTIONS:])
        start(0, CONNECTIONS)
        _, started = memory(start, CONNECTIONS, 2 * CONNECTIONS)
        self.assertLessEqual(idle / CONNECTIONS, IDLE_BYTES)
        self.assertLessEqual(started / CONNECTIONS, STARTED_BYTES)

    def test_nothing_stays_of_what_was_confirmed(self) -> None:
        line, size = make("960 B")

        def turns(count: int) -> None:
            for _ in range(count):
                turn(line, size, MANY, plainly)
                line.redis.written.clear()

        (_, few), (_, many) = memory(turns, 20), memory(turns, 80)
        self.assertLess((many - few) / (60 * MANY), 1.0, "bytes a frame")


class GuardTests(SynchronousTestCase):
    """The guard sees what it is for."""

    def assert_seen(self, owner: Any, name: str, changed: Callable[..., Any]) -> None:
        """A change to the line makes the test of the line fail."""
        with mock.patch.object(owner, name, changed), self.assertRaises(AssertionError) as failed:
            HotLineTests("check").check("960 B")
        self.assertIn(" of 960 B, ", str(failed.exception))

    def test_a_call_more_is_seen(self) -> None:
        """At any stage, in a class or in a module, of Python or of C."""
        mutations = [(driver.StreamDriver, "frame"), (redis_pubsub, "encode_halves"), (lane.Lane, "confirm")]
        for owner, name in mutations:
            self.assert_seen(owner, name, lengthened(getattr(owner, name), "len(arguments)"))

    def test_lines_more_are_seen(self) -> None:
        """Though they call nothing."""
        self.assert_seen(lane.Lane, "_queue", lengthened(lane.Lane._queue, "\n ".join(["pass"] * 12)))

    def test_every_frame_goes_all_the_way(self) -> None:
        for load in CEILINGS:
            line, size = make(load)
            published = line.metrics.frames_published
            turn(line, size, MANY, plainly)
            self.assertEqual(line.metrics.frames_published, published + MANY, load)
            self.assertEqual(line.redis.written[-1].count(b'"seq":'), MANY, load)


def lengthened(true: Any, more: str) -> Any:
    """A function with ``more`` before it, as if it had been written where ``true`` is."""
    names = {"__name__": true.__module__, "true": true}
    exec(f"def longer(*arguments):\n {more}\n return true(*arguments)", names)
    return names["longer"]
