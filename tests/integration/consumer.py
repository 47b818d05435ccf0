"""A consumer of the bus, by hand: what any program that subscribes would see."""

from __future__ import annotations

import base64
import json
from typing import Any

from .callers import Listening


class Consumer(Listening):
    """A consumer of the bus: one connection that has subscribed; messages in the order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.raw: list[bytes] = []
        self.subscribed = 0
        self.answers: list[bytes] = []

    def __repr__(self) -> str:
        return f"<consumer of {len(self.messages)} messages, the last {str(self.messages[-1:])[:300]}>"

    def received(self) -> None:
        """Take whole arrays (RESP 2) and simple answers."""
        while (taken := self._take()) is not None:
            words, size = taken
            del self.unread[:size]
            if words[0] == b"message":
                self.raw.append(words[2])
                self.messages.append((words[1].decode(), json.loads(words[2])))
            elif words[0] == b"subscribe":
                self.subscribed += 1
            else:
                self.answers.append(words[0])

    def _take(self) -> tuple[list[bytes], int] | None:
        line, size = self._line(0)
        if line is None:
            return None
        if line[:1] != b"*":
            return [line], size
        words = []
        for _ in range(int(line[1:])):
            length, size = self._line(size)
            if length is None or (length[:1] == b"$" and len(self.unread) < size + int(length[1:]) + 2):
                return None
            if length[:1] == b"$":
                words.append(bytes(self.unread[size : size + int(length[1:])]))
                size += int(length[1:]) + 2
            else:
                words.append(length[1:])
        return words, size

    def _line(self, at: int) -> tuple[bytes | None, int]:
        end = self.unread.find(b"\r\n", at)
        return (None, at) if end < 0 else (bytes(self.unread[at:end]), end + 2)

    def command(self, *words: str) -> None:
        """Send one command."""
        parts = b"".join(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)
        self.transport.write(b"*%d\r\n" % len(words) + parts)

    def frames(self, interaction_id: str) -> list[tuple[int, bytes]]:
        """Seq and audio of every frame of one stream so far."""
        return [
            (message["seq"], base64.b64decode(message["audio"], validate=True))
            for channel, message in self.messages
            if channel == "audio:frames" and message["interaction_id"] == interaction_id
        ]

    def events(self, interaction_id: str) -> list[dict[str, Any]]:
        """Every event of one stream so far."""
        found = (message for channel, message in self.messages if channel == "audio:events")
        return [message for message in found if message["interaction_id"] == interaction_id]

    async def event(self, interaction_id: str, name: str) -> dict[str, Any]:
        """The first event of that name."""
        found = await self.until(
            lambda: [event for event in self.events(interaction_id) if event["event"] == name],
            f"{name} of {interaction_id} on the bus",
        )
        return found[0]
