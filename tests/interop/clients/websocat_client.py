"""An ingest session with the ``websocat`` command: lines in, lines out, audio as base64 lines."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import sys
from pathlib import Path

from tests.interop.clients.session import (
    DEADLINE_S,
    WRONG_TOKEN,
    Account,
    authorization,
    frames,
    start,
    stop,
    url,
)

# A line that begins so is sent as a binary message, decoded from base64.
_BINARY = "B"


async def _websocat(token: str | None = None) -> asyncio.subprocess.Process:
    beside_python = Path(sys.executable).with_name("websocat")
    program = str(beside_python) if beside_python.exists() else shutil.which("websocat")
    assert program is not None, "the websocat package is not installed"
    ((name, value),) = authorization(token).items()
    options = ("-vv", "--text", "--base64", "--binary-prefix", _BINARY)
    trusted = {"SSL_CERT_FILE": os.environ["CA_PATH"]} if os.environ["CA_PATH"] else {}
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        program, *options, url(), f"--header={name}: {value}",
        stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **trusted},
    )  # fmt: skip


async def _session(account: Account) -> int | None:
    process = await _websocat()
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        close = asyncio.create_task(_close_code(process.stderr))
        lines = [start(), *(_BINARY + base64.b64encode(audio).decode() for audio in frames()), stop()]
        process.stdin.write("".join(line + "\n" for line in lines).encode())
        while account.text((await process.stdout.readline()).decode()) != "stopped":
            pass
        return await close
    finally:
        # It outlives its connection until its standard input ends, and sometimes that too.
        process.kill()
        await process.wait()


async def _close_code(diagnosis: asyncio.StreamReader) -> int | None:
    async for line in diagnosis:
        if code := re.search(rb"close message is .*status_code: (\d+)", line):
            return int(code[1])
    return None


async def _refusal() -> int:
    process = await _websocat(WRONG_TOKEN)
    _, diagnosis = await process.communicate(b"")
    status = re.search(rb"unexpected status code \((\d+)", diagnosis)
    return int(status[1]) if status else 101


async def _main() -> None:
    account = Account()
    async with asyncio.timeout(DEADLINE_S):
        account.tell(await _session(account), await _refusal())


if __name__ == "__main__":
    asyncio.run(_main())
