"""The caller hears what it says: to try a line out."""

from __future__ import annotations

from .base import Agent


class Echo(Agent):
    """Says what it hears, at once. Nobody can speak over their own echo."""

    is_interruptible = False

    def audio(self, pcm: bytes) -> None:
        """The caller's voice."""
        self.call.say(pcm)
