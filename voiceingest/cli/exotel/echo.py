"""Whether what comes back is what was sent, sample by sample. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .voice import Voice


class Echo:
    """Compares, in the order of arrival, what a bot sends with what was said to it. ``decode`` gives PCM16.

    ``identical`` samples from the first on were the same; ``differs_at`` is the first that was not.
    """

    def __init__(self, voice: Voice, sample_bytes: int, decode: Callable[[bytes], bytes] = bytes) -> None:
        self._voice = voice
        self._sample_bytes = sample_bytes
        self._decode = decode
        self._same_bytes = 0
        self.differs_at: int | None = None

    @property
    def identical(self) -> int:
        """How many samples were the same before the first that was not."""
        return self._same_bytes // self._sample_bytes

    def take(self, coded: bytes) -> None:
        """The next piece that came back, as it was on the wire."""
        if self.differs_at is not None:
            return
        said = self._voice.read(self._same_bytes, len(coded))
        if said == coded:
            self._same_bytes += len(coded)
            return
        # Mu-law has two zeros, and other codes of one sound are none of a caller's business either.
        was, now = self._decode(said), self._decode(coded)
        differs = next((n for n in range(0, len(was), 2) if was[n : n + 2] != now[n : n + 2]), len(was))
        self._same_bytes += differs // 2 * self._sample_bytes
        if differs < len(was):
            self.differs_at = self.identical
