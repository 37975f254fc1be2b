"""The import law: arrows point left, the core does no I/O and reads no clock, `import dulcet` loads nothing heavy.

    upper_layer <- dimse <- services <- session <- { blocking, aio } <- { toolkit, node } <- archive <- cli
    leaves: errors, config, uids, log_codes, _version, part10

docs/explanation/layers.md says why.  Every import statement counts, those inside functions and those for annotations
too.  Under `if TYPE_CHECKING:` alone the core may name what is no part of dulcet, as long as annotations alone use it.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import dulcet.uids

PACKAGE = Path(dulcet.uids.__file__).parent

LEAVES = {"errors", "config", "uids", "log_codes", "_version", "part10"}
CORE = ["upper_layer", "dimse", "services"]
SHARED = "io"  # what every face needs of the operating system
SESSION = "session"  # what applications do on an association; it takes the values of `io`, and waits for nothing itself
PURE = {*CORE, SESSION}
FACES = ["blocking", "aio", "toolkit"]
OUTER = ["node", "archive", "trace", "cli"]
FREE = {"__init__", "__main__", "testing"}  # the public face over all of it


def _law() -> dict[str, set[str]]:
    """Module of dulcet to the modules of dulcet that it may import besides itself."""
    law = {leaf: LEAVES - {leaf} for leaf in LEAVES}
    for index, layer in enumerate(CORE):
        law[layer] = LEAVES - {"part10"} | set(CORE[:index])  # part10 reads files
    law[SHARED] = LEAVES | set(CORE)
    law[SESSION] = LEAVES | set(CORE) | {SHARED}
    for layer in FACES:
        law[layer] = LEAVES | set(CORE) | {SHARED, SESSION}
    law["toolkit"].add("blocking")  # its storage listener and requester pull
    for index, layer in enumerate(OUTER):
        law[layer] = LEAVES | set(CORE) | {SHARED, SESSION} | set(FACES) | set(OUTER[:index])
    law["cli"].add("__init__")  # the commands are users of the public face
    everything = LEAVES | {*CORE, SHARED, SESSION, *FACES, *OUTER} | FREE
    return law | dict.fromkeys(FREE, everything)


LAW = _law()

# What does I/O, waits, reads a clock or loads code by name.
IMPURE = set(
    "socket socketserver ssl select selectors asyncio uvloop threading _thread multiprocessing concurrent subprocess "
    "queue sched time datetime signal os posix pathlib io shutil tempfile glob fcntl mmap fileinput sqlite3 dbm shelve "
    "http urllib ftplib smtplib random secrets uuid importlib runpy ctypes pydicom click rich numpy".split()
)
MEMORY_ONLY = {"io.BytesIO"}
IN_FUNCTIONS = {"pydicom"}  # the codec of data sets: wanted where one is decoded, too slow to load for the rest
IMPURE_CALLS = {"open", "print", "input", "__import__", "exec", "eval"}


@dataclass
class Scan(ast.NodeVisitor):
    """The violations of one module; `name` is dotted, as in `dulcet.dimse.command`."""

    name: str
    is_package: bool = False
    violations: list[str] = field(default_factory=list)
    _checking: bool = False
    _functions: int = 0
    _for_annotations: dict[str, str] = field(default_factory=dict)

    @property
    def layer(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"

    def run(self, source: str) -> list[str]:
        if self.layer not in LAW:
            self.violations.append(f"{self.name}: {self.layer} has no place in the import law; give it one")
            return self.violations
        tree = ast.parse(source)
        self.visit(tree)
        for node in _outside_annotations(tree):
            if isinstance(node, ast.Name) and node.id in self._for_annotations:
                self._report(node, f"uses {self._for_annotations[node.id]} at run time, not just in annotations")
        return self.violations

    def visit_If(self, node: ast.If) -> None:
        if _is_type_checking(node.test):
            before, self._checking = self._checking, True
            for child in node.body:
                self.visit(child)
            self._checking = before
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._judge(node, alias.name, alias.asname or alias.name.split(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self._absolute(node)
        for alias in node.names:
            self._judge(node, f"{module}.{alias.name}", alias.asname or alias.name)

    def visit_Call(self, node: ast.Call) -> None:
        if self.layer in PURE and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            self._report(node, f"calls {node.func.id}()")
        self.generic_visit(node)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - node.level + (1 if self.is_package else 0)]
        return ".".join([*kept, *([node.module] if node.module else [])])

    def _judge(self, node: ast.stmt, target: str, bound: str) -> None:
        problem = self._problem(target)
        if problem is None:
            return
        if self._checking and target.partition(".")[0] != "dulcet":
            self._for_annotations[bound] = target
        else:
            self._report(node, problem)

    def _problem(self, target: str) -> str | None:
        root, _, rest = target.partition(".")
        if root != "dulcet":
            free = self.layer not in PURE or target in MEMORY_ONLY or (root in IN_FUNCTIONS and self._functions)
            return f"imports {target}" if root in IMPURE and not free else None
        wanted = rest.split(".")[0]
        if wanted not in LAW:
            wanted = "__init__"  # `import dulcet`, or a public name of it
        if wanted == self.layer or wanted in LAW[self.layer]:
            return None
        return f"imports {target}, but {self.layer} may not import {wanted}"

    def _report(self, node: ast.expr | ast.stmt, problem: str) -> None:
        self.violations.append(f"{self.name}:{node.lineno}: {problem}")


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _outside_annotations(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _outside_annotations(child)


def modules() -> dict[str, Path]:
    """Dotted name of every module of the package, and its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["dulcet", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("name", modules())
def test_every_import_obeys_the_law(name):
    path = modules()[name]
    assert Scan(name, is_package=path.name == "__init__.py").run(path.read_text(encoding="utf-8")) == []


def test_the_core_is_there_to_be_checked():
    assert {f"dulcet.{layer}" for layer in CORE} <= modules().keys()


BROKEN = {
    "an arrow to the right": ("dulcet.upper_layer.pdu", "from dulcet.dimse import command"),
    "an arrow to the right, by module": ("dulcet.upper_layer.pdu", "import dulcet.dimse.command"),
    "an arrow to the right, from the root": ("dulcet.dimse.command", "from dulcet import services"),
    "an arrow to the right, relative": ("dulcet.dimse.command", "from ..services import sop_classes"),
    "an arrow to the right, relative to the root": ("dulcet.dimse.command", "from .. import services"),
    "an arrow inside a function": ("dulcet.dimse.command", "def f():\n    from dulcet.blocking import pool"),
    "an arrow between faces": ("dulcet.aio.association", "from dulcet.blocking import train"),
    "an arrow from the blocking face to the toolkit": ("dulcet.blocking.pool", "from dulcet.toolkit import net"),
    "an arrow from the archive to the commands": ("dulcet.archive.ingest", "import dulcet.cli"),
    "the public face from inside": ("dulcet.blocking.pool", "from dulcet import associate"),
    "the public face whole": ("dulcet.node.routing", "import dulcet"),
    "the core reads files": ("dulcet.services.storage", "from dulcet.part10 import file_meta"),
    "a leaf that is none": ("dulcet.errors", "from dulcet.upper_layer import pdu"),
    "a leaf package that is none": ("dulcet.part10.sources", "from ..dimse import source"),
    "a socket": ("dulcet.upper_layer.connection", "import socket"),
    "a clock": ("dulcet.dimse.association", "from time import monotonic"),
    "a path": ("dulcet.services.storage", "from pathlib import Path"),
    "a submodule": ("dulcet.dimse.source", "import os.path as paths"),
    "a lock in a function": ("dulcet.dimse.source", "def f():\n    import threading"),
    "pydicom at the top": ("dulcet.services.identifiers", "from pydicom.dataset import Dataset"),
    "a guarded import": ("dulcet.dimse.source", "try:\n    import asyncio\nexcept ImportError:\n    pass"),
    "the other branch of TYPE_CHECKING": (
        "dulcet.dimse.source",
        "if TYPE_CHECKING:\n    import abc\nelse:\n    import os",
    ),
    "an opened file": ("dulcet.dimse.source", "def f(name):\n    return open(name)"),
    "an import by name": ("dulcet.dimse.source", "os = __import__('os')"),
    "an annotation's import used at run time": (
        "dulcet.dimse.source",
        "if TYPE_CHECKING:\n    from pathlib import Path\ndef f(x: Path):\n    return isinstance(x, Path)",
    ),
    "an arrow for annotations": (
        "dulcet.upper_layer.pdu",
        "if TYPE_CHECKING:\n    from dulcet.dimse.command import Command\ndef f(x: Command): ...",
    ),
    "a module with no place": ("dulcet.utils", ""),
}

LAWFUL = {
    "arrows to the left": ("dulcet.services.storage", "from dulcet.dimse import command\nimport dulcet.upper_layer"),
    "a package's own modules": ("dulcet.dimse", "from .command import x\nfrom . import y\nimport dulcet.dimse.z"),
    "leaves": ("dulcet.upper_layer.pdu", "from dulcet.errors import A\nfrom dulcet import config, uids, _version"),
    "a leaf that uses a leaf": ("dulcet.part10", "from dulcet import errors, uids"),
    "the blocking face for the toolkit": ("dulcet.toolkit.requester", "from dulcet.blocking import association"),
    "files for a face": ("dulcet.blocking.pool", "import socket, time\nfrom dulcet.part10 import file_meta"),
    "the face for a command": ("dulcet.cli.echo", "import dulcet\nfrom dulcet import associate"),
    "the public face over all": ("dulcet", "from dulcet.cli import main"),
    "an annotation's import": (
        "dulcet.dimse.source",
        "import typing\nif typing.TYPE_CHECKING:\n    from pathlib import Path\n"
        "def f(x: Path, *y: Path) -> Path:\n    z: Path = x\n    return z",
    ),
    "pydicom in a function": ("dulcet.services.identifiers", "async def f():\n    import pydicom.filewriter"),
    "a file in memory": ("dulcet.services.identifiers", "from io import BytesIO"),
    "a method called open": ("dulcet.dimse.source", "def f(x):\n    return x.open()"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_law_finds(case):
    name, source = BROKEN[case]
    violations = Scan(name).run(source)
    assert len(violations) == 1
    assert violations[0].startswith(name)


@pytest.mark.parametrize("case", LAWFUL)
def test_the_law_lets_pass(case):
    name, source = LAWFUL[case]
    assert Scan(name, is_package=name in ("dulcet", "dulcet.dimse")).run(source) == []


def _loaded_after(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement; coverage's own start-up is kept out of it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "COVERAGE"))}
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    return set(done.stdout.split())


@pytest.mark.outside
def test_import_dulcet_loads_nothing_heavy():
    loaded = _loaded_after("import dulcet")
    assert "dulcet" in loaded
    assert not loaded & {"pydicom", "click", "rich", "asyncio", "numpy", "ssl"}


@pytest.mark.outside
def test_the_core_loads_no_transport_even_through_others():
    names = [name for name in modules() if name.split(".")[1:2] and name.split(".")[1] in CORE]
    loaded = _loaded_after("import " + ", ".join(names))
    assert set(names) <= loaded
    assert not loaded & {"socket", "selectors", "asyncio", "ssl", "subprocess", "pydicom", "numpy"}
