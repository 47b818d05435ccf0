"""The one table of metrics: the attributes, the collector and the reference page follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from ..errors import every_error
from .series import Label

Kind = Literal["counter", "gauge", "histogram", "info"]

_CODES: Final = frozenset(error.code for error in every_error())

# RFC 6455 section 7.4.1 and the IANA registry; 1005 and 1006 are never sent but are seen.
_CLOSE_CODES: Final = frozenset(
    [str(code) for code in (*range(1000, 1004), *range(1005, 1016))]
    + [str(error.close_code) for error in every_error()]
)

# What Exotel may say; "bad": no message at all.
_CALL_EVENTS: Final = frozenset(
    {"connected", "start", "media", "dtmf", "mark", "stop", "clear", "unknown", "bad"}
)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# A frame is confirmed some milliseconds after it came; past 10 s the bus is taken for dead.
_LATENCY_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: the attribute of ``Metrics`` it is read from and how it is exported.

    ``constant`` marks what does not move while the daemon runs; ``attribute`` is empty for what
    is read from the process itself.
    """

    attribute: str
    kind: Kind
    name: str
    text: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    constant: bool = False


def _own(kind: Kind, attribute: str, unit: str, text: str, *labels: Label, constant: bool = False) -> Family:
    suffix = "_total" if kind == "counter" else f"_{unit}" if unit and not attribute.endswith(unit) else ""
    buckets = _LATENCY_S if kind == "histogram" else ()
    return Family(attribute, kind, f"voiceingest_{attribute}{suffix}", text, labels, buckets, constant)


_STATUS = Label("status", frozenset({"success", "missing", "invalid", "expired", "unavailable"}))
# "flooded": cut without an answer, since there was not even room to refuse.
_CODE = Label("code", _CODES | {"flooded"})
_TRANSPORT = Label("transport")
_PLACE = Label("place", frozenset({"here", "elsewhere"}))
_REASON = Label("reason")
_MARK = Label("result", frozenset({"sent", "played", "lost"}))
_SAMPLES = Label("result", frozenset({"received", "sent", "dropped"}))
_KIND = Label("kind", frozenset({"interim", "final"}))
_RESULT = Label("result")

# What moves where calls are answered, or streams transcribed.
CALL_FAMILIES: Final[tuple[Family, ...]] = (
    # --- calls
    _own("counter", "calls", "", "Calls that were answered."),
    _own("gauge", "calls_active", "", "Calls that are live."),
    _own("counter", "call_messages", "", "Messages of Exotel, by event.", Label("event", _CALL_EVENTS)),
    _own("counter", "call_messages_missing", "", "Messages that are missing by their sequence numbers."),
    _own("counter", "call_media_dropped", "", "Media messages that were not taken.", _REASON),
    _own("counter", "call_mismatches", "", "Calls that said two things of one, by what.", Label("what")),
    _own("counter", "chunks_sent", "", "Media messages sent to Exotel."),
    _own("counter", "playback_dropped", "", "Milliseconds of answers that were not played.", _REASON),
    _own("histogram", "playback_lateness", "seconds", "How late audio was sent, against its pace."),
    _own("counter", "marks", "", "Marks, by what became of them.", _MARK),
    _own("counter", "barge_ins", "", "Times a caller stopped the agent."),
    _own("histogram", "barge_in_latency", "seconds", "From the detection of speech to `clear`."),
    _own("counter", "agent_failures", "", "Failures of agents, by what failed.", _REASON),
    _own("counter", "webhooks", "", "URLs asked for by Exotel, by the outcome.", _RESULT),
    _own("counter", "outbound_calls", "", "Calls that were to be placed, by the outcome.", _RESULT),
    _own("counter", "status_callbacks", "", "Status callbacks of Exotel.", _RESULT),
    # --- speech
    _own("gauge", "transcribers", "", "Connections to Deepgram."),
    _own("counter", "transcriber_connects", "", "Connections to Deepgram that were tried.", _RESULT),
    _own("counter", "transcriber_disconnects", "", "Connections to Deepgram that ended.", _REASON),
    _own("counter", "transcriber_samples", "", "Samples for Deepgram, by what became of them.", _SAMPLES),
    _own("counter", "transcripts", "", "Transcripts heard.", _KIND),
    _own("counter", "transcript_gaps", "", "Stretches of audio that were not transcribed.", _REASON),
    _own("counter", "llm_requests", "", "Answers asked of the model.", _RESULT),
    _own("histogram", "llm_first_word", "seconds", "From the question to the first word of the answer."),
    _own("counter", "speak_requests", "", "Sentences given to the voice.", _RESULT),
    _own("histogram", "speak_first_audio", "seconds", "From a sentence to its first audio."),
)

FAMILIES: Final[tuple[Family, ...]] = (
    # --- audio in
    Family("frames_received", "counter", "ingress_audio_chunks_received_total", "Audio frames taken."),
    Family("bytes_received", "counter", "ingress_audio_bytes_received_total", "Bytes of audio taken."),
    Family("sessions_started", "counter", "ingress_sessions_total", "Streams that were started."),
    Family("sessions_active", "gauge", "ingress_sessions_active", "Streams that are live."),
    Family("auth_attempts", "counter", "ingress_auth_attempts_total", "Credentials checked.", (_STATUS,)),
    Family(
        "errors",
        "counter",
        "ingress_errors_total",
        "Errors answered, by error code and transport.",
        (Label("type", _CODES), Label("endpoint")),
    ),
    Family(
        "http_duration",
        "histogram",
        "http_request_duration_seconds",
        "Time to answer HTTP requests.",
        (Label("method", _METHODS), Label("route"), Label("status")),
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
    _own("counter", "samples_received", "", "Samples of audio taken."),
    _own("counter", "samples_published", "", "Samples the bus has confirmed."),
    _own("counter", "samples_dropped", "", "Samples that will never be on the bus.", _REASON),
    _own("gauge", "streams_detached", "", "Streams that wait for their client to come back."),
    _own("counter", "streams_resumed", "", "Streams that were resumed, by where they had been.", _PLACE),
    _own("counter", "streams_replaced", "", "Streams a newer connection took over."),
    _own("counter", "streams_moved", "", "Streams that were handed on at a shutdown."),
    _own("counter", "resumes_refused", "", "Resume tokens that could not be used, by error code.", _CODE),
    _own("counter", "frames_fenced", "", "Frames of a connection whose stream was over; not taken."),
    # --- connections
    _own("gauge", "connections", "", "Connections that are open.", _TRANSPORT),
    _own("counter", "connections_opened", "", "Connections that were opened.", _TRANSPORT),
    _own("counter", "connections_refused", "", "Connections that were refused, by error code.", _CODE),
    _own("counter", "accept_pauses", "", "Times a port was left alone, since nothing could be accepted."),
    _own("counter", "close_codes", "", "WebSockets that ended, by close code.", Label("code", _CLOSE_CODES)),
    _own("counter", "streams_paced", "", "Times a stream was not read for a while, being too fast."),
    _own("counter", "acks_sent", "", "Acknowledgements sent to peers."),
    _own(
        "counter",
        "tickets",
        "",
        "Single-use tickets, by what became of them.",
        Label("result", frozenset({"minted", "redeemed", "refused", "dropped", "expired"})),
    ),
    _own("counter", "jwks_fetches", "", "Fetches of the key set.", _RESULT),
    # --- audio out
    _own("counter", "frames_published", "", "Frames the bus has confirmed."),
    _own("counter", "frames_dropped", "", "Frames that will never be on the bus.", _REASON),
    _own("counter", "gaps", "", "Gaps that were reported.", _REASON),
    _own("counter", "events_published", "", "Events the bus has confirmed."),
    _own("counter", "events_dropped", "", "Events that will never be on the bus."),
    _own("histogram", "publish_latency", "seconds", "Time from a frame's arrival to its confirmation."),
    _own("gauge", "queue_frames", "", "Frames that wait to be sent to the bus."),
    _own("gauge", "queue_bytes", "bytes", "Memory of the frames the bus has not confirmed."),
    _own("gauge", "inflight_bytes", "bytes", "Bytes sent to the bus and not confirmed."),
    _own("gauge", "bus_up", "", "1 while the bus takes frames, else 0."),
    _own("gauge", "breaker_state", "", "Circuit breaker of the bus: 0 closed, 1 half-open, 2 open."),
    _own("counter", "breaker_opens", "", "Times the circuit breaker went open."),
    _own("counter", "bus_connects", "", "Connections made to the bus."),
    _own("counter", "bus_disconnects", "", "Connections to the bus that ended.", _REASON),
    _own("counter", "bus_writes", "", "Writes to the bus; one may carry many frames."),
    _own("counter", "bus_bytes", "bytes", "Bytes written to the bus."),
    _own("counter", "bus_refused", "", "Messages the bus refused for good.", _REASON),
    *CALL_FAMILIES,
    # --- the daemon
    _own("histogram", "reactor_lag", "seconds", "How late a timer of the reactor was called."),
    _own("counter", "log_errors", "", "Log lines that could not be written."),
    _own("counter", "reloads", "", "Things read again on SIGHUP.", Label("what"), _RESULT),
    _own("gauge", "ready", "", "1 while new streams are welcome, else 0."),
    _own(
        "gauge",
        "tls_expiry",
        "seconds",
        "When the TLS certificate in use expires, in seconds since the epoch; 0: none in use.",
    ),
    _own("info", "build_info", "", "Versions of what is running.", constant=True),
    # --- the process, under the names every dashboard knows (prometheus_client writes them)
    Family("", "counter", "process_cpu_seconds_total", "CPU time used."),
    Family("", "gauge", "process_resident_memory_bytes", "Memory in RAM."),
    Family("", "gauge", "process_virtual_memory_bytes", "Memory mapped."),
    Family("", "gauge", "process_open_fds", "File descriptors that are open."),
    Family("", "gauge", "process_max_fds", "File descriptors that may be open.", constant=True),
    Family("", "gauge", "process_start_time_seconds", "When the process was started.", constant=True),
)
