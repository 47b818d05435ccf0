"""voiceingest: a daemon that takes live voice and puts it, in order and without loss, on a bus.

Floors (a module imports only from floors below its own; ``pyproject.toml`` holds the contracts):
0 ``errors``; 1 ``audio``, ``limits``; 2 ``wire``, ``config``; 3 ``stream``; 4 ``interfaces``,
``call_interfaces``, ``logs``, ``metrics``, ``lifecycle``, ``aio``; 5 ``auth``; 6 ``registry``, ``house``,
``driver``, ``publishers``, ``websocket``, ``transcribing``, ``outward``, ``exotel``, ``agents``, ``calls``;
7 ``transports``, ``http``; 8 ``catalog``; 9 ``service``, ``cli``.
"""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
