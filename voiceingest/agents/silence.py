"""Nobody answers: the audio is published, and that is all."""

from __future__ import annotations

from .base import Agent


class Silence(Agent):
    """Hears and says nothing."""

    is_interruptible = False
