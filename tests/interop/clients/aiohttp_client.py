"""An ingest session with the ``aiohttp`` library."""

from __future__ import annotations

import asyncio

import aiohttp

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


async def _session(http: aiohttp.ClientSession, account: Account) -> int | None:
    async with http.ws_connect(url(), headers=authorization(), ssl=trust() or True) as socket:
        await socket.send_str(start())
        assert account.text(await socket.receive_str()) == "started"
        for audio in frames():
            await socket.send_bytes(audio)
        await socket.send_str(stop())
        async for message in socket:
            account.text(str(message.data))
        return socket.close_code


async def _refusal(http: aiohttp.ClientSession) -> int:
    try:
        async with http.ws_connect(url(), headers=authorization(WRONG_TOKEN), ssl=trust() or True):
            return 101
    except aiohttp.WSServerHandshakeError as refused:
        return refused.status


async def _main() -> None:
    account = Account()
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as http:
        account.tell(await _session(http, account), await _refusal(http))


if __name__ == "__main__":
    asyncio.run(_main())
