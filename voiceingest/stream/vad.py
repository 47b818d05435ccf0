"""Whether somebody speaks, by loudness alone: good enough to stop an agent that is spoken over.

Sound is looked at in windows of 20 ms. It is speech while it is louder, by a threshold, than the
background, which is learnt: quickly when it grows quieter, slowly when it grows louder.
"""

from __future__ import annotations

import enum
from operator import mul
from typing import Final

from ..audio import AudioFormat

# One window, and how much quiet ends an utterance: more than the pauses within a word.
WINDOW_MS: Final = 20
HANGOVER_MS: Final = 300

# Full scale is 32768. What is below the first is no speech whatever is around it; the background is
# never taken to be below the second, or digital silence would make speech of the hiss after it.
_SPEECH_LEAST_DB: Final = -45.0
_BACKGROUND_LEAST_DB: Final = -55.0

# How fast the background may grow, by window: 6 dB/s, and 2 dB/s while somebody speaks, so that a
# machine that is switched on is not taken for a speaker for ever. Downwards, 100 ms are enough.
_RISE: Final = 10 ** (6.0 * WINDOW_MS / 1000 / 10)
_RISE_SPEAKING: Final = 10 ** (2.0 * WINDOW_MS / 1000 / 10)
_FALL: Final = 0.2

# 8000 samples a second are enough to know how loud it is, and a window then costs some 8 us.
_LOOKED_AT_HZ: Final = 8000


class Voice(enum.Enum):
    """What has just become true."""

    STARTED = "started"
    STOPPED = "stopped"


class EnergyVad:
    """Listens to one speaker. The sum of what was fed counts, not how it was cut."""

    __slots__ = (
        "_background", "_carry", "_loud", "_quiet", "_ratio", "_start_count", "_step", "_window_bytes",
        "is_speaking",
    )

    def __init__(self, sample_rate: int, threshold_db: float, start_ms: int) -> None:
        self._window_bytes = AudioFormat(sample_rate).bytes_per_s * WINDOW_MS // 1000
        self._step = max(1, sample_rate // _LOOKED_AT_HZ)
        self._ratio = 10 ** (threshold_db / 10)
        self._start_count = max(1, -(-start_ms // WINDOW_MS))
        self._carry = bytearray()
        self._background = 0.0  # nothing was heard yet
        self._loud = 0  # windows in a row
        self._quiet = 0
        self.is_speaking = False

    def feed(self, pcm: bytes) -> list[Voice]:
        """Listen to PCM16LE; returns what came of it, in order."""
        carry, size = self._carry, self._window_bytes
        carry += pcm
        if len(carry) < size:
            return []
        whole = len(carry) - len(carry) % size
        events: list[Voice] = []
        with memoryview(carry) as view, view[:whole].cast("h") as samples:
            for at in range(0, whole // 2, size // 2):
                window = samples[at : at + size // 2 : self._step].tolist()
                event = self._hear(sum(map(mul, window, window)) / len(window))
                if event is not None:
                    events.append(event)
        del carry[:whole]
        return events

    def _hear(self, power: float) -> Voice | None:
        """Take one window's mean square."""
        background = self._background or power
        if power < background:
            background += (power - background) * _FALL
        else:
            background = min(power, background * (_RISE_SPEAKING if self.is_speaking else _RISE))
        self._background = background = max(background, _BACKGROUND_LEAST)
        level = max(background * self._ratio, _SPEECH_LEAST)
        if self.is_speaking:
            # Half as loud is still speech: without that, an even voice at the threshold flickers.
            self._quiet = 0 if power > level / 2 else self._quiet + 1
            if self._quiet * WINDOW_MS < HANGOVER_MS:
                return None
            self.is_speaking, self._loud = False, 0
            return Voice.STOPPED
        self._loud = self._loud + 1 if power > level else 0
        if self._loud < self._start_count:
            return None
        self.is_speaking, self._quiet = True, 0
        return Voice.STARTED


def _mean_square(db: float) -> float:
    return 32768.0**2 * 10 ** (db / 10)


_SPEECH_LEAST: Final = _mean_square(_SPEECH_LEAST_DB)
_BACKGROUND_LEAST: Final = _mean_square(_BACKGROUND_LEAST_DB)
