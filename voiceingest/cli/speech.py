"""Something that sounds like speech, made of nothing: syllables, pauses, a falling pitch. Pure.

A glottal pulse train and noise run through three resonators set to the formants of a vowel
(Peterson and Barney, 1952, men's averages); each syllable opens with a short burst of noise.
The same seed gives the same samples.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .meter import bytes_of

VOWELS_HZ: Final = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
)
_BANDWIDTHS_HZ: Final = (80.0, 110.0, 160.0)
_GAINS: Final = (1.0, 0.5, 0.25)

SYLLABLE_S: Final = (0.11, 0.24)
GAP_S: Final = (0.02, 0.06)
PAUSE_S: Final = (0.18, 0.42)
PITCH_HZ: Final = 128.0
PEAK: Final = 0.6


@dataclass(frozen=True, slots=True)
class Syllable:
    """One syllable, or a silence when ``formants_hz`` is empty; lengths in samples."""

    length: int
    formants_hz: tuple[int, ...] = ()
    pitch_hz: float = PITCH_HZ
    onset: int = 0


class Resonator:
    """A two-pole resonator at ``centre_hz``."""

    def __init__(self, centre_hz: float, bandwidth_hz: float, rate: int) -> None:
        radius = math.exp(-math.pi * bandwidth_hz / rate)
        self.b1 = 2 * radius * math.cos(2 * math.pi * min(centre_hz, rate * 0.45) / rate)
        self.b2 = -radius * radius
        self.a0 = 1 - radius
        self.y1 = self.y2 = 0.0

    def step(self, x: float) -> float:
        """Take one sample in, give one out."""
        y = self.a0 * x + self.b1 * self.y1 + self.b2 * self.y2
        self.y2, self.y1 = self.y1, y
        return y


def plan(total: int, rate: int, chance: random.Random) -> Iterator[Syllable]:
    """Words of one to four syllables with pauses between them, ``total`` samples in all."""
    done = 0
    while done < total:
        for _ in range(chance.randint(1, 4)):
            # The pitch falls over the sentence, as it does in a statement.
            pitch = PITCH_HZ * (1.1 - 0.25 * done / total) * chance.uniform(0.95, 1.08)
            length = int(chance.uniform(*SYLLABLE_S) * rate)
            yield Syllable(length, chance.choice(VOWELS_HZ), pitch, int(0.03 * rate))
            gap = int(chance.uniform(*GAP_S) * rate)
            yield Syllable(gap)
            done += length + gap
        pause = int(chance.uniform(*PAUSE_S) * rate)
        yield Syllable(pause)
        done += pause


def _voiced(syllable: Syllable, rate: int, chance: random.Random) -> Iterator[float]:
    """The samples of one syllable: source, filter, envelope."""
    bank = [
        (Resonator(hz, width, rate), gain)
        for hz, width, gain in zip(syllable.formants_hz, _BANDWIDTHS_HZ, _GAINS, strict=False)
    ]
    phase = 0.0
    for n in range(syllable.length):
        phase += syllable.pitch_hz / rate
        pulse = 0.0
        if phase >= 1.0:
            phase -= 1.0
            pulse = 8.0
        breath = chance.random() - 0.5
        source = breath * 2.0 if n < syllable.onset else pulse + breath * 0.15
        envelope = math.sin(math.pi * (n + 0.5) / syllable.length) ** 0.6
        yield envelope * sum(gain * resonator.step(source) for resonator, gain in bank)


def speak(seconds: float = 6.0, rate: int = 24000, seed: int = 7) -> bytes:
    """``seconds`` of speech-like mono PCM16LE at ``rate`` samples per second."""
    total = max(1, int(seconds * rate))
    chance = random.Random(seed)  # noqa: S311 (noise, not a secret)
    wave: list[float] = []
    for syllable in plan(total, rate, chance):
        wave.extend(_voiced(syllable, rate, chance) if syllable.formants_hz else [0.0] * syllable.length)
        if len(wave) >= total:
            break
    del wave[total:]
    return _to_pcm(wave)


def tone(hz: float, seconds: float, rate: int = 24000) -> bytes:
    """``seconds`` of a sine at ``hz``, 6 dB below full scale."""
    step = 2 * math.pi * hz / rate
    total = max(1, int(seconds * rate))
    return bytes_of(array("h", (round(16384 * math.sin(step * n)) for n in range(total))))


def _to_pcm(wave: list[float]) -> bytes:
    loudest = max(map(abs, wave), default=0.0)
    scale = PEAK * 32767 / loudest if loudest else 0.0
    return bytes_of(array("h", (round(value * scale) for value in wave)))
