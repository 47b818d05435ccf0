"""Settings: ``settings`` is the typed place, ``load`` reads it, ``render`` writes its documents.

Anything above floor 1 may import it; it imports nothing of the package but ``errors``.
"""

from __future__ import annotations

from .settings import Settings

__all__ = ["Settings"]
