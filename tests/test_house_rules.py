"""House rules as lints over the source: nobody has to remember them.

Each rule is a function from one module to the lines that break it; exceptions are listed in one
table per rule, each with its reason. What ruff, mypy and import-linter can say is said there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import ClassVar, Final

from tests.support.case import SynchronousTestCase
from voiceingest import limits

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "voiceingest"

MODULE_MAX_LINES: Final = 300
FUNCTION_P90_MAX_LINES: Final = 40
FUNCTION_MAX_LINES: Final = 80

# Who may put a call off, and why: everybody else asks one of these.
MAY_CALL_LATER: Final = {
    "accepting.py": "how long a port is left alone, and how late it is closed",
    "agents/turns.py": "how long a caller is silent before a turn, or a number, is over",
    "aio.py": "the door to asyncio",
    "auth/": "the age of a key set",
    "deadlines.py": "one timer for all connections",
    "driver.py": "one stream's deadlines",
    "http/channel.py": "the absolute deadline of a request",
    "interfaces.py": "declares it",
    "lifecycle/": "deadlines of start, stop and drain; the watchdog",
    "outward/": "how long a service may be silent; how long a connection is kept",
    "publishers/": "coalescing, retries, timeouts of a bus",
    "registry.py": "the drain deadline",
    "websocket/": "one connection's deadlines",
    "cli/": "a program of its own",
}
MAY_PRINT: Final = {"cli/": "it talks to a person"}
MAY_BE_LONG: Final = {"errors.py": "one table: the tree of errors"}

_UNITS: Final = ("_BYTES", "_S", "_MS", "_COUNT", "_CHARS", "_PER_S", "_HZ")

Lines = Iterator[int]


@dataclass(frozen=True, slots=True)
class Module:
    """One source file, parsed; ``name`` is its path below the package."""

    name: str
    text: str
    tree: ast.Module

    @property
    def nodes(self) -> Iterator[ast.AST]:
        """Every node."""
        return ast.walk(self.tree)

    def within(self, *places: str) -> bool:
        """Whether it is one of ``places``: files, or folders that end with a slash."""
        folders = tuple(place for place in places if place.endswith("/"))
        return self.name in places or self.name.startswith(folders)


def read(path: Path, below: Path) -> Module:
    """Parse one file."""
    text = path.read_text()
    return Module(path.relative_to(below).as_posix(), text, ast.parse(text, str(path)))


def coroutine_hooks(module: Module) -> Lines:
    """Autobahn does not await its hooks: the message would vanish with a warning."""
    if module.within("transports/", "websocket/"):
        for node in module.nodes:
            if isinstance(node, ast.AsyncFunctionDef) and re.match(r"on[A-Z]", node.name):
                yield node.lineno


def calls_put_off(module: Module) -> Lines:
    """Timers are few and known."""
    for node in module.nodes:
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", None)
        if name in ("callLater", "deferLater", "LoopingCall"):
            yield getattr(node, "lineno", 0)


def prints(module: Module) -> Lines:
    """A daemon logs."""
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno


def reactor_imports(module: Module) -> Lines:
    """An import of the reactor at the head of a file installs one; it is an argument instead."""
    for statement in _at_import(module.tree.body):
        if isinstance(statement, ast.ImportFrom):
            names = {f"{statement.module}.{alias.name}" for alias in statement.names}
        elif isinstance(statement, ast.Import):
            names = {alias.name for alias in statement.names}
        else:
            continue
        if "twisted.internet.reactor" in names:
            yield statement.lineno


def _at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            for below in getattr(statement, field, []):
                yield from _at_import(below.body if isinstance(below, ast.ExceptHandler) else [below])


def bare_excepts(module: Module) -> Lines:
    """``except:`` and ``except BaseException`` that does not raise swallow a cancellation."""
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            raises = any(isinstance(below, ast.Raise) for below in ast.walk(node))
            if node.type is None or ("BaseException" in caught and not raises):
                yield node.lineno


def silent_excepts(module: Module) -> Lines:
    """``except Exception: pass`` swallows what nobody will ever know."""
    for node in module.nodes:
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            broad = ast.unparse(node.type) in ("Exception", "BaseException")
            if broad and all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body):
                yield node.lineno


def without_docstring(module: Module) -> Lines:
    """Every public function, method, class and module says its purpose in one line."""
    if not ast.get_docstring(module.tree):
        yield 1
    for node in _public(module.tree.body):
        if not ast.get_docstring(node):
            yield node.lineno


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _public(body: list[ast.stmt]) -> Iterator[Definition]:
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            overload = any("overload" in ast.unparse(decorator) for decorator in node.decorator_list)
            if not overload:
                yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)


def module_size(module: Module) -> Lines:
    """What does not fit on a few screens is two modules."""
    count = len(module.text.splitlines())
    if count > MODULE_MAX_LINES:
        yield count


def function_size(module: Module) -> Lines:
    """The longest function there may be; most are half of it (see the test on the 90th percentile)."""
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _length(node) > FUNCTION_MAX_LINES:
            yield node.lineno


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def parse(text: str, name: str = "transports/sample.py") -> Module:
    """A module from its text."""
    return Module(name, text, ast.parse(text))


class HouseRulesTests(SynchronousTestCase):
    """The source keeps the rules."""

    modules: ClassVar = [
        read(path, PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if "generated" not in path.parts
    ]

    def check(self, rule: Callable[[Module], Lines], allowed: dict[str, str] | None = None) -> None:
        """Fail with every place that breaks ``rule``; every exception has to be in use."""
        allowed = allowed or {}
        found = {
            module.name: lines
            for module in self.modules
            if not module.within(*allowed) and (lines := list(rule(module)))
        }
        self.assertEqual(found, {}, f"{rule.__name__}: {(rule.__doc__ or '').strip()}")

    def test_hooks_are_not_coroutines(self) -> None:
        self.check(coroutine_hooks)

    def test_timers(self) -> None:
        self.check(calls_put_off, MAY_CALL_LATER)

    def test_print(self) -> None:
        self.check(prints, MAY_PRINT)

    def test_reactor(self) -> None:
        self.check(reactor_imports)

    def test_bare_except(self) -> None:
        self.check(bare_excepts)

    def test_silent_except(self) -> None:
        self.check(silent_excepts)

    def test_docstrings(self) -> None:
        self.check(without_docstring)

    def test_module_size(self) -> None:
        self.check(module_size, MAY_BE_LONG)

    def test_function_size(self) -> None:
        self.check(function_size)

    def test_function_size_at_the_90th_percentile(self) -> None:
        lengths = [
            _length(node)
            for module in self.modules
            for node in module.nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        self.assertLessEqual(quantiles(lengths, n=10)[-1], FUNCTION_P90_MAX_LINES)

    def test_limits_have_units_and_bounds(self) -> None:
        named = {name: value for name, value in vars(limits).items() if name.isupper()}
        self.assertNotEqual(named, {})
        for name, value in named.items():
            self.assertTrue(name.endswith(_UNITS), f"{name} does not end with a unit")
            self.assertGreater(value, 0, name)

    def test_exceptions_are_used(self) -> None:
        for place in [*MAY_CALL_LATER, *MAY_PRINT, *MAY_BE_LONG]:
            self.assertTrue((PACKAGE / place).exists(), f"{place} is listed and is not there")


class RuleTests(SynchronousTestCase):
    """The rules see what they are for, and only that."""

    def assert_breaks(self, rule: Callable[[Module], Lines], text: str, *lines: int) -> None:
        """``text`` breaks ``rule`` on exactly these lines."""
        self.assertEqual(sorted(rule(parse(text))), list(lines))

    def test_hooks(self) -> None:
        text = "class P:\n    async def onMessage(self): ...\n    def onOpen(self): ..."
        self.assert_breaks(coroutine_hooks, text, 2)
        elsewhere = parse(text, "cli/sample.py")
        self.assertEqual(list(coroutine_hooks(elsewhere)), [])

    def test_timers(self) -> None:
        self.assert_breaks(calls_put_off, "import x\nx.callLater(1, f)\nlater = x.clock.callLater", 2, 3)
        self.assert_breaks(calls_put_off, "from twisted.internet.task import LoopingCall", 1)

    def test_print(self) -> None:
        self.assert_breaks(prints, "def f():\n    print('x')\n    self.print('x')", 2)

    def test_reactor(self) -> None:
        self.assert_breaks(reactor_imports, "from twisted.internet import defer, reactor", 1)
        text = "try:\n    import twisted.internet.reactor\nexcept ImportError:\n    x = 1"
        self.assert_breaks(reactor_imports, text, 2)
        self.assert_breaks(reactor_imports, "def f():\n    from twisted.internet import reactor")

    def test_excepts(self) -> None:
        self.assert_breaks(bare_excepts, "try: f()\nexcept: pass", 2)
        self.assert_breaks(bare_excepts, "try: f()\nexcept BaseException: g()", 2)
        self.assert_breaks(bare_excepts, "try: f()\nexcept BaseException:\n    g()\n    raise")
        self.assert_breaks(silent_excepts, "try: f()\nexcept Exception: pass", 2)
        self.assert_breaks(silent_excepts, "try: f()\nexcept ValueError: pass")

    def test_docstrings(self) -> None:
        text = "'x'\nclass A:\n    'x'\n    def f(self): ...\n    def _g(self): ..."
        self.assert_breaks(without_docstring, text, 4)
        self.assert_breaks(without_docstring, "x = 1", 1)

    def test_sizes(self) -> None:
        self.assert_breaks(module_size, "x = 1\n" * 301, 301)
        self.assert_breaks(function_size, "def f():\n" + "    x = 1\n" * 80, 1)
        self.assert_breaks(function_size, "def f():\n" + "    x = 1\n" * 79)
