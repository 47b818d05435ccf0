"""The one table of metrics: the attributes, the collector and the reference page follow it."""

from __future__ import annotations

from typing import Final

from ..errors import every_error
from .control_families import CONTROL_FAMILIES
from .family import CODE, CODES, REASON, RESULT, Family, own
from .series import Label

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

_STATUS = Label("status", frozenset({"success", "missing", "invalid", "expired", "unavailable"}))
_TRANSPORT = Label("transport")
_PLACE = Label("place", frozenset({"here", "elsewhere"}))
_MARK = Label("result", frozenset({"sent", "played", "lost"}))
_SAMPLES = Label("result", frozenset({"received", "sent", "dropped"}))
_KIND = Label("kind", frozenset({"interim", "final"}))

# What moves where calls are answered, or streams transcribed.
CALL_FAMILIES: Final[tuple[Family, ...]] = (
    # --- calls
    own("counter", "calls", "", "Calls that were answered."),
    own("gauge", "calls_active", "", "Calls that are live."),
    own("counter", "call_messages", "", "Messages of Exotel, by event.", Label("event", _CALL_EVENTS)),
    own("counter", "call_messages_missing", "", "Messages that are missing by their sequence numbers."),
    own("counter", "call_media_dropped", "", "Media messages that were not taken.", REASON),
    own("counter", "call_mismatches", "", "Calls that said two things of one, by what.", Label("what")),
    own("counter", "chunks_sent", "", "Media messages sent to Exotel."),
    own("counter", "playback_dropped", "", "Milliseconds of answers that were not played.", REASON),
    own("histogram", "playback_lateness", "seconds", "How late audio was sent, against its pace."),
    own("counter", "marks", "", "Marks, by what became of them.", _MARK),
    own("counter", "barge_ins", "", "Times a caller stopped the agent."),
    own("histogram", "barge_in_latency", "seconds", "From the detection of speech to `clear`."),
    own("counter", "agent_failures", "", "Failures of agents, by what failed.", REASON),
    own("counter", "webhooks", "", "URLs asked for by Exotel, by the outcome.", RESULT),
    own("counter", "outbound_calls", "", "Calls that were to be placed, by the outcome.", RESULT),
    own("counter", "status_callbacks", "", "Status callbacks of Exotel.", RESULT),
    # --- speech
    own("gauge", "transcribers", "", "Connections to Deepgram."),
    own("counter", "transcriber_connects", "", "Connections to Deepgram that were tried.", RESULT),
    own("counter", "transcriber_disconnects", "", "Connections to Deepgram that ended.", REASON),
    own("counter", "transcriber_samples", "", "Samples for Deepgram, by what became of them.", _SAMPLES),
    own("counter", "transcripts", "", "Transcripts heard.", _KIND),
    own("counter", "transcript_gaps", "", "Stretches of audio that were not transcribed.", REASON),
    own("counter", "llm_requests", "", "Answers asked of the model.", RESULT),
    own("histogram", "llm_first_word", "seconds", "From the question to the first word of the answer."),
    own("counter", "speak_requests", "", "Sentences given to the voice.", RESULT),
    own("histogram", "speak_first_audio", "seconds", "From a sentence to its first audio."),
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
        (Label("type", CODES), Label("endpoint")),
    ),
    Family(
        "http_duration",
        "histogram",
        "http_request_duration_seconds",
        "Time to answer HTTP requests.",
        (Label("method", _METHODS), Label("route"), Label("status")),
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
    own("counter", "samples_received", "", "Samples of audio taken."),
    own("counter", "samples_published", "", "Samples the bus has confirmed."),
    own("counter", "samples_dropped", "", "Samples that will never be on the bus.", REASON),
    own("gauge", "streams_detached", "", "Streams that wait for their client to come back."),
    own("counter", "streams_resumed", "", "Streams that were resumed, by where they had been.", _PLACE),
    own("counter", "streams_replaced", "", "Streams a newer connection took over."),
    own("counter", "streams_moved", "", "Streams that were handed on at a shutdown."),
    own("counter", "resumes_refused", "", "Resume tokens that could not be used, by error code.", CODE),
    own("counter", "frames_fenced", "", "Frames of a connection whose stream was over; not taken."),
    # --- connections
    own("gauge", "connections", "", "Connections that are open.", _TRANSPORT),
    own("counter", "connections_opened", "", "Connections that were opened.", _TRANSPORT),
    own("counter", "connections_refused", "", "Connections that were refused, by error code.", CODE),
    own("counter", "accept_pauses", "", "Times a port was left alone, since nothing could be accepted."),
    own("counter", "close_codes", "", "WebSockets that ended, by close code.", Label("code", _CLOSE_CODES)),
    own("counter", "streams_paced", "", "Times a stream was not read for a while, being too fast."),
    own("counter", "acks_sent", "", "Acknowledgements sent to peers."),
    own(
        "counter",
        "tickets",
        "",
        "Single-use tickets, by what became of them.",
        Label("result", frozenset({"minted", "redeemed", "refused", "dropped", "expired"})),
    ),
    own("counter", "jwks_fetches", "", "Fetches of the key set.", RESULT),
    # --- audio out
    own("counter", "frames_published", "", "Frames the bus has confirmed."),
    own("counter", "frames_dropped", "", "Frames that will never be on the bus.", REASON),
    own("counter", "gaps", "", "Gaps that were reported.", REASON),
    own("counter", "events_published", "", "Events the bus has confirmed."),
    own("counter", "events_dropped", "", "Events that will never be on the bus."),
    own("histogram", "publish_latency", "seconds", "Time from a frame's arrival to its confirmation."),
    own("gauge", "queue_frames", "", "Frames that wait to be sent to the bus."),
    own("gauge", "queue_bytes", "bytes", "Memory of the frames the bus has not confirmed."),
    own("gauge", "inflight_bytes", "bytes", "Bytes sent to the bus and not confirmed."),
    own("gauge", "bus_up", "", "1 while the bus takes frames, else 0."),
    own("gauge", "breaker_state", "", "Circuit breaker of the bus: 0 closed, 1 half-open, 2 open."),
    own("counter", "breaker_opens", "", "Times the circuit breaker went open."),
    own("counter", "bus_connects", "", "Connections made to the bus."),
    own("counter", "bus_disconnects", "", "Connections to the bus that ended.", REASON),
    own("counter", "bus_writes", "", "Writes to the bus; one may carry many frames."),
    own("counter", "bus_bytes", "bytes", "Bytes written to the bus."),
    own("counter", "bus_refused", "", "Messages the bus refused for good.", REASON),
    *CALL_FAMILIES,
    *CONTROL_FAMILIES,
    # --- the daemon
    own("histogram", "reactor_lag", "seconds", "How late a timer of the reactor was called."),
    own("counter", "log_errors", "", "Log lines that could not be written."),
    own("counter", "reloads", "", "Things read again on SIGHUP.", Label("what"), RESULT),
    own("gauge", "ready", "", "1 while new streams are welcome, else 0."),
    own(
        "gauge",
        "tls_expiry",
        "seconds",
        "When the TLS certificate in use expires, in seconds since the epoch; 0: none in use.",
    ),
    own("info", "build_info", "", "Versions of what is running.", constant=True),
    # --- the process, under the names every dashboard knows (prometheus_client writes them)
    Family("", "counter", "process_cpu_seconds_total", "CPU time used."),
    Family("", "gauge", "process_resident_memory_bytes", "Memory in RAM."),
    Family("", "gauge", "process_virtual_memory_bytes", "Memory mapped."),
    Family("", "gauge", "process_open_fds", "File descriptors that are open."),
    Family("", "gauge", "process_max_fds", "File descriptors that may be open.", constant=True),
    Family("", "gauge", "process_start_time_seconds", "When the process was started.", constant=True),
)
