"""One chunk of a model's answer at a time."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson, UpstreamFailed
from voiceingest.wire.chat import Delta, decode, request_body

FEW = settings(max_examples=100, deadline=None)
NAMES = st.sampled_from(["choices", "delta", "content", "error", "finish_reason"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def chunk(**choice: object) -> str:
    return json.dumps({"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]})


class RequestTests(SynchronousTestCase):
    def test_whole(self) -> None:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "नमस्ते"}]
        body = request_body("m1", messages, 300)
        self.assertEqual(
            json.loads(body), {"model": "m1", "messages": messages, "max_tokens": 300, "stream": True}
        )
        self.assertIn("नमस्ते".encode(), body)

    def test_text_that_is_no_text(self) -> None:
        self.assertIn(b'"a?b"', request_body("m", [{"role": "user", "content": "a\ud800b"}], 1))


class ChunkTests(SynchronousTestCase):
    def test_what_each_adds(self) -> None:
        for text, delta in (
            (chunk(delta={"content": "Hello"}, finish_reason=None), Delta("Hello")),
            (chunk(delta={"role": "assistant", "content": ""}), Delta()),
            (chunk(delta={"role": "assistant", "content": None}), Delta()),
            (chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}), Delta()),
            (chunk(delta={}, finish_reason="stop"), Delta(is_last=True)),
            (chunk(delta=None, finish_reason="length"), Delta(is_last=True)),
            (chunk(delta={"content": "."}, finish_reason="stop"), Delta(".", is_last=True)),
            (chunk(delta={"content": "a\ud800"}), Delta("a?")),
            ('{"choices":[],"usage":{"total_tokens":3}}', Delta()),
            ('{"choices":null}', Delta()),
            ('{"error":null}', Delta()),
            ("{}", Delta()),
            ("[DONE]", Delta(is_last=True)),
        ):
            self.assertEqual(decode(text), delta, text)

    def test_what_is_none(self) -> None:
        for text, error in (
            ("", BadJson), ("[DONE", BadJson), ("[]", BadJson), ("3", BadJson), ("{" * 100_000, BadJson),
            ("[" * 100_000, BadJson), ('{"choices":3}', BadField), ('{"choices":[3]}', BadField),
            (chunk(delta=3), BadField), (chunk(delta={"content": 3}), BadField),
            (chunk(delta=["x"]), BadField),
        ):
            self.assertRaises(error, decode, text)

    def test_an_error_does_not_say_what_the_model_said(self) -> None:
        for inner in ({"message": "secret", "code": 500}, "secret"):
            error = self.assertRaises(UpstreamFailed, decode, json.dumps({"error": inner}))
            self.assertNotIn("secret", str(error))

    @FEW
    @given(JSON)
    def test_nothing_else_escapes(self, value: object) -> None:
        try:
            delta = decode(json.dumps(value))
        except (BadJson, BadField, UpstreamFailed):
            return
        delta.text.encode()
