"""How other people's services are asked over HTTP: ``client`` asks, ``pool`` keeps the connections."""

from __future__ import annotations

from .client import HttpClient

__all__ = ["HttpClient"]
