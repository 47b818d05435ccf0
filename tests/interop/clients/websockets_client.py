"""An ingest session with the ``websockets`` library."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.interop.clients.session import (
    DEADLINE_S,
    WRONG_TOKEN,
    Account,
    authorization,
    frames,
    start,
    stop,
    trust,
    url,
)


async def _session(account: Account) -> int | None:
    async with connect(url(), additional_headers=authorization(), ssl=trust()) as socket:
        await socket.send(start())
        assert account.text(str(await socket.recv())) == "started"
        for audio in frames():
            await socket.send(audio)
        await socket.send(stop())
        try:
            while True:
                account.text(str(await socket.recv()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None


async def _refusal() -> int:
    try:
        async with connect(url(), additional_headers=authorization(WRONG_TOKEN), ssl=trust()):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def _main() -> None:
    account = Account()
    async with asyncio.timeout(DEADLINE_S):
        account.tell(await _session(account), await _refusal())


if __name__ == "__main__":
    asyncio.run(_main())
