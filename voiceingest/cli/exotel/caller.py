"""One caller: asks the webhook, connects, has the conversation, and says how it went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, ensureDeferred

from ..console import printable
from ..failures import CommandFailed
from ..link import FAREWELL_S
from ..meanings import explain
from ..target import Trust
from ..waiting import Waiting
from . import webhook
from .address import credentials_of, resolve
from .conversation import Conversation, Script
from .line import Line
from .outgoing import Leg
from .report import CallReport
from .wheel import Wheel

# Exotel gives a handshake so long.
HANDSHAKE_S: Final = 10.0

_ADVICE: Final = {
    401: "are --user and --password, --token or --ticket what the bot wants? A ticket opens one call",
    403: "does the bot let this address in?",
    404: "the path is wrong; that of the daemon is /voicebot/ws",
    426: "the path is not a WebSocket; that of the daemon is /voicebot/ws",
    429: "the bot takes no more calls from this address",
    503: "the bot is full or shutting down",
}


@dataclass(frozen=True, slots=True)
class Dialling:
    """How every caller of a run gets through. ``webhook`` is asked for the URL where there is one."""

    url: str
    webhook: str | None = None
    authorization: str | None = field(default=None, repr=False)
    ticket: str | None = field(default=None, repr=False)
    trust: Trust = field(default_factory=Trust)
    parameters: Mapping[str, str] = field(default_factory=dict)


Spoke = Callable[[bytes], None]


class Caller:
    """One call. Expected failures end up in its report, not in the air."""

    def __init__(
        self,
        reactor: Any,
        wheel: Wheel,
        dialling: Dialling,
        leg: Leg,
        script: Script,
        spoke: Spoke | None = None,
    ) -> None:
        self._reactor = reactor
        self._wheel = wheel
        self._dialling = dialling
        self._leg = leg
        self._script = script
        self._spoke = spoke
        self._waiting = Waiting(reactor)
        self._line: Line | None = None
        self._conversation: Conversation | None = None
        self._asking: Deferred[str] | None = None
        self._is_given_up = False
        self._refusal = ""
        self._lag_s = 0.0
        self.report = CallReport(leg.call_sid)

    # --- what a run does

    async def run(self, gate: DeferredSemaphore, lag_s: float = 0.0) -> CallReport:
        """Call, talk, hang up. ``lag_s`` moves the beat of one call against another's."""
        self._lag_s = lag_s
        try:
            await gate.run(lambda: ensureDeferred(self._open()))
        except CommandFailed as failed:
            self.report.fail(failed.message, failed.hint, failed.exit_code)
            self.give_up()
            return self.report
        if self._line is not None:
            while self._line.ending is None:
                await self._waiting.until(self._is_over, 3600.0)
            self._conclude(self._line)
        return self.report

    def hang_up(self) -> None:
        """End the call in order; before it stands, give it up."""
        if self._conversation is None:
            self.give_up()
        else:
            self._conversation.hang_up(self._reactor.seconds())

    def give_up(self) -> None:
        """Break the connection."""
        self._is_given_up = True
        if self._asking is not None:
            self._asking.cancel()
        if self._line is not None:
            self._line.abort()
        self._waiting.changed()

    # --- getting through

    async def _open(self) -> None:
        if self._is_given_up:
            raise CommandFailed("given up before it was called")
        url = await self._resolved()
        leg, dialling = self._leg, self._dialling
        address = resolve(
            url,
            call_id=leg.call_sid,
            sample_rate=leg.sample_rate,
            ticket=dialling.ticket,
            parameters=dialling.parameters,
            authorization=dialling.authorization,
        )
        self._leg = replace(leg, parameters=address.parameters)
        self._line = line = Line(self._reactor, address, dialling.trust, self)
        await line.connect()
        await self._waiting.until(lambda: line.is_open or line.ending is not None, HANDSHAKE_S)
        failed = line.failed_to_open()
        if failed is not None:
            line.abort()
            await self._waiting.until(self._is_over, FAREWELL_S)
            raise failed

    async def _resolved(self) -> str:
        dialling = self._dialling
        if dialling.webhook is None:
            return dialling.url
        begun_s = self._reactor.seconds()
        authorization = credentials_of(dialling.webhook) or dialling.authorization
        question = webhook.ask(self._reactor, dialling.webhook, dialling.trust, self._query(), authorization)
        self._asking = ensureDeferred(question)
        try:
            url = await self._asking
        except CancelledError as cancelled:
            if self._is_given_up:
                raise CommandFailed("given up before the webhook answered") from cancelled
            raise
        finally:
            self._asking = None
        self.report.webhook_s = self._reactor.seconds() - begun_s
        return url

    def _query(self) -> dict[str, str]:
        leg = self._leg
        return {
            "CallSid": leg.call_sid,
            "CallFrom": leg.caller,
            "CallTo": leg.called,
            "Direction": "incoming",
            "From": leg.caller,
            "To": leg.called,
        }

    # --- what the line tells

    def refused(self, code: str, message: str) -> None:
        """The upgrade was refused with an error code."""
        self._refusal = f"{message} ({code})"

    def heard(self, link: Any, payload: bytes) -> None:
        """One text message of the bot."""
        if self._conversation is not None:
            self._conversation.heard(payload, self._reactor.seconds())

    def heard_binary(self) -> None:
        """A binary message of the bot."""
        if self._conversation is not None:
            self._conversation.heard_binary()

    def changed(self, link: Any) -> None:
        """The line has opened or ended, or takes or does not take bytes."""
        if link.ending is not None:
            if self._conversation is not None and not self._conversation.ended:
                self._conversation.end(self._reactor.seconds())
                self.report.fail(*self._cut_off(link))
        elif link.is_open and self._conversation is None:
            # At once, and not when a coroutine has its turn: what the bot says first is heard.
            self._conversation = Conversation(
                self._leg,
                self._script,
                self._wheel,
                self.report,
                link,
                self._spoke,
            )
            self._conversation.begin(self._reactor.seconds(), self._lag_s)
        self._waiting.changed()

    # --- how it went

    def _is_over(self) -> bool:
        return self._line is not None and self._line.ending is not None

    def _cut_off(self, line: Line) -> tuple[str, str | None]:
        code = line.ending.close_code if line.ending is not None else None
        after = f"after {self.report.seconds:.1f} s"
        if code == 1006:
            return f"the connection broke {after}, without a closing handshake (close code 1006)", None
        meaning = explain(None, code)
        return f"the bot hung up {after} (close code {code}: {meaning.text})", None

    def _conclude(self, line: Line) -> None:
        report, ending = self.report, line.ending
        report.tls_version = line.tls_version
        if ending is not None:
            report.close_code, report.http_status = ending.close_code, ending.http_status
        if report.http_status is not None:
            told = f": {self._refusal}" if self._refusal else ""
            text = printable(f"the bot refused the call with HTTP {report.http_status}{told}")
            report.fail(text, _ADVICE.get(report.http_status))
        elif report.close_code not in (1000, 1005):
            report.fail(f"the bot did not close in order (close code {report.close_code})")
        if report.illegal:
            count = sum(report.illegal.values())
            report.fail(f"the bot sent what is not legal, {count} times")
        if report.unsent_chunks:
            report.fail(f"the bot does not read: {report.unsent_chunks} chunks could not be sent")
        if self._script.barge_in_s is not None and not report.interrupted:
            report.fail(
                "the bot was not heard for long enough to be interrupted",
                "does it speak first? --barge-in waits, silent, until it has been heard for so long",
            )
