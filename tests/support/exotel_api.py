"""Exotel's side of outbound calls and webhooks, on the loopback, as it is documented.

    exotel = FakeExotel(self)                       # answers when this returns
    settings = {**exotel.settings(), "WEBHOOK_BASE_URL": daemon_url, "EXOTEL_WS_TOKEN": "..."}
    ... POST /call of the daemon ...
    call = exotel.calls[-1]                         # what it was asked: call.form["From"], call.stream_url
    exotel.script(refusal(403, 34001), STALL)       # what the next requests are answered, in order
    exotel.deliver(call, "terminal")                # status callbacks, tried again as Exotel does
    exotel.resolve(applet_url, call_id="c0ffee")    # the webhook of an applet, asked as Exotel does

It is strict where Exotel is: credentials, the callee in ``From``, lengths, which fields go together.
What is wrong about a request is answered as a ``RestException`` and kept in ``problems``.
Source: protocol reference sections 1.8 and 2. It runs in threads of its own. ``deliver`` and
``resolve`` block: on the reactor, put them into a thread (``deferToThread``).
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlencode, urlsplit

from .daemon import HOST

_TRIES: Final = 3
_DEADLINE_S: Final = 15.0
_NUMBER: Final = re.compile(r"\+[1-9][0-9]{6,14}|0[1-9][0-9]{9}")
_CALLBACK_TYPES: Final = ("multipart/form-data", "application/json")


class ITest(Protocol):
    """What is needed of a test."""

    def addCleanup(self, f: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``f`` when the test is over."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request that is in order is answered. ``body`` ``None``: the call is placed."""

    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    lower_case: bool = False
    stalls: bool = False


def refusal(status: int, code: int = 0, message: str = "canary: +919876543210 cannot be called") -> Reply:
    """A ``RestException``; its text names somebody, as Exotel's may."""
    body = {"RestException": {"Status": status, "Message": message, "Code": code or status * 10}}
    return Reply(status, json.dumps(body).encode())


def busy(retry_after_s: int) -> Reply:
    """More than 200 calls a minute."""
    return Reply(429, refusal(429).body, {"Retry-After": str(retry_after_s), "X-RateLimit-Limit": "200"})


PLACED: Final = Reply()
# One page of the documentation shows the keys like this.
LOWER_CASE: Final = Reply(lower_case=True)
# No answer until the test is over; the call is placed all the same.
STALL: Final = Reply(stalls=True)
NOT_JSON: Final = Reply(200, b"<TwilioResponse><Call/></TwilioResponse>")
NO_SID: Final = Reply(200, b'{"Call":{"Status":"queued"}}')
BROKEN: Final = Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"})


@dataclass(frozen=True, slots=True)
class FakeCall:
    """A call that was placed, with every field it was asked with."""

    call_id: str
    form: Mapping[str, str]

    @property
    def stream_url(self) -> str:
        """Where Exotel would connect to when the call is answered."""
        return self.form.get("StreamUrl", "")


class FakeExotel:
    """The API of one account, and whoever sends its webhooks."""

    def __init__(
        self,
        case: ITest,
        *,
        account_sid: str = "acme1",
        api_key: str = "canary-api-key",
        api_token: str = "canary-api-token",
        caller_id: str = "08012345678",
    ) -> None:
        self.account_sid = account_sid
        self.caller_id = caller_id
        self._key, self._token = api_key, api_token
        self.calls: list[FakeCall] = []
        self.problems: list[str] = []
        # Every request, in order or not: what a client has asked, and how often.
        self.asked = 0
        self._script: list[Reply] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        case.addCleanup(self._close, thread)

    @property
    def url(self) -> str:
        """Where the API is: ``EXOTEL_API_URL``."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def settings(self) -> dict[str, str]:
        """What a daemon needs in its environment to use this account."""
        return {
            "EXOTEL_API_URL": self.url,
            "EXOTEL_ACCOUNT_SID": self.account_sid,
            "EXOTEL_API_KEY": self._key,
            "EXOTEL_API_TOKEN": self._token,
            "EXOTEL_CALLER_ID": self.caller_id,
        }

    def script(self, *replies: Reply) -> None:
        """Answer the next requests that are in order with these; those after them place calls again."""
        with self._lock:
            self._script += replies

    # --- the API

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Answer one request; ``None``: not before the test is over."""
        with self._lock:
            self.asked += 1
            wrong = self._refused(path, headers, body)
            if wrong is not None:
                return wrong
            form = dict(parse_qsl(body.decode(), keep_blank_values=True))
            problem = next(self._wrong(form), None)
            if problem is not None:
                return self._problem(400, problem)
            reply = self._script.pop(0) if self._script else PLACED
            if reply.body is not None:
                return reply
            call = FakeCall(secrets.token_hex(16), form)
            self.calls.append(call)
            if reply.stalls:
                return None
            xml = not path.endswith(".json")
            return Reply(200, b"<TwilioResponse/>" if xml else self._placed(call, reply.lower_case))

    def wait_until_over(self) -> None:
        """Stall."""
        self._over.wait(60.0)

    def _refused(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        pair = b64encode(f"{self._key}:{self._token}".encode()).decode()
        if headers.get("Authorization") != f"Basic {pair}":
            return self._problem(401, "the credentials are wrong")
        if path not in (self._path, self._path + ".json"):
            return self._problem(404, "there is nothing at this path")
        if headers.get("Content-Type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            return self._problem(400, "the body is no form")
        return None

    @property
    def _path(self) -> str:
        return f"/v1/Accounts/{self.account_sid}/Calls/connect"

    def _problem(self, status: int, text: str) -> Reply:
        self.problems.append(text)
        return refusal(status, message=text)

    def _wrong(self, form: Mapping[str, str]) -> Iterator[str]:
        if not _NUMBER.fullmatch(form.get("From", "")):
            yield "From is no telephone number: it is the one who is called"
        if "To" in form:
            yield "To is there: that connects two numbers"
        if form.get("CallerId") != self.caller_id:
            yield "CallerId is no ExoPhone of this account"
        flow = rf"http://my\.exotel\.com/{re.escape(self.account_sid)}/exoml/start_voice/[0-9]+"
        if "Url" in form:
            if not re.fullmatch(flow, form["Url"]) or {"StreamUrl", "StreamType"} & form.keys():
                yield "Url is no flow of this account, or a stream is there as well"
        else:
            yield from self._wrong_stream(form.get("StreamUrl", ""), form.get("StreamType", ""))
        if len(form.get("CustomField", "")) > 128:
            yield "CustomField is too long"
        yield from self._wrong_callback(form)

    def _wrong_stream(self, url: str, kind: str) -> Iterator[str]:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, strict_parsing=bool(parts.query))
        if parts.scheme not in ("ws", "wss") or not parts.netloc or len(url) >= 600:
            yield "StreamUrl is no WebSocket's, or is too long"
        if kind != "bidirectional":
            yield "StreamType is wrong"
        if len(pairs) > 3 or len(parts.query) > 256:
            yield "StreamUrl has too many parameters"

    def _wrong_callback(self, form: Mapping[str, str]) -> Iterator[str]:
        events = [form[name] for name in form if name.startswith("StatusCallbackEvents[")]
        if not set(events) <= {"terminal", "answered", "ringing"}:
            yield "StatusCallbackEvents are wrong"
        if form.get("StatusCallbackContentType", "application/json") not in _CALLBACK_TYPES:
            yield "StatusCallbackContentType is wrong"
        if events and urlsplit(form.get("StatusCallback", "")).scheme not in ("http", "https"):
            yield "StatusCallback is no URL"

    def _placed(self, call: FakeCall, lower_case: bool) -> bytes:
        # in-progress: it is being dialled, nobody has answered.
        fields = {
            "Sid": call.call_id, "ParentCallSid": None, "DateCreated": "2026-01-02 10:00:00",
            "AccountSid": self.account_sid, "To": None, "From": call.form["From"], "Status": "in-progress",
            "PhoneNumberSid": self.caller_id, "Direction": "outbound-api", "RecordingUrl": None,
            "Uri": f"/v1/Accounts/{self.account_sid}/Calls.json/{call.call_id}",
        }
        answer: dict[str, Any] = {"Call": fields}
        if lower_case:
            answer = {"call": {name.lower(): value for name, value in fields.items()}}
        return json.dumps(answer).encode()

    # --- the webhooks

    def deliver(
        self,
        call: FakeCall,
        event: str = "terminal",
        status: str = "completed",
        *,
        duration_s: int = 42,
        content_type: str = "",
        context: ssl.SSLContext | None = None,
    ) -> list[int]:
        """Tell what became of a call, at the URL it was placed with, until that says 2xx, thrice at most.

        Returns every status it was answered. ``content_type`` is what the request asked for, unless given.
        """
        kind = content_type or call.form.get("StatusCallbackContentType", "multipart/form-data")
        legs = [
            {"OnCallDuration": duration_s, "Status": status, "AnsweredBy": by} for by in ("NA", "HUMAN")
        ]
        fields = {
            "CallSid": call.call_id, "EventType": event, "Status": status, "RecordingUrl": "",
            "DateCreated": "2026-01-02 10:00:00", "DateUpdated": "2026-01-02 10:01:00",
            "From": call.form["From"], "PhoneNumberSid": self.caller_id, "Direction": "outbound-api",
            "ConversationDuration": duration_s, "CustomField": call.form.get("CustomField", ""), "Legs": legs,
        }
        header, body = (kind, json.dumps(fields).encode()) if "json" in kind else _multipart(fields)
        statuses: list[int] = []
        while len(statuses) < _TRIES and not any(200 <= status < 300 for status in statuses):
            statuses.append(_ask(call.form["StatusCallback"], header, body, context)[0])
        return statuses

    def resolve(
        self, url: str, call_id: str = "c0ffee", *, context: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        """Ask an applet's URL for the WebSocket of an incoming call.

        Returns the status, and the URL where the answer was one that Exotel takes, else nothing.
        """
        named = {
            "CallSid": call_id, "CallFrom": "09876543210", "CallTo": self.caller_id, "From": "09876543210",
            "To": self.caller_id, "Direction": "incoming", "CurrentTime": "2026-01-02 10:00:00",
        }
        separator = "&" if urlsplit(url).query else "?"
        status, kind, body = _ask(f"{url}{separator}{urlencode(named)}", None, None, context)
        if status != 200 or kind.partition(";")[0] != "application/json":
            return status, ""
        found = json.loads(body).get("url", "")
        return status, found if re.match(r"wss?://", found) else ""

    def _close(self, thread: threading.Thread) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        thread.join()


def _handler(exotel: FakeExotel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            reply = exotel.answer(self.path, dict(self.headers.items()), body)
            if reply is None:
                exotel.wait_until_over()
                self.close_connection = True
                return
            headers = {"Content-Type": "application/json", **reply.headers}
            answered = reply.body or b""
            self.send_response(reply.status)
            for name, value in {**headers, "Content-Length": str(len(answered))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answered)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name in the base class)
            """Nothing."""

    return Handler


def _multipart(fields: Mapping[str, Any]) -> tuple[str, bytes]:
    flat = {name: value for name, value in fields.items() if name != "Legs"}
    for number, leg in enumerate(fields["Legs"]):
        flat |= {f"Legs[{number}][{name}]": value for name, value in leg.items()}
    boundary = f"----{secrets.token_hex(12)}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in flat.items()
    ]
    return f"multipart/form-data; boundary={boundary}", ("".join(parts) + f"--{boundary}--\r\n").encode()


def _ask(
    url: str, content_type: str | None, body: bytes | None, context: ssl.SSLContext | None
) -> tuple[int, str, bytes]:
    """One request: the status, the Content-Type and the body of its answer."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    request = urllib.request.Request(url, body, headers)
    # Proxies of the environment have no business on the loopback.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=_DEADLINE_S) as answer:
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.headers.get("Content-Type", ""), refused.read()
