"""Plain JSON, and what is not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson, VoiceIngestError
from voiceingest.http.api.body import DEPTH_MAX_COUNT, read_object

JSON = ["application/json"]
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


class BodyTests(SynchronousTestCase):
    @given(st.dictionaries(st.text("abc"), PLAIN, max_size=3))
    def test_what_is_plain_is_taken_as_it_is(self, value: dict[str, Any]) -> None:
        self.assertEqual(read_object(JSON, json.dumps(value).encode()), value)

    @given(st.binary(max_size=64))
    def test_whatever_comes_is_read_or_refused(self, body: bytes) -> None:
        try:
            self.assertIsInstance(read_object(JSON, body), dict)
        except VoiceIngestError as error:
            self.assertEqual(error.http_status, 400)

    def test_depth(self) -> None:
        for depth, is_plain in ((DEPTH_MAX_COUNT, True), (DEPTH_MAX_COUNT + 1, False)):
            for opening, closing in (('{"a":', "}"), ("[", "]")):
                inner = depth - 1
                text = '{"a":' + opening * inner + "1" + closing * inner + "}"
                if is_plain:
                    read_object(JSON, text.encode())
                else:
                    self.assertRaises(BadField, read_object, JSON, text.encode())

    def test_a_key_is_text_too(self) -> None:
        self.assertRaises(BadField, read_object, JSON, b'{"a":{"\\u0000":1}}')

    def test_two_types_of_content_are_none(self) -> None:
        self.assertRaises(VoiceIngestError, read_object, [*JSON, *JSON], b"{}")
        self.assertRaises(VoiceIngestError, read_object, [], b"{}")
        self.assertRaises(BadJson, read_object, JSON, b"{}{}")
