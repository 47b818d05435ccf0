"""What the URL of a call says, and which of two rates holds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.limits import IDENTIFIER_MAX_CHARS
from voiceingest.wire.exotel import EXOTEL_RATES, Start
from voiceingest.wire.exotel_query import CallQuery, read_query, resolve_rate


def start(rate: int) -> Start:
    """A start that says this rate."""
    return Start("s", "c", "", "", "", {}, "pcm16", rate, None)


class Queries(SynchronousTestCase):
    """Every spelling; nothing is an error."""

    def test_nothing(self) -> None:
        self.assertEqual(read_query({}), CallQuery("", "", 0, ""))

    def test_everything(self) -> None:
        args = {
            "call_id": ["c1"],
            "stream_sid": ["s1"],
            "sample-rate": ["16000"],
            "ticket": ["t1"],
            "x": ["y"],
        }
        self.assertEqual(read_query(args), CallQuery("c1", "s1", 16000, "t1"))

    def test_each_spelling(self) -> None:
        for key in ("call_id", "callId", "callSid", "CallSid", "callLogId", "call_sid"):
            self.assertEqual(read_query({key: ["c1"]}).call_id, "c1")
        for key in ("stream_sid", "streamSid"):
            self.assertEqual(read_query({key: ["s1"]}).stream_sid, "s1")
        for key in ("sample-rate", "sample_rate"):
            self.assertEqual(read_query({key: ["24000"]}).sample_rate, 24000)

    def test_the_hyphen_goes_first(self) -> None:
        both = {"sample_rate": ["8000"], "sample-rate": ["16000"]}
        self.assertEqual(read_query(both).sample_rate, 16000)
        self.assertEqual(read_query({**both, "sample-rate": ["x"]}).sample_rate, 8000)

    def test_our_own_spelling_goes_first_and_what_is_not_usable_is_passed_over(self) -> None:
        both = {"callSid": ["c2"], "call_id": ["c1"]}
        self.assertEqual(read_query(both).call_id, "c1")
        for wrong in ("", "a{b", "a\nb", "x" * (IDENTIFIER_MAX_CHARS + 1)):
            self.assertEqual(read_query({**both, "call_id": [wrong]}).call_id, "c2")
            self.assertEqual(read_query({"call_id": [wrong, "c3"]}).call_id, "c3")
            self.assertEqual(read_query({"call_id": [wrong], "ticket": [wrong]}), CallQuery("", "", 0, ""))
        for rate in ("", "8", "44100", "-8000", "8000.0", "9" * 5000):
            self.assertEqual(read_query({"sample-rate": [rate]}).sample_rate, 0)

    @settings(deadline=None, max_examples=100)
    @given(
        st.dictionaries(
            st.sampled_from(["call_id", "callSid", "streamSid", "sample-rate", "sample_rate", "ticket", "x"]),
            st.lists(st.text(max_size=8) | st.sampled_from([str(rate) for rate in EXOTEL_RATES]), max_size=3),
        )
    )
    def test_any_query(self, args: dict[str, list[str]]) -> None:
        query = read_query(args)
        self.assertIn(query.sample_rate, (0, *EXOTEL_RATES))
        for name in (query.call_id, query.stream_sid, query.ticket):
            self.assertTrue(name.isprintable())


class Rates(SynchronousTestCase):
    """Start, query, 8000."""

    def test_each_case(self) -> None:
        table = [
            (0, 0, 8000, False),
            (16000, 0, 16000, False),
            (0, 24000, 24000, False),
            (16000, 16000, 16000, False),
            (8000, 16000, 8000, True),
            (24000, 8000, 24000, True),
        ]
        for said, asked, rate, differ in table:
            self.assertEqual(resolve_rate(start(said), CallQuery("", "", asked, "")), (rate, differ))
