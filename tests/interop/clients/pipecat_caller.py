"""pipecat's serializer at the other end of a line: it writes what the daemon hears and reads its answer.

The two messages that begin a call are Exotel's alone, and are written out here; the audio is pipecat's.
Prints what was sent, what came, and what pipecat made of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from typing import Any

from pipecat.frames.frames import (  # type: ignore[import-not-found]
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.interop.clients.pipecat_bot import RATE, serializer
from tests.interop.clients.session import DEADLINE_S

SID = "sid-pipecat"
# 200 ms, the size in which the daemon answers at this rate: each message is compared with its echo.
PIECE_BYTES = 3200


async def begin(socket: ClientConnection) -> None:
    """What Exotel says first."""
    start = {
        "stream_sid": SID,
        "call_sid": "call-pipecat",
        "account_sid": "a1",
        "media_format": {"encoding": "audio/x-raw", "sample_rate": str(RATE), "bit_rate": "16"},
    }
    await socket.send(json.dumps({"event": "connected"}))
    message = {"event": "start", "sequence_number": "1", "stream_sid": SID, "start": start}
    await socket.send(json.dumps(message))


async def talk(socket: ClientConnection, spoken: bytes) -> dict[str, Any]:
    """Say all of it, and listen until as much has come back."""
    exotel = await serializer({"stream_id": SID, "call_id": "call-pipecat"})
    sent: list[str] = [await exotel.serialize(InterruptionFrame())]
    for at in range(0, len(spoken), PIECE_BYTES):
        sent.append(await exotel.serialize(OutputAudioRawFrame(spoken[at : at + PIECE_BYTES], RATE, 1)))
    for message in sent:
        await socket.send(message)
    came: list[str] = []
    heard, strange = b"", 0
    while len(heard) < len(spoken):
        came.append(str(await socket.recv()))
        frame = await exotel.deserialize(came[-1])
        if isinstance(frame, InputAudioRawFrame):
            heard += frame.audio
        else:
            strange += 1
    return {
        "sent": [json.loads(message) for message in sent],
        "came": [json.loads(message) for message in came],
        "heard": base64.b64encode(heard).decode(),
        "strange": strange,
    }


async def _main() -> None:
    spoken = base64.b64decode(os.environ["SPOKEN"])
    headers = {"Authorization": f"Bearer {os.environ['EXOTEL_WS_TOKEN']}"}
    there = connect(os.environ["WS_URL"], additional_headers=headers)
    async with asyncio.timeout(DEADLINE_S), there as socket:
        await begin(socket)
        account = await talk(socket, spoken)
        await socket.send(json.dumps({"event": "stop", "stop": {"reason": "callended"}}))
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            account["close"] = closed.rcvd.code if closed.rcvd else None
    json.dump(account, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
