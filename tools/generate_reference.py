"""Write docs/reference/{errors,limits,commands,api}.md from the code: trees, tables, signatures and docstrings.

`--check` writes nothing and says whether the pages are up to date.  An exception without a cure is an error here.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import enum
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import dulcet
from dulcet import config, errors
from dulcet.archive import configuration
from dulcet.cli.app import EXIT_CODES, commands
from dulcet.cli.app import app as dulcet_command
from dulcet.dimse import status
from dulcet.log_codes import CODES

TARGET: Final = Path(__file__).parents[1] / "docs" / "reference"
MADE: Final = "Made from the code by `tools/generate_reference.py`; do not edit."

CURES: Final[dict[str, tuple[str, str]]] = {
    "DulcetError": ("nothing raises it itself", "catch it to catch everything below"),
    "ProtocolError": ("the root of the next two", "see there"),
    "LocalProtocolError": (
        "the program asked for what is not allowed now: an answer to what was answered, an operation more than was "
        "agreed on, an AE title of 17 characters",
        "change the program; inside a loop over `find`, make a list of the answers before you ask for something else",
    ),
    "RemoteProtocolError": (
        "the peer sent what PS3.7 or PS3.8 forbids",
        "look at it with `dulcet trace`; is it DICOM at all, is that port one for TLS?  Tell its vendor",
    ),
    "AddressError": ("a peer was not written `AET@host:port`", "write it so; IPv6 hosts stand in brackets"),
    "PeerUnreachable": (
        "the name is unknown, nothing listens there, or a firewall drops the packets",
        "check host and port; `dulcet doctor` says which step fails",
    ),
    "AssociationError": ("the root of what ends an association", "see below"),
    "AssociationRefused": ("the peer said no; the three numbers say why", "see the table of reasons below"),
    "AssociationAborted": (
        "one side gave up in the middle",
        "the peer's log says why where the source is 0 or 2 and `by_us` is false; send again what was not answered",
    ),
    "AssociationClosed": (
        "the connection broke, or the association was used after its end",
        "make a new one; where it happens after silence, a firewall forgets idle connections",
    ),
    "TLSError": (
        "the handshake failed, or one side speaks TLS and the other does not",
        "[the table of TLS troubles](../howto/tls.md#when-it-does-not-work)",
    ),
    "PeerNotTrusted": (
        "the peer's certificate is expired, for another name, or of an unknown CA",
        "name its CA (`ca_file`, `--tls-ca`), or call it by a name that is in the certificate",
    ),
    "CertificateRefused": (
        "the peer wants a certificate, or does not trust ours",
        "give one (`certificate`, `--tls-cert`) that its administrator trusts",
    ),
    "TLSConfigError": ("a file of ours cannot be used", "the message names file and fault; `.path` too"),
    "NoPresentationContext": (
        "the peer accepted no context for this class and transfer syntax",
        "`dulcet negotiate` shows what it accepts; propose it, or let `store_many` take the contexts from the files",
    ),
    "DimseTimeout": (
        "no answer within `Timers.response` (or `associate`, `release`)",
        "raise the timer for slow peers; make a new association, for this one is gone",
    ),
    "StatusError": ("`.check()` on a bad status", "`.status` is the code; see the table of statuses below"),
    "ReceiveError": (
        "a data set that came could not be kept or decoded",
        "`.status` is what the sender is told: A700H is the disk, A900H a contradiction, C000H the data",
    ),
    "InstanceError": ("a file cannot be read, is truncated, or changed meanwhile", "`.path` says which"),
    "NotDicom": ("the file is no DICOM instance; a DICOMDIR is none either", "leave it out"),
    "CannotConvert": (
        "the peer does not take the file's transfer syntax, and there is no lossless way to one that it takes",
        "decompress it first (pydicom), or have the peer accept the syntax",
    ),
    "IdentityUnconfirmed": (
        "`confirm=True` asked for a positive response, and none came",
        "the peer may not check identities: ask its administrator, or do without `confirm`",
    ),
    "Refused": ("raised by handlers, to answer with this status", "it is yours to raise; the peer gets its status"),
    "FolderInUse": ("another process serves this data folder", "stop that one, or use another folder"),
    "ConfigurationError": ("the TOML file has a wrong line", "the message names the line and what is allowed"),
    "HookFailed": (
        "the program of `[events]` is not there, did not end in time, or ended with a failure",
        "the message has its exit code and what it said last; mend it, and try it by hand",
    ),
    "IndexTrouble": (
        "the index cannot be written or read now: disk full, locked",
        "free the disk; senders are told A700H and send again",
    ),
    "IndexDamaged": ("the index file does not read as one", "`dulcet index rebuild` makes it from the objects"),
}
INTERNAL: Final = frozenset("FileFailed ScanError DamagedDeflate ScanTruncated InvalidAssociate".split())
"""Caught inside the package, or another name for one that is listed."""

TOGETHER: Final = (
    ("dulcet", "The blocking face, values and errors"),
    ("dulcet.aio", "The asyncio face"),
    ("dulcet.node.requests", "What handlers are given"),
    ("dulcet.blocking.receiver", "A function for all requests"),
    ("dulcet.services.models", "Information models"),
    ("dulcet.services.proposals", "What to propose"),
    ("dulcet.services.identifiers", "Data sets that travel with messages"),
    ("dulcet.services.sop_classes", "SOP classes"),
    ("dulcet.services.worklist", "Worklist, as user"),
    ("dulcet.node.worklist", "Worklist, as provider"),
    ("dulcet.blocking.mpps", "Performed procedure step, as user"),
    ("dulcet.node.mpps", "Performed procedure step, as provider"),
    ("dulcet.blocking.commitment", "Storage commitment, as user"),
    ("dulcet.node.commitment", "Storage commitment, as provider"),
    ("dulcet.blocking.ups", "Unified procedure step, as user"),
    ("dulcet.node.ups", "Unified procedure step, as provider"),
    ("dulcet.blocking.availability", "Instance availability, as user"),
    ("dulcet.node.availability", "Instance availability, as provider"),
    ("dulcet.blocking.printing", "Print, as user"),
    ("dulcet.archive.application", "The archive"),
    ("dulcet.toolkit", "The event-driven face, for those who come from SDKs"),
    ("dulcet.testing", "For tests of your own"),
)


# ---------------------------------------------------------------------- reading the code


def cell(text: object) -> str:
    """Text for a cell of a table: one line, with what would end the cell escaped."""
    return re.sub(r"\s+", " ", str(text)).strip().replace("|", "\\|")


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """A Markdown table."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return [*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows), ""]


def body_of(thing: Any) -> list[ast.stmt]:
    """The statements of a module or class."""
    module = thing if isinstance(thing, ModuleType) else inspect.getmodule(thing)
    assert module is not None
    tree = ast.parse(inspect.getsource(module))
    if thing is module:
        return tree.body
    return next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == thing.__name__)


def described(thing: Any) -> dict[str, str]:
    """Name -> the docstring below its assignment, in a module, a class, or the `__init__` of one."""
    found: dict[str, str] = {}
    body = body_of(thing)
    inits = [node.body for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    for statements in (body, *inits):
        for node, following in zip(statements, [*statements[1:], None], strict=True):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            target = targets[0]
            name = getattr(target, "id", None) or getattr(target, "attr", None)
            if name and isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                found[name] = str(following.value.value)
    return found


def signature(function: Any) -> str:
    """Parameters and result as the source has them; those of `__init__` where a class has a `__new__` besides."""
    if inspect.isclass(function) and {"__new__", "__init__"} <= vars(function).keys():
        function = vars(function)["__init__"]
    parts: list[str] = []
    marked = False
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters[parameters[:1] == [p for p in parameters[:1] if p.name in ("self", "cls")] :]:
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        marked = marked or parameter.kind is parameter.VAR_POSITIONAL
        stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
        kind = "" if parameter.annotation is parameter.empty else f": {annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {default_of(parameter.default)}"
        parts.append(f"{stars}{parameter.name}{kind}{default}")
    result = inspect.signature(function).return_annotation
    arrow = "" if result in (inspect.Signature.empty, None, "None") else f" -> {annotation(result)}"
    inside = ", ".join(parts)
    return f"({inside}){arrow}" if len(inside) < 90 else "(\n    " + ",\n    ".join(parts) + f",\n){arrow}"


def annotation(found: Any) -> str:
    return found if isinstance(found, str) else inspect.formatannotation(found)


def default_of(value: Any) -> str:
    if callable(value):
        return f"{getattr(value, '__name__', type(value).__name__)}"
    text = f"frozenset({sorted(value)})" if isinstance(value, frozenset) else repr(value)
    return text if len(text) < 60 and "0x" not in text else "…"


def doc(thing: Any) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "")


# ---------------------------------------------------------------------- errors


def every_error() -> dict[str, type[errors.DulcetError]]:
    """All classes below DulcetError in the package."""
    for module in pkgutil.walk_packages(dulcet.__path__, "dulcet."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[errors.DulcetError]] = {}

    def walk(kind: type[errors.DulcetError]) -> None:
        if kind.__module__.startswith("dulcet.") and kind.__name__ not in INTERNAL:
            found[kind.__name__] = kind
        for child in kind.__subclasses__():
            walk(child)

    walk(errors.DulcetError)
    return found


def errors_page() -> Iterator[str]:
    yield from ("# Errors", "", MADE, "")
    yield from ("What the commands say: [errors you may see](../howto/errors-you-may-see.md).", "")
    lines = doc(errors).splitlines()
    begin = next(number for number, line in enumerate(lines) if "DulcetError" in line)
    yield from ("```text", *inspect.cleandoc("\n".join(lines[begin:])).splitlines(), "```", "")
    kinds = every_error()
    missing = kinds.keys() ^ CURES.keys()
    if missing:
        raise SystemExit(f"CURES lacks, or has too much: {sorted(missing)}")
    yield from ("## Cause and cure", "")
    for name in CURES:
        kind = kinds[name]
        bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
        home = name if name in dulcet.__all__ else f"{kind.__module__}.{name}"
        yield from (f"### {name}", "", f"`{home}`, a kind of {bases}.")
        cause, cure = CURES[name]
        yield from ("", doc(kind), "", f"- **Cause**: {cause}.", f"- **Cure**: {cure}.", "")
    yield from ("## Log codes", "")
    yield from (
        "Every line that dulcet logs above DEBUG ends in its code on a terminal; a record carries it as `record.code`, "
        "see [logging](../howto/logging.md).",
        "",
    )
    yield from table(
        ("code", "level", "cause", "cure"),
        ((code, *row) for code, row in CODES.items()),
    )
    yield from ("## Why an association was refused", "", "PS3.8 Table 9-21; result 1 is permanent, 2 transient.", "")
    reasons = errors.REJECT_REASONS.items()
    rows = [(source, reason, text, errors.REJECT_CURES[source, reason]) for (source, reason), text in reasons]
    yield from table(("source", "reason", "means", "cure"), rows)
    yield from ("## Why an association was aborted", "", "PS3.8 Table 9-26, of source 2, the upper layer.", "")
    yield from table(("reason", "means"), errors.ABORT_REASONS.items())
    yield from ("## Statuses", "", "`.check()` raises `StatusError` for failures and for cancel.", "")
    for service, codes in {"every service": status._GENERAL, **status._MEANINGS}.items():
        yield from (f"### {service}", "")
        rows2 = []
        for first, last, text in codes:
            code = f"{first:04X}H" if first == last else f"{first:04X}H to {last:04X}H"
            rows2.append((code, status.Status(first).category.value, text))
        yield from table(("status", "category", "means"), rows2)


# ---------------------------------------------------------------------- limits


def limits_page() -> Iterator[str]:
    yield from ("# Limits and timers", "", MADE, "")
    yield from ("Set them with `AssociationConfig(limits=Limits(…), timers=Timers(…))`.", "")
    for kind in (config.AssociationConfig, config.Limits, config.Timers):
        notes = described(kind)
        yield from (f"## {kind.__name__}", "", doc(kind), "")
        rows = []
        for field in dataclasses.fields(kind):
            plain = field.default is not dataclasses.MISSING
            if plain and not field.name.startswith("implementation"):
                default = f"`{default_of(field.default)}`"
            else:
                default = "see below" if not plain else "ours"
            rows.append((f"`{field.name}`", default, notes.get(field.name, "")))
        yield from table(("field", "default", "what, and why"), rows)
    yield from ("## The archive's configuration", "", "`dulcet serve --print-config` writes it as TOML.", "")
    for section in dataclasses.fields(configuration.Configuration):
        if section.name == "peers":
            continue
        value = getattr(configuration.Configuration(), section.name)
        yield from (f"### [{section.name}]", "", doc(type(value)), "")
        yield from table(("key", "default", "what"), settings(value))
    yield from ("### [peers.TITLE]", "", doc(configuration.PeerTable), "")
    yield from table(("key", "default", "what"), settings(configuration.PeerTable()))
    yield from ("## Fixed bounds", "", "Numbers beside what they bound, in the code, with their reasons.", "")
    yield from table(("module", "name", "value", "what, and why"), fixed_bounds())


def settings(value: Any) -> Iterator[tuple[str, str, str]]:
    for field in dataclasses.fields(value):
        default = getattr(value, field.name)
        shown = list(default) if isinstance(default, tuple) else default
        yield f"`{field.name}`", f"`{shown!r}`", field.metadata["comment"]


def fixed_bounds() -> Iterator[tuple[str, str, str, str]]:
    for found in sorted(pkgutil.walk_packages(dulcet.__path__, "dulcet."), key=lambda one: one.name):
        if found.ispkg or found.name.endswith(("__main__", ".uids", "_version")) or ".cli." in found.name:
            continue
        module = importlib.import_module(found.name)
        for name, text in described(module).items():
            value = getattr(module, name, None)
            if name.isupper() and type(value) in (int, float) and not re.search(r"Type ID|Error ID", text):
                yield f"`{found.name.removeprefix('dulcet.')}`", f"`{name}`", f"{value:,}", text


# ---------------------------------------------------------------------- commands


COMPLETION: Final = (
    *("### Shell completion", "", "Commands, options, their values, files and the names of peers:", ""),
    *("| shell | once, in your own account |", "|---|---|"),
    "| bash | `dulcet --show-completion bash >> ~/.bash_completion` |",
    "| zsh | `dulcet --show-completion zsh > ~/.zfunc/_dulcet`; `~/.zshrc` has `fpath+=~/.zfunc` before `compinit` |",
    "| fish | `dulcet --show-completion fish > ~/.config/fish/completions/dulcet.fish` |",
    *("", "In the shell at hand: `eval \"$(dulcet --show-completion bash)\"`.", ""),
    *("### Manual pages", ""),
    *("`man dulcet`, `man dulcet-store`, …; `pip` puts them into `share/man` of the environment.", ""),
)


def commands_page() -> Iterator[str]:
    yield from ("# Commands", "", MADE, "")
    yield from ("A peer is `AET@host:port`.  `dulcet COMMAND --help-all` says the same, `--help` the most of it.", "")
    yield from table(("exit code", "means"), EXIT_CODES)
    yield from ("## dulcet", "", "`dulcet [OPTIONS] COMMAND ...`", "")
    yield from table(("option", "what"), ((f"`{option.names()}`", option.help) for option in dulcet_command.options()))
    yield from COMPLETION
    for name, command in commands().items():
        words = " ".join(argument.record()[0] for argument in command.arguments())
        yield from (f"## dulcet {name}", "", f"`{f'dulcet {name} [OPTIONS] {words}'.rstrip()}`", "")
        for paragraph in command.paragraphs():
            yield from (*paragraph.splitlines(), "")
        yield from ("```sh", *command.examples(), "```", "")
        if command.arguments():
            records = (argument.record() for argument in command.arguments())
            yield from table(("argument", "what"), ((f"`{shown}`", text) for shown, text in records))
        for group, options in command.groups().items():
            rows = [(f"`{one.names()}`", one.help, f"`{one.preset()}`" if one.preset() else "") for one in options]
            yield from table(("option" if group == "Options" else group, "what", "default"), rows)


# ---------------------------------------------------------------------- names


def api_page() -> Iterator[str]:
    yield from ("# Public names", "", MADE, "")
    yield from ("What stands here keeps its meaning; names with an underscore, and modules not listed, may change.", "")
    shown: list[Any] = []
    for home, title in TOGETHER:
        module = importlib.import_module(home)
        names = []
        for name in sorted(set(module.__all__) - {"__version__"}, key=str.lower):
            thing = getattr(module, name)
            if isinstance(thing, ModuleType) or (inspect.isclass(thing) and issubclass(thing, errors.DulcetError)):
                continue  # the errors have a page of their own
            if not any(thing is other for other in shown):
                names.append(name)
                shown.append(thing)
        if names:
            yield from (f"## {title}", "", f"Module `{home}`.", "")
        for name in names:
            yield from entry(home, name, getattr(module, name))


def entry(home: str, name: str, thing: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    if not callable(thing) or not (inspect.isclass(thing) or inspect.isfunction(thing)):
        note = described(importlib.import_module(home)).get(name, "")
        kind = getattr(type(thing), "__name__", "")
        yield from (f"`{home}.{name}`, a {kind}.", "", inspect.cleandoc(note), "")
        return
    shown = "" if inspect.isclass(thing) and not has_init(thing) else signature(thing)
    word = "class " if inspect.isclass(thing) else "async def " if inspect.iscoroutinefunction(thing) else ""
    yield from ("```text", *f"{word}{home}.{name}{shown}".splitlines(), "```", "", doc(thing), "")
    if not inspect.isclass(thing):
        return
    if issubclass(thing, enum.Enum):
        yield from members(thing)
    if "__init__" in vars(thing) and doc(thing.__init__):
        yield from (doc(thing.__init__), "")
    notes = {key: text for kind in ours(thing) for key, text in described(kind).items() if not key.startswith("_")}
    if notes:
        yield from (*(f"- `{key}`: {cell(text)}" for key, text in notes.items()), "")
    seen: set[str] = set()
    for kind in ours(thing):
        for member, value in vars(kind).items():
            if member.startswith("_") or member in seen:
                continue
            seen.add(member)
            function = getattr(value, "__func__", value)
            if isinstance(value, property):
                yield from (f"**`.{member}`**: {cell(doc(value)) or 'see above.'}", "")
            elif inspect.isfunction(function):
                word = "await " if inspect.iscoroutinefunction(function) else ""
                lines = f"{word}.{member}{signature(function)}".splitlines()
                yield from ("```text", *lines, "```", "", doc(function), "")


def members(kind: type[enum.Enum]) -> Iterator[str]:
    """The names of an enumeration and what they stand for: numbers in a line, words in a list."""
    if all(isinstance(one.value, int) for one in kind):
        form = "`{}` {:04X}H" if max(one.value for one in kind) > 0xFF else "`{}` {}"
        yield ", ".join(form.format(one.name, int(one.value)) for one in kind) + "."
    else:
        yield from (f"- `{one.name}`: {one.value}" for one in kind)
    yield ""


def has_init(kind: type) -> bool:
    return any("__init__" in vars(one) for one in kind.__mro__[:-1] if one.__module__.startswith("dulcet"))


def ours(kind: type) -> list[type]:
    return [one for one in kind.__mro__ if one.__module__.startswith("dulcet.")]


PAGES: Final = {
    "errors.md": errors_page,
    "limits.md": limits_page,
    "commands.md": commands_page,
    "api.md": api_page,
}


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or with --check say whether they are up to date: 0 when they are, 1 when not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not up to date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder to write or check")
    options = parser.parse_args(arguments)
    stale = 0
    for name, page in PAGES.items():
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(page())).rstrip() + "\n"
        target: Path = options.target / name
        if not options.check:
            target.write_text(text, encoding="utf-8")
        elif not target.exists() or target.read_text(encoding="utf-8") != text:
            print(f"{target} is not up to date: run python tools/generate_reference.py", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main())
