"""Every bound that is not a setting, with its unit in the name and its precedent.

What an operator may change lives in ``config.py``; what is here follows from a protocol or
is a last line of defence. None of them is "no limit".
"""

from __future__ import annotations

from typing import Final

# nginx ``large_client_header_buffers`` and Node's ``--max-http-header-size`` are 16 KiB too.
HEAD_MAX_BYTES: Final = 16 * 1024

# RFC 8725 gives no figure; 8 KiB is what nginx takes for one header line.
TOKEN_MAX_BYTES: Final = 8 * 1024

# A JSON control message is a few hundred bytes; a token in ``auth`` may take TOKEN_MAX_BYTES.
CONTROL_MAX_BYTES: Final = 16 * 1024

# Identifiers come from the peer and travel in every frame: keep them short.
IDENTIFIER_MAX_CHARS: Final = 128

# Body of a REST request (contract section 6).
BODY_MAX_BYTES: Final = 64 * 1024

# A peer that only ever sends what we cannot read is cut after this many errors in a row.
PEER_ERRORS_MAX_COUNT: Final = 100

# Token buckets may run into debt and the peer is then paced by not being read;
# past this debt it is a flood and the connection is closed with 4429.
RATE_DEBT_MAX_S: Final = 5.0

# Frames of any kind (data, continuation, ping) a connection may send each second before it is
# paced: eight times the 50 frames/s of 20 ms audio, as INGEST_MAX_REALTIME_FACTOR does for bytes.
FRAMES_PER_REALTIME_PER_S: Final = 50

# How long an unanswered close may take before the TCP connection is aborted
# (websockets: close_timeout 10 s; RFC 6455 section 7.1.1 leaves the figure open).
CLOSE_ABORT_S: Final = 5.0

# What is still read for the peer's answer after our close; the rest is thrown away unread: a flood
# of empty fragments would otherwise go on costing a core until CLOSE_ABORT_S.
CLOSING_READ_MAX_BYTES: Final = 64 * 1024

# Coalescing of broker writes: one write carries what came in this time (contract section 7).
COALESCE_S: Final = 0.002

# What a queued frame costs beyond its audio: tuple, bytes header, deque slot.
QUEUED_FRAME_OVERHEAD_BYTES: Final = 200

# A key set is small: ten RSA keys are about 10 KiB.
JWKS_MAX_BYTES: Final = 256 * 1024

# One listening socket's accept queue (reliability.md section 0, finding 9).
LISTEN_BACKLOG_COUNT: Final = 2048

# Tickets for browsers that are out at once; each is about 300 bytes.
TICKETS_MAX_COUNT: Final = 10_000

# How old a resume token may be that another process issued, in seconds: no call lasts longer.
RESUME_TOKEN_MAX_AGE_S: Final = 24 * 3600.0

# A resume token: four times what two identifiers of 128 characters take in base64.
RESUME_TOKEN_MAX_BYTES: Final = 4 * 1024

# Numbers a client gives us for its frames: more than two days at 400 frames a second. Consumers may
# keep a bit for each number, and a client is not to make them keep gigabytes.
SEQ_MAX_COUNT: Final = 2**26

# One message of Exotel: 100 kB of audio, its largest chunk, are 133336 characters of base64. The
# rest is for its other fields, and for a sender that reads "100k" as KiB (136536 characters).
EXOTEL_MESSAGE_MAX_BYTES: Final = 160 * 1024

# Custom parameters of a call: Exotel passes on 3 pairs; other senders may have more.
CALL_PARAMETERS_MAX_COUNT: Final = 16

# One of them, name or value: Exotel takes 256 characters for all.
CALL_PARAMETER_MAX_CHARS: Final = 256

# Marks of one call that have not been played yet; who speaks sets a few for each sentence.
MARKS_MAX_COUNT: Final = 64

# What Deepgram says at once: a transcript of some sentences takes a few hundred characters.
TRANSCRIPT_MAX_CHARS: Final = 16 * 1024

# Its whole message: with a time for each word some ten kilobytes.
TRANSCRIBER_MESSAGE_MAX_BYTES: Final = 1024 * 1024

# What is kept of one session: its configuration, its metadata and its context, each as JSON. A long
# conversation of a hundred turns is some 20 KiB; a REST body is BODY_MAX_BYTES at most.
SESSION_CONTEXT_MAX_BYTES: Final = 48 * 1024

# Configuration and metadata are names and a few words; so is what browsers keep in a cookie (RFC 6265).
SESSION_CONFIG_MAX_BYTES: Final = 4 * 1024

# Turns of a conversation that are kept; the oldest go first.
SESSION_HISTORY_MAX_COUNT: Final = 200

# JSON that is nested deeper than this is nobody's configuration.
SESSION_JSON_MAX_DEPTH_COUNT: Final = 16

# Sessions on one page of a list.
SESSION_PAGE_MAX_COUNT: Final = 100

# Writes about streams that wait for the database; each is about 1 KiB. Past it the oldest goes.
STORE_QUEUE_MAX_COUNT: Final = 10_000

# How long an idempotency key is remembered, in seconds (a day, as payment services do).
IDEMPOTENCY_KEEP_S: Final = 24 * 3600.0

# A stream's row that no process has vouched for in this time has lost its process, in seconds.
STREAM_LOST_S: Final = 120.0
