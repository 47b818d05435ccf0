"""Writing streams to WAV files, bit for bit as they came: no padding, no mixing, no resampling."""

from __future__ import annotations

import re
import wave
from pathlib import Path
from typing import Final

from ..wire.envelope import FrameMessage
from .failures import UsageFailed

# A WAV file counts its bytes in 32 bits; far below, some players already give up at 2 GiB.
FILE_MAX_BYTES: Final = 2**31 - 2**20

# Open files at once; what comes beyond is counted and not recorded.
FILES_MAX_COUNT: Final = 64

NAME_MAX_CHARS: Final = 80
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")

Key = tuple[str, str]


def safe_name(text: str) -> str:
    """``text`` as part of a file name: no separator, no leading dot, never empty."""
    return _UNSAFE.sub("_", text)[:NAME_MAX_CHARS].lstrip(".") or "_"


def _make_way(path: Path, force: bool) -> None:
    if not path.is_file():
        # Root may put a file in the place of a device; everybody else on the machine would miss it.
        raise UsageFailed(f"{path} is not a file")
    if not force:
        raise UsageFailed(f"{path} exists", hint="--force overwrites it")
    try:
        path.unlink()
    except OSError as problem:
        raise UsageFailed(f"{path} cannot be overwritten: {problem.strerror}") from problem


class _File:
    """One WAV file being written."""

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.written_bytes = 0
        # Opened here and not by wave: "x" refuses to overwrite between the check and the open.
        self._file = path.open("xb")
        self._wav = wave.open(self._file, "wb")  # noqa: SIM115 (close() closes it)
        self._wav.setnchannels(1)
        self._wav.setsampwidth(2)
        self._wav.setframerate(sample_rate)

    def write(self, audio: bytes) -> None:
        # Not writeframesraw: the header then holds the sizes so far, should we be killed.
        self._wav.writeframes(audio)
        self.written_bytes += len(audio)

    def rename(self, path: Path) -> None:
        self.path = self.path.rename(path)

    def close(self) -> None:
        self._wav.close()
        self._file.close()


class Recorder:
    """Records to ``path``; from the second stream on, each into ``<path>-<interaction>.wav``."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        """Raises: ``UsageFailed`` when ``path`` exists, unless ``force`` and a file, or cannot be written."""
        self._path = path
        self._open: dict[Key, _File] = {}
        self._done: list[_File] = []
        self._sole: _File | None = None
        self._taken: set[Path] = set()
        self.skipped_frames = 0
        if not path.parent.is_dir():
            raise UsageFailed(f"{path.parent} is not a directory")
        if path.exists():
            _make_way(path, force)

    @property
    def files(self) -> list[tuple[Path, int]]:
        """What has been written: path and audio bytes."""
        return [(file.path, file.written_bytes) for file in (*self._done, *self._open.values())]

    def frame(self, message: FrameMessage) -> None:
        """Record one frame. Raises: ``UsageFailed`` when the disk does not take it."""
        key = (message.tenant_id, message.interaction_id)
        try:
            file = self._open.get(key)
            if file is not None and file.sample_rate != message.sample_rate:
                self.stopped(*key)
                file = None
            if file is None:
                file = self._begin(key, message)
            if file is None or file.written_bytes + len(message.audio) > FILE_MAX_BYTES:
                self.skipped_frames += 1
            else:
                file.write(message.audio)
        except OSError as problem:
            raise UsageFailed(f"recording failed: {problem.strerror}") from problem

    def stopped(self, tenant_id: str, interaction_id: str) -> None:
        """The stream has ended: its file is complete."""
        file = self._open.pop((tenant_id, interaction_id), None)
        if file is not None:
            file.close()
            self._done.append(file)

    def close(self) -> None:
        """Complete every file."""
        for key in list(self._open):
            self.stopped(*key)

    def _begin(self, key: Key, message: FrameMessage) -> _File | None:
        if message.encoding != "pcm16" or len(self._open) >= FILES_MAX_COUNT:
            return None
        if not self._taken:
            path = self._path
        else:
            self._name_the_first()
            path = self._path_for(key[1])
        self._taken.add(path)
        file = self._open[key] = _File(path, message.sample_rate)
        if self._sole is None and len(self._taken) == 1:
            self._sole = file
            self._sole_interaction = key[1]
        return file

    def _name_the_first(self) -> None:
        """There is a second stream: the first one gets its interaction into its name too."""
        if self._sole is not None:
            path = self._path_for(self._sole_interaction)
            self._sole.rename(path)
            self._taken.add(path)
            self._sole = None

    def _path_for(self, interaction_id: str) -> Path:
        stem = f"{self._path.stem}-{safe_name(interaction_id)}"
        path, number = self._path.with_name(f"{stem}{self._path.suffix}"), 1
        while path in self._taken or path.exists():
            number += 1
            path = self._path.with_name(f"{stem}-{number}{self._path.suffix}")
        return path
