"""The base of every plain resource: methods by table, one place where errors become answers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import IO, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from ..errors import FrameTooBig, InternalError, MethodNotAllowed, NotFound, VoiceIngestError
from ..limits import BODY_MAX_BYTES, IDENTIFIER_MAX_CHARS
from ..metrics import Metrics
from .answers import Answer, answer, answer_error, request_id

Method = Callable[[Request], "Answer | Deferred[Answer]"]

# The label `endpoint` of errors that were answered over plain HTTP.
ENDPOINT: Final = "http"


@implementer(IResource)
class ApiResource(Resource):
    """One path. Its methods raise ``VoiceIngestError`` for what they refuse.

    ``HEAD`` follows from ``GET``; ``OPTIONS`` names the methods where it is not in the table;
    anything else is 405 (stock ``twisted.web`` answers 501 to DELETE, PUT and PATCH).
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, metrics: Metrics, methods: Mapping[str, Method]) -> None:
        super().__init__()
        self._metrics = metrics
        self._methods: dict[bytes, Method] = {name.encode(): method for name, method in methods.items()}
        if b"GET" in self._methods:
            self._methods.setdefault(b"HEAD", self._methods[b"GET"])
        self._methods.setdefault(b"OPTIONS", self._options)

    @property
    def allow(self) -> str:
        """The value of ``Allow``."""
        return ", ".join(sorted(name.decode() for name in self._methods))

    def render(self, request: Request) -> int:
        """Answer one request. Twisted's hook."""
        gone = False

        def lost(_: Failure) -> None:
            # The caller went away before it was answered: nobody waits for the result.
            nonlocal gone
            gone = True
            asked.cancel()

        asked = maybeDeferred(self._call, request)
        finished = asked.addCallback(lambda given: answer(request, given))
        finished.addErrback(lambda failure: None if gone else self._failed(failure, request))
        if not request.finished:
            request.notifyFinish().addErrback(lost)
        return NOT_DONE_YET

    async def _call(self, request: Request) -> Answer:
        method = self._methods.get(request.method)
        if method is None:
            raise MethodNotAllowed
        if request.content is not None and body_size(request.content) > BODY_MAX_BYTES:
            raise FrameTooBig("the body is larger than the limit")
        given = method(request)
        return await given if isinstance(given, Deferred) else given

    def _failed(self, failure: Failure, request: Request) -> None:
        error = failure.value
        if not isinstance(error, VoiceIngestError):
            self._log.failure(
                "a request failed", failure, event="http_failed", request_id=request_id(request)
            )
            error = InternalError()
        self._metrics.errors[error.code, ENDPOINT] += 1
        if request.startedWriting:
            # Half an answer is out; only a cut connection tells the caller that it is not whole.
            request.loseConnection()
            return
        answer_error(request, error, headers={"Allow": self.allow} if error.http_status == 405 else {})

    def _options(self, request: Request) -> Answer:
        return Answer(204, headers={"Allow": self.allow})


class Nowhere(Resource):
    """Every path there is nothing at, for every method."""

    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render(self, request: Request) -> int:
        """Answer 404. Twisted's hook."""
        self._metrics.errors[NotFound.code, ENDPOINT] += 1
        return answer_error(request, NotFound())


class Routes(Resource):
    """The root of a site: whole paths, matched byte for byte as they were sent.

    A path with ``{id}`` in it is a template: one segment of letters, digits, ``-`` and ``_`` stands
    there. A whole path goes before a template. The route in the metrics is the template.
    Nothing is decoded, joined or cut, so ``%2e%2e``, ``//`` and trailing slashes lead nowhere.
    """

    def __init__(self, metrics: Metrics, resources: Mapping[str, IResource]) -> None:
        super().__init__()
        whole = {path: found for path, found in resources.items() if "{" not in path}
        self._resources = {path.encode(): (path, found) for path, found in whole.items()}
        self._templates = [
            (_pattern(path), (path, found)) for path, found in resources.items() if path not in whole
        ]
        self._nowhere = Nowhere(metrics)

    def paths(self) -> list[tuple[bytes, IResource]]:
        """What there is, by whole paths."""
        return [(path, found) for path, (_, found) in self._resources.items()]

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """Find the resource of a request. Twisted's hook."""
        route, found = self._resources.get(request.path) or self._templated(request.path)
        vars(request)["route"] = route
        # The search ends here, whatever is left of the path.
        request.postpath = []
        return found

    def _templated(self, path: bytes) -> tuple[str, IResource]:
        for pattern, found in self._templates:
            if pattern.fullmatch(path):
                return found
        return "unmatched", self._nowhere


def _pattern(template: str) -> re.Pattern[bytes]:
    """What a template stands for."""
    before, _, rest = template.partition("{")
    after = rest.partition("}")[2]
    segment = f"[A-Za-z0-9_-]{{1,{IDENTIFIER_MAX_CHARS}}}"
    return re.compile((re.escape(before) + segment + re.escape(after)).encode())


def body_size(content: IO[bytes]) -> int:
    """How many bytes there are; it is then at its beginning."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    return size
