"""Who answers a call: one file an agent. ``catalog`` names them, ``calls`` begins one for each call.

``pipeline`` has its parts beside it: ``turns`` hears when the caller has finished, ``model`` writes,
``voice`` speaks, ``answer`` is one answer under way, ``asking`` puts the questions to both services.

An agent of your own: subclass :class:`Agent` and name it in an entry point of the group
``voiceingest.agents``; ``docs/how-to/agents.md`` shows one in thirty lines.
"""

from __future__ import annotations

from .base import Agent

__all__ = ["Agent"]
