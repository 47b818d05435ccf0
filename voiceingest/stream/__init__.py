"""What a stream remembers: pure values and tables, time is an argument.

Imports no Twisted, asyncio, socket or clock. ``driver`` remembers a stream by it, ``calls`` what is
played, agents a conversation, ``transcribing`` what a transcriber is owed. ``resampler`` is not among
the names below: it needs an extra, and is imported by whoever resamples.
"""

from __future__ import annotations

from .bucket import TokenBucket
from .chat import ChatReader
from .conversation import Conversation
from .ended import Ended
from .farewells import Farewells
from .framer import ChunkProfile, Framer, exotel_profile
from .ledger import Ledger
from .playback import Chunk, Cleared, MarkOut, Playback
from .resume import NO_WISH, ResumeClaim, Wish, is_same_numbering, seq_to_resume_at
from .sentences import Sentences
from .session_states import SessionState, SessionStep, next_session_state
from .states import State, Step, next_state
from .stream import Authority, Stream, StreamRules, Wake
from .vad import EnergyVad, Voice

__all__ = [
    "NO_WISH",
    "Authority",
    "ChatReader",
    "Chunk",
    "ChunkProfile",
    "Cleared",
    "Conversation",
    "Ended",
    "EnergyVad",
    "Farewells",
    "Framer",
    "Ledger",
    "MarkOut",
    "Playback",
    "ResumeClaim",
    "Sentences",
    "SessionState",
    "SessionStep",
    "State",
    "Step",
    "Stream",
    "StreamRules",
    "TokenBucket",
    "Voice",
    "Wake",
    "Wish",
    "exotel_profile",
    "is_same_numbering",
    "next_session_state",
    "next_state",
    "seq_to_resume_at",
]
