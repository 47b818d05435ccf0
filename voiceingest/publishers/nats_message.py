"""One message for JetStream as it is written: an ``HPUB`` command with its headers. Pure.

``HPUB <subject> <reply> <bytes of headers> <bytes of headers and payload>`` and a line end, the headers,
the payload, a line end (docs.nats.io, "Client Protocol"). What is the same for every message of a lane
is encoded once.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ..interfaces import StreamFacts
from ..wire.envelope import FrameParts, encode_frame, frame_parts
from .nats_subjects import subject, token

if TYPE_CHECKING:
    from ..config.settings import Settings

# A server closes the connection at a longer control line (max_control_line, 4096 unless it is set); the
# rest of ours is below 100.
SUBJECT_MAX_CHARS: Final = 3900


class Prepared:
    """What the messages of one lane have in common. Compared by identity: one lane, one of these.

    ``subject_chars``: the length of the longer subject.
    """

    __slots__ = ("_events_start", "_frames_start", "_headers", "_shared", "subject_chars")

    def __init__(self, settings: Settings, facts: StreamFacts) -> None:
        tenant_id, interaction_id, audio = facts.tenant_id, facts.interaction_id, facts.audio
        frames = subject(settings.nats_subject, tenant_id, interaction_id)
        events = subject(settings.nats_events_subject, tenant_id, interaction_id)
        self._frames_start = f"HPUB {frames} ".encode("ascii")
        self._events_start = f"HPUB {events} ".encode("ascii")
        self._shared: FrameParts = frame_parts(tenant_id, interaction_id, audio.sample_rate, audio.encoding)
        self._headers = (
            f"NATS/1.0\r\nVoiceingest-Epoch: {facts.epoch}\r\n"
            f"Nats-Msg-Id: {token(tenant_id)}:{token(interaction_id)}:{facts.epoch}:"
        ).encode("ascii")
        self.subject_chars = max(len(frames), len(events))

    def message(self, reply: bytes, seq: int, timestamp_ms: int, payload: bytes) -> tuple[bytes, bytes, int]:
        """All up to the payload, the payload, and the bytes of headers and payload together.

        A line end follows the payload. ``seq`` 0 marks an event, as in ``IBus.send``.
        """
        if seq:
            start, body = self._frames_start, encode_frame(self._shared, seq, timestamp_ms, payload)
            headers = b"%b%d\r\n\r\n" % (self._headers, seq)
        else:
            start, body = self._events_start, payload
            # An event has no seq of its own: the same one sent again has the same time and text.
            digest = blake2b(payload, digest_size=8).hexdigest().encode("ascii")
            headers = b"%be:%d:%b\r\n\r\n" % (self._headers, timestamp_ms, digest)
        size_bytes = len(headers) + len(body)
        return b"%b%b %d %d\r\n%b" % (start, reply, len(headers), size_bytes, headers), body, size_bytes
