"""What every client of the interop tests has to say, and what it tells of the answers."""

from __future__ import annotations

import json
import os
import ssl
import sys
from collections.abc import Iterator
from typing import Any, Final

FRAMES: Final = 25
FRAME_BYTES: Final = 9600
WRONG_TOKEN: Final = "not.a.token"
DEADLINE_S: Final = 60.0


def frame(seq: int) -> bytes:
    """The audio of frame ``seq``: 200 ms at 24 kHz, told apart from every other."""
    return bytes((seq,)) * FRAME_BYTES


def frames() -> Iterator[bytes]:
    """The audio of the session, in order."""
    return (frame(seq) for seq in range(1, FRAMES + 1))


def start() -> str:
    """The first message."""
    return json.dumps(
        {
            "event": "start",
            "interaction_id": os.environ["INTERACTION_ID"],
            "tenant_id": os.environ["TENANT_ID"],
            "sample_rate": 24000,
            "encoding": "pcm16",
        }
    )


def stop() -> str:
    """The last message."""
    return json.dumps({"event": "stop"})


def url() -> str:
    """Where to connect to."""
    return os.environ["WS_URL"]


def authorization(token: str | None = None) -> dict[str, str]:
    """The header that carries ``token``, by default the good one."""
    return {"Authorization": f"Bearer {token or os.environ['JWT_TOKEN']}"}


def trust() -> ssl.SSLContext | None:
    """What to verify the daemon's certificate with; ``None`` without TLS."""
    path = os.environ["CA_PATH"]
    return ssl.create_default_context(cafile=path) if path else None


class Account:
    """Sorts the answers of the daemon and prints them at the end."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"acks": []}

    def text(self, message: str) -> str:
        """Take one message and return its event."""
        told = json.loads(message)
        event = str(told["event"])
        if event == "ack":
            self.told["acks"].append(told["seq"])
        else:
            self.told[event] = told
        return event

    def tell(self, close: int | None, refused: int) -> None:
        """Print the account."""
        json.dump({**self.told, "close": close, "refused": refused}, sys.stdout)
