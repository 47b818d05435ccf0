"""Where tests live: the tree of the package, mirrored, so that one always knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.case import SynchronousTestCase

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "voiceingest"
TESTS: Final = ROOT / "tests"

# Modules without a test file of their own, and where they are tested instead.
TESTED_ELSEWHERE: Final = {
    "auth/__init__.py": "make_authenticator; tests/auth/test_authenticator.py",
    "call_interfaces.py": "declares and does nothing; each provider is checked where it is tested",
    "config/control.py": "a part of the settings; tests/config/test_settings.py",
    "config/fields.py": "a part of the settings; tests/config/test_settings.py",
    "devices/revocation.py": "declares and does nothing; tests/devices/test_devices.py",
    "device_interfaces.py": "declares and does nothing; each provider is checked where it is tested",
    "session_interfaces.py": "declares and does nothing; each provider is checked where it is tested",
    "store/__init__.py": "make_store; tests/store/test_engine.py",
    "store/migrating.py": "tests/store/test_migrations.py, tests/store/test_preparing.py",
    "store/rows.py": "tests/store/test_devices.py, tests/store/test_sessions.py",
    "store/statements.py": "tests/store/test_devices.py, tests/store/test_sessions.py",
    "store/tables.py": "declares; tests/store/test_migrations.py",
    "cli/__main__.py": "two lines; the command is run in tests/integration/test_packaging.py",
    "publishers/lane.py": "only works with its delivery; tests/publishers/test_delivery.py",
    "interfaces.py": "declares and does nothing; each provider is checked where it is tested",
}

# Folders of tests that mirror nothing.
OF_THEIR_OWN: Final = frozenset({"benchmarks", "faults", "integration", "interop", "support", "testsuite"})

NEWS_KINDS: Final = ("bugfix", "configuration", "doc", "feature", "incompat", "misc", "security")

# What a test class may descend from, besides classes of the same file and of other test modules.
TRIAL: Final = ("twisted.trial.unittest.", "tests.")

Method = ast.FunctionDef | ast.AsyncFunctionDef


def mirrored(module: Path) -> list[Path]:
    """Where the tests of a module may be, all relative: ``a/b.py`` -> ``a/test_b.py``.

    A package may also be tested as a whole: ``test_a.py`` is then for every module of ``a``.
    """
    whole = [package.parent / f"test_{package.name}.py" for package in module.parents if package.name]
    if module.name == "__init__.py":
        return [*whole, module.parent / f"test_{module.parent.name}.py"]
    return [module.parent / f"test_{module.name}", *whole]


def tested(module: Path) -> bool:
    """Whether one of those is there."""
    return any((TESTS / path).is_file() for path in mirrored(module))


def test_modules() -> Iterator[tuple[Path, ast.Module]]:
    """Every test file, parsed."""
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" not in path.parts:
            yield path, ast.parse(path.read_text(), str(path))


def says_nothing(path: Path) -> bool:
    """Whether a module holds only a docstring, imports and ``__all__``."""
    trivial = (ast.Import, ast.ImportFrom, ast.Expr)
    for statement in ast.parse(path.read_text()).body:
        exported = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        version = isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "__version__"
        if not (isinstance(statement, trivial) or exported or version):
            return False
    return True


class LayoutTests(SynchronousTestCase):
    """The two trees agree."""

    def test_every_module_has_its_test_file(self) -> None:
        missing = [
            f"{module} has no tests/{mirrored(module)[0]}"
            for path in sorted(PACKAGE.rglob("*.py"))
            for module in [path.relative_to(PACKAGE)]
            if module.as_posix() not in TESTED_ELSEWHERE and "generated" not in module.parts
            and not says_nothing(path)
            and not tested(module)
        ]
        self.assertEqual(missing, [], "\n".join(missing))

    def test_every_test_file_has_its_module(self) -> None:
        folders = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_dir()}
        strays = [
            str(folder)
            for path in TESTS.rglob("*")
            if path.is_dir() and path.name not in ("__pycache__", "node_modules")
            for folder in [path.relative_to(TESTS)]
            if folder.parts[0] not in OF_THEIR_OWN and folder not in folders
        ]
        self.assertEqual(strays, [], "folders of tests that mirror nothing")

    def test_exceptions_are_used(self) -> None:
        for module in TESTED_ELSEWHERE:
            self.assertTrue((PACKAGE / module).is_file(), f"{module} is listed and is not there")
            self.assertFalse(tested(Path(module)), f"{module} is listed and has its test file")

    def test_no_folder_is_empty(self) -> None:
        folders = {path.parent for path in TESTS.rglob("*.py") if "node_modules" not in path.parts}
        for folder in sorted(folders):
            self.assertTrue((folder / "__init__.py").is_file(), f"{folder}: trial wants an __init__.py")
        for folder in TESTS.rglob("*"):
            if folder.is_dir() and not {"__pycache__", "node_modules", "node"} & set(folder.parts):
                self.assertIn(folder, folders, f"{folder} has not a single module")


class TestClassTests(SynchronousTestCase):
    """Tests are trial's, and run."""

    def test_bases(self) -> None:
        wrong = [
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
            for path, tree in test_modules()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and _test_methods(node) and not _is_mixin(node)
            if not any(base.startswith(TRIAL) for base in _roots(node.name, tree))
        ]
        self.assertEqual(wrong, [], "these classes hold tests and are no test case of trial's")

    def test_no_coroutine_in_a_synchronous_case(self) -> None:
        wrong = [
            f"{path.relative_to(ROOT)}:{method.lineno} {node.name}.{method.name}"
            for path, tree in test_modules()
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            if any(base.endswith("SynchronousTestCase") for base in _roots(node.name, tree))
            for method in _test_methods(node)
            if isinstance(method, ast.AsyncFunctionDef)
        ]
        self.assertEqual(wrong, [], "trial would pass these without running them")

    def test_no_fixture_that_trial_does_not_call(self) -> None:
        ignored = {"setUpClass", "tearDownClass", "asyncSetUp", "asyncTearDown"}
        wrong = [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for path, tree in test_modules()
            for node in ast.walk(tree)
            if isinstance(node, Method) and node.name in ignored
        ]
        self.assertEqual(wrong, [])

    def test_nothing_is_expected_to_fail(self) -> None:
        wrong = [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for path, tree in test_modules()
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and any(re.search(r"(^|\.|_)todo$", ast.unparse(target)) for target in node.targets)
        ]
        self.assertEqual(wrong, [])


class RuleTests(SynchronousTestCase):
    """The rules above see what they are for."""

    tree = ast.parse(
        "from twisted.trial.unittest import SynchronousTestCase\n"
        "from twisted.trial import unittest as trial\n"
        "import unittest\n"
        "class A(SynchronousTestCase): ...\n"
        "class B(A): ...\n"
        "class C(trial.TestCase): ...\n"
        "class D(unittest.TestCase): ...\n"
    )

    def test_roots(self) -> None:
        found = {name: list(_roots(name, self.tree)) for name in "ABCD"}
        synchronous = ["twisted.trial.unittest.SynchronousTestCase"]
        self.assertEqual(found["A"], synchronous)
        self.assertEqual(found["B"], synchronous)
        self.assertEqual(found["C"], ["twisted.trial.unittest.TestCase"])
        self.assertEqual(found["D"], ["unittest.TestCase"])

    def test_mirror(self) -> None:
        self.assertEqual(mirrored(Path("b.py")), [Path("test_b.py")])
        self.assertEqual(mirrored(Path("a/b.py")), [Path("a/test_b.py"), Path("test_a.py")])
        self.assertEqual(mirrored(Path("a/__init__.py")), [Path("test_a.py"), Path("a/test_a.py")])


class NewsTests(SynchronousTestCase):
    """Fragments of the changelog are named so that towncrier finds them, and say something."""

    def test_fragments(self) -> None:
        for path in (ROOT / "changelog.d").iterdir():
            if path.name == "README.md":
                continue
            self.assertRegex(path.name, rf"^(\d+|\+[\w-]+)\.({'|'.join(NEWS_KINDS)})(\.\d+)?\.md$")
            self.assertGreater(len(path.read_text().split()), 3, path.name)


def _test_methods(node: ast.ClassDef) -> list[Method]:
    return [below for below in node.body if isinstance(below, Method) and below.name.startswith("test")]


def _is_mixin(node: ast.ClassDef) -> bool:
    """A mix-in of tests says so by its name and is inherited together with a test case."""
    return node.name.endswith(("Contract", "Mixin"))


def _roots(name: str, tree: ast.Module) -> Iterator[str]:
    """The classes ``name`` descends from that are not of the same file, by their full names."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imported = {
        alias.asname or alias.name: f"{'tests.' * bool(node.level)}{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    if name not in classes:
        first, *rest = name.split(".")
        yield ".".join([imported.get(first, first), *rest])
        return
    for base in classes[name].bases:
        yield from _roots(ast.unparse(base), tree)
