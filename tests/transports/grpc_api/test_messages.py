"""Sessions as messages and back: every field, every kind of JSON, and what is refused."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField
from voiceingest.session_interfaces import Session, SessionEdit
from voiceingest.stream import SessionState
from voiceingest.transports.grpc_api.generated import session_pb2 as pb
from voiceingest.transports.grpc_api.messages import edit_of, state_of, told

AT = 1_700_000_000.25

# JSON as a Struct can hold it: numbers are doubles.
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def struct(mapping: dict[str, Any]) -> Struct:
    made = Struct()
    made.update(mapping)
    return made


class ToldTests(SynchronousTestCase):
    def test_every_field(self) -> None:
        session = Session(
            "ses_1", "usr_1", SessionState.ACTIVE, "ingest", AT, AT + 1, AT + 2,
            started_at=AT, ended_at=AT + 9.5,
            reason="stopped", frames=7, audio_config={"rate": 24000}, voice_config={"a": [1, {"b": None}]},
            metadata={"m": True}, context={"history": []},
        )  # fmt: skip
        message = told(session, AT + 100)
        self.assertEqual(message.session_id, "ses_1")
        self.assertEqual(message.status, pb.SESSION_STATUS_ACTIVE)
        self.assertEqual((message.transport, message.reason, message.frames), ("ingest", "stopped", 7))
        self.assertEqual((message.created_at.seconds, message.created_at.nanos), (1_700_000_000, 250_000_000))
        self.assertEqual(message.expires_at.seconds, 1_700_000_002)
        self.assertEqual(message.duration_s, 9.5)
        self.assertEqual(message.audio_config, struct({"rate": 24000}))
        self.assertEqual(message.voice_config, struct({"a": [1, {"b": None}]}))
        self.assertEqual(message.metadata, struct({"m": True}))
        self.assertEqual(message.context, struct({"history": []}))

    def test_one_that_has_not_begun_and_one_that_goes_on(self) -> None:
        pending = told(Session("s", "u", SessionState.PENDING, "grpc", AT, AT, AT), AT + 5)
        self.assertFalse(pending.HasField("started_at") or pending.HasField("ended_at"))
        self.assertEqual(pending.duration_s, 0.0)
        live = Session("s", "u", SessionState.ACTIVE, "grpc", AT, AT, AT, started_at=AT)
        self.assertEqual(told(live, AT + 5).duration_s, 5.0)
        self.assertEqual(told(live, AT - 5).duration_s, 0.0)

    def test_every_state_there_and_back(self) -> None:
        for state in SessionState:
            status = told(Session("s", "u", state, "grpc", AT, AT, AT), AT).status
            self.assertEqual(state_of(status), state)
        self.assertEqual(len(SessionState) + 1, len(pb.SessionStatus.values()))
        self.assertIsNone(state_of(pb.SESSION_STATUS_UNSPECIFIED))
        with self.assertRaises(BadField):
            state_of(77)  # type: ignore[arg-type]


class EditTests(SynchronousTestCase):
    def test_only_what_is_there(self) -> None:
        self.assertEqual(edit_of(pb.StartSessionRequest()), SessionEdit())
        request = pb.UpdateSessionConfigRequest(
            session_id="s", metadata=Struct(), context=struct({"a": None})
        )
        self.assertEqual(edit_of(request), SessionEdit(metadata={}, context={"a": None}))

    @given(st.dictionaries(st.text(max_size=6), PLAIN, max_size=4))
    def test_json_there_and_back(self, mapping: dict[str, Any]) -> None:
        edit = edit_of(pb.StartSessionRequest(audio_config=struct(mapping)))
        self.assertEqual(edit.audio_config, mapping)
        self.assertEqual(edit.voice_config, None)

    def test_whole_numbers_stay_whole(self) -> None:
        edit = edit_of(
            pb.StartSessionRequest(audio_config=struct({"rate": 24000, "gain": 0.5, "big": 1e300}))
        )
        assert edit.audio_config is not None
        kinds = {name: type(value) for name, value in edit.audio_config.items()}
        self.assertEqual(kinds, {"rate": int, "gain": float, "big": float})

    def test_a_value_of_no_kind(self) -> None:
        odd = Struct()
        odd.fields["x"].SetInParent()
        self.assertEqual(edit_of(pb.StartSessionRequest(metadata=odd)), SessionEdit(metadata={"x": None}))

    def test_refused(self) -> None:
        for number in (math.nan, math.inf, -math.inf):
            with self.assertRaises(BadField):
                edit_of(pb.StartSessionRequest(metadata=struct({"x": [number]})))
        deep: Any = {}
        for turn in range(20):
            deep = {"x": deep} if turn % 2 else {"x": [deep]}
        with self.assertRaises(BadField):
            edit_of(pb.StartSessionRequest(metadata=struct(deep)))
