"""Messages that are none are refused like everything else that is wrong.

Left to itself gRPC answers ``UNKNOWN`` with the parser's words, and writes a traceback into the log for
every such message, whoever sent it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from ...errors import BadField
from ...metrics import Metrics
from .refusals import refuse
from .servicer import ENDPOINT

_MALFORMED: Final = "the message is not one of this call"


class Decoding(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Decodes the messages of every call, in place of gRPC."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """What serves a call. gRPC's hook."""
        served = await continuation(details)
        if served is None:
            return None
        decode = served.request_deserializer
        if served.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._answering(served.unary_unary, decode), None, served.response_serializer
            )
        if served.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._telling(served.unary_stream, decode), None, served.response_serializer
            )
        if served.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                self._talking(served.stream_stream, decode), None, served.response_serializer
            )
        return served

    async def _decoded(self, decode: Callable[[bytes], Any], message: bytes, context: Any) -> Any:
        try:
            return decode(message)
        except DecodeError:
            error = BadField(_MALFORMED)
        self._metrics.errors[error.code, ENDPOINT] += 1
        return await refuse(context, error)

    def _answering(self, serve: Any, decode: Any) -> Any:
        async def answer(message: bytes, context: Any) -> Any:
            return await serve(await self._decoded(decode, message, context), context)

        return answer

    def _telling(self, serve: Any, decode: Any) -> Any:
        async def tell(message: bytes, context: Any) -> Any:
            # Health's Watch writes to the context, and gives back nothing.
            return await serve(await self._decoded(decode, message, context), context)

        return tell

    def _talking(self, serve: Any, decode: Any) -> Any:
        async def each(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            async for message in messages:
                yield await self._decoded(decode, message, context)

        async def talk(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
            async for answer in serve(each(messages, context), context):
                yield answer

        return talk
