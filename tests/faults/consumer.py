"""The consumer, a process of its own: reads the bus and keeps what it saw, in the order it came.

The first line on standard input is the plan (``Plan``). It says ``subscribed``, ``late`` when asked with
``{"do": "late"}``, and ``report`` after ``{"do": "end"}``. A consumer whose connection breaks subscribes
again and says so.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import hiredis

from .audio import read_mark
from .load import lines_of_stdin

_AGAIN_S: Final = 0.05
_LAST_WORDS: Final = ("stopped", "moved")
_LAST_WORDS_S: Final = 20.0
_BUCKET_MS: Final = 100
_NEIGHBOUR: Final = 1
# How often the sentinels are asked again.
_ASK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """Which bus: ``pubsub``, ``streams`` or ``nats``, where, and the names of what to read."""

    bus: str
    ways: list[tuple[str, int]]
    frames: str = "audio:frames"
    events: str = "audio:events"
    login: tuple[str, ...] = ()
    stream: str = "VOICEINGEST"
    ca: str = ""
    # Where to ask for the primary, with sentinels; empty without.
    service: str = ""


class Witness:
    """What came, as audio: which frames of which stream, in which order, how late."""

    def __init__(self) -> None:
        # (source, stream) -> runs of numbers, in the order they came.
        self._runs: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
        self._seen: dict[tuple[int, int], set[int]] = defaultdict(set)
        self._repeats: list[list[int]] = []
        self._late: dict[int, list[float]] = {}
        self._neighbour_ms: list[list[float]] = []
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._keys: dict[tuple[str, int], set[int]] = defaultdict(set)
        self.counts: Counter[str] = Counter()
        # The least and the greatest of what the daemon's clock said.
        self._clock_ms: list[int] = []

    def frame(self, message: dict[str, Any], audio: bytes) -> None:
        """One frame of audio."""
        now_ns = time.monotonic_ns()
        mark = read_mark(audio)
        self.counts["frames"] += 1
        name = str(message["interaction_id"])
        if mark is None or not name.endswith(f"-{mark.stream}"):
            self.counts["foreign"] += 1
            return
        key = (mark.source, mark.stream)
        self._order(message, name)
        clock_ms = int(message["timestamp_ms"])
        before = self._clock_ms or [clock_ms]
        self._clock_ms = [min(before[0], clock_ms), max(before[-1], clock_ms)]
        if mark.number in self._seen[key]:
            self._repeats.append([*key, mark.number, mark.spoken_ns])
        else:
            self._seen[key].add(mark.number)
        runs = self._runs[key]
        if runs and runs[-1][1] + 1 == mark.number:
            runs[-1][1] = mark.number
        else:
            runs.append([mark.number, mark.number])
        late_ms = (now_ns - mark.spoken_ns) / 1e6
        if mark.source == _NEIGHBOUR:
            self._neighbour_ms.append([round(now_ns / 1e9, 3), round(late_ms, 2)])
        bucket = self._late.setdefault(now_ns // (_BUCKET_MS * 1_000_000), [0, 0.0])
        bucket[0] += 1
        bucket[1] = max(bucket[1], late_ms)

    def _order(self, message: dict[str, Any], name: str) -> None:
        """The numbers of one epoch, each once: where the bus tells the epoch."""
        if "epoch" in message:
            known = self._keys[name, int(message["epoch"])]
            if int(message["seq"]) in known:
                self.counts["same_key_twice"] += 1
            known.add(int(message["seq"]))

    def event(self, message: dict[str, Any]) -> None:
        """One event."""
        self.counts["events"] += 1
        self._events[str(message["interaction_id"])].append({**message, "at_s": time.monotonic()})

    def has_ended(self, names: list[str]) -> bool:
        """Whether the last that was told of each of these streams is its end: its audio came before that."""
        told = (self._events.get(name) for name in names)
        return all(events and events[-1]["event"] in _LAST_WORDS for events in told)

    def worst_of_late(self) -> float | None:
        """How late the latest of the last second was; ``None`` when hardly anything came."""
        now = time.monotonic_ns() // (_BUCKET_MS * 1_000_000)
        last = [self._late[bucket] for bucket in range(now - 10, now) if bucket in self._late]
        return max(worst for _, worst in last) if len(last) >= 8 else None

    def report(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "event": "report",
            "runs": [[*key, runs] for key, runs in self._runs.items()],
            "repeats": self._repeats,
            "late": [[bucket / 10, count, round(worst, 1)] for bucket, (count, worst) in self._late.items()],
            "neighbour_ms": self._neighbour_ms,
            "events": self._events,
            "counts": self.counts,
            "clock_ms": self._clock_ms,
        }


Turn = Callable[[], Coroutine[Any, Any, None]]


class Resp:
    """One connection that speaks RESP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._parser = hiredis.Reader()

    @classmethod
    async def dial(cls, host: str, port: int, login: tuple[str, ...], ca: str = "") -> Resp:
        """A connection that has been let in; over TLS when there is a ``ca`` to trust."""
        trust = ssl.create_default_context(cafile=ca) if ca else None
        resp = cls(*await asyncio.open_connection(host, port, limit=1 << 20, ssl=trust))
        if login:
            await resp.ask("AUTH", *login)
        return resp

    def tell(self, *words: str | bytes) -> None:
        """Send one command."""
        # Declared for one word only.
        self.writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]

    async def ask(self, *words: str | bytes) -> Any:
        """Send one command; its answer."""
        self.tell(*words)
        return await self.answer()

    async def answer(self) -> Any:
        """The next answer. Raises: ``ConnectionError``, ``hiredis.ReplyError``."""
        while (reply := self._parser.gets()) is False:
            data = await self._reader.read(1 << 18)
            if not data:
                raise ConnectionResetError("the server has closed")
            self._parser.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply


class Consumer:
    """Reads one bus until told to end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.witness = Witness()
        self._cursors = {plan.frames: "0", plan.events: "0"}
        self._at = ("", 0)

    async def run(self) -> None:
        """Read; subscribe again when the connection breaks."""
        turn: Turn = {"pubsub": self._pubsub, "streams": self._streams, "nats": self._nats}[self._plan.bus]
        while True:
            try:
                await turn()
            except (OSError, hiredis.ReplyError):
                self.witness.counts["breaks"] += 1
                await asyncio.sleep(_AGAIN_S)

    async def _dial(self) -> Resp:
        host, port = await self._primary() if self._plan.service else self._way()
        resp = await Resp.dial(host, port, tuple(self._plan.login), self._plan.ca)
        if self._plan.service and (await resp.ask("ROLE"))[0] != b"master":
            raise ConnectionError("not the primary any more")
        self._at = (host, port)
        return resp

    def _way(self) -> tuple[str, int]:
        host, port = self._plan.ways[self.witness.counts["breaks"] % len(self._plan.ways)]
        return str(host), int(port)

    async def _primary(self) -> tuple[str, int]:
        """Who is named by the sentinel whose turn it is."""
        sentinel = await Resp.dial(*self._way(), ())
        found = await sentinel.ask("SENTINEL", "get-master-addr-by-name", self._plan.service)
        sentinel.writer.close()
        if found is None:
            raise ConnectionError("no primary is known")
        return found[0].decode(), int(found[1])

    async def _pubsub(self) -> None:
        plan, resp = self._plan, await self._dial()
        await resp.ask("SUBSCRIBE", plan.frames)
        await resp.ask("SUBSCRIBE", plan.events)
        _say({"event": "subscribed"})
        frames = plan.frames.encode()
        while True:
            _, channel, payload = await resp.answer()
            message = json.loads(payload)
            if channel == frames:
                self.witness.frame(message, base64.b64decode(message["audio"]))
            else:
                self.witness.event(message)

    async def _streams(self) -> None:
        resp, asked_at = await self._dial(), time.monotonic()
        _say({"event": "subscribed"})
        while True:
            keys, cursors = list(self._cursors), list(self._cursors.values())
            found = await resp.ask("XREAD", "COUNT", "2000", "BLOCK", "500", "STREAMS", *keys, *cursors)
            for key, entries in found or ():
                for entry, words in entries:
                    self._entry(key.decode(), dict(zip(words[::2], words[1::2], strict=True)))
                    self._cursors[key.decode()] = entry.decode()
            # A primary that was replaced goes on answering for seconds: nothing new comes to it.
            if self._plan.service and time.monotonic() > asked_at + _ASK_S:
                asked_at = time.monotonic()
                if await self._primary() != self._at:
                    resp.writer.close()
                    raise ConnectionError("another primary is named")

    def _entry(self, key: str, words: dict[bytes, bytes]) -> None:
        if key == self._plan.events:
            self.witness.event(json.loads(words[b"event"]))
        else:
            message = {name.decode(): value.decode() for name, value in words.items() if name != b"audio"}
            self.witness.frame(message, words[b"audio"])

    async def _nats(self) -> None:
        from .jetstream import follow

        await follow(self._plan, self.witness, lambda: _say({"event": "subscribed"}))


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Read the plan, run it, say what came."""
    commands = await lines_of_stdin()
    consumer = Consumer(Plan(**json.loads(await commands.readline())))
    reading = asyncio.get_running_loop().create_task(consumer.run())
    while True:
        told = asyncio.ensure_future(commands.readline())
        await asyncio.wait([reading, told], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        command = json.loads(await told or '{"do": "end"}')
        if command["do"] == "end":
            break
        _say({"event": "late", "worst_ms": consumer.witness.worst_of_late()})
    # On a busy machine what is quiet may be on its way; where it was lost nobody waits for ever.
    until = time.monotonic() + _LAST_WORDS_S
    while not consumer.witness.has_ended(command.get("ended", [])) and time.monotonic() < until:
        await asyncio.sleep(_AGAIN_S)
    before = -1
    while consumer.witness.counts["frames"] != before:
        before = consumer.witness.counts["frames"]
        await asyncio.sleep(command.get("quiet_s", 0.0))
    reading.cancel()
    _say(consumer.witness.report())


if __name__ == "__main__":
    asyncio.run(main())
