"""A session over gRPC with PyPI's grpc-requests, which learns from the server what may be asked.

``GRPC_TARGET``, ``DEVICE_TOKEN`` and ``CA_PATH`` (empty: no TLS) say where; what was answered is told as
one line of JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import grpc
from grpc_requests import Client

SERVICE = "voiceingest.v1.SessionService"


def main() -> None:
    """Have the session."""
    target, ca = os.environ["GRPC_TARGET"], os.environ["CA_PATH"]
    tls = {"root_certificates": Path(ca).read_bytes()} if ca else None
    client = Client.get_by_endpoint(target, ssl=bool(ca), credentials=tls)
    metadata = [("authorization", f"Bearer {os.environ['DEVICE_TOKEN']}")]

    def ask(method: str, request: dict[str, Any], given: Any = metadata) -> Any:
        try:
            return client.request(SERVICE, method, request, metadata=given)
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata())
            return {"status": error.code().value[0], "code": trailing["voiceingest-code"]}

    started = ask("StartSession", {"audio_config": {"sampleRate": 24000}})["session"]
    name = {"session_id": started["session_id"]}
    got = ask("GetSessionStatus", name)["session"]
    ask("UpdateSessionConfig", {**name, "metadata": {"order": "7"}})
    listed = ask("ListSessions", {})["sessions"]
    stopped = ask("StopSession", name)["session"]
    told = {
        "started": started["status"],
        "got": got["status"],
        "listed": [one["session_id"] == name["session_id"] for one in listed],
        "order": listed[0]["metadata"]["order"],
        "stopped": stopped["status"],
        "again": ask("StopSession", name),
        "stranger": ask("ListSessions", {}, []),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
