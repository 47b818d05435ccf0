"""What the daemon counts.

Plain integers are incremented where things happen (``metrics.frames_received += 1``), labelled
families are Counters (``metrics.frames_dropped["overflow"] += n``), and nothing is turned into
Prometheus samples before it is scraped. :data:`FAMILIES` is the table behind all of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from twisted.logger import Logger

from .. import __version__
from .control_families import CONTROL_FAMILIES
from .families import CALL_FAMILIES, FAMILIES
from .family import Family
from .series import OTHER, Histogram, Label, LabelledHistogram, Tally

__all__ = [
    "CALL_FAMILIES",
    "CONTROL_FAMILIES",
    "FAMILIES",
    "OTHER",
    "Family",
    "Histogram",
    "Label",
    "LabelledHistogram",
    "Metrics",
    "Tally",
    "expose",
]

_OPENMETRICS: Final = "application/openmetrics-text"
_BY_ATTRIBUTE: Final = {family.attribute: family for family in FAMILIES if family.attribute}


def _tally(attribute: str) -> Tally:
    return Tally(_BY_ATTRIBUTE[attribute].labels)


def _histogram(attribute: str) -> Histogram:
    return Histogram(_BY_ATTRIBUTE[attribute].buckets)


class Metrics:
    """Every counter of one daemon, and the registry that exports them."""

    _log = Logger()

    def __init__(self) -> None:
        self.frames_received = self.bytes_received = self.samples_received = 0
        self.sessions_started = self.sessions_active = 0
        self.frames_published = self.samples_published = 0
        self.acks_sent = 0
        self.events_published = self.events_dropped = 0
        self.bus_up = self.bus_connects = self.bus_writes = self.bus_bytes = 0
        self.breaker_state = self.breaker_opens = 0
        self.streams_detached = self.streams_replaced = self.streams_moved = 0
        self.frames_fenced = self.streams_paced = 0
        self.queue_frames = self.queue_bytes = self.inflight_bytes = 0
        self.accept_pauses = 0
        self.log_errors = 0
        self.ready = 0
        self.tls_expiry = 0.0
        self.auth_attempts = _tally("auth_attempts")
        self.errors = _tally("errors")
        self.connections = _tally("connections")
        self.connections_opened = _tally("connections_opened")
        self.connections_refused = _tally("connections_refused")
        self.frames_dropped = _tally("frames_dropped")
        self.gaps = _tally("gaps")
        self.samples_dropped = _tally("samples_dropped")
        self.streams_resumed = _tally("streams_resumed")
        self.resumes_refused = _tally("resumes_refused")
        self.bus_disconnects = _tally("bus_disconnects")
        self.bus_refused = _tally("bus_refused")
        self.close_codes = _tally("close_codes")
        self.reloads = _tally("reloads")
        self.jwks_fetches = _tally("jwks_fetches")
        self.tickets = _tally("tickets")
        self.publish_latency = _histogram("publish_latency")
        self.reactor_lag = _histogram("reactor_lag")
        http = _BY_ATTRIBUTE["http_duration"]
        self.http_duration = LabelledHistogram(http.labels, http.buckets)
        self.build_info = {
            "version": __version__,
            "python": platform.python_version(),
            "twisted": version("twisted"),
            "autobahn": version("autobahn"),
        }
        self._count_calls()
        self._count_sessions()
        self._gauges: dict[str, Callable[[], float]] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def _count_calls(self) -> None:
        self.calls = self.calls_active = self.call_messages_missing = 0
        self.chunks_sent = self.barge_ins = self.transcribers = 0
        self.call_messages = _tally("call_messages")
        self.call_media_dropped = _tally("call_media_dropped")
        self.call_mismatches = _tally("call_mismatches")
        self.playback_dropped = _tally("playback_dropped")
        self.marks = _tally("marks")
        self.agent_failures = _tally("agent_failures")
        self.webhooks = _tally("webhooks")
        self.outbound_calls = _tally("outbound_calls")
        self.status_callbacks = _tally("status_callbacks")
        self.transcriber_connects = _tally("transcriber_connects")
        self.transcriber_disconnects = _tally("transcriber_disconnects")
        self.transcriber_samples = _tally("transcriber_samples")
        self.transcripts = _tally("transcripts")
        self.transcript_gaps = _tally("transcript_gaps")
        self.llm_requests = _tally("llm_requests")
        self.speak_requests = _tally("speak_requests")
        self.playback_lateness = _histogram("playback_lateness")
        self.barge_in_latency = _histogram("barge_in_latency")
        self.llm_first_word = _histogram("llm_first_word")
        self.speak_first_audio = _histogram("speak_first_audio")

    def _count_sessions(self) -> None:
        self.streams_revoked = self.idempotent_replays = 0
        self.store_up = self.store_queue = 0
        self.devices_registered = _tally("devices_registered")
        self.token_refreshes = _tally("token_refreshes")
        self.tokens_revoked = _tally("tokens_revoked")
        self.session_moves = _tally("session_moves")
        self.grpc_calls = _tally("grpc_calls")
        self.requests_limited = _tally("requests_limited")
        self.store_errors = _tally("store_errors")
        self.store_writes = _tally("store_writes")
        self.session_cache = _tally("session_cache")
        self.control_messages = _tally("control_messages")
        self.store_latency = _histogram("store_latency")

    def read_gauge(self, attribute: str, read: Callable[[], float]) -> None:
        """Ask ``read`` for a gauge at each scrape, where that is easier than keeping it."""
        if _BY_ATTRIBUTE[attribute].kind != "gauge" or _BY_ATTRIBUTE[attribute].labels:
            raise ValueError(f"{attribute} is not a plain gauge")
        self._gauges[attribute] = read

    def collect(self) -> Iterator[Metric]:
        """Yield every family of the table (prometheus_client's collector interface)."""
        for family in _BY_ATTRIBUTE.values():
            yield self._family(family)

    def _family(self, family: Family) -> Metric:
        counted = self._value(family.attribute)
        if isinstance(counted, Histogram):
            return HistogramMetricFamily(family.name, family.text, counted.buckets(), counted.sum)
        if isinstance(counted, dict) and not isinstance(counted, Tally):
            return InfoMetricFamily(family.name.removesuffix("_info"), family.text, counted)
        names = [label.name for label in family.labels]
        if isinstance(counted, LabelledHistogram):
            histogram = HistogramMetricFamily(family.name, family.text, labels=names)
            for values, series in counted.series():
                histogram.add_metric(values, series.buckets(), series.sum)
            return histogram
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        plain: CounterMetricFamily | GaugeMetricFamily = kind(family.name, family.text, labels=names)
        for values, value in counted.series() if isinstance(counted, Tally) else (((), counted),):
            plain.add_metric(values, value)
        return plain

    def _value(self, attribute: str) -> Tally | Histogram | LabelledHistogram | dict[str, str] | float:
        read = self._gauges.get(attribute)
        if read is not None:
            try:
                return read()
            except Exception:
                # One gauge that cannot be read must not take the other families with it.
                self._log.failure("a gauge could not be read", event="gauge_failed", gauge=attribute)
        counted: Tally | Histogram | LabelledHistogram | dict[str, str] | float = getattr(self, attribute)
        return counted


def expose(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    """Return the exposition and its content type: OpenMetrics where ``accept`` names it, else text.

    Only that word is taken from the header: prometheus_client would echo other parts of it.
    """
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(metrics.registry), content_type
