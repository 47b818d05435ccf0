"""Write the reference pages and the default settings file from what the code says.

``python -m voiceingest.reference`` writes them, with ``--check`` it only names the stale ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from .cli import manual
from .config import render
from .errors import Draining, Fault, HttpRefusal, VoiceIngestError, every_error
from .metrics import FAMILIES, Family, Label
from .transports.grpc_api.manual import page as grpc_page

# Close codes no error of ours stands for (RFC 6455 section 7.4.1), and what they mean here.
PROTOCOL_CLOSE_CODES: Final = {
    1000: ("no", "The stream was stopped and everything was said."),
    1002: ("no", "The peer broke the WebSocket protocol."),
    1003: ("no", "The peer sent a kind of message that is not taken."),
    1007: ("no", "A text message is not UTF-8."),
    1008: ("no", "The peer broke a rule no other code names."),
}

# Larger sets of label values are not spelled out.
_VALUES_MAX_COUNT: Final = 8

_STATUS_TEXTS: Final = {
    200: "Answered.",
    101: "The connection is a WebSocket now.",
    202: "Begun; it goes on after the answer.",
    204: "Answered, there is nothing to show.",
}


def metrics_page() -> str:
    """The reference page of the metrics."""
    head = """# Metrics

`GET /metrics` on the admin site, and on the public site for the admin token; Prometheus text or
OpenMetrics, as the scraper asks. No label holds anything a caller sends: a value that is not one of
the program's own is counted as `other`.

| metric | kind | labels | what it counts |
|---|---|---|---|
"""
    return head + "".join(f"{_metric_row(family)}\n" for family in FAMILIES)


def errors_page() -> str:
    """The reference page of error codes, close codes and HTTP statuses."""
    return "\n".join(_errors_lines()) + "\n"


def rest_page() -> str:
    """The reference page of the REST API; it takes the extra ``control``."""
    from .http.api.manual import page

    return page()


# Every generated file, by its path below the root of the repository.
PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference/settings.md": render.markdown,
    "docs/reference/metrics.md": metrics_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/cli.md": manual.page,
    "docs/reference/rest.md": rest_page,
    "docs/reference/grpc.md": grpc_page,
    "deploy/voiceingest.toml": render.toml,
}


def stale(root: Path, pages: Mapping[str, Callable[[], str]] = PAGES) -> list[str]:
    """The files below ``root`` that are not what would be written now."""
    return [path for path, page in pages.items() if _read(root / path) != page()]


def write(root: Path, pages: Mapping[str, Callable[[], str]] = PAGES) -> list[str]:
    """Write what is stale; returns the paths of it."""
    outdated = stale(root, pages)
    for path in outdated:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(pages[path](), encoding="utf-8")
    return outdated


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m voiceingest.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    options = parser.parse_args(arguments)
    outdated = stale(options.root) if options.check else write(options.root)
    for path in outdated:
        sys.stdout.write(f"{'stale' if options.check else 'wrote'}: {path}\n")
    return 1 if options.check and outdated else 0


def _metric_row(family: Family) -> str:
    labels = ", ".join(f"`{label.name}`{_values(label)}" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.text} |"


def _values(label: Label) -> str:
    """The values of a small closed set; the codes have a page of their own."""
    few = label.values is not None and len(label.values) <= _VALUES_MAX_COUNT
    return f" ({', '.join(sorted(label.values or ()))})" if few else ""


def _errors_lines() -> Iterator[str]:
    yield "# Errors and close codes"
    yield ""
    yield 'Every refusal has a stable code. Over HTTP it is in the body, `{"code", "message", "request_id"}`;'
    yield 'in a WebSocket in the event `{"event": "error", "code", "message"}`, before the close frame where'
    yield "the stream ends with it. The message is for people and may change, the code may not."
    yield "`retry` says whether the same client may come back with the same request, `resumable` whether the"
    yield "stream waits `RESUME_WINDOW_S` for it (`draining`: at another process, or the next one)."
    yield "\n## By error code\n"
    yield "| code | whose fault | HTTP | close code | ends the stream | retry | resumable | message |"
    yield "|---|---|---|---|---|---|---|---|"
    yield from map(_error_row, _each_code())
    yield "\nErrors of the operator are answered to nobody: the start fails with the message. Where there is"
    yield "no close code, the error comes before there is a WebSocket."
    yield "\n## By close code\n"
    yield "| close code | retry | resumable | errors |"
    yield "|---|---|---|---|"
    yield from _close_rows()
    yield "\n## By HTTP status\n"
    yield "| status | errors |"
    yield "|---|---|"
    yield from _status_rows()
    yield "\nA 401 carries `WWW-Authenticate: Bearer`, a 405 `Allow`, a 426 `Upgrade` and"
    yield "`Sec-WebSocket-Version`, a 429 and a 503 `Retry-After`. Each answer carries `X-Request-Id`."


def _each_code() -> list[type[VoiceIngestError]]:
    """One class for each code: where a child shares its parent's code, the child."""
    return list({error.code: error for error in every_error()}.values())


def _answered() -> list[type[VoiceIngestError]]:
    return [error for error in _each_code() if error.fault is not Fault.OPERATOR]


def _error_row(error: type[VoiceIngestError]) -> str:
    answered = error.fault is not Fault.OPERATOR
    in_socket = answered and not issubclass(error, HttpRefusal)
    cells = (
        f"`{error.code}`",
        error.fault.value,
        str(error.http_status) if answered else "",
        str(error.close_code) if in_socket else "",
        _yes(error.closes) if in_socket else "",
        _yes(error.retryable),
        _resumable(error) if in_socket and error.closes else "",
        error.default_message(),
    )
    return f"| {' | '.join(cells)} |"


def _close_rows() -> Iterator[str]:
    by_code: dict[int, list[type[VoiceIngestError]]] = {}
    for error in _answered():
        if error.closes and not issubclass(error, HttpRefusal):
            by_code.setdefault(error.close_code, []).append(error)
    for code in sorted({*by_code, *PROTOCOL_CLOSE_CODES}):
        if code in PROTOCOL_CLOSE_CODES:
            retry, text = PROTOCOL_CLOSE_CODES[code]
            resumable = "no" if code == 1000 else "yes"
        else:
            retry = _either(_yes(error.retryable) for error in by_code[code])
            resumable = _either(_resumable(error) for error in by_code[code])
            text = ", ".join(f"`{error.code}`" for error in by_code[code])
        yield f"| {code} | {retry} | {resumable} | {text} |"


def _status_rows() -> Iterator[str]:
    by_status: dict[int, list[str]] = {}
    for error in _answered():
        by_status.setdefault(error.http_status, []).append(f"`{error.code}`")
    for status in sorted({*by_status, *_STATUS_TEXTS}):
        yield f"| {status} | {_STATUS_TEXTS.get(status) or ', '.join(by_status[status])} |"


def _resumable(error: type[VoiceIngestError]) -> str:
    return _yes(error.resumable or error is Draining)


def _either(words: Iterable[str]) -> str:
    return " / ".join(sorted(set(words), reverse=True))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
