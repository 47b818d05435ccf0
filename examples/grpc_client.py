"""A session from its beginning to its end, over gRPC.

    ACCESS_TOKEN=... python grpc_client.py voice.example.com:50051 [ca.crt]

Needs grpcio, protobuf and the stubs made of session.proto. With a file of authorities it speaks TLS.
How to get all of that: docs/how-to/grpc.md.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from pathlib import Path

import grpc
import session_pb2 as pb
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from session_pb2_grpc import SessionServiceStub

DEADLINE_S = 10


def struct(**members: object) -> Struct:
    """What is free in form."""
    made = Struct()
    made.update(members)
    return made


def code_of(error: grpc.RpcError) -> str:
    """The stable code of a refusal; the status alone is coarser."""
    return dict(error.trailing_metadata() or ()).get("voiceingest-code", "")


def connect(target: str, ca_path: str | None) -> grpc.Channel:
    """A channel, with TLS where an authority is named."""
    if ca_path is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(Path(ca_path).read_bytes()))


def main() -> None:
    """Make, change, look at, list and end a session."""
    token = [("authorization", f"Bearer {os.environ['ACCESS_TOKEN']}")]
    with connect(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None) as channel:
        sessions = SessionServiceStub(channel)
        asked = {"metadata": token, "timeout": DEADLINE_S}
        # The same key however often this is tried: never two sessions.
        once = {**asked, "metadata": [*token, ("idempotency-key", str(uuid.uuid4()))]}
        wanted = pb.StartSessionRequest(audio_config=struct(sampleRate=24000), metadata=struct(order="7"))
        name = sessions.StartSession(wanted, **once).session.session_id
        print("made", name)
        topic = struct(topic="invoice")
        sessions.UpdateSessionConfig(pb.UpdateSessionConfigRequest(session_id=name, context=topic), **asked)
        shown = sessions.GetSessionStatus(pb.GetSessionStatusRequest(session_id=name), **asked).session
        knows = json.dumps(MessageToDict(shown.context))
        print("it is", pb.SessionStatus.Name(shown.status), "and knows", knows)
        pending = pb.ListSessionsRequest(status=pb.SESSION_STATUS_PENDING)
        print("pending:", len(sessions.ListSessions(pending, **asked).sessions))
        end = pb.StopSessionRequest(session_id=name)
        print("ended:", pb.SessionStatus.Name(sessions.StopSession(end, **asked).session.status))
        try:
            sessions.StopSession(end, **asked)
        except grpc.RpcError as error:
            print("again:", error.code().name, code_of(error))


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as problem:
        sys.exit(f"error: {problem.details()} ({problem.code().name} {code_of(problem)})")
