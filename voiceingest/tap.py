"""``twistd voiceingest``: from the command line to the service. The reactor comes first."""

from __future__ import annotations

from voiceingest.reactor import install_or_exit

install_or_exit()

# Only now: what is imported below may import the reactor, which installs one.
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, Final  # noqa: E402

from twisted.application.service import IService  # noqa: E402
from twisted.python import usage  # noqa: E402
from twisted.python.logfile import LogFile  # noqa: E402

from . import __version__  # noqa: E402
from .config import Settings  # noqa: E402
from .config.load import load_settings  # noqa: E402
from .errors import OperatorError, SettingsError  # noqa: E402
from .service import make_service  # noqa: E402

# What twistd writes to and how much: the newest eight files of 64 MiB.
LOG_FILE_BYTES: Final = 64 * 1024 * 1024
LOG_FILES_COUNT: Final = 8

CONFIG_VARIABLE: Final = "VOICEINGEST_CONFIG"

# ``--port`` says where to listen, in full; the plain number is the variable PORT.
_RENAMED: Final = {"listen": "port", "port": None}


def _is_secret(name: str) -> bool:
    extra = Settings.model_fields[name].json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get("secret"))


def flags() -> dict[str, str]:
    """Flag of each setting that has one, by field name. Secrets have none: ``ps`` shows them to all."""
    renamed = {name: _RENAMED.get(name, name) for name in Settings.model_fields if not _is_secret(name)}
    return {name: flag.replace("_", "-") for name, flag in renamed.items() if flag}


def _describe(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.default
    if isinstance(default, tuple):
        shown = " May be repeated."
        if default:
            shown += f" [default: {', '.join(default)}]"
    else:
        shown = "" if default in (None, "") else f" [default: {default}]"
    return (field.description or "").replace("`", "") + shown


def _is_list(name: str) -> bool:
    return isinstance(Settings.model_fields[name].default, tuple)


def _repeatable(name: str) -> Callable[[Options, str], None]:
    def take(self: Options, value: str) -> None:
        self.repeated.setdefault(name, []).append(value)

    take.__doc__ = _describe(name)
    return take


class Options(usage.Options):
    """The flags of ``twistd voiceingest``, made from the settings."""

    longdesc = (
        "Takes the audio of live calls over WebSockets and puts it, in order, on a bus."
        " Every flag is also an environment variable (--drain-deadline-s is DRAIN_DEADLINE_S) and a key"
        " of the settings file (drain_deadline_s); a flag wins over the environment, the environment over"
        " the file. Secrets have no flags: they come from the environment or from the files that the"
        " ...-file settings name. Examples: 'twistd -n voiceingest', 'twistd -n voiceingest --port ssl:8443"
        " --port unix:/run/voiceingest/site.sock', 'twistd --pidfile /run/v.pid --logfile /var/log/v.json"
        " voiceingest --config /etc/voiceingest.toml'. Check the settings without starting:"
        " 'voiceingest check-config'."
    )

    optParameters: Final = [
        ["config", "c", None, f"Settings file (TOML). Also {CONFIG_VARIABLE}."],
        *([flag, None, None, _describe(name)] for name, flag in flags().items() if not _is_list(name)),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.repeated: dict[str, list[str]] = {}

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line. Raises: ``UsageError``, also for a secret said in the clear.

        Without this ``--redis-url`` would be taken for an abbreviation of ``--redis-url-file``.
        """
        said = {argument.partition("=")[0] for argument in options or ()}
        for name in filter(_is_secret, Settings.model_fields):
            flag = "--" + name.replace("_", "-")
            if flag in said:
                raise usage.UsageError(
                    f"{flag}: everybody on this machine could read it; use {flag}-file or {name.upper()}"
                )
        super().parseOptions(options)

    def getSynopsis(self) -> str:
        """The first line of the help."""
        return "Usage: twistd [options of twistd] voiceingest [options]"

    def opt_help(self) -> None:
        """Display this help and exit."""
        try:
            sys.stdout.write(f"{self}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            # ``... --help | head``: the interpreter flushes once more at exit and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)

    def opt_version(self) -> None:
        """Display the version and exit."""
        sys.stdout.write(f"voiceingest {__version__}\n")
        raise SystemExit(0)

    @property
    def given(self) -> dict[str, object]:
        """What was said on the command line, by field name."""
        said: dict[str, object] = {
            name: self[flag]
            for name, flag in flags().items()
            if not _is_list(name) and self[flag] is not None
        }
        return said | {name: tuple(values) for name, values in self.repeated.items()}


for _name, _flag in flags().items():
    if _is_list(_name):
        # usage.Options finds a flag by the name of its method.
        setattr(Options, "opt_" + _flag.replace("-", "_"), _repeatable(_name))


class SyslogLines:
    """A stream whose lines go to syslog, for ``twistd --syslog``."""

    def __init__(self, prefix: str) -> None:
        import syslog

        self._syslog = syslog.syslog
        syslog.openlog(prefix, syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(self, text: str) -> None:
        """Log what is not blank."""
        for line in text.splitlines():
            self._syslog(line)

    def flush(self) -> None:
        """Nothing is held back."""


def _ignore_rotation() -> None:
    """SIGUSR1 means "begin a new log file", and there is none: unhandled it would end the daemon."""
    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _rotate_on_signal(log_file: LogFile) -> None:
    """SIGUSR1 begins a new log file, as it does with twistd's own log."""
    from twisted.internet import reactor

    def rotate(number: int, frame: object) -> None:
        reactor.callFromThread(log_file.rotate)  # type: ignore[attr-defined]

    if signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
        signal.signal(signal.SIGUSR1, rotate)


def open_log(twistd: Mapping[str, Any]) -> Any:
    """The stream for JSON lines that twistd's own flags ask for: ``--syslog``, ``--logfile``, ``-n``.

    Raises: ``OperatorError`` when it cannot be written.
    """
    if twistd.get("syslog"):
        _ignore_rotation()
        return SyslogLines(twistd.get("prefix") or "voiceingest")
    name = twistd.get("logfile")
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    if name == "-" and not foreground:
        raise OperatorError("a daemon has no standard output to log to: leave --logfile - out, or say -n")
    if name == "-" or (foreground and not name):
        _ignore_rotation()
        return sys.stdout
    path = Path(name or "twistd.log").absolute()
    try:
        log_file = LogFile(path.name, str(path.parent), LOG_FILE_BYTES, maxRotatedFiles=LOG_FILES_COUNT)
    except OSError as error:
        raise OperatorError(f"--logfile {path}: {error.strerror}") from None
    _rotate_on_signal(log_file)
    return log_file


def makeService(options: Options) -> IService:
    """Twisted's hook, before the fork: nothing is opened here but the log.

    Raises: ``SystemExit`` with one line for each thing that is wrong.
    """
    from twisted.internet import reactor

    twistd: Any = options.parent if options.parent is not None else {}
    named = options["config"] or os.environ.get(CONFIG_VARIABLE)
    path = Path(named).absolute() if named else None

    def read_settings() -> Settings:
        return load_settings(options.given, os.environ, path)

    try:
        return make_service(
            read_settings(), reactor, log_stream=open_log(twistd), twistd=twistd, read_settings=read_settings
        )
    except SettingsError as error:
        raise SystemExit("\n".join(f"voiceingest: {problem}" for problem in error.problems)) from None
    except OperatorError as error:
        raise SystemExit(f"voiceingest: {error.message}") from None
