"""How a run of calls is told: as pairs for people, as a document for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from ..console import printable
from ..percentiles import Latencies, in_words
from .incoming import ILLEGAL, ODD, UNIT_BYTES
from .report import OTHER_SIZE, CallReport, worst

RANKS: Final = (50, 99)

# Exotel waits for the webhook; more than this is heard as silence by the caller.
WEBHOOK_USUAL_S: Final = 1.0


def document(reports: list[CallReport], sample_rate: int) -> dict[str, Any]:
    """Everything there is to know about a run."""
    return {
        "ok": all(report.failure is None for report in reports),
        "exit_code": int(worst(reports)),
        "calls": len(reports),
        "sample_rate": sample_rate,
        **_totals(reports, sample_rate),
        "sizes": {str(size): n for size, n in _sum(reports, lambda report: report.sizes).most_common()},
        "first_audio_ms": _gathered(reports, lambda report: report.first_audio_s).summary_ms(RANKS),
        "own_lateness_ms": _absorbed(reports, lambda report: report.late).summary_ms(RANKS),
        "lateness_ms": _lateness(reports).summary_ms(RANKS),
        "underrun_ms": _absorbed(reports, lambda report: report.gaps).summary_ms(RANKS),
        "barge_in_ms": _gathered(reports, lambda report: report.barge_in_s).summary_ms(RANKS),
        "illegal": dict(_sum(reports, lambda report: report.illegal)),
        "odd": dict(_sum(reports, lambda report: report.odd)),
        "failures": [
            {"reason": reason, "hint": hint, "calls": n} for (reason, hint), n in _failures(reports)
        ],
        "per_call": [_one(report, sample_rate) for report in reports],
    }


def _totals(reports: list[CallReport], sample_rate: int) -> dict[str, Any]:
    def total(count: Callable[[CallReport], float]) -> float:
        return sum(count(report) for report in reports)

    return {
        "sent_chunks": total(lambda report: report.sent_chunks),
        "sent_s": round(total(lambda report: report.sent_samples) / sample_rate, 3),
        "unsent_chunks": total(lambda report: report.unsent_chunks),
        "digits": total(lambda report: report.digits),
        "heard_chunks": total(lambda report: report.heard_chunks),
        "heard_s": round(total(lambda report: report.heard_samples) / sample_rate, 3),
        "played_s": round(total(lambda report: report.played_s), 3),
        "underruns": total(lambda report: report.gaps.count),
        "underrun_total_ms": round(total(lambda report: report.gap_total_s) * 1000, 1),
        "marks": total(lambda report: report.marks),
        "marks_echoed": total(lambda report: report.marks_echoed),
        "clears": total(lambda report: report.clears),
        "cleared_s": round(total(lambda report: report.cleared_s), 3),
        "seconds": round(max(report.seconds for report in reports), 3),
    }


def _one(report: CallReport, sample_rate: int) -> dict[str, Any]:
    return {
        "call_id": report.call_id,
        "ok": report.failure is None,
        "sent_s": round(report.sent_samples / sample_rate, 3),
        "heard_s": round(report.heard_samples / sample_rate, 3),
        "played_s": round(report.played_s, 3),
        "first_audio_ms": _ms(report.first_audio_s),
        "underruns": report.gaps.count,
        "marks_echoed": report.marks_echoed,
        "clears": report.clears,
        "barge_in_ms": _ms(report.barge_in_s),
        "identical_samples": report.identical,
        "differs_at": report.differs_at,
        "illegal": sum(report.illegal.values()),
        "webhook_ms": _ms(report.webhook_s),
        "close_code": report.close_code,
        "http_status": report.http_status,
        "tls": report.tls_version or None,
        "failure": report.failure,
    }


def pairs(reports: list[CallReport], sample_rate: int) -> dict[str, str]:
    """The same, short, for people."""
    totals = _totals(reports, sample_rate)
    good = sum(report.failure is None for report in reports)
    many = len(reports) > 1
    rows = (
        {"calls": f"{good} of {len(reports)} in order"} if many else {"call": printable(reports[0].call_id)}
    )
    digits = f", {totals['digits']} keys" if totals["digits"] else ""
    rows["sent"] = (
        f"{totals['sent_chunks']} chunks, {totals['sent_s']:.1f} s{digits},"
        f" {in_words(_absorbed(reports, lambda report: report.late).summary_ms(RANKS))} late"
    )
    rows["heard"] = f"{totals['heard_chunks']} chunks, {totals['heard_s']:.1f} s, of {_sizes(reports)}"
    if not totals["heard_chunks"]:
        rows["heard"] = "nothing"
    else:
        rows["first audio"] = _first(reports)
        rows["pace"] = f"{in_words(_lateness(reports).summary_ms(RANKS))} after the ideal time"
        rows["underruns"] = _underruns(reports, totals)
    if totals["marks"]:
        rows["marks"] = f"{totals['marks_echoed']} of {totals['marks']} reached and echoed"
    if totals["clears"] or any(report.interrupted for report in reports):
        rows["clears"] = _clears(reports, totals)
    if totals["heard_chunks"]:
        rows["echo"] = _echo(reports)
    rows["closed"] = _closings(reports)
    return rows


def _sizes(reports: list[CallReport]) -> str:
    counted = _sum(reports, lambda report: report.sizes).most_common(4)
    told = [f"{'other sizes' if size == OTHER_SIZE else f'{size} bytes'} ({n}x)" for size, n in counted]
    return ", ".join(told)


def _first(reports: list[CallReport]) -> str:
    summary = _gathered(reports, lambda report: report.first_audio_s).summary_ms(RANKS)
    told = in_words(summary) if len(reports) > 1 else f"{summary['max']:.0f} ms"
    return f"{told} after the start"


def _underruns(reports: list[CallReport], totals: dict[str, Any]) -> str:
    longest = _absorbed(reports, lambda report: report.gaps).summary_ms(RANKS).get("max", 0.0)
    if not totals["underruns"]:
        return "none"
    return f"{totals['underruns']}, {totals['underrun_total_ms']:.0f} ms in all, longest {longest:.0f} ms"


def _clears(reports: list[CallReport], totals: dict[str, Any]) -> str:
    told = f"{totals['clears']}, {totals['cleared_s']:.1f} s not played"
    if not any(report.interrupted for report in reports):
        return told
    summary = _gathered(reports, lambda report: report.barge_in_s).summary_ms(RANKS)
    if not summary:
        return f"{told}; the barge-in was not answered with one"
    after = in_words(summary) if len(reports) > 1 else f"{summary['max']:.0f} ms"
    return f"{told}; {after} after the barge-in began"


def _echo(reports: list[CallReport]) -> str:
    if all(report.differs_at is None for report in reports):
        return f"identical: {sum(report.identical for report in reports)} samples"
    same = sum(report.differs_at is None for report in reports)
    if len(reports) > 1:
        return f"identical in {same} of {len(reports)} calls"
    report = reports[0]
    if report.identical < UNIT_BYTES:
        return "what came back is not what was sent"
    return f"differs from what was sent after {report.identical} identical samples"


def _closings(reports: list[CallReport]) -> str:
    codes = Counter(report.close_code for report in reports if report.close_code is not None)
    versions = sorted({report.tls_version for report in reports if report.tls_version})
    told = ", ".join(f"{code} ({n}x)" if len(reports) > 1 else str(code) for code, n in codes.most_common())
    return f"{told or 'not opened'}, {', '.join(versions) or 'no TLS'}"


def complaints(reports: list[CallReport]) -> list[tuple[str, str | None]]:
    """What went wrong, each reason once, with its hint; what was illegal in a line of its own each."""
    many = len(reports) > 1
    told = [(f"{n} calls: {text}" if many else text, hint) for (text, hint), n in _failures(reports)]
    return [(printable(text), hint) for text, hint in told]


def remarks(reports: list[CallReport]) -> list[str]:
    """What is worth knowing: what was illegal, what Exotel takes without documenting it, what was slow."""
    illegal = _sum(reports, lambda report: report.illegal).most_common()
    odd = _sum(reports, lambda report: report.odd).most_common()
    slow = _gathered(reports, lambda report: report.webhook_s).summary_ms(RANKS).get("max", 0.0)
    told = [f"illegal: {ILLEGAL[code]} ({n}x)" for code, n in illegal]
    told += [f"undocumented: {ODD[code]} ({n}x)" for code, n in odd]
    if slow > WEBHOOK_USUAL_S * 1000:
        told.append(f"the webhook took up to {slow:.0f} ms; the caller waits that long")
    return told


def _failures(reports: list[CallReport]) -> list[tuple[tuple[str, str | None], int]]:
    return Counter((report.failure, report.hint) for report in reports if report.failure).most_common()


def _sum(reports: list[CallReport], of: Callable[[CallReport], Counter[Any]]) -> Counter[Any]:
    together: Counter[Any] = Counter()
    for report in reports:
        together.update(of(report))
    return together


def _gathered(reports: list[CallReport], of: Callable[[CallReport], float | None]) -> Latencies:
    return Latencies(value for report in reports if (value := of(report)) is not None)


def _absorbed(reports: list[CallReport], of: Callable[[CallReport], Latencies]) -> Latencies:
    together = Latencies()
    for report in reports:
        together.absorb(of(report))
    return together


def _lateness(reports: list[CallReport]) -> Latencies:
    return _absorbed(reports, lambda report: report.lateness)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
