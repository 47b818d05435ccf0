"""The fake Deepgram before the client that Deepgram publishes: it would not know the difference."""

from __future__ import annotations

import asyncio
from typing import Any

from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1Metadata, ListenV1Results

from tests.integration.callers import audio_of
from tests.integration.case import asynchronous

from .case import TestCase
from .daemon import HOST
from .deepgram import FakeDeepgram

FRAME_BYTES = 320


class PublishedClientTests(TestCase):
    def listen(self, deepgram: FakeDeepgram, key: str, **changes: Any) -> Any:
        """A connection of Deepgram's own client."""
        base = f"ws://{HOST}:{deepgram.port}"
        place = DeepgramClientEnvironment(base=base, production=base, agent=base, agent_rest=base)
        client = AsyncDeepgramClient(api_key=key, environment=place)
        query = {"model": "nova-3", "encoding": "linear16", "sample_rate": 8000, "channels": 1}
        return client.listen.v1.connect(**{**query, "interim_results": "true", **changes})

    @asynchronous
    async def test_a_session(self) -> None:
        deepgram = FakeDeepgram(self)
        await deepgram.start()
        said = []
        async with self.listen(deepgram, deepgram.key) as listening:
            for number in range(60):
                await listening.send_media(audio_of(number + 1, FRAME_BYTES))
            await listening.send_keep_alive()
            await listening.send_finalize()
            await listening.send_close_stream()
            async for message in listening:
                said.append(message)
        results = [message for message in said if isinstance(message, ListenV1Results)]
        finals = [
            (result.start, result.duration, result.channel.alternatives[0].transcript, result.from_finalize)
            for result in results
            if result.is_final
        ]
        self.assertEqual([final[2:] for final in finals], [("1..50", False), ("51..60", True)])
        self.assertEqual([round(final[0] + final[1], 6) for final in finals], [1.0, 1.2])
        self.assertIsInstance(said[-1], ListenV1Metadata)
        session = await deepgram.session()
        self.assertEqual((session.texts, session.violations), (["KeepAlive", "Finalize", "CloseStream"], []))

    @asynchronous
    async def test_refusals(self) -> None:
        deepgram = FakeDeepgram(self)
        await deepgram.start()
        for key, changes, status in (
            ("wrong", {}, 401),
            (deepgram.key, {"encoding": "opus"}, 400),
            (deepgram.key, {"utterance_end_ms": 999}, 400),
        ):
            try:
                async with self.listen(deepgram, key, **changes):
                    self.fail("it was let in")
            except ApiError as error:
                self.assertEqual(error.status_code, status)
        await asyncio.sleep(0)
