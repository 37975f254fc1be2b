"""The table of verbs, and what every verb has in common: errors as one sentence, exit codes, Ctrl-C."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from dulcet._version import __version__
from dulcet.cli import echo, listen, store
from dulcet.cli.output import FAILED, INTERRUPTED, NO_ASSOCIATION, USAGE, complain
from dulcet.errors import AddressError, AssociationError, DimseTimeout, DulcetError, PeerUnreachable

__all__ = ["app", "run"]

app: Final = typer.Typer(
    name="dulcet",
    help="DICOM networking: verify, send and receive.  A peer is AET@host:port.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dulcet {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Log what happens, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """DICOM networking: verify, send and receive.  A peer is AET@host:port."""
    context.obj = debug
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )


def run(arguments: list[str]) -> None:
    """Run; ends in SystemExit with the exit code."""
    if "--debug" in arguments:  # it may stand anywhere
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    app(arguments)


def verb(command: Callable[..., int]) -> Callable[..., None]:
    """The command as typer runs it: its result is the exit code, and what it raises is one sentence."""

    @functools.wraps(command)
    def run_verb(*args: Any, **options: Any) -> None:
        try:
            code = command(*args, **options)
        except KeyboardInterrupt:
            complain("interrupted")
            code = INTERRUPTED
        except DulcetError as error:
            if logging.getLogger().isEnabledFor(logging.DEBUG):
                raise
            complain(str(error))
            lost = isinstance(error, AssociationError | PeerUnreachable | DimseTimeout)
            code = USAGE if isinstance(error, AddressError) else NO_ASSOCIATION if lost else FAILED
        raise typer.Exit(code)

    return run_verb


for command in (echo.echo, store.store, listen.listen):
    app.command(command.__name__)(verb(command))
