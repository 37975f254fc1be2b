"""The table of verbs, and what every verb has in common: errors as one sentence, exit codes, Ctrl-C and SIGTERM."""

from __future__ import annotations

import errno
import functools
import logging
import signal
import traceback
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dulcet._version import __version__
from dulcet.cli.output import (
    FAILED,
    INTERRUPTED,
    NO_ASSOCIATION,
    TERMINATED,
    USAGE,
    complain,
    start_logging,
)
from dulcet.errors import (
    AddressError,
    AssociationError,
    DimseTimeout,
    DulcetError,
    LocalProtocolError,
    PeerUnreachable,
    TLSConfigError,
)

if TYPE_CHECKING:
    app: typer.Typer

__all__ = ["app", "run"]

VERBS: Final = {
    "echo": "echo",
    "store": "store",
    "find": "find",
    "get": "retrieve",
    "move": "retrieve",
    "listen": "listen",
    "serve": "serve",
    "status": "status",
    "index": "index",
    "export": "export",
    "import": "export",
    "negotiate": "negotiate",
    "doctor": "doctor",
    "trace": "trace",
}
"""The module of each, in the order of the help."""


def application(verbs: Iterable[str]) -> typer.Typer:
    """The command line with these verbs; each costs its imports and the making of its options, 5 ms."""
    made = typer.Typer(
        name="dulcet",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help is half as long
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    made.callback()(common)
    for name in verbs:
        module = import_module(f"dulcet.cli.{VERBS[name]}")
        made.command(name)(verb(getattr(module, name if name != "import" else "import_")))
    return made


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()["app"] = application(VERBS)
    return made


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dulcet {__version__}")
        raise typer.Exit


def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Log what happens, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """DICOM networking: verify, send, query, retrieve, receive and archive.  A peer is AET@host:port.

    Exit codes: 0 all good, 1 some operation failed, 2 usage, 3 no association.
    """
    start_logging(logging.DEBUG if debug else logging.WARNING)


def run(arguments: list[str]) -> None:
    """Run; ends in SystemExit with the exit code."""
    if "--debug" in arguments:  # it may stand anywhere
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    named = next((argument for argument in arguments if not argument.startswith("-")), "")
    # One verb where it is known, all of them for the help and for what is misspelt.
    application([named] if named in VERBS else VERBS)(arguments, prog_name="dulcet")


def verb(command: Callable[..., int]) -> Callable[..., None]:
    """The command as typer runs it: its result is the exit code, and what it raises is one sentence."""

    @functools.wraps(command)
    def run_verb(*args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _terminate)  # as Ctrl-C: peers are told
        try:
            code = command(*args, **options)
        except KeyboardInterrupt:
            complain("interrupted")
            code = INTERRUPTED
        except (DulcetError, OSError) as error:
            if error.errno == errno.EPIPE if isinstance(error, OSError) else False:
                raise  # whoever read our output has gone: typer ends quietly
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                traceback.print_exc()
            complain(str(error))
            code = exit_code(error)
        raise typer.Exit(code)

    return run_verb


def exit_code(error: Exception) -> int:
    """What a script is told about an error that ended the command."""
    if isinstance(error, AddressError | LocalProtocolError | TLSConfigError):
        return USAGE
    if isinstance(error, AssociationError | PeerUnreachable | DimseTimeout):
        return NO_ASSOCIATION
    return FAILED


def _terminate(*_: object) -> None:
    raise SystemExit(TERMINATED)

