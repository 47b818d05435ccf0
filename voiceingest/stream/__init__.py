"""What a stream remembers: pure values and tables, time is an argument.

Imports no Twisted, asyncio, socket or clock. ``driver`` is the only caller above this floor.
"""

from __future__ import annotations

from .bucket import TokenBucket
from .ledger import Ledger
from .states import State, Step, next_state
from .stream import Authority, Stream, StreamRules, Wake

__all__ = [
    "Authority",
    "Ledger",
    "State",
    "Step",
    "Stream",
    "StreamRules",
    "TokenBucket",
    "Wake",
    "next_state",
]
