"""What the options choose: the audio, what a caller does, how it gets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..console import Console
from ..failures import UsageFailed
from ..pacing import frame_bytes
from ..sources import choose_recording, conversion, length_s
from ..wavfile import Recording

if TYPE_CHECKING:
    from .caller import Dialling
    from .conversation import Script

RATES: Final = (8000, 16000, 24000)
DEFAULT_RATE: Final = 8000


def recording_of(chosen: dict[str, Any]) -> Recording:
    """The audio. Raises: ``UsageFailed`` for audio no call can have."""
    rate = int(chosen["rate"]) if chosen["rate"] else None
    recording = choose_recording(
        chosen["file"], chosen["tone_hz"], chosen["seconds"], rate, chosen["mix"], DEFAULT_RATE
    )
    if recording.sample_rate not in RATES:
        allowed = ", ".join(map(str, RATES))
        raise UsageFailed(
            f"the file has {recording.sample_rate} samples per second; Exotel's calls have {allowed}",
            hint=conversion(chosen["file"], DEFAULT_RATE),
        )
    return recording


def dialling_of(console: Console, authorization: str | None, chosen: dict[str, Any]) -> Dialling:
    """How to get through. Raises: ``UsageFailed`` for what is no URL."""
    from ..target import Trust, parse_target
    from .address import DEFAULT_PATH
    from .caller import Dialling

    if chosen["webhook"] is None:
        target = parse_target(chosen["url"], DEFAULT_PATH)
        if not target.secure and not target.is_loopback:
            console.note(f"the call goes to {target.host} in the clear; wss:// would hide it")
    if chosen["insecure"]:
        console.note("--insecure: whoever answers is believed")
    return Dialling(
        url=chosen["url"],
        webhook=chosen["webhook"],
        authorization=authorization,
        ticket=chosen["ticket"],
        trust=Trust(chosen["ca"], chosen["insecure"]),
        parameters=chosen["param"],
    )


def script_of(recording: Recording, chosen: dict[str, Any]) -> Script:
    """What every caller does."""
    from .conversation import Script
    from .outgoing import SAMPLE_BYTES
    from .voice import Source, first_loud

    sample_bytes = SAMPLE_BYTES[chosen["codec"]]
    size = frame_bytes(recording.sample_rate, chosen["frame_ms"], sample_bytes)
    length = round(length_s(recording, chosen["seconds"]) * recording.sample_rate) * sample_bytes
    coded, silence = recording.pcm, b"\0"
    decode: Callable[[bytes], bytes] = bytes
    if chosen["codec"] == "mulaw":
        from ...wire.g711 import pcm16_to_ulaw, ulaw_to_pcm16

        coded, silence, decode = pcm16_to_ulaw(recording.pcm), pcm16_to_ulaw(bytes(2)), ulaw_to_pcm16
    return Script(
        source=Source(coded, length, silence, first_loud(recording.pcm)),
        frame_bytes=size,
        # Of whole samples, and so not quite what was asked for: or the pace and the audio would part.
        frame_s=size / (recording.sample_rate * sample_bytes),
        linger_s=chosen["linger"],
        decode=decode,
        barge_in_s=chosen["barge_in"],
        digits=chosen["dtmf"],
        record=chosen["record"] is not None,
    )
