"""Take frames from JetStream: a durable pull consumer that acknowledges after the work is done.

    pip install nats-py
    python examples/nats_consumer.py --server nats://localhost:4222 --durable transcriber

Start it again and it goes on where it was; start it twice and the two share the work. JetStream gives
a message to a worker again when it was not acknowledged in time (``ACK_WAIT_S``), so one whose work was
done and whose acknowledgement was lost comes twice: frames are dropped by (tenant, interaction, epoch,
seq). The frame's own seq says whether one is missing; a ``gap`` event says why.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import nats
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NothingNew
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

FRAMES_MAX = 100_000
ACK_WAIT_S = 30.0
# How much one worker takes at a time, and how much may be out to all of them together.
BATCH = 100
UNACKED_MAX = 1000

Stream = tuple[str, str, int]


class Seen:
    """The frames that were worked on here, the last FRAMES_MAX of them.

    Each by its number: what another worker left behind comes again after later frames of its stream.
    """

    def __init__(self) -> None:
        self._done: OrderedDict[tuple[Stream, int], None] = OrderedDict()

    def is_new(self, stream: Stream, seq: int) -> bool:
        """Whether this frame has not been worked on here."""
        return (stream, seq) not in self._done

    def done(self, stream: Stream, seq: int) -> None:
        """This frame has been worked on."""
        self._done[stream, seq] = None
        if len(self._done) > FRAMES_MAX:
            self._done.popitem(last=False)


async def consume(
    server: str,
    stream_name: str,
    durable: str,
    on_frame: Callable[[Stream, int, bytes], None],
    on_event: Callable[[dict[str, Any]], None],
    frames_max: int | None = None,
) -> None:
    """Call ``on_frame`` and ``on_event`` for everything on the stream, until ``frames_max`` frames."""
    client = await nats.connect(server.split(","))
    try:
        config = ConsumerConfig(
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=UNACKED_MAX,
            deliver_policy=DeliverPolicy.ALL,
        )
        consumer = await client.jetstream().pull_subscribe(
            "", durable=durable, stream=stream_name, config=config
        )
        seen, frames = Seen(), 0
        while frames_max is None or frames < frames_max:
            room = BATCH if frames_max is None else min(BATCH, frames_max - frames)
            try:
                messages = await consumer.fetch(room, timeout=5)
            except NothingNew:
                continue
            for message in messages:
                frames += work(message, seen, on_frame, on_event)
                await message.ack()
        # The last acknowledgements are on their way: wait until the server has read them.
        await client.flush()
    finally:
        await client.close()


def work(
    message: Msg,
    seen: Seen,
    on_frame: Callable[[Stream, int, bytes], None],
    on_event: Callable[[dict[str, Any]], None],
) -> int:
    """Do the work of one message; answers how many frames that was."""
    told = json.loads(message.data)
    if "event" in told:
        on_event(told)
        return 0
    epoch = int((message.headers or {})["Voiceingest-Epoch"])
    stream = told["tenant_id"], told["interaction_id"], epoch
    if seen.is_new(stream, told["seq"]):
        on_frame(stream, told["seq"], base64.b64decode(told["audio"]))
        seen.done(stream, told["seq"])
    return 1


def main() -> None:
    """Print one line for each frame and each event."""
    parser = argparse.ArgumentParser(description="Print what is on a JetStream stream, and acknowledge it.")
    parser.add_argument("--server", default="nats://localhost:4222", help="one or several, with commas")
    parser.add_argument("--stream", default="VOICEINGEST")
    parser.add_argument("--durable", default="example", help="workers of one name share the work")
    parser.add_argument("--frames", type=int, default=None, help="stop after so many")
    options = parser.parse_args()

    def on_frame(stream: Stream, seq: int, audio: bytes) -> None:
        tenant_id, interaction_id, epoch = stream
        sys.stdout.write(f"{tenant_id} {interaction_id} {epoch} {seq} {len(audio)} bytes\n")

    def on_event(event: dict[str, Any]) -> None:
        sys.stdout.write(f"{event['tenant_id']} {event['interaction_id']} {event['event']}\n")

    asyncio.run(consume(options.server, options.stream, options.durable, on_frame, on_event, options.frames))


if __name__ == "__main__":
    main()
