"""Nobody answers, and what the caller says is written down on the events channel."""

from __future__ import annotations

from .base import Agent


class Deepgram(Agent):
    """Says nothing; its call is transcribed."""

    wants_transcripts = True
    is_interruptible = False
