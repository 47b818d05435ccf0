"""pipecat where a client of these tests finds it, without the gigabyte of all that it asks for.

It goes to ``.cache``, made on first use and kept, and is never on the path of the tests themselves.
Only what its serializer for Exotel imports comes with it; numpy, pydantic and websockets are there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.support.daemon import ROOT

PIPECAT: Final = "pipecat-ai==1.14.0"
# As its metadata has them, where it has more than a name.
IMPORTED: Final = (
    "aiofiles>=24.1,<27",
    "audioop-lts~=0.2.1; python_version>='3.13'",
    "docstring_parser>=0.16,<1",
    "loguru~=0.7.3",
    "loudness>=0.2,<1",
    "pillow>=11.1,<14",
    "sentencex==1.0.32",
    "soxr~=1.0.0",
    "wait_for2>=0.4.1,<1; python_version<'3.12'",
)

_CACHE: Final = ROOT / ".cache" / "pipecat"
_DEADLINE_S: Final = 300


class Unavailable(Exception):
    """It cannot be had here; the text says why."""


def prepare() -> Path:
    """A directory for ``PYTHONPATH``, filled if it is not. Raises: ``Unavailable``."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = _CACHE / f"{PIPECAT}-python{version}"
    if home.is_dir():
        return home
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
        _install(Path(folder) / "home")
        try:
            # Whole or not at all; whoever comes second finds it made.
            (Path(folder) / "home").rename(home)
        except OSError:
            if not home.is_dir():
                raise
    return home


def environment() -> dict[str, str]:
    """What a program needs to import pipecat, and the tests. Raises: ``Unavailable``."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{prepare()}"}


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "1"]
    command += ["install", "--no-deps", "--only-binary", ":all:", "--target", str(target)]
    try:
        done = subprocess.run(
            [*command, PIPECAT, *IMPORTED],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"pip took longer than {_DEADLINE_S} s for {PIPECAT}") from late
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        last = (done.stdout.strip().splitlines() or ["nothing was said"])[-1]
        raise Unavailable(f"{PIPECAT} could not be installed: {last}")
