"""Who makes the tables, when several want to."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from tests.store.cases import PostgresCase, SqliteCase, on_loop
from tests.support.daemon import ROOT
from voiceingest.config import Settings
from voiceingest.errors import StoreUnusable
from voiceingest.store.migrating import head
from voiceingest.store.preparing import prepare, revisions
from voiceingest.store.target import read_target

# Says that it is there, waits for the next database, and prepares it: so both begin within a millisecond.
_RACER: Final = """
import asyncio, sys
from voiceingest.config import Settings
from voiceingest.store.preparing import prepare
from voiceingest.store.target import read_target
print("there", flush=True)
for line in sys.stdin:
    print(asyncio.run(prepare(read_target(line.strip()), Settings())), flush=True)
"""

_RACERS: Final = 2
_ROUNDS: Final = 4

Process = asyncio.subprocess.Process


async def racer() -> Process:
    """One process, ready to prepare databases."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _RACER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


async def said(process: Process) -> str:
    """Its next line, or why it has ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = await process.stdout.readline()
    return line.decode().strip() if line else (await process.stderr.read()).decode()


class PreparingContract:
    @on_loop
    async def test_processes_that_start_at_once(self) -> None:
        racers = [await racer() for _ in range(_RACERS)]
        try:
            self.assertEqual([await said(one) for one in racers], ["there"] * _RACERS)
            for _ in range(_ROUNDS):
                url = self.database_url()
                for one in racers:
                    assert one.stdin is not None
                    one.stdin.write(f"{url}\n".encode())
                outcomes = sorted([await said(one) for one in racers])
                self.assertEqual(outcomes, ["up to date"] * (_RACERS - 1) + ["upgraded"])
                self.assertEqual(await revisions(read_target(url), Settings()), (head(), head()))
        finally:
            for one in racers:
                assert one.stdin is not None
                one.stdin.close()
            await asyncio.gather(*(one.wait() for one in racers))

    @on_loop
    async def test_looking_makes_nothing(self) -> None:
        target = read_target(self.url)
        self.assertEqual(await revisions(target, Settings()), (None, head()))
        if target.path is not None:
            self.assertFalse(target.path.exists())
        self.assertEqual(await prepare(target, Settings()), "upgraded")
        self.assertEqual(await prepare(target, Settings()), "up to date")


class SqlitePreparingTests(PreparingContract, SqliteCase):
    pass


class PostgresPreparingTests(PreparingContract, PostgresCase):
    @on_loop
    async def test_a_user_that_may_not(self) -> None:
        self.server.execute("DROP ROLE IF EXISTS stranger", "CREATE ROLE stranger LOGIN PASSWORD 'canary'")
        self.addCleanup(self.server.execute, "DROP ROLE stranger")
        target = read_target(self.server.url(self.database, "stranger", "canary"))
        with self.assertRaises(StoreUnusable) as caught:
            await prepare(target, Settings())
        self.assertIn("voiceingest db upgrade", caught.exception.message)
