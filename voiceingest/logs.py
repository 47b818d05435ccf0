"""Logs: one JSON object a line, for our events, Twisted's, old ``log.msg`` and stdlib logging.

The fields of our own events are kept; of a library's event only its message is, and nothing
below ``info``: libraries quote at debug what goes over the wire. Every text goes through
:mod:`voiceingest.redact`, is cut to a bound and is escaped by JSON, so no peer can forge a line.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from .metrics import Metrics
from .redact import MASK, is_secret_name, redact, redact_id

OWN_NAMESPACE: Final = "voiceingest"

# Bounds of a line: a text, a traceback, and how many fields an event may have.
TEXT_MAX_CHARS: Final = 2048
TRACEBACK_MAX_CHARS: Final = 8192
FIELDS_MAX_COUNT: Final = 32

# After a line that could not be written (disk full, pipe closed) the next try is this far off.
RETRY_S: Final = 1.0

_INTEGER_MAX_BITS: Final = 64
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED: Final = frozenset(
    {"time", "level", "event", "message", "logger", "service", "environment", "request_id"}
    | {"exc_type", "exc", "traceback"}
)
# Keys of twisted.python.log events that say what the fields above say already.
_LEGACY: Final = frozenset({"system", "isError", "failure", "why", "printed", "format"})

# Twisted's levels compare by a function of their own; two lines are written for each connection.
_RANKS: Final = {level: rank for rank, level in enumerate(LogLevel.iterconstants())}
_INFO: Final = _RANKS[LogLevel.info]

# ``json.dumps`` with an option makes an encoder for each call.
_encode: Final = json.JSONEncoder(allow_nan=False).encode

_STDLIB_LEVELS: Final = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


class ILogStream(Protocol):
    """Where lines go: a text file, standard output, Twisted's rotated ``LogFile``."""

    def write(self, text: str, /) -> object:
        """Write a whole line."""

    def flush(self) -> object:
        """Hand it to the system."""


@implementer(ILogObserver)
class JsonLog:
    """The observer. It never raises: what cannot be written is counted in ``log_errors``.

    ``wall_clock`` returns seconds since the epoch.
    """

    def __init__(
        self,
        stream: ILogStream,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        *,
        service: str = "voiceingest",
        environment: str = "production",
        level: str = "info",
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._tags = {"service": service, "environment": environment}
        self._retry_at = -math.inf
        # Re-entrant: a signal handler may log while a line is being written.
        self._writing = threading.RLock()
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Log ``level`` and above from now on. Raises: ``InvalidLogLevelError``."""
        self._least = _RANKS[LogLevel.levelWithName(level)]

    def __call__(self, event: LogEvent) -> None:
        """Write one event (twisted.logger's observer interface)."""
        level = event.get("log_level") or LogLevel.info
        rank = _RANKS[level]
        if rank < self._least:
            return
        own = _is_own(event)
        if rank < _INFO and not own:
            return
        try:
            line = _to_line(self._fields(event, level.name, own))
        except Exception as error:
            # An object whose __str__ is broken must not take the daemon's log with it.
            self._metrics.log_errors += 1
            unprintable: LogEvent = {
                "log_namespace": f"{OWN_NAMESPACE}.logs",
                "event": "log_unprintable",
                "log_format": "an event could not be printed: {kind}",
                "kind": type(error).__name__,
            }
            line = _to_line(self._fields(unprintable, level.name, own=False))
        self._write(line)

    def _fields(self, event: LogEvent, level: str, own: bool) -> dict[str, object]:
        namespace = _text(event.get("log_namespace") or "log_legacy")
        fields: dict[str, object] = {
            "time": _rfc3339(event.get("log_time"), self._wall_clock),
            "level": level,
            "event": _text(event.get("event") or namespace),
            "message": _message(event),
            "logger": namespace,
            **self._tags,
        }
        if event.get("request_id") is not None:
            fields["request_id"] = redact_id(_raw(event["request_id"])[:TEXT_MAX_CHARS])
        if own:
            fields.update(_own_fields(event))
        failure = event.get("log_failure") or event.get("failure")
        if isinstance(failure, Failure):
            fields.update(_failure_fields(failure))
        return fields

    def _write(self, line: str) -> None:
        """Write a line, or count it as lost; a stream that fails is left alone for a while."""
        now = self._wall_clock()
        # A clock that was set back must not silence the log for as long.
        if self._retry_at - RETRY_S <= now < self._retry_at:
            self._metrics.log_errors += 1
            return
        try:
            with self._writing:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError, RuntimeError):
            # ValueError: the file is closed. RuntimeError: a signal came during the write.
            self._metrics.log_errors += 1
            self._retry_at = now + RETRY_S


class StdlibHandler(logging.Handler):
    """Passes records of stdlib logging (asyncio's and those of libraries) to an observer."""

    def __init__(self, observer: Callable[[LogEvent], None]) -> None:
        super().__init__()
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        """Turn the record into an event of twisted.logger."""
        try:
            text = record.getMessage()
        except Exception:
            # Wrong arguments for the format: stdlib logging would print the record to stderr.
            text = "a log record could not be formatted"
        level = next((ours for number, ours in _STDLIB_LEVELS if record.levelno >= number), LogLevel.debug)
        event: LogEvent = {
            "log_time": record.created,
            "log_level": level,
            "log_namespace": record.name,
            "log_format": "{log_text}",
            "log_text": text,
        }
        if record.exc_info and record.exc_info[1] is not None:
            kind, exception, trace = record.exc_info
            event["log_failure"] = Failure(exception, kind, trace)
        self._observer(event)


def attach_stdlib(observer: Callable[[LogEvent], None]) -> Callable[[], None]:
    """Send all of stdlib logging to ``observer``; returns what undoes it."""
    handler, root = StdlibHandler(observer), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    def detach() -> None:
        root.removeHandler(handler)
        root.setLevel(before)

    return detach


def _is_own(event: LogEvent) -> bool:
    namespace = event.get("log_namespace")
    return isinstance(namespace, str) and (namespace + ".").startswith(f"{OWN_NAMESPACE}.")


def _to_line(fields: dict[str, object]) -> str:
    # JSON escapes every control character but DEL.
    return _encode(fields).replace("\x7f", "\\u007f") + "\n"


def _rfc3339(seconds: object, wall_clock: Callable[[], float]) -> str:
    try:
        when = float(seconds)  # type: ignore[arg-type]  # checked by trying
        second = _second(math.floor(when))
    except (TypeError, ValueError, OverflowError, OSError):
        when = wall_clock()
        second = _second(math.floor(when))
    return f"{second}.{min(round(when % 1.0 * 1e6), 999_999) // 1000:03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def _message(event: LogEvent) -> str:
    if "log_legacy" in event and isinstance(event.get("failure"), Failure):
        # log.err(): the text would be the traceback, which has a field of its own.
        return _text(event.get("why") or "Unhandled Error")
    constant = event.get("log_format")
    if isinstance(constant, str) and "{" not in constant and "}" not in constant:
        return _text(constant)
    text = formatEvent(event)
    if text.startswith(("Unable to format event", "MESSAGE LOST")):
        # Twisted then prints the whole event, its fields included.
        return "an event could not be formatted"
    return _text(text)


def _own_fields(event: LogEvent) -> Iterator[tuple[str, object]]:
    for name in [name for name in event if _is_field(name)][:FIELDS_MAX_COUNT]:
        yield name, _scalar(name, event[name])


# Names are written in our own calls: there are not many.
@lru_cache(maxsize=512)
def _is_field(name: str) -> bool:
    is_ours = name.startswith("log_") or name in _RESERVED or name in _LEGACY
    return not is_ours and _FIELD.fullmatch(name) is not None


def _scalar(name: str, value: object) -> object:
    """Return what JSON can write: a text that is redacted, a number, a truth value or null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= _INTEGER_MAX_BITS:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    return MASK if is_secret_name(name) else _text(value)


def _failure_fields(failure: Failure) -> Iterator[tuple[str, object]]:
    kind = type(failure.value)
    yield "exc_type", f"{kind.__module__}.{kind.__qualname__}"
    yield "exc", _text(failure.getErrorMessage())
    yield "traceback", redact(failure.getTraceback())[-TRACEBACK_MAX_CHARS:]


def _raw(value: object) -> str:
    """Return a text; of bytes only how many, since they may be audio."""
    if type(value) is str:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, int) and value.bit_length() > _INTEGER_MAX_BITS:
        return "<large integer>"  # Python refuses to print very large ones
    try:
        return str(value)
    except Exception:
        # Whatever an object's __str__ raises, the rest of the line is still wanted.
        return f"<{type(value).__name__}>"


def _text(value: object) -> str:
    return redact(_raw(value))[:TEXT_MAX_CHARS]
