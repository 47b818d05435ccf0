"""Calls that stay open: anybody may watch the health or reflect, and must not take every place there is."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc

# Of the places of the server for those that need no token; the calls about sessions are short.
STREAMS_MAX_COUNT: Final = 64

_FULL: Final = "too many calls are kept open"

Continuation = Callable[[Any], Awaitable[Any]]


class BoundedStreams(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets ``max_count`` calls whose answer is a stream be open at once; more are RESOURCE_EXHAUSTED."""

    def __init__(self, max_count: int = STREAMS_MAX_COUNT) -> None:
        self._max_count = max_count
        self._count = 0

    async def intercept_service(self, continuation: Continuation, details: Any) -> Any:
        """Put the bound around a call. gRPC's hook."""
        found = await continuation(details)
        if found is None or not found.response_streaming:
            return found
        make, serve = (
            (grpc.stream_stream_rpc_method_handler, found.stream_stream)
            if found.request_streaming
            else (grpc.unary_stream_rpc_method_handler, found.unary_stream)
        )
        bounded = self._yielding(serve) if inspect.isasyncgenfunction(serve) else self._writing(serve)
        return make(bounded, found.request_deserializer, found.response_serializer)

    def _yielding(self, serve: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any], Any]:
        async def bounded(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._enter(context)
            try:
                async for answer in serve(request, context):
                    yield answer
            finally:
                self._count -= 1

        return bounded

    def _writing(self, serve: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, Any], Any]:
        async def bounded(request: Any, context: Any) -> None:
            await self._enter(context)
            try:
                await serve(request, context)
            finally:
                self._count -= 1

        return bounded

    async def _enter(self, context: Any) -> None:
        if self._count >= self._max_count:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _FULL)
        self._count += 1
