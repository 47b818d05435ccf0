"""A bot of pipecat: one call of Exotel by its own start and serializer, and an echo; a key interrupts it.

Prints the port it listens on, and after the call what it made of it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

# Not installed where types are checked.
from pipecat.frames.frames import (  # type: ignore[import-not-found]
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
)
from pipecat.runner.utils import parse_telephony_websocket  # type: ignore[import-not-found]
from pipecat.serializers.exotel import ExotelFrameSerializer  # type: ignore[import-not-found]
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.interop.clients.session import DEADLINE_S

RATE = 8000


class Socket:
    """As much of the web framework's WebSocket as pipecat asks for."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def iter_text(self) -> AsyncIterator[str]:
        """Every message."""
        async for message in self._connection:
            yield str(message)


async def serializer(call: Any) -> Any:
    """pipecat's end of a call, at the rate of the line, set up as its pipeline does."""
    made = ExotelFrameSerializer(call["stream_id"], call["call_id"])
    await made.setup(SimpleNamespace(audio_in_sample_rate=RATE))
    return made


async def answer(connection: ServerConnection) -> dict[str, Any]:
    """One call, and what there was in it."""
    kind, call = await parse_telephony_websocket(Socket(connection))
    exotel, heard, digits = await serializer(call), b"", ""
    async for message in connection:
        frame = await exotel.deserialize(str(message))
        answered: Any = None
        if isinstance(frame, InputAudioRawFrame):
            heard += frame.audio
            answered = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        elif isinstance(frame, InputDTMFFrame):
            digits += frame.button.value
            answered = InterruptionFrame()
        if answered is not None:
            # The caller has hung up already, and its last words are still to be read.
            with contextlib.suppress(ConnectionClosed):
                await connection.send(await exotel.serialize(answered))
    told = {name: call[name] for name in ("stream_id", "call_id", "account_sid", "from", "to")}
    return {"kind": kind, **told, "digits": digits, "heard": base64.b64encode(heard).decode()}


async def _main() -> None:
    account: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def call(connection: ServerConnection) -> None:
        account.set_result(await answer(connection))

    async with asyncio.timeout(DEADLINE_S), serve(call, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        json.dump(await account, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
