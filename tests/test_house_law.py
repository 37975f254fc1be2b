"""The laws of the house: no circles, no use of another module's private names, nothing too large or written twice.

What is still against a law is listed here, file by file, with its count.  A list may only shrink: more than listed
fails, and so does less, so that whoever mends something lowers the list in the same commit.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import dulcet.uids

PACKAGE = Path(dulcet.uids.__file__).parent
GENERATED = re.compile(r"# Written by tools/generate_\w+\.py")


def modules() -> dict[str, Path]:
    """Dotted name of every module below dulcet, and its file; a package goes by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


# -- what is still against a law

CIRCLES = {"aio": 14, "blocking": 8, "node": 4, "toolkit": 7}
"""Modules of a package that are in circles."""

REACHES = {
    "aio.association": 3,
    "aio.commitment": 1,
    "aio.keeping": 1,
    "aio.operation_stream": 4,
    "aio.operations": 6,
    "aio.pending_connection": 13,
    "aio.pool": 1,
    "aio.requests": 14,
    "aio.response_queue": 8,
    "aio.retrieving": 3,
    "aio.secure": 2,
    "aio.sending": 4,
    "aio.server": 4,
    "aio.serving": 4,
    "aio.store_channel": 12,
    "aio.threads": 2,
    "blocking.association": 3,
    "blocking.commitment": 1,
    "blocking.pool": 1,
    "blocking.receiver": 5,
    "blocking.requests": 12,
    "blocking.retrieving": 3,
    "blocking.sending": 4,
    "blocking.serving": 8,
    "blocking.store_channel": 12,
    "blocking.twin": 2,
    "node.loop": 5,
    "node.scripts": 6,
    "node.threads": 9,
    "services.written_text": 3,  # pydicom's
    "toolkit.listening_socket": 4,
    "toolkit.port_listener": 1,
    "toolkit.receiving": 45,
    "toolkit.storage_listener": 2,
}
"""Uses of a private name of another module."""

FILES = {"blocking.accepting": 521, "blocking.association": 651, "node.scripts": 521, "part10.walk": 526, "uids": 899}
"""Files of more than 500 lines; `uids` is generated from the standard's tables."""

FUNCTIONS = {
    "cli.find": {"find": 67},
    "cli.listen": {"listen": 63},
    "cli.serve": {"serve": 92},
    "cli.store": {"store": 61},
}
"""Functions of more than 60 lines: those of commands name each option once."""

CLASSES = {
    "dimse.association": {"DimseAssociation": 28},
    "toolkit.associate": {"Associate": 41},  # a contract's names
    "upper_layer.connection": {"Connection": 27},
}
"""Classes of more than 25 public methods."""

TWICE = 602
"""Lines of aio that stand in blocking as well, `await` apart."""

MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


# -- circles


def imports(name: str, tree: ast.AST, known: set[str]) -> set[str]:
    """The modules of `known` that one module imports, inside functions and for annotations too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            root, _, rest = target.partition(".")
            if root != "dulcet":
                continue
            while rest and rest not in known:
                rest = rest.rpartition(".")[0]
            if rest and rest != name:
                found.add(rest)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that reach each other (strongly connected components of two or more), by Tarjan."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            at = stack.index(name)
            members = sorted(stack[at:])
            del stack[at:]
            if len(members) > 1:
                found.append(members)

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return sorted(found)


# -- private names


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def _own_names(tree: ast.AST) -> set[str]:
    """Private names that a module defines: functions, classes, fields, variables, attributes of self."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                own.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # __slots__
    return own


def reaches(tree: ast.AST) -> list[str]:
    """Where a module uses a private name of another one: `line: text`."""
    own = _own_names(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dulcet":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            names = [name for name in names if name != "_version"]
            found += [f"{node.lineno}: import {name}" for name in names if _is_private(name)]
        elif isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own:
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                continue
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


# -- sizes


def long_functions(tree: ast.AST) -> dict[str, int]:
    """Functions of more than 60 lines from `def` to the end, the docstring apart."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= (first.end_lineno or 0) - first.lineno + 1
            if lines > 60:
                found[node.name] = lines
    return found


def large_classes(tree: ast.AST) -> dict[str, int]:
    """Classes of more than 25 public methods and properties."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
            public = [name for name in methods if not name.startswith("_")]
            if len(public) > 25:
                found[node.name] = len(public)
    return found


# -- two faces, written once

RUN = 3
"""Lines in a row that must be the same for them to count."""


def plain_lines(source: str) -> list[str]:
    """The lines of code without what makes them asyncio's; no imports, comments, docstrings or lone punctuation."""
    skipped = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            skipped.update(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = []
    for number, line in enumerate(source.splitlines(), 1):
        line = re.sub(r"\b(await|async) |\s+#.*$|^#.*$", "", line).strip()
        line = re.sub(r"__a(enter|exit|iter|next)__", r"__\1__", re.sub(r"\bAsync(?=[A-Z])", "", line))
        if number not in skipped and any(character.isalnum() for character in line):
            lines.append(line)
    return lines


def equal_lines(lines: list[str], others: list[list[str]]) -> int:
    """How many of the lines stand in a run that stands in one of the others as well."""
    runs = {tuple(other[at : at + RUN]) for other in others for at in range(len(other) - RUN + 1)}
    equal: set[int] = set()
    for at in range(len(lines) - RUN + 1):
        if tuple(lines[at : at + RUN]) in runs:
            equal.update(range(at, at + RUN))
    return len(equal)


def hand_written(package: str) -> dict[str, list[str]]:
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted((PACKAGE / package).glob("*.py"))}
    return {name: plain_lines(source) for name, source in sources.items() if not GENERATED.match(source)}


# -- the tests


def test_modules_in_circles():
    graph = {name: imports(name, tree, set(MODULES)) for name, tree in TREES.items()}
    found: dict[str, int] = {}
    for circle in circles(graph):
        assert len({name.partition(".")[0] for name in circle}) == 1, f"a circle across packages: {circle}"
        package = circle[0].partition(".")[0]
        found[package] = found.get(package, 0) + len(circle)
    assert found == CIRCLES


def test_private_names_of_other_modules():
    found = {name: lines for name, tree in TREES.items() if (lines := reaches(tree))}
    unlisted = {name: lines for name, lines in found.items() if len(lines) != REACHES.get(name)}
    assert not unlisted
    assert found.keys() == REACHES.keys()


def test_sizes_of_files():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 500} == FILES


def test_sizes_of_functions_and_classes():
    assert {name: found for name, tree in TREES.items() if (found := long_functions(tree))} == FUNCTIONS
    assert {name: found for name, tree in TREES.items() if (found := large_classes(tree))} == CLASSES


def test_what_stands_in_both_faces():
    blocking = list(hand_written("blocking").values())
    assert sum(equal_lines(lines, blocking) for lines in hand_written("aio").values()) == TWICE


def test_the_laws_find_what_breaks_them():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]
    assert reaches(ast.parse("from dulcet.io.disk import _spare")) == ["1: import _spare"]
    assert reaches(ast.parse("def f(other):\n    return other._core")) == ["2: other._core"]
    assert not reaches(ast.parse("class A:\n    def f(self, other):\n        self._x = other._x"))
    body = "\n".join(f"    x = {number}" for number in range(60))
    assert long_functions(ast.parse(f"def f():\n{body}")) == {"f": 61}
    methods = "\n".join(f"    def m{number}(self): ..." for number in range(26))
    assert large_classes(ast.parse(f"class A:\n{methods}")) == {"A": 26}
    lines = plain_lines("async def f():\n    await g()\n    x = 1\n    return x")
    assert equal_lines(lines, [plain_lines("def f():\n    g()\n    x = 1\n    return x")]) == 4
