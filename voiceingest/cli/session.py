"""What is said on the connections of one stream: start, frames by number, stop; and what is answered.

The daemon numbers the frames of a stream from 1. A resumed stream goes on with the number the daemon
names (``next_seq``); one that begins anew is numbered from 1 again, from the oldest frame that is not
acknowledged (docs/how-to/resume.md). No connection is made here and no time is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .backlog import Backlog, kept_bytes
from .link import Link
from .resumption import START_ANEW, Resumption
from .tally import Tally


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose audio it is and what it is."""

    tenant_id: str
    interaction_id: str
    sample_rate: int = 24000


class Session:
    """One stream; ``resume`` keeps frames until they are acknowledged, and asks to go on."""

    def __init__(
        self,
        identity: Identity,
        seconds: Callable[[], float],
        *,
        resume: bool = False,
        renew: Callable[[], str] | None = None,
    ) -> None:
        self._identity = identity
        self._seconds = seconds
        self._renew = renew
        self.resume = resume
        self.tally = Tally()
        self.resumption = Resumption(renewable=renew is not None)
        self.backlog = Backlog(kept_bytes(identity.sample_rate))
        self.stopping = False
        # Whether the daemon has said on this connection from where on it takes frames.
        self.attached = False
        self.moved = False
        self._next = 1
        self._stop_said = False

    # --- what is said

    def say_start(self, link: Link) -> None:
        """Say ``start``, with what is needed to go on with a stream that has begun before."""
        fields: dict[str, Any] = {
            "interaction_id": self._identity.interaction_id,
            "tenant_id": self._identity.tenant_id,
            "sample_rate": self._identity.sample_rate,
            "encoding": "pcm16",
        }
        if self.resume:
            fields["resumable"] = True
        if self.resume and self.resumption.token is not None:
            fields["resume_token"] = self.resumption.token
            fields["acked"] = self.tally.acked_seq
            fields["from_seq"] = self.backlog.first - self.tally.base
        self.attached = self.moved = False
        link.say(event="start", **fields)

    def add(self, audio: bytes) -> None:
        """Take the next frame of the stream."""
        self.tally.sent(len(audio), self._seconds())
        self.backlog.add(audio)

    def pump(self, link: Link) -> None:
        """Send what is to be sent, as long as the connection takes it; then ``stop``, if ``stopping``."""
        if not self.attached:
            return
        while self._next <= self.backlog.last and link.takes_frames and not self.has_hole:
            link.send(self.backlog.frame(self._next))
            self._next += 1
        if not self.resume:
            self.backlog.release(self._next - 1)
        if self.stopping:
            self._stop_when_all_is_sent(link)

    @property
    def has_hole(self) -> bool:
        """Whether a frame that this connection waits for has been forgotten: only a new one may skip it."""
        return self._next < self.backlog.first

    def _stop_when_all_is_sent(self, link: Link) -> None:
        if self.attached and self._next > self.backlog.last and not link.stop_said:
            link.stop_said = self._stop_said = True
            link.say(event="stop")

    # --- what is heard

    def hear(self, link: Link, message: dict[str, Any]) -> None:
        """One message of the daemon."""
        self.resumption.hear(message)
        event = message.get("event")
        if event == "ack" and isinstance(message.get("seq"), int):
            if self.tally.ack(message["seq"], self._seconds()):
                self.backlog.release(self.tally.base + message["seq"])
        elif event == "started":
            self._started(link, message)
        elif event == "stopped":
            self.tally.finish(message)
        elif event == "moved":
            self.moved = True
        elif event == "error":
            self._error(link, str(message.get("code")), str(message.get("message")))
        elif event == "gap":
            self.tally.gap(message.get("from"), message.get("to"))
        elif event == "auth_expiring" and self._renew is not None:
            self.tally.renewals += 1
            link.say(event="auth", token=self._renew())

    def _started(self, link: Link, message: dict[str, Any]) -> None:
        next_seq = message.get("next_seq")
        if message.get("resumed") is True and isinstance(next_seq, int):
            number = self.tally.base + next_seq
            if not self.backlog.first <= number <= self.backlog.last + 1:
                self.tally.error("resume_hole", "The server goes on at a frame that is not kept any more")
                link.abort()
                return
            self._next = number
            self.tally.resumes += 1
        else:
            if self.tally.started is not None:
                self.tally.began_anew(self.backlog.first - 1)
            self._next = self.backlog.first
        self.tally.started = message
        # A daemon that gives no token has no use for frames that were sent before.
        self.resume = self.resume and self.resumption.token is not None
        self.attached = True
        self.pump(link)

    def _error(self, link: Link, code: str, message: str) -> None:
        self.tally.error(code, message)
        if code not in START_ANEW or self.attached or self.resumption.token is None:
            return
        if code == "resume_expired" and self._stop_said:
            # It was stopped as we asked, and the answer is what was lost: there is nothing to go on with.
            self.tally.unanswered = True
            link.abort()
        else:
            # The stream is over for the daemon; the audio is not: from here on it is another stream.
            self.resumption.token = None
            self.say_start(link)
