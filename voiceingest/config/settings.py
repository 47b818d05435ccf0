"""The one typed place for settings. The reference page and the default file are made from it.

A field's description is the text an operator reads; its unit is in the field's name. ``section``
groups the page; ``secret`` marks what never appears in a log, an error, a metric or a dump.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

LogLevel = Literal["debug", "info", "warn", "error", "critical"]
JwtAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
PublishScheme = Literal[
    "memory", "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis-streams", "rediss-streams",
    "redis-streams+sentinel", "rediss-streams+sentinel", "nats", "nats+tls",
]

_PLACEHOLDERS = {"tenant_id", "interaction_id"}


def _field(default: Any, section: str, text: str, **limits: Any) -> Any:
    return Field(default, description=text, json_schema_extra={"section": section}, **limits)


def _secret(section: str, text: str) -> Any:
    return Field(None, description=text, json_schema_extra={"section": section, "secret": True})


Words = Annotated[tuple[str, ...], Field()]


class Settings(BaseModel):
    """Everything an operator may decide, checked as a whole before the reactor runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    # --- listening
    listen: Words = _field((), "Listening", "Public endpoints, as Twisted server endpoint descriptions (`tcp:`, `ssl:`, `systemd:`, `unix:`). The flag is `--port` and may be repeated.")
    port: int = _field(8443, "Listening", "TCP port when `listen` is empty. TLS when both `ssl_key_path` and `ssl_cert_path` are set, else plain TCP.", ge=1, le=65535)
    admin: str = _field("tcp:9464:interface=127.0.0.1", "Listening", "Endpoint of the admin site (metrics, health, drain), which asks for no token. Empty: no admin site.")
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

    @field_validator("trusted_proxies")
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
        if self.resume_secret is not None and len(self.resume_secret.get_secret_value()) < 32:
            raise PydanticCustomError("resume_secret", "at least 32 characters")
        for channel in ("redis_channel", "redis_events_channel", "nats_subject", "nats_events_subject"):
            unknown = set(re.findall(r"{([^}]*)}", getattr(self, channel))) - _PLACEHOLDERS
            if unknown:
                raise PydanticCustomError(channel, "only {tenant_id} and {interaction_id} may stand in braces")
        # Not urlsplit: what it raises may quote the URL, password and all.
        scheme, separator, _ = self.bus_url.partition("://")
        if not separator or scheme not in get_args(PublishScheme):
            raise PydanticCustomError("publish_url", f"the scheme of the bus is one of {', '.join(get_args(PublishScheme))}")
        return self
