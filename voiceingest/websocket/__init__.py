"""A WebSocket as the daemon wants it: Autobahn with every default that was open shut.

``protocol`` is the connection, ``frames`` the straight line for whole audio frames, ``session`` the
seam to the dialects, ``factory`` decides Autobahn's options. Transports and ``http.upgrade`` import
it; it knows no dialect.
"""

from __future__ import annotations

from .factory import HardenedFactory
from .protocol import HardenedProtocol
from .session import ISocketSession, SocketRules

__all__ = ["HardenedFactory", "HardenedProtocol", "ISocketSession", "SocketRules"]
