"""How a run of streams is told: as pairs for people, as a document for programs. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .console import printable
from .percentiles import Latencies, in_words
from .streams import StreamReport, worst


def latencies_of(reports: list[StreamReport]) -> Latencies:
    """The acknowledgement latencies of all streams together."""
    together = Latencies()
    for report in reports:
        together.absorb(report.tally.latencies)
    return together


def _failures(reports: list[StreamReport]) -> list[dict[str, Any]]:
    hints = {report.failure: report.hint for report in reports if report.failure}
    counted = Counter(report.failure for report in reports if report.failure)
    return [{"reason": reason, "hint": hints[reason], "streams": n} for reason, n in counted.most_common()]


def _errors(reports: list[StreamReport]) -> list[dict[str, Any]]:
    counted = Counter(error for report in reports for error in report.tally.errors)
    return [{"code": code, "message": message, "count": n} for (code, message), n in counted.most_common()]


def document(reports: list[StreamReport], sample_rate: int) -> dict[str, Any]:
    """Everything there is to know about a run."""
    return {
        "ok": all(report.failure is None for report in reports),
        "exit_code": int(worst(reports)),
        "streams": len(reports),
        "sample_rate": sample_rate,
        **_totals(reports),
        "ack_latency_ms": latencies_of(reports).summary_ms(),
        "errors": _errors(reports),
        "failures": _failures(reports),
        "per_stream": [_one(report) for report in reports],
    }


def _totals(reports: list[StreamReport]) -> dict[str, Any]:
    tallies = [report.tally for report in reports]
    return {
        "sent_frames": sum(tally.sent_frames for tally in tallies),
        "sent_bytes": sum(tally.sent_bytes for tally in tallies),
        "confirmed_frames": sum(tally.acked for tally in tallies),
        "acks": sum(tally.acks for tally in tallies),
        "gaps": sum(tally.gaps for tally in tallies),
        "gap_frames": sum(tally.gap_frames for tally in tallies),
        "resumes": sum(tally.resumes for tally in tallies),
        "restarts": sum(tally.restarts for tally in tallies),
        "late_max_ms": round(max((tally.late_max_s for tally in tallies), default=0.0) * 1000, 1),
        "seconds": round(max((report.seconds for report in reports), default=0.0), 3),
    }


def _one(report: StreamReport) -> dict[str, Any]:
    tally = report.tally
    return {
        "interaction_id": report.interaction_id,
        "ok": report.failure is None,
        "sent_frames": tally.sent_frames,
        "confirmed_frames": tally.acked,
        "resumes": tally.resumes,
        "restarts": tally.restarts,
        "stopped": tally.stopped,
        "close_code": report.close_code,
        "http_status": report.http_status,
        "tls": report.tls_version or None,
        "failure": report.failure,
    }


def pairs(reports: list[StreamReport], sample_rate: int) -> dict[str, str]:
    """The same, short, for people."""
    totals = _totals(reports)
    audio_s = totals["sent_bytes"] / 2 / sample_rate
    good = sum(report.failure is None for report in reports)
    rows = {"stream": printable(reports[0].interaction_id)}
    if len(reports) > 1:
        rows = {"streams": f"{good} of {len(reports)} without a fault"}
    rows["sent"] = f"{totals['sent_frames']} frames, {audio_s:.1f} s of audio, {totals['sent_bytes']} bytes"
    rows["took"] = f"{totals['seconds']:.1f} s, latest frame {totals['late_max_ms']:.1f} ms late"
    rows["confirmed"] = f"{totals['confirmed_frames']} frames in {totals['acks']} acks"
    rows["ack latency"] = in_words(latencies_of(reports).summary_ms())
    if totals["gaps"]:
        rows["gaps"] = f"{totals['gaps']}, {totals['gap_frames']} frames declared lost"
    if totals["resumes"]:
        rows["resumed"] = f"{totals['resumes']} times"
    if totals["restarts"]:
        rows["began anew"] = f"{totals['restarts']} times: the daemon would not go on with the old stream"
    rows["closed"] = _closings(reports)
    return rows


def _closings(reports: list[StreamReport]) -> str:
    codes = Counter(report.close_code for report in reports if report.close_code is not None)
    versions = sorted({report.tls_version for report in reports if report.tls_version})
    told = ", ".join(f"{code} ({n}x)" if len(reports) > 1 else str(code) for code, n in codes.most_common())
    return f"{told or 'not opened'}, {', '.join(versions) or 'no TLS'}"


def complaints(reports: list[StreamReport]) -> list[tuple[str, str | None]]:
    """What went wrong, each reason once, with its hint."""
    many = len(reports) > 1
    found = [
        (f"{item['streams']} streams: {item['reason']}" if many else str(item["reason"]), item["hint"])
        for item in _failures(reports)
    ]
    return [(printable(text), hint) for text, hint in found]


def remarks(reports: list[StreamReport]) -> list[str]:
    """What the server complained about on the way."""
    return [printable(f"server: {e['code']}: {e['message']} ({e['count']}x)") for e in _errors(reports)]
