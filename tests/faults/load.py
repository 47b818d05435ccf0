"""The load, a process of its own: callers that pace audio. Told what to do in JSON lines.

The first line on standard input is the plan (``Plan``); then ``{"do": "cut", ...}``, ``"storm"``,
``"stop"``. It says ``started`` when every caller has its stream, and ``report`` at the end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from .audio import FRAME_S
from .caller import Caller
from .diary import Line

_PHASES: Final = 4
_PING_S: Final = 0.05
_STOP_S: Final = 20.0
_WAYS: Final = ("reset", "close", "leave")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the load is to be; ``kill_s`` breaks each line again and again, at random in that range."""

    ways: list[tuple[str, int]]
    token: str
    tenant_id: str = "t1"
    prefix: str = "load"
    source: int = 0
    streams: int = 1
    resumes: bool = False
    pings: bool = False
    kill_s: tuple[float, float] | None = None
    dial_within_s: float = 0.5
    silent: bool = False
    seed: int = 1


class Load:
    """The callers of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        ways = [(str(host), int(port)) for host, port in plan.ways]
        self.callers = [
            Caller(
                Line(ways, plan.token, plan.tenant_id, f"{plan.prefix}-{index}", plan.resumes),
                plan.source,
                index,
            )
            for index in range(plan.streams)
        ]
        self._kill_at = [float("inf")] * plan.streams
        self._late_s = 0.0
        self._speaking = True
        self._storm_at = 0.0
        self._storm_s = 0.0

    async def run(self, commands: asyncio.StreamReader) -> dict[str, Any]:
        """Pace until told to stop; returns the report."""
        for number, caller in enumerate(self.callers):
            caller.dial(self._plan.dial_within_s * number / self._plan.streams)
        await self._all_live()
        _say({"event": "started"})
        pacing = asyncio.get_running_loop().create_task(self._pace())
        while True:
            command = json.loads(await commands.readline() or b'{"do": "stop"}')
            if command["do"] == "stop":
                break
            if command["do"] == "calm":
                self._kill_at = [float("inf")] * self._plan.streams
            elif command["do"] == "storm":
                await self._storm(command["within_s"])
        self._speaking = False
        await pacing
        await self._stop()
        return {
            "event": "report",
            "callers": [caller.report() for caller in self.callers],
            "late_ms": round(self._late_s * 1000, 1),
            "storm_s": self._storm_s,
        }

    async def _all_live(self) -> None:
        while not all(caller.live for caller in self.callers):
            await asyncio.sleep(0.02)

    async def _pace(self) -> None:
        """Every caller speaks each 20 ms, in four groups so that they do not all speak at once."""
        plan, groups = self._plan, [self.callers[phase::_PHASES] for phase in range(_PHASES)]
        turn, at, ping_at = 0, time.monotonic(), 0.0
        self._plan_kills(at)
        while self._speaking:
            if not plan.silent:
                for caller in groups[turn % _PHASES]:
                    caller.speak()
            now = time.monotonic()
            if plan.pings and now >= ping_at:
                ping_at = now + _PING_S
                for caller in self.callers:
                    caller.ping()
            self._kill(now)
            turn, at = turn + 1, at + FRAME_S / _PHASES
            self._late_s = max(self._late_s, now - at)
            await asyncio.sleep(max(0.0, at - time.monotonic()))

    def _plan_kills(self, now: float) -> None:
        if self._plan.kill_s is not None:
            random.seed(self._plan.seed)
            self._kill_at = [now + random.uniform(*self._plan.kill_s) for _ in self.callers]

    def _kill(self, now: float) -> None:
        if self._plan.kill_s is None:
            return
        for place, at in enumerate(self._kill_at):
            if now >= at:
                self.callers[place].cut(random.choice(_WAYS))
                self._kill_at[place] = now + random.uniform(*self._plan.kill_s)

    async def _storm(self, within_s: float) -> None:
        """Every line breaks at once; all are back within ``within_s`` if the daemon can."""
        began = time.monotonic()
        for caller in self.callers:
            caller.cut("close")
        await asyncio.sleep(within_s / 10)
        await self._all_live()
        self._storm_s = round(time.monotonic() - began, 3)
        _say({"event": "storm", "took_s": self._storm_s})

    async def _stop(self) -> None:
        for caller in self.callers:
            caller.stop()
        overs = [asyncio.ensure_future(caller.over.wait()) for caller in self.callers]
        await asyncio.wait(overs, timeout=_STOP_S)
        for over in overs:
            over.cancel()
        for caller in self.callers:
            caller.hang_up()


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def lines_of_stdin() -> asyncio.StreamReader:
    """Standard input, line by line."""
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def main() -> None:
    """Read the plan, run it, say what happened."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    commands = await lines_of_stdin()
    plan = Plan(**json.loads(await commands.readline()))
    # Nothing here is cyclic on the hot path; a collection would be measured as the daemon's delay.
    gc.freeze()
    gc.disable()
    # A line that breaks under a write is what this is about: asyncio need not mention it.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    _say(await Load(plan).run(commands))


if __name__ == "__main__":
    asyncio.run(main())
