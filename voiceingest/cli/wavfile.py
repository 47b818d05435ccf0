"""WAV and raw PCM files, read for streaming: 16-bit mono comes out, or one clear complaint.

Nothing is resampled: what is streamed is what is in the file, byte for byte.
"""

from __future__ import annotations

import os
import stat
import wave
from array import array
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Literal

from ..audio import SAMPLE_RATES
from .meter import bytes_of, samples_of

Mix = Literal["left", "right", "average"]

# Three hours at 24 kHz; the whole file is held in memory so that many streams can share it.
FILE_MAX_BYTES: Final = 512 * 1024 * 1024
_READ_FRAMES: Final = 1 << 18


class BadAudioFile(ValueError):
    """A file that cannot be streamed; the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono PCM16LE audio."""

    sample_rate: int
    pcm: bytes

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return len(self.pcm) / 2 / self.sample_rate


def read_recording(
    path: Path, *, rate: int | None = None, mix: Mix | None = None, raw_rate: int = 24000
) -> Recording:
    """Read a ``.wav``, or raw PCM16LE mono at ``rate``, else ``raw_rate``, from any other file.

    Raises: :class:`BadAudioFile`; ``OSError`` when the file cannot be read.
    """
    with path.open("rb") as opened:
        file = _bounded(path, opened)
        is_wav = file.read(4) in (b"RIFF", b"RIFX", b"RF64") or path.suffix.lower() in (".wav", ".wave")
        file.seek(0)
        recording = _read_wav(path, file, rate, mix) if is_wav else Recording(rate or raw_rate, file.read())
    if recording.sample_rate not in SAMPLE_RATES:
        allowed = ", ".join(map(str, SAMPLE_RATES))
        raise BadAudioFile(
            f"{path.name} has {recording.sample_rate} samples per second; allowed are {allowed}"
        )
    if len(recording.pcm) % 2:
        raise BadAudioFile(f"{path.name} is not a whole number of 16-bit samples")
    if not recording.pcm:
        raise BadAudioFile(f"{path.name} holds no audio")
    return recording


def _bounded(path: Path, file: BinaryIO) -> BinaryIO:
    """What ends and can be read twice: the file itself, or all that comes out of a pipe or a device.

    Neither says how long it is, and what has been read out of a pipe does not come again.
    """
    status = os.fstat(file.fileno())
    content = b"" if (is_file := stat.S_ISREG(status.st_mode)) else file.read(FILE_MAX_BYTES + 1)
    if (status.st_size if is_file else len(content)) > FILE_MAX_BYTES:
        raise BadAudioFile(f"{path.name} is larger than {FILE_MAX_BYTES >> 20} MiB")
    return file if is_file else BytesIO(content)


def _read_wav(path: Path, file: BinaryIO, rate: int | None, mix: Mix | None) -> Recording:
    try:
        with wave.open(file, "rb") as wav:
            channels, width, file_rate = wav.getnchannels(), wav.getsampwidth(), wav.getframerate()
            _check_header(path, channels, width, file_rate, rate, mix)
            # In pieces: the header of a WAV written to a pipe claims up to 4 GiB.
            pcm = b"".join(iter(lambda: wav.readframes(_READ_FRAMES), b""))
    except (wave.Error, EOFError) as problem:
        why = str(problem) or "it ends in the middle of the header"
        raise BadAudioFile(f"{path.name} is not a WAV file with PCM in it: {why}") from problem
    pcm = pcm[: len(pcm) // (2 * channels) * (2 * channels)]
    return Recording(file_rate, mix_down(pcm, channels, mix) if mix and channels > 1 else pcm)


def _check_header(
    path: Path, channels: int, width: int, file_rate: int, rate: int | None, mix: Mix | None
) -> None:
    if width != 2:
        raise BadAudioFile(f"{path.name} has {width * 8}-bit samples; 16-bit is what is streamed")
    if channels > 1 and mix is None:
        raise BadAudioFile(
            f"{path.name} has {channels} channels and a stream is mono; say --mix left, right or average"
        )
    if rate is not None and rate != file_rate:
        raise BadAudioFile(f"{path.name} has {file_rate} samples per second, not the {rate} of --rate")


def mix_down(pcm: bytes, channels: int, mix: Mix) -> bytes:
    """One channel out of interleaved ones: a picked one, or the average of all."""
    samples = samples_of(pcm)
    if mix == "left":
        return bytes_of(samples[::channels])
    if mix == "right":
        return bytes_of(samples[1::channels])
    tracks = [samples[n::channels] for n in range(channels)]
    return bytes_of(array("h", (sum(together) // channels for together in zip(*tracks, strict=True))))


def write_wav(path: Path, pcm: bytes, rate: int) -> None:
    """Write mono PCM16LE as a WAV file."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(pcm)
