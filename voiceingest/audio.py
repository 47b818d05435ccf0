"""Audio as values: what a stream carries and how its bytes, samples and seconds relate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Rates a stream may announce, in samples per second (contract section 1).
SAMPLE_RATES: Final = (8000, 16000, 24000, 32000, 44100, 48000)

# The encodings a stream may announce and the bytes one mono sample takes.
SAMPLE_BYTES: Final = {"pcm16": 2}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Mono audio at ``sample_rate`` samples per second in one of :data:`SAMPLE_BYTES`."""

    sample_rate: int = 24000
    encoding: str = "pcm16"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return SAMPLE_BYTES[self.encoding]

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second of audio in real time."""
        return self.sample_rate * self.sample_bytes

    def samples(self, size_bytes: int) -> int:
        """Whole samples in ``size_bytes``."""
        return size_bytes // self.sample_bytes

    def seconds(self, size_bytes: int) -> float:
        """Play time of ``size_bytes`` of audio, in seconds."""
        return size_bytes / self.bytes_per_s
