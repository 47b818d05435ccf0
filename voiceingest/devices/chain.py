"""Several parts that hear of streams, as one; the failure of one neither audio nor the others feel."""

from __future__ import annotations

from twisted.logger import Logger

from ..interfaces import StreamFacts
from ..session_interfaces import ILiveStream, IStreamRecords


class Chain:
    """Tells each of them, in order (``IStreamRecords``)."""

    _log = Logger()

    def __init__(self, *records: IStreamRecords) -> None:
        self._records = records

    def began(self, stream: ILiveStream, facts: StreamFacts, subject: str, transport: str) -> None:
        """A stream is live."""
        for records in self._records:
            try:
                records.began(stream, facts, subject, transport)
            except Exception:
                self._log.failure("the begin of a stream was not kept", event="stream_record_failed")

    def ended(self, stream: ILiveStream, reason: str, frames: int) -> None:
        """It takes nothing more."""
        for records in self._records:
            try:
                records.ended(stream, reason, frames)
            except Exception:
                self._log.failure("the end of a stream was not kept", event="stream_record_failed")
