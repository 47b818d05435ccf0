"""What may be put into a session, and what not."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, ContextTooBig
from voiceingest.limits import (
    SESSION_CONFIG_MAX_BYTES,
    SESSION_CONTEXT_MAX_BYTES,
    SESSION_HISTORY_MAX_COUNT,
    SESSION_JSON_MAX_DEPTH_COUNT,
)
from voiceingest.session_interfaces import Session, SessionEdit
from voiceingest.sessions.bounds import PARTS, idempotency, patched
from voiceingest.stream import SessionState

SESSION = Session(
    session_id="ses_1", user_id="u", status=SessionState.PENDING, transport="rest",
    created_at=0.0, updated_at=0.0, expires_at=1.0, context={"a": 1, "b": {"c": 2}},
)  # fmt: skip


def nested(depth: int) -> dict[str, Any]:
    """An object in so many objects."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def filled(size: int) -> dict[str, str]:
    """An object of exactly so many bytes."""
    return {"a": "x" * (size - len('{"a":""}'))}


class PatchedTests(SynchronousTestCase):
    def test_a_new_one_has_every_part(self) -> None:
        self.assertEqual(patched(None, SessionEdit(metadata={"a": 1, "b": None})), {
            "audio_config": {}, "voice_config": {}, "metadata": {"a": 1}, "context": {},
        })  # fmt: skip

    def test_an_edit_has_what_it_gives(self) -> None:
        edit = SessionEdit(context={"b": {"c": None, "d": 3}})
        self.assertEqual(patched(SESSION, edit), {"context": {"a": 1, "b": {"d": 3}}})
        self.assertEqual(patched(SESSION, SessionEdit()), {})
        self.assertEqual(patched(SESSION, SessionEdit(context={})), {"context": SESSION.context})

    def test_no_json(self) -> None:
        wrong: list[Any] = [
            *(float("nan"), float("inf"), b"x", {1, 2}, object(), 2**63, -(2**63) - 1, 10**5000),
            *("\ud800", {"\udfff": 1}, {1: 2}, [["\ud800"]], "a\0", {"a\0": 1}),
        ]
        for value in wrong:
            for part in PARTS:
                with self.assertRaises(BadField):
                    patched(SESSION, SessionEdit(**{part: {"a": value}}))
        for value in ([1], "x", 3):
            with self.assertRaises(BadField):
                patched(None, SessionEdit(metadata=value))  # type: ignore[arg-type]

    def test_json(self) -> None:
        right = {"a": [1, -1.5, True, None, "\u0001é😀"], "b": {"": {}}, "c": 2**63 - 1}
        self.assertEqual(patched(None, SessionEdit(context=right))["context"], right)
        proxied = MappingProxyType({"a": MappingProxyType({"b": 1})})
        self.assertEqual(patched(None, SessionEdit(context=proxied))["context"], {"a": {"b": 1}})

    def test_depth(self) -> None:
        deepest = nested(SESSION_JSON_MAX_DEPTH_COUNT)
        self.assertEqual(patched(None, SessionEdit(context=deepest))["context"], deepest)
        for depth in (SESSION_JSON_MAX_DEPTH_COUNT + 1, 500):
            with self.assertRaises(BadField):
                patched(None, SessionEdit(context=nested(depth)))

    def test_size_of_each_part(self) -> None:
        for part, most in PARTS.items():
            self.assertEqual(
                most, SESSION_CONTEXT_MAX_BYTES if part == "context" else SESSION_CONFIG_MAX_BYTES
            )
            self.assertEqual(patched(None, SessionEdit(**{part: filled(most)}))[part], filled(most))
            with self.assertRaises(ContextTooBig):
                patched(None, SessionEdit(**{part: filled(most + 1)}))

    def test_size_is_of_what_comes_of_it_and_in_bytes(self) -> None:
        session = replace(SESSION, metadata=filled(SESSION_CONFIG_MAX_BYTES))
        with self.assertRaises(ContextTooBig):
            patched(session, SessionEdit(metadata={"b": 1}))
        self.assertEqual(patched(session, SessionEdit(metadata={"b": 1, "a": None})), {"metadata": {"b": 1}})
        with self.assertRaises(ContextTooBig):
            patched(None, SessionEdit(metadata={"a": "é" * (SESSION_CONFIG_MAX_BYTES // 2)}))

    def test_the_oldest_turns_go(self) -> None:
        turns = [{"n": number} for number in range(SESSION_HISTORY_MAX_COUNT + 3)]
        kept = patched(None, SessionEdit(context={"history": turns, "x": 1}))["context"]
        self.assertEqual(kept, {"history": turns[3:], "x": 1})
        self.assertEqual(len(turns), SESSION_HISTORY_MAX_COUNT + 3)
        for other in ("text", {"a": list(range(999))}):
            self.assertEqual(
                patched(None, SessionEdit(context={"history": other}))["context"]["history"], other
            )

    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=2), below, max_size=3),
        max_leaves=10,
    ))  # fmt: skip
    def test_what_passes_can_be_written_and_read(self, value: Any) -> None:
        try:
            kept = patched(None, SessionEdit(context={"a": value}))["context"]
        except (BadField, ContextTooBig):
            return
        self.assertEqual(json.loads(json.dumps(kept, allow_nan=False).encode()), kept)


class IdempotencyTests(SynchronousTestCase):
    def test_without_a_key(self) -> None:
        self.assertIsNone(idempotency(None, SessionEdit()))

    def test_keys(self) -> None:
        for key in ("a", "k" * 128, "!~"):
            self.assertEqual(idempotency(key, SessionEdit()).key, key)  # type: ignore[union-attr]
        for key in ("", "k" * 129, "é", "a\n", "a\x00", " a", "a ", "a b"):
            with self.assertRaises(BadField):
                idempotency(key, SessionEdit())

    def test_the_digest_is_of_what_is_asked(self) -> None:
        def digest(**asked: Any) -> bytes:
            found = idempotency("k", SessionEdit(**asked))
            assert found is not None
            return found.request_digest

        one = digest(metadata={"a": 1, "b": [1, 2]})
        self.assertEqual(len(one), 32)
        self.assertEqual(one, digest(metadata={"b": [1, 2], "a": 1}, context={}))
        others = [digest(metadata={"a": 1, "b": [2, 1]}), digest(context={"a": 1, "b": [1, 2]}), digest()]
        self.assertEqual(len({one, *others}), 4)
