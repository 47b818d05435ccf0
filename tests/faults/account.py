"""The account of a scenario, in audio: what was spoken, acknowledged, declared lost, and what came.

A frame is *missing* when it was acknowledged, is in no gap, and the consumer never had it. It is
*undeclared* when a stream that ended in good order neither published nor declared it. It *came twice*
within the rule when it was in flight at a broken connection, else against it.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from .audio import numbers

LAG_MS: Final = 100.0
_CALM_S: Final = 1.0


@dataclass(slots=True)
class Account:
    """The figures, in frames."""

    spoken: int = 0
    acked: int = 0
    came: int = 0
    declared: int = 0
    missing: int = 0
    undeclared: int = 0
    repeated_in_flight: int = 0
    repeated: int = 0
    out_of_order: int = 0
    foreign: int = 0
    declared_and_came: int = 0
    ended: int = 0
    resumed: int = 0
    restarted: int = 0
    resets: int = 0
    unavailable: int = 0
    refused: int = 0
    kills: int = 0
    ack_gap_s: float = 0.0
    back_s: float = 0.0
    reasons: set[str] = field(default_factory=set)
    errors: set[str] = field(default_factory=set)
    samples: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep one example of what is wrong; a few are enough."""
        if len(self.samples) < 8:
            self.samples.append(text)


def take_account(
    load: dict[str, Any], consumer: dict[str, Any], source: int = 0, broken_at: list[float] | None = None
) -> Account:
    """Compare what the load and the consumer report.

    ``broken_at`` are the times at which connections broke, to the bus or of a process: what had been
    spoken by the last of them may have been in flight.
    """
    account = Account()
    came = {stream: runs for of, stream, runs in consumer["runs"] if of == source}
    for caller in load["callers"]:
        _one(account, caller, numbers(came.get(caller["index"], [])))
    in_flight_until_ns = max(broken_at or [], default=0.0) * 1e9
    for of, stream, number, spoken_ns in consumer["repeats"]:
        if of == source and spoken_ns <= in_flight_until_ns:
            account.repeated_in_flight += 1
        elif of == source:
            account.repeated += 1
            account.note(f"stream {stream}: {number} came twice, spoken at {spoken_ns / 1e9:.3f}")
    account.foreign = int(consumer["counts"].get("foreign", 0))
    return account


def _one(account: Account, caller: dict[str, Any], arrived: list[int]) -> None:
    seen, acked = set(arrived), set(numbers(caller["acked"]))
    gaps = set(numbers(caller["gaps"]))
    account.spoken += caller["sent"]
    account.acked += len(acked)
    account.came += len(seen)
    account.declared += len(gaps)
    account.declared_and_came += len(gaps & seen)
    if missing := acked - gaps - seen:
        account.missing += len(missing)
        account.note(f"{caller['name']}: acked, not there: {_brief(missing)}")
    stopped = caller["stopped"]
    if stopped is None:
        account.ended += 1
        account.note(f"{caller['name']}: ended: {caller['closes'][-1:]} {caller['errors'][-3:]}")
    elif neither := set(range(1, caller["said"] + 1)) - gaps - seen:
        account.undeclared += len(neither)
        account.note(f"{caller['name']}: neither there nor declared: {_brief(neither)}")
    first = list(dict.fromkeys(arrived))
    disorder = sum(1 for before, after in pairwise(first) if after < before)
    if disorder:
        account.out_of_order += disorder
        account.note(f"{caller['name']}: order broken {disorder} times")
    account.restarted += caller["restarted"]
    account.resumed += caller["resumed"]
    account.resets += caller["resets"]
    account.unavailable += caller["unavailable"]
    account.refused += caller["refused"]
    account.kills += len(caller["closes"])
    account.ack_gap_s = max(account.ack_gap_s, caller["ack_gap_s"])
    account.back_s = max([account.back_s, *caller["back_s"]])
    account.reasons |= {reason for *_, reason in caller["gaps"]}
    account.errors |= set(caller["errors"])


def _brief(found: set[int]) -> str:
    several = sorted(found)
    return f"{len(several)} of {several[0]}..{several[-1]}"


def calm_after_s(consumer: dict[str, Any], since: float, until: float) -> float | None:
    """Seconds from ``since`` until frames came less than 100 ms late for a whole second.

    ``None`` when that did not happen before ``until``.
    """
    # A bucket is as late as its end.
    late: list[tuple[float, float]] = [
        (at + 0.1, worst) for at, _, worst in sorted(consumer["late"]) if since - 0.1 <= at <= until
    ]
    bad = [at for at, worst in late if worst >= LAG_MS]
    times = [at for at, _ in late]
    for start in [since, *bad]:
        place = bisect_right(bad, start)
        calm_until = bad[place] if place < len(bad) else until
        came = bisect_right(times, start + _CALM_S) - bisect_right(times, start)
        if calm_until - start >= _CALM_S and came >= 5:
            return max(0.0, start - since)
    return None


def percentile(
    pairs: list[list[float]], share: float, since: float = 0.0, until: float = 1e18
) -> float | None:
    """That share of the second figures, of those whose first is between two times."""
    within = sorted(figure for at, figure in pairs if since <= at <= until)
    return within[min(len(within) - 1, int(len(within) * share))] if within else None
