"""The agent that does nothing, for others to begin from."""

from __future__ import annotations

from ..call_interfaces import AgentContext, ICall, Transcript


class Agent:
    """Answers one call (``IAgent``). Take what your agent needs of its methods, and leave the rest."""

    sample_rate = 0
    wants_transcripts = False
    is_interruptible = True

    call: ICall

    def __init__(self, context: AgentContext) -> None:
        """Made when a call begins, before it is known what it is."""
        self.context = context

    def begin(self, call: ICall) -> None:
        """The call stands: ``self.call`` may be spoken to from now on."""
        self.call = call

    def audio(self, pcm: bytes) -> None:
        """The caller's voice."""

    def transcript(self, transcript: Transcript) -> None:
        """The caller's words."""

    def dtmf(self, digit: str) -> None:
        """The caller pressed a key."""

    def played(self, mark: str) -> None:
        """What was said before ``mark`` has been heard."""

    def interrupted(self) -> None:
        """The caller speaks over the agent, who is silent already."""

    def end(self, reason: str) -> None:
        """The call is over."""
