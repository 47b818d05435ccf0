"""Every metric in the table is an attribute, is exported, moves, and cannot grow without bound."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import every_error
from voiceingest.metrics import FAMILIES, Family, Histogram, Label, LabelledHistogram, Metrics, Tally, expose
from voiceingest.metrics.series import OTHER, SERIES_MAX_COUNT


def samples(metrics: Metrics) -> dict[str, float]:
    """Every exported sample, by its name and sorted labels."""
    families = parse_text(expose(metrics)[0].decode())
    return {f"{s.name}{sorted(s.labels.items())}": s.value for family in families for s in family.samples}


def move(metrics: Metrics, family: Family) -> None:
    """Move one family the way the daemon does."""
    counted = getattr(metrics, family.attribute)
    key = tuple(sorted(label.values)[0] if label.values else "word" for label in family.labels)
    if isinstance(counted, Histogram):
        counted.observe(0.01, 3)
    elif isinstance(counted, LabelledHistogram):
        counted.observe(0.01, labels=("GET", "/livez", 200))
    elif isinstance(counted, Tally):
        counted[key if len(key) > 1 else key[0]] += 2
    else:
        setattr(metrics, family.attribute, counted + 1)


class Table(SynchronousTestCase):
    """The table, the attributes and the exposition agree."""

    def test_every_public_attribute_is_in_the_table(self) -> None:
        attributes = {name for name in vars(Metrics()) if not name.startswith("_")} - {"registry"}
        self.assertEqual(attributes, {family.attribute for family in FAMILIES if family.attribute})

    def test_every_family_is_exported_under_its_name_and_kind(self) -> None:
        exported = {}
        for family in parse_text(expose(Metrics())[0].decode()):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            exported[name] = family.type
        declared = {f.name: "gauge" if f.kind == "info" else f.kind for f in FAMILIES}
        self.assertEqual(exported, declared)

    def test_every_family_that_is_not_constant_moves(self) -> None:
        for family in FAMILIES:
            if not family.attribute or family.constant:
                continue
            metrics = Metrics()
            before = samples(metrics)
            move(metrics, family)
            after = samples(metrics)
            moved = {name for name in after if after[name] != before.get(name, 0)}
            moved = {name for name in moved if not name.startswith("process_")}
            self.assertTrue(moved, family.name)
            self.assertTrue(all(name.startswith(family.name) for name in moved), (family.name, moved))

    def test_names_of_the_contract(self) -> None:
        names = {family.name for family in FAMILIES}
        self.assertLessEqual(
            {
                "ingress_audio_chunks_received_total",
                "ingress_audio_bytes_received_total",
                "ingress_sessions_total",
                "ingress_sessions_active",
                "ingress_auth_attempts_total",
                "ingress_errors_total",
                "http_request_duration_seconds",
            },
            names,
        )
        self.assertEqual(len(names), len(FAMILIES))

    def test_openmetrics_is_well_formed(self) -> None:
        metrics = Metrics()
        for family in FAMILIES:
            if family.attribute and not family.constant:
                move(metrics, family)
        text, content_type = expose(metrics, "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        self.assertGreater(len(list(parse_openmetrics(text.decode()))), len(FAMILIES) - 6)

    def test_nothing_else_of_the_accept_header_is_echoed(self) -> None:
        _, content_type = expose(Metrics(), "application/openmetrics-text; version=9.9.9; escaping=x\r\nA: b")
        self.assertNotIn("9.9.9", content_type)
        self.assertNotIn("\n", content_type)

    def test_small_closed_sets_are_there_at_zero(self) -> None:
        self.assertEqual(samples(Metrics())["ingress_auth_attempts_total[('status', 'missing')]"], 0)

    def test_two_daemons_share_nothing(self) -> None:
        one, two = Metrics(), Metrics()
        one.gaps["overflow"] += 1
        one.frames_received += 1
        self.assertEqual((two.gaps["overflow"], two.frames_received), (0, 0))

    def test_process_metrics_are_real(self) -> None:
        found = samples(Metrics())
        self.assertGreater(found["process_resident_memory_bytes[]"], 1_000_000)
        self.assertGreater(found["process_open_fds[]"], 0)


class Gauges(SynchronousTestCase):
    """Gauges that are read when scraped."""

    def test_a_gauge_may_be_read_at_the_scrape(self) -> None:
        metrics = Metrics()
        metrics.read_gauge("queue_frames", lambda: 7)
        self.assertEqual(samples(metrics)["voiceingest_queue_frames[]"], 7)

    def test_a_broken_gauge_does_not_take_the_others_with_it(self) -> None:
        metrics = Metrics()
        metrics.frames_received = 5
        metrics.read_gauge("queue_frames", lambda: 1 // 0)
        self.assertEqual(samples(metrics)["ingress_audio_chunks_received_total[]"], 5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_only_a_plain_gauge_can_be_read(self) -> None:
        for attribute in ("frames_received", "connections"):
            with self.assertRaises(ValueError):
                Metrics().read_gauge(attribute, lambda: 1)


class Labels(SynchronousTestCase):
    """No label value is a peer's."""

    def test_every_error_code_is_a_value(self) -> None:
        metrics = Metrics()
        for error in every_error():
            metrics.errors[error.code, "ingest"] += 1
            metrics.connections_refused[error.code] += 1
            metrics.close_codes[error.close_code] += 1
        for tally in (metrics.errors, metrics.connections_refused, metrics.close_codes):
            self.assertNotIn(OTHER, str(tally.keys()))

    def test_unknown_values_are_counted_as_other(self) -> None:
        metrics = Metrics()
        for code in range(3000, 3100):
            metrics.close_codes[code] += 1
        self.assertEqual(metrics.close_codes[OTHER], 100)
        self.assertEqual(metrics.close_codes[3050], 100)
        self.assertEqual(len(metrics.close_codes), 1)

    def test_numbers_are_taken_for_their_text(self) -> None:
        metrics = Metrics()
        metrics.close_codes[1000] += 1
        metrics.close_codes["1000"] += 1
        self.assertEqual(metrics.close_codes[1000], 2)

    def test_a_gauge_goes_down_again(self) -> None:
        metrics = Metrics()
        metrics.connections["ingest"] += 2
        metrics.connections["ingest"] -= 1
        self.assertEqual(samples(metrics)["voiceingest_connections[('transport', 'ingest')]"], 1)

    def test_open_labels_are_bounded(self) -> None:
        tally = Tally([Label("reason")])
        words = [a + b + c for a in string.ascii_lowercase for b in string.ascii_lowercase for c in "xyz"]
        for word in words:
            tally[word] += 1
        self.assertLessEqual(len(tally), SERIES_MAX_COUNT + 1)
        self.assertEqual(sum(tally.values()), len(words))

    def test_the_wrong_number_of_labels_is_a_mistake(self) -> None:
        with self.assertRaises(ValueError):
            Tally([Label("a"), Label("b")]).fold("one")

    @given(st.text())
    def test_no_text_becomes_a_label_unless_it_is_a_word(self, text: str) -> None:
        folded = Label("reason").fold(text)
        self.assertTrue(folded == OTHER or (folded == text and text.isascii() and len(text) <= 64))

    def test_a_telephone_number_is_no_label(self) -> None:
        self.assertEqual(Label("reason").fold("call-919812345678"), OTHER)

    def test_labelled_histograms_are_bounded(self) -> None:
        metrics = Metrics()
        for number in range(2000):
            metrics.http_duration.observe(0.1, labels=("GET", f"/{number}", 200))
        series = list(metrics.http_duration.series())
        self.assertLessEqual(len(series), SERIES_MAX_COUNT + 1)
        self.assertEqual(sum(histogram.count for _, histogram in series), 2000)


class Histograms(SynchronousTestCase):
    """Buckets as Prometheus means them: cumulative, the bound included."""

    def test_buckets(self) -> None:
        histogram = Histogram([0.1, 1.0])
        histogram.observe(0.1, 2)
        histogram.observe(0.5)
        histogram.observe(9.0)
        self.assertEqual(histogram.buckets(), [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)])
        self.assertAlmostEqual(histogram.sum, 9.7)

    @given(st.lists(st.floats(0, 20), max_size=20))
    def test_buckets_agree_with_counting(self, values: list[float]) -> None:
        histogram = Histogram([0.5, 1.0, 10.0])
        for value in values:
            histogram.observe(value)
        counted = [sum(value <= bound for value in values) for bound in (0.5, 1.0, 10.0, float("inf"))]
        self.assertEqual([count for _, count in histogram.buckets()], counted)
        self.assertEqual(histogram.count, len(values))
