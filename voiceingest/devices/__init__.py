"""Devices and their tokens, beneath REST, gRPC and every transport.

Pure: ``credentials`` (what a device is given, and what is kept of it), ``families`` (whose tokens
were found to hold a moment ago). ``devices`` is the one who is asked (``device_interfaces.IDevices``),
over a store that is given; ``access`` checks its tokens, ``revocation`` says what no longer holds.
``audit`` writes what an auditor asks for. ``user_streams`` knows whose streams are live and ends them when
tokens are revoked; ``chain`` lets several parts hear of streams. ``upkeep`` does what is due now and then.

Floor 6: ``http``, ``transports`` and the wiring may import it; it does not import the store, nor
``sessions``.
"""

from __future__ import annotations

from .chain import Chain
from .devices import Devices
from .revocation import IUserStreams, Revocation
from .upkeep import Upkeep
from .user_streams import UserStreams

__all__ = ["Chain", "Devices", "IUserStreams", "Revocation", "Upkeep", "UserStreams"]
