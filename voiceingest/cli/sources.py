"""What a client says: a file, a tone, or made-up speech, cut into frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .failures import UsageFailed
from .pacing import frame_bytes
from .speech import speak, tone
from .wavfile import BadAudioFile, Mix, Recording, read_recording

DEFAULT_RATE = 24000
TONE_S = 10.0


def choose_recording(
    path: Path | None,
    tone_hz: float | None,
    seconds: float | None,
    rate: int | None,
    mix: Mix | None,
    usual_rate: int = DEFAULT_RATE,
) -> Recording:
    """The audio to send; ``usual_rate`` where neither ``rate`` nor a header says one.

    Raises: ``UsageFailed`` with what is wrong about the file or the choice.
    """
    if path is not None and tone_hz is not None:
        raise UsageFailed("a file and --tone exclude each other")
    if path is not None:
        try:
            return read_recording(path, rate=rate, mix=mix, raw_rate=usual_rate)
        except (BadAudioFile, OSError) as problem:
            text = (
                f"{path} cannot be read: {problem.strerror}" if isinstance(problem, OSError) else str(problem)
            )
            raise UsageFailed(text, hint=conversion(path, usual_rate)) from problem
    chosen = rate or usual_rate
    if tone_hz is not None:
        # Whole seconds of a whole number of hertz repeat without a click.
        return Recording(chosen, tone(tone_hz, min(seconds or TONE_S, TONE_S), chosen))
    return Recording(chosen, speak(rate=chosen))


def conversion(path: Path, rate: int) -> str | None:
    """How to make what can be sent of a file; ``None`` where there is none."""
    if not path.exists():
        return None
    return f"ffmpeg -i {path.name} -ac 1 -ar {rate} -c:a pcm_s16le {path.stem}-mono.wav"


def frames(recording: Recording, frame_ms: float, seconds: float | None = None) -> Iterator[bytes]:
    """The recording in frames of about ``frame_ms``; the last one may be shorter.

    With ``seconds`` it is repeated or cut to that length.
    """
    size = frame_bytes(recording.sample_rate, frame_ms)
    left = len(recording.pcm) if seconds is None else round(seconds * recording.sample_rate) * 2
    at = 0
    while left > 0:
        frame = recording.pcm[at : at + min(size, left)]
        at += len(frame)
        # Short at the end of the audio: go on at its beginning.
        while len(frame) < min(size, left) and seconds is not None:
            more = recording.pcm[: min(size, left) - len(frame)]
            frame, at = frame + more, len(more)
        left -= len(frame)
        yield frame


def length_s(recording: Recording, seconds: float | None) -> float:
    """How long the frames are in all, in seconds."""
    return recording.seconds if seconds is None else seconds
