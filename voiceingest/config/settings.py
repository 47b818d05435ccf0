"""The one typed place for settings. The reference page and the default file are made from it.

A field's description is the text an operator reads; its unit is in the field's name. ``section``
groups the page; ``secret`` marks what never appears in a log, an error, a metric or a dump.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .control import ControlSettings
from .fields import field as _field
from .fields import secret as _secret

LogLevel = Literal["debug", "info", "warn", "error", "critical"]
JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
PublishScheme = Literal[
    "memory", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis-streams", "rediss-streams",
    "redis-streams+sentinel", "rediss-streams+sentinel", "nats", "nats+tls",
]

_PLACEHOLDERS = {"tenant_id", "interaction_id"}

# What the daemon asks by itself, and sends secrets to: never in the clear, unless it stays on the machine.
_OUTWARD = ("exotel_api_url", "deepgram_url", "deepgram_speak_url", "llm_url", "webhook_base_url", "render_external_url")
_SECURE_URL = r"(?:(?:https|wss)://[^\s/?#@]+|(?:http|ws)://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]+)?)(?:/[^\s?#]*)?"


Words = Annotated[tuple[str, ...], Field()]


class Settings(ControlSettings):
    """Everything an operator may decide, checked as a whole before the reactor runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    # --- listening
    listen: Words = _field((), "Listening", "Public endpoints, as Twisted server endpoint descriptions (`tcp:`, `ssl:`, `systemd:`, `unix:`). The flag is `--port` and may be repeated.")
    port: int = _field(8443, "Listening", "TCP port when `listen` is empty. TLS when both `ssl_key_path` and `ssl_cert_path` are set, else plain TCP.", ge=1, le=65535)
    admin: str = _field("tcp:9464:interface=127.0.0.1", "Listening", "Endpoint of the admin site (metrics, health, drain), which asks for no token. Empty: no admin site.")
    admin_hosts: Words = _field((), "Listening", "Names that the operators' pages of the admin site may be asked by, beside addresses and `localhost` (`voiceingest.internal`): a page in an operator's browser could else reach it by a name of its own.")
    admin_token: SecretStr | None = _secret("Listening", "Bearer token that opens the admin paths on the public site. Unset: they are not there.")
    admin_token_file: Path | None = _field(None, "Listening", "File that holds `admin_token`.")
    ssl_key_path: Path | None = _field(None, "Listening", "PEM file with the TLS private key. Read again on SIGHUP.")
    ssl_cert_path: Path | None = _field(None, "Listening", "PEM file with the TLS certificate and its chain. Read again on SIGHUP.")
    allowed_origins: Words = _field((), "Listening", "Origins of browsers that may connect, matched exactly (`https://app.example.com`). Empty: no browser may.")
    trusted_proxies: Words = _field((), "Listening", "Addresses or networks of proxies whose `X-Forwarded-For` is believed. Empty: the header is ignored.")

    # --- who may speak
    jwt_public_key: SecretStr | None = _secret("Tokens", "PEM public key that tokens are verified with; a literal `\\n` is read as a line break.")
    jwt_public_key_file: Path | None = _field(None, "Tokens", "File that holds `jwt_public_key`. Read again on SIGHUP.")
    jwt_jwks_url: str | None = _field(None, "Tokens", "URL of a JSON Web Key Set; `https:` only, except on the loopback interface.")
    jwt_algorithms: tuple[JwtAlgorithm, ...] = _field(("RS256",), "Tokens", "Signature algorithms accepted. Symmetric ones are never accepted here.", min_length=1)
    jwt_issuer: str | None = _field(None, "Tokens", "Required value of `iss`. Unset: not checked.")
    jwt_audience: str | None = _field(None, "Tokens", "Value that `aud` must hold. Unset: not checked.")
    jwt_leeway_s: float = _field(30.0, "Tokens", "Clock difference allowed on `exp`, `nbf` and `iat`, in seconds.", ge=0, le=300)
    jwt_tenant_claim: str = _field("tenant_id", "Tokens", "Claim that names the tenant.", min_length=1)
    jwt_interaction_claim: str = _field("interaction_id", "Tokens", "Claim that names the one interaction a token is for, where it has one.", min_length=1)
    jwt_jwks_max_age_s: float = _field(600.0, "Tokens", "Age at which the key set is fetched again, in seconds.", ge=10, le=86400)
    jwt_jwks_cooldown_s: float = _field(30.0, "Tokens", "Least time between two fetches that an unknown `kid` asks for, in seconds.", ge=1, le=3600)
    jwt_jwks_timeout_s: float = _field(5.0, "Tokens", "How long one fetch of the key set may take, in seconds.", gt=0, le=30)
    ticket_ttl_s: float = _field(30.0, "Tokens", "Life of a single-use ticket for browsers (`POST /api/auth/ticket`), in seconds.", ge=5, le=120)
    auth_expiring_lead_s: float = _field(30.0, "Tokens", "How long before its token expires a live stream is told `auth_expiring`, in seconds.", ge=0, le=600)

    # --- ingest
    max_frame_bytes: int = _field(65536, "Ingest", "Largest audio frame taken, in bytes.", ge=2, le=1048576)
    ack_interval: int = _field(10, "Ingest", "An `ack` is sent every so many frames.", ge=1, le=10000)
    ack_mode: Literal["published", "received"] = _field("published", "Ingest", "`published`: acknowledge what the bus has confirmed. `received`: acknowledge what was read.")
    buffer_duration_ms: int = _field(3000, "Ingest", "Audio kept for each stream while the bus does not take it, in milliseconds.", ge=100, le=60000)
    start_timeout_s: float = _field(10.0, "Ingest", "How long a connection may stay without its `start`, in seconds.", gt=0, le=120)
    idle_timeout_s: float = _field(60.0, "Ingest", "A started stream without audio for so long is closed with 4408, in seconds. 0: never.", ge=0, le=86400)
    stop_flush_timeout_s: float = _field(10.0, "Ingest", "How long `stop` waits for the bus to confirm the last frames, in seconds.", gt=0, le=120)
    ingest_max_realtime_factor: float = _field(8.0, "Ingest", "How many times faster than real time a stream may send before it is paced. 0: no limit.", ge=0, le=1000)

    # --- resuming
    resume_window_s: float = _field(30.0, "Resuming", "How long a stream whose connection was lost waits for its client to come back, in seconds. 0: not at all, and no tokens to resume with are given out.", ge=0, le=3600)
    resume_secret: SecretStr | None = _secret("Resuming", "Secret of at least 32 characters that resume tokens are signed with. Give processes that stand in for one another the same. Unset: a random one for each process.")
    resume_secret_file: Path | None = _field(None, "Resuming", "File that holds `resume_secret`.")

    # --- connections
    max_connections: int = _field(10000, "Connections", "Connections open at once. 0: no limit.", ge=0)
    max_connections_per_ip: int = _field(1000, "Connections", "Connections open at once from one address. 0: no limit.", ge=0)
    handshake_timeout_s: float = _field(10.0, "Connections", "Absolute time for TLS and the whole request head, in seconds.", gt=0, le=60)
    ping_interval_s: float = _field(20.0, "Connections", "Time between pings, in seconds. 0: no pings.", ge=0, le=3600)
    ping_timeout_s: float = _field(20.0, "Connections", "How long the answer to a ping may take, in seconds.", gt=0, le=3600)
    write_timeout_s: float = _field(10.0, "Connections", "How long a peer may leave what it was sent unread, in seconds.", gt=0, le=300)

    # --- publishing
    publish_url: SecretStr | None = _secret("Publishing", "The bus: `memory://`; `redis://`, `rediss://` or `unix://` (pub/sub); `redis+sentinel://`; `redis-streams://`; `redis-streams+sentinel://`; `nats://` or `nats+tls://` (JetStream); each Redis one but `unix:` also as `rediss…` for TLS. Unset: `redis_url`.")
    publish_url_file: Path | None = _field(None, "Publishing", "File that holds `publish_url`.")
    redis_url: SecretStr = Field(SecretStr("redis://localhost:6379"), description="Redis, as `redis[s]://[user:password@]host[:port][/db]` or `unix://[user:password@]/path?db=0`.", json_schema_extra={"section": "Publishing", "secret": True})
    redis_url_file: Path | None = _field(None, "Publishing", "File that holds `redis_url`.")
    redis_ca_path: Path | None = _field(None, "Publishing", "PEM file with the authorities that may have signed the certificate of a `rediss:` server. Unset: the system's.")
    redis_channel: str = _field("audio:frames", "Publishing", "Channel of the audio frames; may hold `{tenant_id}` and `{interaction_id}`.", min_length=1)
    redis_events_channel: str = _field("audio:events", "Publishing", "Channel of the events; may hold `{tenant_id}` and `{interaction_id}`.", min_length=1)
    redis_stream_max_entries: int = _field(20000, "Publishing", "Length a Redis stream of frames is trimmed to, about (`MAXLEN ~`), in entries. With `redis-streams` only.", ge=100)
    redis_stream_events_max_entries: int = _field(20000, "Publishing", "Length a Redis stream of events is trimmed to, about, in entries. With `redis-streams` only.", ge=100)
    redis_wait_replicas: int = _field(0, "Publishing", "A message counts as confirmed only when so many replicas have it too (`WAIT`). 0: the primary is enough. With `redis-streams` only.", ge=0, le=10)
    redis_sentinel_username: str | None = _field(None, "Publishing", "User name for the sentinels, where they ask for one.")
    redis_sentinel_password: SecretStr | None = _secret("Publishing", "Password for the sentinels, where they ask for one; that of the URL is for Redis itself.")
    redis_sentinel_password_file: Path | None = _field(None, "Publishing", "File that holds `redis_sentinel_password`.")
    nats_stream: str = _field("VOICEINGEST", "Publishing", "JetStream stream that takes frames and events; made when it is not there.", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    nats_subject: str = _field("audio.frames", "Publishing", "Subject of the audio frames; may hold `{tenant_id}` and `{interaction_id}`, each as a whole token.", min_length=1)
    nats_events_subject: str = _field("audio.events", "Publishing", "Subject of the events; may hold `{tenant_id}` and `{interaction_id}`, each as a whole token.", min_length=1)
    nats_replicas: int = _field(1, "Publishing", "Copies JetStream keeps of each message, where the stream has to be made: 1, 3 or 5.", ge=1, le=5)
    nats_max_age_s: float = _field(3600.0, "Publishing", "How long JetStream keeps a message, where the stream has to be made, in seconds.", ge=1, le=31536000)
    nats_max_bytes: int = _field(1073741824, "Publishing", "What the JetStream stream may hold, where it has to be made, in bytes; the oldest goes first.", ge=1048576)
    nats_duplicate_window_s: float = _field(120.0, "Publishing", "How long JetStream remembers message ids, where the stream has to be made, in seconds; no shorter than an outage that is to leave no repeats.", ge=1, le=3600)
    nats_credentials_path: Path | None = _field(None, "Publishing", "NATS credentials file (JWT and seed).")
    nats_ca_path: Path | None = _field(None, "Publishing", "PEM file with the authorities that may have signed the certificate of a `nats+tls:` server. Unset: the system's.")
    publish_buffer_bytes: int = _field(67108864, "Publishing", "Memory for frames the bus has not confirmed, over all streams, in bytes.", ge=65536)
    publish_inflight_bytes: int = _field(4194304, "Publishing", "What may be sent to the bus ahead of its confirmations, in bytes.", ge=65536)
    publish_reply_timeout_s: float = _field(2.5, "Publishing", "A bus that confirms nothing for so long is taken for dead and connected to again, in seconds. Longer than `buffer_duration_ms`: a bus that freezes costs audio.", gt=0, le=120)
    publish_connect_timeout_s: float = _field(5.0, "Publishing", "How long one attempt to connect to the bus may take, in seconds.", gt=0, le=60)
    publish_retry_max_s: float = _field(2.0, "Publishing", "Longest pause between two attempts to connect, in seconds.", ge=0.1, le=300)

    # --- calls
    voicebot: Literal["auto", "on", "off"] = _field("auto", "Calls", "The endpoint for Exotel. `auto`: it is there when a credential below is set, or `exotel_ws_auth` is `none`. `on`: without one the start is refused. `off`: it is not there.")
    ws_path: str = _field("/voicebot/ws", "Calls", "Path of the WebSocket that Exotel calls.", pattern=r"^/[A-Za-z0-9._~/-]+$")
    exotel_ws_auth: Literal["required", "none"] = _field("required", "Calls", "`none`: anybody who can reach the port may bring a call. For trying out only.")
    exotel_ws_token: SecretStr | None = _secret("Calls", "Bearer token a call may bring.")
    exotel_ws_token_file: Path | None = _field(None, "Calls", "File that holds `exotel_ws_token`.")
    exotel_ws_user: str | None = _field(None, "Calls", "User name a call may bring (`wss://user:password@host/…` in the applet).", min_length=1)
    exotel_ws_password: SecretStr | None = _secret("Calls", "Password that goes with `exotel_ws_user`.")
    exotel_ws_password_file: Path | None = _field(None, "Calls", "File that holds `exotel_ws_password`.")
    exotel_allowed_ips: Words = _field((), "Calls", "Addresses or networks calls may come from without any other credential.")
    exotel_webhook_token: SecretStr | None = _secret("Calls", "Token in the query (`?token=…`) of `/api/v1/exotel/voice/connect`, the URL of the applet; the credentials above are taken there too.")
    exotel_webhook_token_file: Path | None = _field(None, "Calls", "File that holds `exotel_webhook_token`.")
    exotel_tenant_id: str = _field("exotel", "Calls", "Tenant of a call where neither its ticket nor a custom parameter `tenant_id` names one.", min_length=1, max_length=128)
    exotel_ticket_ttl_s: float = _field(60.0, "Calls", "Life of the single-use ticket in the URL given to Exotel, in seconds; an outbound call rings that long.", ge=5, le=600)
    webhook_base_url: str | None = _field(None, "Calls", "Where Exotel reaches this daemon, as `https://host[:port][/prefix]`. Unset: `render_external_url`, else the host of the request.")
    render_external_url: str | None = _field(None, "Calls", "The same, as one hosting service sets it.")
    voicebot_sample_rate: int = _field(8000, "Calls", "Sample rate asked of Exotel in the URLs that are given out: 8000, 16000 or 24000.")
    voicebot_agent: str = _field("echo", "Calls", "Who answers: `echo`, `silence`, `deepgram`, `pipeline`, or the name of an entry point of the group `voiceingest.agents`.", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    voicebot_chunk_bytes: int | None = _field(None, "Calls", "Audio in one message to Exotel, in bytes, a multiple of 320. Unset: 3200 at 8 and 16 kHz, 4800 at 24 kHz.", ge=320, le=100000)
    voicebot_lead_ms: int = _field(200, "Calls", "How far ahead of real time audio is sent to Exotel, in milliseconds. Less is a quicker barge-in, more survives a worse line.", ge=0, le=2000)
    voicebot_playback_max_s: float = _field(60.0, "Calls", "Audio of an agent that waits to be played, in seconds; what is more is dropped and counted.", ge=1, le=600)
    voicebot_barge_in: bool = _field(True, "Calls", "Whether a caller who speaks stops the agent, where the agent allows it.")
    voicebot_vad_threshold_db: float = _field(12.0, "Calls", "How much louder than the background speech is, in decibels.", ge=3, le=40)
    voicebot_vad_start_ms: int = _field(60, "Calls", "How long a caller has to be that loud to count as speaking, in milliseconds.", ge=20, le=1000)

    # --- Exotel's API
    exotel_account_sid: str | None = _field(None, "Exotel API", "Account of the outbound calls.", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    exotel_api_key: SecretStr | None = _secret("Exotel API", "API key.")
    exotel_api_key_file: Path | None = _field(None, "Exotel API", "File that holds `exotel_api_key`.")
    exotel_api_token: SecretStr | None = _secret("Exotel API", "API token that goes with the key.")
    exotel_api_token_file: Path | None = _field(None, "Exotel API", "File that holds `exotel_api_token`.")
    exotel_api_url: str = _field("https://api.exotel.com", "Exotel API", "Where the API is: `https://api.exotel.com` (Singapore) or `https://api.in.exotel.com` (Mumbai).")
    exotel_caller_id: SecretStr | None = _secret("Exotel API", "The ExoPhone that outbound calls come from.")
    exotel_caller_id_file: Path | None = _field(None, "Exotel API", "File that holds `exotel_caller_id`.")
    exotel_app_id: str | None = _field(None, "Exotel API", "Flow (applet) an outbound call is put into. Unset: it is connected to this daemon directly.", pattern=r"^[0-9]{1,20}$")
    exotel_number_format: Literal["e164", "national"] = _field("e164", "Exotel API", "How numbers are given to Exotel: `+919876543210`, or `09876543210` for those of India.")
    exotel_api_timeout_s: float = _field(10.0, "Exotel API", "How long one request may take, in seconds. A call is never placed twice for want of an answer.", gt=0, le=60)
    exotel_callback_secret: SecretStr | None = _secret("Exotel API", "Secret of at least 32 characters that the URLs of status callbacks are signed with. Unset: a random one for each process.")
    exotel_callback_secret_file: Path | None = _field(None, "Exotel API", "File that holds `exotel_callback_secret`.")

    # --- speech
    exo_bridge_enabled: bool = _field(False, "Speech", "Whether the audio of every stream goes to Deepgram, and its transcripts to the events channel.")
    exo_max_buffer_ms: int = _field(500, "Speech", "Audio since the last final transcript that is kept to be sent again when Deepgram comes back, in milliseconds.", ge=100, le=10000)
    exo_idle_close_s: float = _field(10.0, "Speech", "A connection to Deepgram without audio for so long is closed, and opened again with the next audio, in seconds.", ge=1, le=300)
    deepgram_api_key: SecretStr | None = _secret("Speech", "Deepgram's API key.")
    deepgram_api_key_file: Path | None = _field(None, "Speech", "File that holds `deepgram_api_key`.")
    deepgram_url: str = _field("wss://api.deepgram.com/v1/listen", "Speech", "Where audio is transcribed.")
    deepgram_model: str = _field("nova-3", "Speech", "Model that transcribes.", min_length=1)
    deepgram_language: str = _field("en", "Speech", "Language that is spoken; `multi` where the model takes it.", min_length=1)
    deepgram_endpointing_ms: int = _field(300, "Speech", "Silence after which somebody has finished speaking, in milliseconds.", ge=10, le=5000)
    deepgram_utterance_end_ms: int = _field(1000, "Speech", "The same by the words, where noise hides the silence, in milliseconds.", ge=1000, le=5000)
    deepgram_speak_url: str = _field("https://api.deepgram.com/v1/speak", "Speech", "Where text is spoken.")
    deepgram_speak_model: str = _field("aura-2-thalia-en", "Speech", "Voice that speaks.", min_length=1)
    llm_url: str = _field("https://api.openai.com/v1", "Speech", "Base URL of an OpenAI-compatible API; `/chat/completions` is added.")
    llm_api_key: SecretStr | None = _secret("Speech", "API key for it.")
    llm_api_key_file: Path | None = _field(None, "Speech", "File that holds `llm_api_key`.")
    llm_model: str = _field("gpt-4o-mini", "Speech", "Model that answers.", min_length=1)
    llm_instructions: str = _field("You are on the telephone. Answer in one or two short sentences, without lists or markup.", "Speech", "What the model is told before anything else.", max_length=16384)
    llm_greeting: str = _field("", "Speech", "What is said when a call begins. Empty: the caller speaks first.", max_length=2000)
    llm_max_tokens: int = _field(300, "Speech", "Longest answer, in tokens.", ge=1, le=16384)
    llm_history_turns: int = _field(20, "Speech", "Turns of a call the model is reminded of; older ones are left out.", ge=1, le=200)
    speech_timeout_s: float = _field(10.0, "Speech", "How long the model, or the voice, may take to begin to answer, in seconds.", gt=0, le=120)

    # --- operation
    drain_listen_s: float = _field(1.0, "Operation", "How long a shutdown still answers new connections, with 503, after `/readyz` has turned false, in seconds.", ge=0, le=60)
    drain_deadline_s: float = _field(30.0, "Operation", "How long a shutdown waits for live streams, in seconds.", ge=0, le=3600)
    log_level: LogLevel = _field("info", "Operation", "Least level that is logged. Read again on SIGHUP.")
    service_name: str = _field("voiceingest", "Operation", "Tag `service` of every log line.", min_length=1)
    environment: str = _field("production", "Operation", "Tag `environment` of every log line.", min_length=1)

    @property
    def bus_url(self) -> str:
        """The URL of the bus in use."""
        return (self.publish_url or self.redis_url).get_secret_value()

    @property
    def has_call_credentials(self) -> bool:
        """Whether anything says who may bring calls, or that anybody may."""
        brought = (self.exotel_ws_token, self.exotel_ws_user, self.exotel_allowed_ips, self.exotel_webhook_token)
        return self.exotel_ws_auth == "none" or any(brought)

    @property
    def takes_calls(self) -> bool:
        """Whether the voicebot endpoint is there."""
        return self.voicebot != "off" and self.has_call_credentials

    @field_validator("trusted_proxies", "exotel_allowed_ips")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            try:
                ip_network(name, strict=False)
            except ValueError:
                raise PydanticCustomError("network", "each is an address or a network such as 10.0.0.0/8") from None
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"https?://[^/?#@\s]+", name):
                raise PydanticCustomError("origin", "each is a scheme and a host such as https://app.example.com, no path")
        return value

    @field_validator(*_OUTWARD)
    @classmethod
    def _outward(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SECURE_URL, value):
            raise PydanticCustomError("url", "https:// or wss://, except on the loopback interface; no user name, query or fragment")
        return value

    @field_validator("voicebot_sample_rate")
    @classmethod
    def _rate(cls, value: int) -> int:
        if value not in (8000, 16000, 24000):
            raise PydanticCustomError("rate", "8000, 16000 or 24000")
        return value

    @field_validator("voicebot_chunk_bytes")
    @classmethod
    def _chunk(cls, value: int | None) -> int | None:
        if value is not None and value % 320:
            raise PydanticCustomError("chunk", "a multiple of 320")
        return value

    @field_validator("ingest_max_realtime_factor")
    @classmethod
    def _factor(cls, value: float) -> float:
        if 0 < value < 1:
            raise PydanticCustomError("factor", "0 for no limit, else 1 or more: live audio comes at 1")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        """Refuse what is fine alone and wrong together."""
        if (self.ssl_key_path is None) != (self.ssl_cert_path is None):
            raise PydanticCustomError("ssl_cert_path", "ssl_key_path and ssl_cert_path go together")
        if self.jwt_jwks_url and (self.jwt_public_key or self.jwt_public_key_file):
            raise PydanticCustomError("jwt_jwks_url", "jwt_jwks_url and jwt_public_key exclude each other")
        if self.nats_replicas not in (1, 3, 5):
            raise PydanticCustomError("nats_replicas", "1, 3 or 5: an even number tolerates no more than the odd one below")
        for key in ("resume_secret", "exotel_callback_secret"):
            secret = getattr(self, key)
            if secret is not None and len(secret.get_secret_value()) < 32:
                raise PydanticCustomError(key, "at least 32 characters")
        for channel in ("redis_channel", "redis_events_channel", "nats_subject", "nats_events_subject"):
            unknown = set(re.findall(r"{([^}]*)}", getattr(self, channel))) - _PLACEHOLDERS
            if unknown:
                raise PydanticCustomError(channel, "only {tenant_id} and {interaction_id} may stand in braces")
        # Not urlsplit: what it raises may quote the URL, password and all.
        scheme, separator, _ = self.bus_url.partition("://")
        if not separator or scheme not in get_args(PublishScheme):
            raise PydanticCustomError("publish_url", f"the scheme of the bus is one of {', '.join(get_args(PublishScheme))}")
        return self

    @model_validator(mode="after")
    def _agree_on_calls(self) -> Settings:
        """The same for calls and speech."""
        if (self.exotel_ws_user is None) != (self.exotel_ws_password is None):
            raise PydanticCustomError("exotel_ws_user", "exotel_ws_user and exotel_ws_password go together")
        if self.voicebot == "on" and not self.has_call_credentials:
            raise PydanticCustomError("voicebot", "who may bring calls? set exotel_ws_token, exotel_ws_user, exotel_allowed_ips or exotel_webhook_token; exotel_ws_auth=none lets anybody in")
        if self.exo_bridge_enabled and self.deepgram_api_key is None:
            raise PydanticCustomError("exo_bridge_enabled", "needs deepgram_api_key")
        return self
