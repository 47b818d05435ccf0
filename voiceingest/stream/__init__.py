"""What a stream remembers: pure values and tables, time is an argument.

Imports no Twisted, asyncio, socket or clock. ``driver`` is the only caller above this floor.
"""

from __future__ import annotations

from .bucket import TokenBucket
from .ended import Ended
from .farewells import Farewells
from .ledger import Ledger
from .resume import NO_WISH, ResumeClaim, Wish, is_same_numbering, seq_to_resume_at
from .states import State, Step, next_state
from .stream import Authority, Stream, StreamRules, Wake

__all__ = [
    "NO_WISH",
    "Authority",
    "Ended",
    "Farewells",
    "Ledger",
    "ResumeClaim",
    "State",
    "Step",
    "Stream",
    "StreamRules",
    "TokenBucket",
    "Wake",
    "Wish",
    "is_same_numbering",
    "next_state",
    "seq_to_resume_at",
]
