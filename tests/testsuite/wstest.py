"""Run Autobahn|Testsuite's fuzzing client, which needs a CPython 2.7, and read its report.

    python -m tests.testsuite.wstest [--all | CASES ...]

The client gets a virtual environment of its own in ``.cache/wstest``, made on first use and kept.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache" / "wstest"

# Framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing, limits, auto-fragmentation.
# 12 and 13 are compression, which the daemon refuses on purpose.
QUICK: Final = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*")
EVERYTHING: Final = ("*",)
GOOD: Final = frozenset({"OK", "INFORMATIONAL", "NON-STRICT"})
REFUSED_ON_PURPOSE: Final = ("12.", "13.")

_SUITE: Final = "autobahntestsuite==25.10.1"
_VIRTUALENV: Final = "virtualenv<20.22"  # the last that makes environments for 2.7
_PREPARE_DEADLINE_S: Final = 300
# Less than the runner waits for any test.
_QUICK_DEADLINE_S: Final = 280
_RUN_DEADLINE_S: Final = 3600


class Unavailable(Exception):
    """The fuzzing client cannot be had here; the text says why."""


def find_python2() -> Path:
    """A CPython 2.7 that runs. Raises: ``Unavailable``."""
    homes = sorted((Path.home() / ".pyenv" / "versions").glob("2.7*/bin/python2.7"))
    named = [os.environ.get("PYTHON2"), shutil.which("python2.7"), *map(str, homes)]
    check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    for name in filter(None, named):
        try:
            done = subprocess.run(
                [name, "-c", check], env=_environment(), capture_output=True, check=False, timeout=30
            )
        except OSError:
            continue
        if done.returncode == 0:
            return Path(name)
    raise Unavailable("no CPython 2.7 found: neither in PYTHON2, nor on the PATH, nor under ~/.pyenv")


def _environment() -> dict[str, str]:
    """Ours without what belongs to our Python: trial's workers have all of sys.path in PYTHONPATH."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in ours}


@contextmanager
def _locked() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare() -> Path:
    """The ``wstest`` command, installed if it is not. Raises: ``Unavailable``."""
    made, wstest = CACHE / "made", CACHE / "env" / "bin" / "wstest"
    with _locked():
        if made.exists() and made.read_text() == _SUITE and wstest.exists():
            return wstest
        python = str(find_python2())
        for name in ("env", "boot"):
            shutil.rmtree(CACHE / name, ignore_errors=True)
        boot, pip = str(CACHE / "boot"), str(CACHE / "env" / "bin" / "pip")
        _install([python, "-m", "pip", "install", "--quiet", f"--target={boot}", _VIRTUALENV])
        _install([python, "-m", "virtualenv", "--quiet", str(CACHE / "env")], PYTHONPATH=boot)
        _install([pip, "install", "--quiet", _SUITE])
        made.write_text(_SUITE)
        return wstest


def _install(command: Sequence[str], **environment: str) -> None:
    try:
        done = subprocess.run(
            command,
            env={**_environment(), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_PREPARE_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as late:
        raise Unavailable(f"{command[0]} took longer than {_PREPARE_DEADLINE_S} s") from late
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["nothing was said"])[-1]
        raise Unavailable(f"the fuzzing client could not be installed: {last}")


@contextmanager
def _echo_server() -> Iterator[int]:
    """The server under test, as a process; its port."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.testsuite.echo"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line.strip().isdecimal():
                raise AssertionError(f"the echo server did not start; it said {line!r}")
            yield int(line)
        finally:
            server.kill()


def run(wstest: Path, cases: Sequence[str], directory: Path) -> dict[str, str]:
    """Run ``cases`` and return how each of them behaved; the report is left in ``directory``.

    Raises: ``AssertionError`` with the last case when the client comes to no end or leaves no report.
    """
    directory.mkdir(parents=True, exist_ok=True)
    index, said = directory / "reports" / "index.json", directory / "wstest.log"
    index.unlink(missing_ok=True)
    with _echo_server() as port, said.open("w") as log:
        specification = {
            "outdir": str(index.parent),
            "servers": [{"agent": "voiceingest", "url": f"ws://127.0.0.1:{port}/echo"}],
            "cases": list(cases),
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (directory / "spec.json").write_text(json.dumps(specification))
        command = [str(wstest), "-m", "fuzzingclient", "-s", str(directory / "spec.json")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONUNBUFFERED": "1"}
        deadline_s = _RUN_DEADLINE_S if cases == EVERYTHING else _QUICK_DEADLINE_S
        try:
            subprocess.run(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=deadline_s,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"no end after {deadline_s} s; {_last_lines(said)}") from late
    if not index.exists():
        raise AssertionError(f"the fuzzing client left no report; {_last_lines(said)}")
    return behaviours(json.loads(index.read_text())["voiceingest"])


def _last_lines(said: Path) -> str:
    return "it said last:\n" + "\n".join(line[:200] for line in said.read_text().splitlines()[-10:])


def behaviours(report: dict[str, dict[str, str]]) -> dict[str, str]:
    """By case: how the server behaved, or how it closed where only that was bad."""
    return {
        case: entry["behavior"] if entry["behavior"] not in GOOD else entry["behaviorClose"]
        for case, entry in report.items()
    }


def bad(results: dict[str, str]) -> dict[str, str]:
    """What is neither good nor refused on purpose."""
    return {
        case: result
        for case, result in results.items()
        if result not in GOOD
        and not (result == "UNIMPLEMENTED" and case.startswith(REFUSED_ON_PURPOSE))
    }


def main(arguments: Sequence[str]) -> int:
    """Run the cases asked for and print the outcome; the exit code says whether all were good."""
    cases = EVERYTHING if "--all" in arguments else (tuple(arguments) or QUICK)
    try:
        results = run(prepare(), cases, CACHE / "last")
    except Unavailable as reason:
        sys.stderr.write(f"{reason}\n")
        return 2
    for case, result in sorted(bad(results).items()):
        sys.stdout.write(f"{case}: {result}\n")
    counts = ", ".join(f"{count} {result}" for result, count in Counter(results.values()).most_common())
    report = CACHE / "last" / "reports" / "index.html"
    sys.stdout.write(f"{len(results)} cases: {counts}; report in {report}\n")
    return 1 if bad(results) or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
