"""The daemon as it is installed: from a wheel, by ``pip install .`` and by the Makefile.

Each installation has a virtual environment of its own, which sees the libraries of the one the
tests run in; so nothing is downloaded and only the package itself is installed.
"""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from setuptools._distutils.filelist import FileList

import voiceingest
from tests.support.case import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg", "voiceingest", "twisted")
JUNK = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")

# Files as pip installs them, of the package and of all it requires; a megabyte is 1,000,000 bytes. Not the
# byte code, which pip compiles beside them unless it is told not to and whose size is Python's business.
BASE_MAX_BYTES: Final = 60_000_000
DEPENDENCIES: Final = ROOT / "docs/explanation/dependencies.md"

_TWISTD_HELP = "import sys; sys.argv[:] = ['twistd', '--help']; from twisted.scripts.twistd import run; run()"
_WHERE = "import voiceingest; print(voiceingest.__file__)"

# What the extras bring, beside what tests want for themselves.
_GRPC = ("grpc", "grpc_health", "grpc_reflection", "google.protobuf", "asyncpg")
_EXTRAS = (
    *("fastapi", "starlette", "sqlalchemy", "alembic", "aiosqlite", "limits", "redis"),
    *("nats", "numpy", "soxr", *_GRPC),
)

# A daemon without some packages: what is None among the modules can neither be imported nor found.
_WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({missing!r}))
site = "tcp:0:interface=127.0.0.1"
sys.argv[:] = ["twistd", "-n", "--pidfile=", "voiceingest", "--port", site, "--admin", site]
from twisted.scripts.twistd import run
run()
"""


def base_bytes(wheel: Path) -> int:
    """What an installation without extras takes; the libraries are measured where they are installed."""
    with zipfile.ZipFile(wheel) as opened:
        total = sum(member.file_size for member in opened.infolist())
        (head,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        told = email.message_from_bytes(opened.read(head)).get_all("Requires-Dist", [])
    pending = [(line, "") for line in told]
    counted, seen = set(), set()
    while pending:
        line, extra = pending.pop()
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        library = metadata.distribution(wanted.name)
        if library.name not in counted:
            counted.add(library.name)
            files = [path for path in library.files or () if path.suffix != ".pyc"]
            total += sum(Path(str(path.locate())).stat().st_size for path in files)
        for more in {"", *wanted.extras} - {name for found, name in seen if found == library.name}:
            seen.add((library.name, more))
            pending += [(line, more) for line in library.requires or ()]
    return total


class Installation:
    """A virtual environment in ``directory``, and a copy of the sources to install from."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.python = directory / "env" / "bin" / "python"
        self.sources = directory / "sources"
        self.sources.mkdir(parents=True)
        for name in SOURCES:
            origin = ROOT / name
            if origin.is_dir():
                shutil.copytree(origin, self.sources / name, ignore=JUNK)
            else:
                shutil.copy(origin, self.sources)
        venv.create(directory / "env", with_pip=False, symlinks=True)
        purelib = self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # A path added this way does not bring the .pth files in it along: an editable install of
        # the outer environment is not seen.
        (Path(purelib) / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def run(self, *arguments: str, python: Path | None = None) -> str:
        """Run Python, away from the sources and without the caller's PYTHONPATH; what it printed."""
        done = subprocess.run(
            [str(python or self.python), *arguments],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start_without(self, missing: tuple[str, ...], **settings: str) -> subprocess.CompletedProcess[str]:
        """Start the daemon without some packages; once it serves, it is told to stop."""
        daemon = subprocess.Popen(
            [str(self.python), "-c", _WITHOUT.format(missing=missing)],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "PUBLISH_URL": "memory://", "DRAIN_LISTEN_S": "0", **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert daemon.stdout is not None
        stuck = threading.Timer(120, daemon.kill)
        stuck.start()
        lines = []
        for line in daemon.stdout:
            lines.append(line)
            if '"event": "serving"' in line:
                daemon.terminate()
        code = daemon.wait()
        stuck.cancel()
        return subprocess.CompletedProcess(daemon.args, code, "".join(lines))

    def pip(self, *arguments: str) -> None:
        """Run the outer environment's pip for this one, offline."""
        options = ("--python", str(self.python), "--disable-pip-version-check", "--quiet")
        offline = ["--no-deps", "--no-index", "--no-build-isolation"]
        if arguments[0] == "install":
            # The one the outer environment may have is not ours to take away.
            offline.append("--ignore-installed")
        self.run("-m", "pip", *options, *arguments[:1], *offline, *arguments[1:], python=Path(sys.executable))


class InstallationTests(SynchronousTestCase):
    """``twistd`` finds the plugin and ``voiceingest`` is there, however it was installed."""

    def installation(self) -> Installation:
        """A fresh one, removed at the end."""
        directory = Path(tempfile.mkdtemp(prefix="voiceingest-packaging-"))
        self.addCleanup(shutil.rmtree, directory)
        return Installation(directory)

    def build_wheel(self, installed: Installation) -> Path:
        """Build the wheel of ``installed.sources``."""
        installed.pip("wheel", "--wheel-dir", str(installed.directory / "wheels"), str(installed.sources))
        (wheel,) = (installed.directory / "wheels").glob("voiceingest-*.whl")
        return wheel

    def assert_works(self, installed: Installation, home: Path) -> None:
        """The plugin, the command and the package are found, the package under ``home``."""
        self.assertRegex(installed.run("-c", _TWISTD_HELP), r"(?m)^ +voiceingest +\w")
        where = Path(installed.run("-c", _WHERE).strip())
        self.assertTrue(where.is_relative_to(home), f"{where} is not under {home}")
        command = installed.python.with_name("voiceingest")
        self.assertTrue(command.exists(), "the command is not installed")
        self.assertIn("Usage", installed.run(str(command), "--help"))

    def assert_small(self, size_bytes: int) -> None:
        """It is below the bound, and what the page says of it is true."""
        self.assertLess(size_bytes, BASE_MAX_BYTES)
        said = re.search(r"(\d+) MB of files", DEPENDENCIES.read_text())
        assert said is not None
        # Libraries grow a little from release to release.
        self.assertLess(abs(size_bytes / 1e6 - int(said[1])), 2, f"{size_bytes} bytes; {DEPENDENCIES.name}")

    def assert_starts_without_extras(self, installed: Installation) -> None:
        """Audio alone needs none; who wants more is told in one line what to install."""
        done = installed.start_without(_EXTRAS)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("pip install", done.stdout)
        secret = "s" * 32
        done = installed.start_without(_EXTRAS, JWT_SECRET=secret)
        self.assertEqual(done.returncode, 1, done.stdout)
        (line,) = done.stdout.splitlines()
        self.assertIn("pip install 'voiceingest[control]'", line)
        done = installed.start_without(_GRPC, JWT_SECRET=secret, DATABASE_URL="sqlite:///without.db")
        self.assertEqual(done.returncode, 0, done.stdout)
        (line,) = [line for line in done.stdout.splitlines() if "pip install" in line]
        self.assertIn("gRPC is off: pip install 'voiceingest[grpc]'", line)

    def test_wheel(self) -> None:
        installed = self.installation()
        wheel = self.build_wheel(installed)
        names = zipfile.ZipFile(wheel).namelist()
        self.assertIn("twisted/plugins/voiceingest_plugin.py", names)
        self.assertIn("voiceingest/py.typed", names)
        self.assertNotIn("twisted/__init__.py", names)
        self.assertNotIn("twisted/plugins/__init__.py", names)
        tops = {name.split("/")[0] for name in names}
        self.assertEqual(tops, {"twisted", "voiceingest", f"voiceingest-{voiceingest.__version__}.dist-info"})
        modules = {str(path.relative_to(ROOT)) for path in (ROOT / "voiceingest").rglob("*.py")}
        self.assertEqual(modules - set(names), set())
        self.assert_small(base_bytes(wheel))
        # Made by tools, and so the first to be forgotten.
        for folder, ending in (
            ("store/migrations/", ".py"),
            ("transports/grpc_api/generated/", "_pb2.py"),
            ("transports/grpc_api/generated/", "_pb2_grpc.py"),
        ):
            found = [n for n in names if n.startswith(f"voiceingest/{folder}") and n.endswith(ending)]
            self.assertTrue([name for name in found if not name.endswith("__init__.py")], folder + ending)
        shutil.rmtree(installed.sources)
        installed.pip("install", str(wheel))
        self.assert_works(installed, installed.directory / "env")
        # With its migrations.
        command = str(installed.python.with_name("voiceingest"))
        self.assertIn("upgraded", installed.run(command, "db", "upgrade"))
        self.assert_starts_without_extras(installed)

    def test_install_from_source(self) -> None:
        installed = self.installation()
        installed.pip("install", str(installed.sources))
        shutil.rmtree(installed.sources)
        self.assert_works(installed, installed.directory / "env")

    def test_developer_install(self) -> None:
        installed = self.installation()
        makefile = (ROOT / "Makefile").read_text()
        found = re.search(r"^DEVELOPER_INSTALL := (.+)$", makefile, re.MULTILINE)
        assert found is not None
        installed.pip(*found[1].split(), str(installed.sources))
        self.assert_works(installed, installed.sources)


class SourceDistributionTests(SynchronousTestCase):
    """What is not Python of the package itself, by ``MANIFEST.in``."""

    def test_what_the_generated_code_is_made_from(self) -> None:
        wanted = [str(path.relative_to(ROOT)) for path in (ROOT / "proto").iterdir() if path.is_file()]
        self.assertIn("proto/session.proto", wanted)
        found = FileList()
        found.set_allfiles(wanted)
        for line in (ROOT / "MANIFEST.in").read_text().splitlines():
            found.process_template_line(line)
        self.assertEqual(sorted(found.files), sorted(wanted))


class CompilerFreeTests(SynchronousTestCase):
    """Nothing of ours, and nothing we depend on, is compiled when it is installed."""

    def test_pure(self) -> None:
        for path in (ROOT / "voiceingest").rglob("*"):
            self.assertNotIn(path.suffix, {".c", ".pyx", ".pyd", ".so"}, str(path))
