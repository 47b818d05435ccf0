"""The loads: how many streams, what each says, how often. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Load:
    """``streams`` streams with ``per_s`` frames of ``size`` bytes of audio each; 0 is flat out."""

    key: str
    title: str
    dialect: str
    size: int
    per_s: float
    streams: int
    rate_hz: int = 24000

    @property
    def offered_per_s(self) -> float:
        """Frames a second on all streams together."""
        return self.per_s * self.streams

    def sized(self, streams: int) -> Load:
        """The same with another number of streams."""
        return Load(self.key, self.title, self.dialect, self.size, self.per_s, streams, self.rate_hz)


SMALL: Final = Load("ingest-960", "960 B at 50/s, 200 streams", "ingest", 960, 50, 200)
LARGE: Final = Load("ingest-9600", "9600 B at 5/s, 800 streams", "ingest", 9600, 5, 800)
# 100 ms of 16 kHz, which is what Exotel sends at that rate; at 8 kHz the same bytes are 200 ms.
CALLS: Final = Load("exotel-3200", "Exotel media, 3200 B at 10/s, 400 calls", "exotel", 3200, 10, 400, 16000)
CALLS_20MS: Final = Load("exotel-320", "Exotel media, 320 B at 50/s, 200 calls", "exotel", 320, 50, 200, 8000)
PACED: Final = (SMALL, LARGE, CALLS, CALLS_20MS)

FLAT: Final = Load("flat-9600", "flat out, 9600 B, 100 streams", "ingest", 9600, 0, 100)
TALKING: Final = Load("memory", "960 B at 5/s on 1000 of the connections", "ingest", 960, 5, 1000)
FANOUT: Final = ("redis-streams", "jetstream")

IDLE_COUNT: Final = 3000
HANDSHAKE_COUNT: Final = 2000
