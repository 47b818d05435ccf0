"""What the documentation names is there: links, commands, flags, settings, metrics, codes, tests.

Pages are read as text; code blocks are parsed, compiled or, in the tutorial, run. What is not ours
(words of nginx, of Redis, of systemd) is listed once, below.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import redis
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SkipTest

from tests.interop.test_clients import node_client
from tests.support.agents import FakeCall, FakeHttp, agent_context
from tests.support.case import SynchronousTestCase, TestCase
from tests.support.daemon import ROOT, Daemon, free_port
from tests.support.servers import RedisServer
from tests.support.tokens import Issuer
from voiceingest.agents import Agent
from voiceingest.call_interfaces import ICall, Transcript
from voiceingest.catalog import AGENT_GROUP
from voiceingest.cli.tree import root
from voiceingest.config import Settings
from voiceingest.errors import every_error
from voiceingest.metrics import FAMILIES
from voiceingest.stream.framer import exotel_profile
from voiceingest.stream.session_states import session_mermaid
from voiceingest.stream.states import mermaid
from voiceingest.tap import Options, flags
from voiceingest.wire import envelope, exotel, ingest

TUTORIAL: Final = ROOT / "docs" / "tutorial" / "first-frame.md"
WIRE: Final = ROOT / "docs" / "reference" / "wire.md"
WIRE_EXOTEL: Final = ROOT / "docs" / "reference" / "wire-exotel.md"
AGENTS: Final = ROOT / "docs" / "how-to" / "agents.md"
PARROT: Final = ROOT / "examples" / "parrot_agent.py"
ARCHITECTURE: Final = ROOT / "docs" / "explanation" / "architecture.md"
SESSIONS: Final = ROOT / "docs" / "explanation" / "sessions.md"
MEMORY: Final = ROOT / "docs" / "explanation" / "memory.md"

# Words in capitals that are no setting of the daemon.
FOREIGN_CAPITALS: Final = frozenset(
    {
        "QUEUED_FRAME_OVERHEAD_BYTES",
        "VOICEINGEST_CONFIG",
        "WS_URL",
        "EXOTEL_WS_URL",
        "JWT_TOKEN",
        "NO_COLOR",
        "READY",
        # Statuses of gRPC.
        *("RESOURCE_EXHAUSTED", "NOT_SERVING", "FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT"),
    }
)
# Words of other programs, in lower case.
FOREIGN_WORDS: Final = frozenset(
    {
        *(
            "worker_connections",
            "worker_rlimit_nofile",
            "certbot",
            "twistd",
            "redis",
            "jku",
            "x5u",
            "jwk",
            "x5c",
        ),
        *("sslmethod", "fullchain", "b64decode", "websockets", "aiohttp", "websocat", "ws", "klein", "attrs"),
        *("appendfsync", "libfaketime", "nkeys", "nats", "ignore_startup_parameters", "voice_app"),
        "completed",  # what Exotel says of a call that has ended
        "contextvars",
    }
)
UNITS: Final = {"": 1, "MiB": 2**20, "KiB": 2**10}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and what an HTML comment right above says of it."""

    page: Path
    language: str
    text: str
    remark: str


def pages() -> list[Path]:
    """Every page."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written() -> list[Path]:
    """The pages that are written by hand."""
    generated = {"settings.md", "metrics.md", "errors.md", "cli.md", "rest.md", "grpc.md"}
    return [page for page in pages() if page.parent.name != "reference" or page.name not in generated]


_FENCE: Final = re.compile(r"(?:<!-- docs: ([^>]*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = _FENCE.finditer(page.read_text())
    every = [Block(page, match[2], match[3], match[1] or "") for match in found]
    return [block for block in every if not languages or block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> set[str]:
    """What stands in backticks within the prose."""
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


class LinkTests(SynchronousTestCase):
    def test_every_link_leads_somewhere(self) -> None:
        wrong = []
        for page in pages():
            for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
                if target.startswith(("https://", "http://")):
                    continue
                path, _, anchor = target.partition("#")
                to = (page.parent / path).resolve() if path else page
                if not to.exists() or (anchor and anchor not in anchors(to)):
                    wrong.append(f"{page.relative_to(ROOT)}: {target}")
        self.assertEqual(wrong, [])

    def test_every_page_is_in_the_index(self) -> None:
        index = (ROOT / "docs" / "README.md").read_text() + (ROOT / "docs/decisions/README.md").read_text()
        missing = [page.name for page in pages() if page.name != "README.md" and page.name not in index]
        self.assertEqual(missing, [])

    def test_every_file_and_test_that_is_named_is_there(self) -> None:
        wrong = []
        for page in written():
            for span in spans(page):
                found = re.fullmatch(
                    r"((?:tests|deploy|voiceingest|benchmarks|docs)/[\w./-]*?)(?:::(test_\w+))?", span
                )
                if found is None:
                    continue
                path = ROOT / found[1]
                if not path.exists() or (found[2] and f"def {found[2]}(" not in path.read_text()):
                    wrong.append(f"{page.relative_to(ROOT)}: {span}")
        self.assertEqual(wrong, [])


# --- commands --------------------------------------------------------------------------------

_ASSIGNMENT: Final = re.compile(r"([A-Z][A-Z0-9_]*)=.*", re.DOTALL)


def shell_commands(text: str) -> Iterator[list[str]]:
    """The words of each command in a piece of shell, what is in ``$( )`` and ``<( )`` included."""
    without_comments = re.sub(r"(^|\s)#(\s.*|!.*)?$", "", text, flags=re.MULTILINE)
    lexer = shlex.shlex(without_comments, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    command: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&\n"):
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def all_commands() -> Iterator[tuple[str, list[str]]]:
    """Every command in a block or in backticks, with the page it is on."""
    for page in written():
        texts = [block.text for block in blocks(page, "sh")]
        texts += [span for span in spans(page) if re.match(r"(voiceingest|twistd) ", span)]
        for text in texts:
            for command in shell_commands(text):
                yield str(page.relative_to(ROOT)), command


def problems_of_voiceingest(words: list[str]) -> Iterator[str]:
    """Subcommands and options that are not there."""
    command: click.Command = root
    for place, word in enumerate(words):
        if isinstance(command, click.Group) and not word.startswith("-"):
            below = command.get_command(click.Context(command), word)
            if below is None:
                yield f"no subcommand {word}"
                return
            command = below
            continue
        known = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        if word.startswith("--") and word.partition("=")[0] not in known | {"--help", "--version"}:
            yield f"no option {word} (word {place})"


def problems_of_twistd(words: list[str]) -> Iterator[str]:
    """Options of twistd and of our part of its command line that are not there."""
    before = words[: words.index("voiceingest")] if "voiceingest" in words else words
    after = words[len(before) + 1 :]
    for given, options in ((before, ServerOptions()), (after, Options())):
        known = {f"--{name.rstrip('=')}" for name in options.longOpt}
        known |= {f"-{letter}" for letter in options.shortOpt if letter != ":"}
        for word in given:
            if word.startswith("-") and word.partition("=")[0] not in known:
                yield f"no option {word}"


class CommandTests(SynchronousTestCase):
    def test_subcommands_and_flags(self) -> None:
        wrong, seen = [], 0
        checks: Mapping[str, Callable[[list[str]], Iterator[str]]] = {
            "voiceingest": problems_of_voiceingest,
            "twistd": problems_of_twistd,
        }
        for page, command in all_commands():
            words = [word for word in command if not _ASSIGNMENT.fullmatch(word)]
            name = Path(words[0]).name if words else ""
            if name in checks:
                seen += 1
                wrong += [f"{page}: {shlex.join(command)}: {why}" for why in checks[name](words[1:])]
        self.assertEqual(wrong, [])
        self.assertGreater(seen, 30)

    def test_variables_in_front_of_them(self) -> None:
        wrong = []
        for page, command in all_commands():
            programs = {Path(word).name for word in command}
            if programs & {"voiceingest", "twistd"}:
                names = [found[1] for word in command if (found := _ASSIGNMENT.fullmatch(word))]
                wrong += [f"{page}: {name}" for name in names if not is_setting(name)]
        self.assertEqual(wrong, [])

    def test_make_targets(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {
            name for page in written() for name in re.findall(r"\bmake ([a-z-]+)(?=`|  )", page.read_text())
        }
        self.assertTrue(named)
        self.assertEqual(named - targets, set())


# --- names -----------------------------------------------------------------------------------


def is_setting(name: str) -> bool:
    """Whether a word in capitals is a setting, or one of the few others that are known."""
    return name.lower() in Settings.model_fields or name in FOREIGN_CAPITALS


def vocabulary() -> set[str]:
    """Every word in the source, in the files of ``deploy/`` and in what is configured."""
    files = [
        *(ROOT / "voiceingest").rglob("*.py"),
        *(path for path in (ROOT / "deploy").rglob("*") if path.is_file()),
        *(ROOT / "benchmarks").glob("*.py"),
        ROOT / "Makefile",
        ROOT / "setup.cfg",
    ]
    words = {word for path in files for word in re.findall(r"[a-z0-9_]+", path.read_text().lower())}
    return words | set(Settings.model_fields) | {family.name for family in FAMILIES}


class NameTests(SynchronousTestCase):
    maxDiff = None

    def test_settings(self) -> None:
        wrong = [
            f"{page.relative_to(ROOT)}: {span}"
            for page in written()
            for span in spans(page)
            if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", span) and not is_setting(span)
        ]
        self.assertEqual(wrong, [])

    def test_defaults(self) -> None:
        wrong, seen = [], 0
        for page in written():
            for name, number, unit in re.findall(
                r"`([A-Z0-9_]+)` \(?(\d+) ?(MiB|KiB)?(?=[^\w.=])", prose(page)
            ):
                if name.lower() in Settings.model_fields:
                    seen += 1
                    default = Settings.model_fields[name.lower()].default
                    if float(number) * UNITS[unit] != default:
                        wrong.append(f"{page.relative_to(ROOT)}: {name} {number} {unit}, not {default}")
        self.assertEqual(wrong, [])
        self.assertGreater(seen, 30)

    def test_metrics(self) -> None:
        known = {family.name for family in FAMILIES}
        known |= {f"{family.name}{end}" for family in FAMILIES for end in ("_bucket", "_sum", "_count")}
        named = {
            (str(page.relative_to(ROOT)), name)
            for page in written()
            for name in re.findall(r"\b(?:voiceingest|ingress|process)_[a-z_]+", page.read_text())
        }
        self.assertEqual({place for place in named if place[1] not in known}, set())
        self.assertGreater(len({name for _, name in named}), 20)

    def test_every_other_word_in_backticks_is_in_the_source(self) -> None:
        known = vocabulary() | FOREIGN_WORDS
        wrong = [
            f"{page.relative_to(ROOT)}: {span}"
            for page in written()
            for span in spans(page)
            if re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", span) and span not in known
        ]
        self.assertEqual(wrong, [])

    def test_statuses_and_close_codes_of_tables(self) -> None:
        by_code = {error.code: error for error in every_error()}
        wrong, seen = [], 0
        for page in written():
            for row in re.findall(r"^\| (\d{3,4})\b(.*)$", prose(page), re.MULTILINE):
                number, cells = int(row[0]), row[1].split("|")
                for code in re.findall(r"`([a-z_]+)`", "".join(cells[:2])):
                    error = by_code.get(code)
                    if error is not None:
                        seen += 1
                        expected = error.http_status if number < 1000 else error.close_code
                        if expected != number:
                            wrong.append(f"{page.relative_to(ROOT)}: {number} {code}, not {expected}")
        self.assertEqual(wrong, [])
        self.assertGreater(seen, 25)

    def test_every_error_a_caller_can_meet_is_in_the_troubleshooting_page(self) -> None:
        page = ROOT / "docs" / "how-to" / "troubleshoot.md"
        closing = {error.code for error in every_error() if error.closes and error.fault.value != "operator"}
        # Never answered by themselves: parents of others, or not reachable over the ingest socket.
        parents = {"downstream"}
        self.assertEqual(closing - parents - spans(page) - _codes_in(page), set())

    def test_flags_of_the_settings_exist_for_what_is_no_secret(self) -> None:
        self.assertEqual(flags()["listen"], "port")

    def test_how_many_streams_fit_into_the_buffer(self) -> None:
        settings = Settings()
        frames = settings.buffer_duration_ms // 200
        one = 24000 * 2 * settings.buffer_duration_ms // 1000 + frames * 200
        self.assertIn(
            f"is {one} bytes: {settings.publish_buffer_bytes // one} streams in 64 MiB", MEMORY.read_text()
        )


def _codes_in(page: Path) -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", prose(page)))


# --- blocks ----------------------------------------------------------------------------------


class BlockTests(SynchronousTestCase):
    def test_python_compiles(self) -> None:
        found = [block for page in written() for block in blocks(page, "python")]
        for block in found:
            compile(block.text, str(block.page), "exec")
        self.assertTrue(found)

    def test_json_parses(self) -> None:
        for page in written():
            for block in blocks(page, "json"):
                for line in block.text.splitlines():
                    try:
                        json.loads(line)
                    except ValueError:
                        self.fail(f"{page.relative_to(ROOT)}: {line}")

    def test_toml_parses(self) -> None:
        for page in written():
            for block in blocks(page, "toml"):
                tomllib.loads(block.text)

    def test_shell_parses(self) -> None:
        for page in written():
            for block in blocks(page, "sh"):
                done = subprocess.run(
                    ["bash", "-n"], input=block.text, text=True, capture_output=True, check=False
                )
                self.assertEqual(done.returncode, 0, f"{page.relative_to(ROOT)}: {done.stderr}")

    def test_javascript_parses(self) -> None:
        node = shutil.which("node")
        if node is None:
            if os.environ.get("CI") == "true":
                self.fail("node is not installed, and in CI it has to be")
            raise SkipTest("node is not installed")
        path = self.mktemp_path().with_suffix(".mjs")
        for page in written():
            for block in blocks(page, "js"):
                path.write_text(block.text)
                done = subprocess.run(
                    [node, "--check", str(path)], capture_output=True, text=True, check=False
                )
                self.assertEqual(done.returncode, 0, f"{page.relative_to(ROOT)}: {done.stderr}")

    def test_the_drawing_of_the_states(self) -> None:
        text = ARCHITECTURE.read_text()
        drawn = text.partition("<!-- states:begin -->")[2].partition("<!-- states:end -->")[0]
        self.assertEqual(drawn.strip(), f"```mermaid\n{mermaid()}```")

    def test_the_drawing_of_the_states_of_a_session(self) -> None:
        text = SESSIONS.read_text()
        drawn = text.partition("<!-- session-states:begin -->")[2].partition("<!-- session-states:end -->")[0]
        self.assertEqual(drawn.strip(), f"```mermaid\n{session_mermaid()}```")

    def test_the_order_of_the_service_tree(self) -> None:
        section = ARCHITECTURE.read_text().partition("\n## Start and stop\n")[2]
        table = re.findall(r"^\| \d+ \| `([\w ]+)` \|", section, re.MULTILINE)
        source = (ROOT / "voiceingest" / "service.py").read_text()
        listed = source.partition("children = [")[2].partition("\n    ]")[0]
        places = [
            listed.find(word)
            for word in (
                "_log_part",
                "Child(lag)",
                "Child(admin)",
                '"bus"',
                '"http_client"',
                '"transcribing"',
                '"keys"',
                '"deadlines"',
                '"streams"',
                "Child(public",
            )
        ]
        self.assertEqual(places, sorted(places))
        self.assertNotIn(-1, places)
        names = ["stdlib_logging", "reactor lag", "admin", "bus", "http_client", "transcribing", "keys"]
        names += ["deadlines", "streams", "listen"]
        self.assertEqual(table, names)
        self.assertEqual(listed.count("Child(") + listed.count("_log_part"), len(names))

    def test_no_marker_was_forgotten(self) -> None:
        for page in pages():
            self.assertNotIn("@@", page.read_text(), page.name)


def examples(page: Path, section: str) -> list[bytes]:
    """The JSON lines of one section of a page; there is at least one."""
    text = page.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = [match[3] for match in _FENCE.finditer(text) if match[2] == "json"]
    lines = [line.encode() for block in found for line in block.splitlines()]
    assert lines, f"{page.name}: {section}"
    return lines


class WireTests(SynchronousTestCase):
    """The examples of the wire page are read by the code that reads the wire."""

    def test_what_a_client_says(self) -> None:
        said = [type(ingest.decode(line)).__name__ for line in examples(WIRE, "Client to daemon")]
        self.assertEqual(said, ["Start", "Stop", "Auth"])

    def test_what_the_daemon_says(self) -> None:
        for line in examples(WIRE, "Daemon to client"):
            fields = json.loads(line)
            self.assertEqual(ingest.encode(fields.pop("event"), **fields), line)

    def test_what_is_on_the_bus(self) -> None:
        frame, *events = examples(WIRE, "On the bus")
        told = envelope.decode_frame(frame)
        parts = envelope.frame_parts(told.tenant_id, told.interaction_id, told.sample_rate, told.encoding)
        self.assertEqual(envelope.encode_frame(parts, told.seq, told.timestamp_ms, told.audio), frame)
        self.assertEqual(
            [envelope.decode_event(line)["event"] for line in events], ["started", "gap", "stopped"]
        )


class ExotelWireTests(SynchronousTestCase):
    """The same for the page on calls."""

    def test_what_exotel_says(self) -> None:
        messages = [exotel.decode(line) for line in examples(WIRE_EXOTEL, "Exotel to daemon")]
        self.assertEqual(
            [type(message).__name__ for message in messages],
            ["Connected", "Start", "Media", "Dtmf", "Mark", "Stop", "Start", "Start"],
        )
        _, documented, media, dtmf, mark, stop, camel, bare = messages
        for start in (documented, camel, bare):
            assert isinstance(start, exotel.Start)
            self.assertEqual((start.stream_sid, start.call_id), ("sid-A", "call-A"))
        assert isinstance(documented, exotel.Start)
        assert isinstance(camel, exotel.Start)
        self.assertEqual(
            dataclasses.replace(camel, encoding="pcm16"), documented, "two spellings, one meaning"
        )
        self.assertEqual(camel.encoding, "mulaw")
        self.assertEqual(media, exotel.Media(bytes(4), 3))
        self.assertEqual(dtmf, exotel.Dtmf("5", 200, 7))
        self.assertEqual(mark, exotel.Mark("m3", 15))
        self.assertEqual(stop, exotel.Stop("callended", 20))

    def test_what_the_daemon_says(self) -> None:
        parts = exotel.parts("sid-A")
        self.assertEqual(
            examples(WIRE_EXOTEL, "Daemon to Exotel"),
            [
                exotel.encode_media(parts, bytes(4), 1, 1, 0),
                exotel.encode_mark(parts, "m1", 2),
                exotel.encode_clear(parts, 3),
            ],
        )

    def test_sizes(self) -> None:
        page = WIRE_EXOTEL.read_text()
        sizes = [exotel_profile(rate, None).chunk_bytes for rate in exotel.EXOTEL_RATES]
        sizes.append(exotel_profile(8000, None, "mulaw").chunk_bytes)
        self.assertEqual(sizes, [3200, 3200, 4800, 1600])
        self.assertIn("3200 at 8 and 16 kHz, 4800 at 24 kHz, 1600 of mu-law", page)

    def test_every_spelling_that_is_read_is_on_the_page(self) -> None:
        source = (ROOT / "voiceingest" / "wire" / "exotel.py").read_text()
        source = source.partition("# --- one event each")[2].partition("# --- writing")[0]
        query = (ROOT / "voiceingest" / "wire" / "exotel_query.py").read_text()
        named = {
            name
            for call in re.findall(r"_(?:first|sid|text)\(\w+, ([^)]*)\)", source)
            for name in _quoted(call)
        }
        named |= {
            name
            for call in re.findall(r"^_(?:CALL_ID|STREAM_SID).*$", query, re.MULTILINE)
            for name in _quoted(call)
        }
        self.assertGreater(len(named), 19)
        self.assertEqual(named - spans(WIRE_EXOTEL), set())


def _quoted(text: str) -> list[str]:
    return re.findall(r'"(\w+)"', text)


class ParrotTests(SynchronousTestCase):
    """The agent of the page on agents is the file in ``examples/``, and does what the page says."""

    def parrot(self, rate: int) -> tuple[Any, FakeCall]:
        names: dict[str, Any] = {}
        exec(compile(PARROT.read_text(), str(PARROT), "exec"), names)
        call = FakeCall(rate)
        agent = names["Parrot"](agent_context(FakeHttp()))
        agent.begin(call)
        return agent, call

    def test_the_page_shows_the_file(self) -> None:
        (shown,) = (block.text for block in blocks(AGENTS, "python"))
        head, found, body = PARROT.read_text().partition('"""\n\n')
        self.assertTrue(found and head.startswith('"""'))
        self.assertEqual(shown, body)

    def test_the_entry_point_of_the_page(self) -> None:
        (shown,) = (tomllib.loads(block.text) for block in blocks(AGENTS, "toml"))
        self.assertEqual(shown["project"]["entry-points"][AGENT_GROUP], {"parrot": "parrot_agent:Parrot"})

    def test_it_repeats_what_was_said_once_the_caller_is_done(self) -> None:
        agent, call = self.parrot(8000)
        self.assertTrue(agent.wants_transcripts)
        agent.audio(b"\1\0" * 10)
        agent.transcript(Transcript("He", 0, 10, is_final=True))
        agent.audio(b"\2\0" * 10)
        self.assertEqual(call.told, [])
        agent.transcript(Transcript("Hello", 0, 20, is_final=True, ends_turn=True))
        self.assertEqual(call.told, [("say", b"\1\0" * 10 + b"\2\0" * 10), ("mark", "said")])
        agent.audio(b"\3\0" * 10)
        agent.transcript(Transcript("", 20, 30, is_final=True, ends_turn=True))
        self.assertEqual(call.told[2:], [("say", b"\3\0" * 10), ("mark", "said")])

    def test_it_remembers_so_much_and_0_hangs_up(self) -> None:
        agent, call = self.parrot(8000)
        for _ in range(40):
            agent.audio(bytes(16000))
        agent.transcript(Transcript("", 0, 40_000, is_final=True, ends_turn=True))
        self.assertEqual(len(call.told[0][1]), 30 * 16000)
        agent.dtmf("5")
        self.assertNotIn(("hang_up", None), call.told)
        agent.dtmf("0")
        self.assertEqual(call.told[-1], ("hang_up", None))

    def test_what_the_page_says_an_agent_is_told_and_may_do(self) -> None:
        rows = re.findall(r"^\| `(?:call\.)?(\w+)(?:\(.*?\))?` \|", prose(AGENTS), re.MULTILINE)
        hooks = {name for name in vars(Agent) if not name.startswith("_") and callable(getattr(Agent, name))}
        offers = {name for name in vars(ICall) if not name.startswith("_")} | {"facts"}
        self.assertEqual((hooks | offers) - set(rows), set())


# What a browser has and Node.js has not in every version; then the functions of the page, called.
_BROWSER: Final = """
globalThis.WebSocket = require("ws");
%s
async function* chunks() {
  for (let number = 0; number < 25; number++) yield new Int16Array(4800).fill(number);
}
(async () => {
  const { HOST, JWT_TOKEN } = process.env;
  for (const open of [openWithTicket, openWithSubprotocol]) {
    const socket = await open(HOST, JWT_TOKEN);
    const stopped = await stream(socket, "t1", open.name, chunks());
    console.log(JSON.stringify({ ...stopped, protocol: socket.protocol }));
  }
})().catch((error) => { console.error(error); process.exit(1); });
"""


class BrowserTests(TestCase):
    """The functions for browsers, in Node.js, against a real daemon."""

    @inlineCallbacks
    def test_ticket_and_subprotocol(self) -> Generator[Deferred[Any], Any, None]:
        node, client = node_client()
        functions = "\n".join(block.text for block in blocks(ROOT / "docs" / "how-to" / "jwt.md", "js"))
        script = self.mktemp_path().with_suffix(".cjs")
        script.write_text(_BROWSER % functions)
        issuer = Issuer()
        settings = {"JWT_PUBLIC_KEY": issuer.public_pem, "PUBLISH_URL": "memory://"}
        daemon = Daemon(self, settings, tls=True)
        yield daemon.start()
        environ = {
            "HOST": f"localhost:{daemon.tls_port}",
            "JWT_TOKEN": issuer.token("t1"),
            "NODE_PATH": str(Path(client).parent / "node_modules"),
            "NODE_EXTRA_CA_CERTS": str(daemon.ca_path),
        }
        out, errors, code = yield getProcessOutputAndValue(node, [str(script)], environ)
        self.assertEqual(code, 0, errors.decode(errors="replace"))
        with_ticket, with_subprotocol = map(json.loads, out.splitlines())
        for told in (with_ticket, with_subprotocol):
            self.assertEqual((told["seq"], told["published"], told["acked"]), (25, 25, 20))
        self.assertEqual((with_ticket["protocol"], with_subprotocol["protocol"]), ("", "voice.v1"))


# --- the tutorial ----------------------------------------------------------------------------

# What takes a minute takes some seconds here: place and replacement, each of which has to be there.
SHORTER: Final = {"60 * 24000 * 2": "4 * 24000 * 2", "--count 300": "--count 20"}
DEADLINE_S: Final = 90.0

_VOICEINGEST: Final = 'exec "{python}" -m voiceingest.cli "$@"'
_TWISTD: Final = (
    'exec "{python}" -c "import sys; sys.argv[0] = \'twistd\'; '
    'from twisted.scripts.twistd import run; run()" "$@"'
)
_PYTHON: Final = 'exec "{python}" "$@"'
# For a machine without curl: the address is the last word.
_CURL: Final = (
    'exec "{python}" -c "import sys, urllib.request as u; '
    'sys.stdout.write(u.urlopen(sys.argv[-1]).read().decode())" "$@"'
)


class TutorialTests(SynchronousTestCase):
    """Every command of the tutorial, on ports of its own, with a real Redis."""

    timeout = 120

    def setUp(self) -> None:
        self.directory = self.mktemp_path()
        self.directory.mkdir()
        self.redis = RedisServer(self)
        self.consumer = redis.Redis(port=self.redis.port, socket_timeout=5)
        self.addCleanup(self.consumer.close)
        self.admin_port = free_port()
        port = free_port()
        programs = self.directory / "bin"
        programs.mkdir()
        stand_ins = {"voiceingest": _VOICEINGEST, "twistd": _TWISTD, "python3": _PYTHON}
        if shutil.which("curl") is None:
            stand_ins["curl"] = _CURL
        for name, text in stand_ins.items():
            (programs / name).write_text(f"#!/bin/sh\n{text.format(python=sys.executable)}\n")
            (programs / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        self.environ = {
            **kept,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PORT": str(port),
            "ADMIN": f"tcp:{self.admin_port}:interface=127.0.0.1",
            "REDIS_URL": self.redis.url(),
            "WS_URL": f"wss://localhost:{port}",
        }
        self.exports: list[str] = []
        self.waited_for: list[subprocess.Popen[bytes]] = []

    def prepared(self, block: Block) -> str:
        """The text of a block with the ports of this test, what was exported before in front of it."""
        text = block.text.replace("9464", str(self.admin_port))
        text = text.replace("redis-cli ", f"redis-cli -p {self.redis.port} ")
        for place, shorter in SHORTER.items():
            text = text.replace(place, shorter)
        return "\n".join([*self.exports, text])

    def run_block(self, block: Block) -> str:
        """Run to the end; what was written to standard output."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.prepared(block)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        self.assertEqual(done.returncode, 0, f"{block.text}\n{done.stdout}\n{done.stderr}")
        self.exports += [line for line in block.text.splitlines() if line.startswith("export ")]
        return done.stdout

    def begin_block(self, block: Block) -> subprocess.Popen[bytes]:
        """Run in the background, ended with the test; with a subscriber, until it listens."""
        before = self.subscribers()
        with (self.directory / f"background-{time.monotonic_ns()}.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.prepared(block)],
                cwd=self.directory,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.addCleanup(self.end, process)
        if "twistd" not in block.text:
            self.until(lambda: self.subscribers() > before, f"nobody listens: {block.text}")
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM to a background block and what it has started, and wait."""
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            self.assertIsNotNone(process.poll())
        process.wait(DEADLINE_S)

    def subscribers(self) -> int:
        """How many listen to the channel of the frames."""
        answer: Any = self.consumer.pubsub_numsub("audio:frames")
        return int(answer[0][1])

    def until(self, condition: Callable[[], Any], problem: str) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            self.assertLess(time.monotonic(), end, problem)
            time.sleep(0.05)

    def play(self, *, with_redis_cli: bool) -> list[str]:
        """Run the page from top to bottom; what the blocks that ran have written, in order."""
        outputs = []
        for block in blocks(TUTORIAL, "sh"):
            kind = block.remark
            self.assertTrue(kind, f"a block of the tutorial has no remark: {block.text}")
            if kind.startswith("not run") or ("redis-cli" in kind and not with_redis_cli):
                continue
            if with_redis_cli and "wait" in kind:
                continue
            if kind.startswith("background"):
                process = self.begin_block(block)
                if "waited for" in kind:
                    self.waited_for.append(process)
                continue
            if "until it succeeds" in kind:
                self.until(lambda block=block: self.succeeds(block), block.text)  # type: ignore[misc]
            if "after what is waited for" in kind:
                for process in self.waited_for:
                    self.assertEqual(process.wait(DEADLINE_S), 0)
            outputs.append(self.run_block(block))
        return outputs

    def succeeds(self, block: Block) -> bool:
        done = subprocess.run(
            ["bash", "-c", self.prepared(block)],
            cwd=self.directory,
            env=self.environ,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def test_from_the_first_command_to_the_last(self) -> None:
        outputs = "".join(self.play(with_redis_cli=False))
        for block in blocks(TUTORIAL, "text"):
            for line in block.text.splitlines():
                self.assertIn(line, outputs)
        self.assertEqual(outputs.count("bit for bit the same"), 1)
        self.assertIn('"status":"ok"', outputs)

    def test_with_redis_cli(self) -> None:
        if shutil.which("redis-cli") is None:
            if os.environ.get("CI") == "true":
                self.fail("redis-cli is not installed, and in CI it has to be")
            raise SkipTest("redis-cli is not installed: apt-get install redis-tools")
        outputs = "".join(self.play(with_redis_cli=True))
        self.assertEqual(outputs.count("bit for bit the same"), 1)

    def test_what_is_shortened_is_there_and_is_a_minute(self) -> None:
        text = TUTORIAL.read_text()
        for place in SHORTER:
            self.assertIn(place, text)
        self.assertEqual(60 * 1000 // 200, 300)
