"""One worker of a consumer group that reads what voiceingest puts on Redis streams.

    pip install redis
    python redis_streams_consumer.py redis://localhost:6379 --consumer one

Start as many as you like, each with a name of its own. Every frame is worked on by one of them, and by
another if that one dies. It writes one JSON line for each frame; put your work into ``work``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import redis

READ_MAX_COUNT = 100
BLOCK_MS = 1000
# How long it is remembered which frames were done; no shorter than a frame can wait to be worked on.
DONE_S = 3600


def work(frame: dict[str, str], audio: bytes) -> None:
    """What is to be done with one frame. If it raises, the frame stays pending and is tried again."""
    named = {name: frame[name] for name in ("tenant_id", "interaction_id", "epoch", "seq")}
    sys.stdout.write(json.dumps({**named, "bytes": len(audio)}) + "\n")
    sys.stdout.flush()


class Worker:
    """Reads, works, and only then acknowledges."""

    def __init__(self, client: redis.Redis, frames: str, events: str, group: str, consumer: str) -> None:
        self.client, self.frames, self.events = client, frames, events
        self.group, self.consumer = group, consumer
        self.worked = 0
        for stream in (frames, events):
            try:
                client.xgroup_create(stream, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    def read(self, position: str) -> None:
        """Work on what nobody has had (``>``), or on what this consumer had when it died (``0``)."""
        streams = {self.frames: position, self.events: position}
        block_ms = BLOCK_MS if position == ">" else None
        answer = self.client.xreadgroup(
            self.group, self.consumer, streams, count=READ_MAX_COUNT, block=block_ms
        )
        for stream, entries in answer or ():
            self.take(stream.decode(), entries)

    def claim(self, idle_ms: int) -> None:
        """Work on what another consumer has had for so long without a word: it is dead."""
        for stream in (self.frames, self.events):
            cursor = b"0-0"
            while True:
                cursor, entries, trimmed = self.client.xautoclaim(
                    stream, self.group, self.consumer, idle_ms, cursor, count=READ_MAX_COUNT
                )
                self.take(stream, entries)
                if trimmed:
                    sys.stderr.write(
                        f"{len(trimmed)} entries were trimmed before anybody had worked on them\n"
                    )
                if cursor == b"0-0":
                    break

    def take(self, stream: str, entries: list) -> None:
        """Work on entries, in their order."""
        for entry_id, fields in entries:
            if fields is None:
                # Pending, and trimmed in the meantime: MAXLEN is too small for this consumer.
                self.client.xack(stream, self.group, entry_id)
            elif stream == self.events:
                self.hear(json.loads(fields[b"event"]))
                self.client.xack(stream, self.group, entry_id)
            else:
                self.once(entry_id, fields)

    def once(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        """Work on a frame unless that has been done: after a broken connection some come twice."""
        audio = fields[b"audio"]
        frame = {name.decode(): value.decode() for name, value in fields.items() if name != b"audio"}
        # One bit for each frame of (interaction, epoch), shared by all workers.
        done = f"done:{self.group}:{frame['tenant_id']}:{frame['interaction_id']}:{frame['epoch']}"
        seq = int(frame["seq"])
        if not self.client.getbit(done, seq):
            work(frame, audio)
            self.worked += 1
        with self.client.pipeline(transaction=True) as both:
            both.setbit(done, seq, 1)
            both.expire(done, DONE_S)
            both.xack(self.frames, self.group, entry_id)
            both.execute()

    def hear(self, told: dict) -> None:
        """Frames that will never come are declared, by their numbers."""
        if told["event"] == "gap":
            lost = f"{told['interaction_id']}: {told['from']} to {told['to']} lost: {told['reason']}\n"
            sys.stderr.write(lost)


def main() -> None:
    """Work until the end of time, or of ``--count`` frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--consumer", required=True)
    parser.add_argument("--group", default="workers")
    parser.add_argument("--frames", default="audio:frames")
    parser.add_argument("--events", default="audio:events")
    parser.add_argument("--idle-ms", type=int, default=30_000, help="longer than work on one batch may take")
    parser.add_argument("--count", type=int, default=0)
    chosen = parser.parse_args()
    client = redis.Redis.from_url(chosen.url)
    worker = Worker(client, chosen.frames, chosen.events, chosen.group, chosen.consumer)
    worker.read("0")
    claimed_at = 0.0
    while not chosen.count or worker.worked < chosen.count:
        if time.monotonic() - claimed_at > chosen.idle_ms / 1000:
            worker.claim(chosen.idle_ms)
            claimed_at = time.monotonic()
        worker.read(">")


if __name__ == "__main__":
    main()
