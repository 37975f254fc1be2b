"""A command: its options, a short and a complete help, and errors as one sentence with an exit code.

Rule: a module of a command imports this one at its top and the engine that does the work inside its function, so that
listing all commands loads none of them.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.nicknames import named_like
from dulcet.cli.output import FAILED, INTERRUPTED, NO_ASSOCIATION, SIGNALED, USAGE, complain, show_traceback

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CALLING",
    "HELP_ALL",
    "JSON",
    "PATH",
    "PEER",
    "WORKERS",
    "Argument",
    "Misuse",
    "Option",
    "Verb",
    "argument",
    "carry_out",
    "exit_code",
    "option",
    "verb",
]

EXAMPLES: Final = 2
"""How many the short help shows."""


class _Path(click.Path):
    """click's own, but what goes without paths does not load pathlib."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from pathlib import Path

        return Path(str(super().convert(value, param, ctx)))


PATH: Final = _Path()
"""The type of options that name files and folders; shells complete them."""


class Misuse(click.UsageError):
    """What was asked for makes no sense, said by us in one whole sentence."""


class Option(click.Option):
    """An option; a rare one is shown by --help-all alone, and there under its group."""

    def __init__(self, names: Any = None, *, rare: bool = False, group: str = "Options", **settings: Any) -> None:
        self.rare = rare
        self.group = group
        super().__init__(names, **settings)

    def names(self) -> str:
        """All of them, with what they take."""
        shown = ", ".join(sorted(self.opts, key=len))
        return shown if self.is_flag else f"{shown} {self.metavar or 'TEXT'}"

    def preset(self) -> str:
        """Its value where nothing is said; nothing for what is off or not there."""
        value = self.default
        said = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
        return f"{value:g}" if said and isinstance(value, float) else str(value) if said else ""

    def record(self) -> tuple[str, str]:
        """Names, and what they do with the value that holds without them."""
        preset = self.preset()
        return self.names(), (self.help or "") + (f"  [{preset}]" if preset else "")


class Argument(click.Argument):
    """An argument that says what it is."""

    def __init__(self, names: Any, *, help: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.help: str = help

    def record(self) -> tuple[str, str]:
        """Its name, and what it is."""
        return str(self.metavar), self.help or ""

    def make_metavar(self, *_: Any, **__: Any) -> str:
        return str(self.metavar)

    def get_error_hint(self, *_: Any, **__: Any) -> str:
        return f"'{self.metavar}'"


class Verb(click.Command):
    """A command; its function returns the exit code."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **settings)
        self.params.append(HELP_ALL)

    def invoke(self, ctx: click.Context) -> int:
        """Run it; what it raises is said."""
        return carry_out(lambda: super(Verb, self).invoke(ctx))

    def paragraphs(self) -> list[str]:
        """What it says of itself, without the examples."""
        return self._said()[0]

    def examples(self) -> list[str]:
        """Lines to be typed."""
        return self._said()[1]

    def _said(self) -> tuple[list[str], list[str]]:
        text, _, examples = cleandoc(self.help or "").partition("\b\n")
        return text.strip().split("\n\n"), examples.split("\n") if examples else []

    def get_short_help_str(self, limit: int = 45) -> str:
        """The first sentence, for the list of all commands."""
        return self.paragraphs()[0].replace("\n", " ").split(". ")[0].rstrip(".")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What most people need on one screen."""
        self._write(ctx, formatter, complete=False)

    def complete_help(self, ctx: click.Context) -> str:
        """Everything."""
        formatter = ctx.make_formatter()
        self._write(ctx, formatter, complete=True)
        return formatter.getvalue()

    def _write(self, ctx: click.Context, formatter: click.HelpFormatter, *, complete: bool) -> None:
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            for paragraph in self.paragraphs()[: None if complete else 1]:
                formatter.write_text(paragraph)
                formatter.write_paragraph()
            for example in self.examples()[: None if complete else EXAMPLES]:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
        if not complete:
            self._write_group(formatter, "Options", [one.record() for one in self.options() if not one.rare])
            formatter.write(f"\nMore: {ctx.command_path} --help-all\n")
            return
        self._write_group(formatter, "Arguments", [one.record() for one in self.arguments()])
        for group, options in self.groups().items():
            self._write_group(formatter, group, [one.record() for one in options])

    def _write_group(self, formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)

    def arguments(self) -> list[Argument]:
        """Those without a dash."""
        return [one for one in self.params if isinstance(one, Argument)]

    def options(self) -> list[Option]:
        """Those with one, without those for help."""
        return [one for one in self.params if isinstance(one, Option)]

    def groups(self) -> dict[str, list[Option]]:
        """The options under their headings."""
        found: dict[str, list[Option]] = {}
        for one in self.options():
            found.setdefault(one.group, []).append(one)
        return found


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """An option for a command: `rare` and `group` beside what click takes."""
    return click.option(*names, cls=Option, **settings)


def argument(name: str, *, metavar: str, help: str, **settings: Any) -> Callable[[Any], Any]:
    """An argument for a command."""
    return click.argument(name, cls=Argument, metavar=metavar, help=help, **settings)


def verb(name: str) -> Callable[[Callable[..., int]], Verb]:
    """Make a function a command of this name: it returns the exit code."""
    return click.command(name, cls=Verb)


def _show_all(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        command: Any = context.command
        click.echo(command.complete_help(context), nl=False)
        context.exit()


def _title(context: click.Context, _: click.Parameter, title: str) -> str:
    """Ours, which is wrong before anything else is looked at."""
    if context.resilient_parsing:  # a shell completes the line
        return title
    from dulcet.errors import LocalProtocolError
    from dulcet.upper_layer.negotiation import check_ae_title

    try:
        return check_ae_title(title, "--aet")
    except LocalProtocolError as error:
        raise Misuse(str(error)) from error


HELP_ALL: Final = click.Option(
    ["--help-all"], is_flag=True, is_eager=True, expose_value=False, callback=_show_all, help="Show every option."
)
PEER: Final = argument("peer", metavar="AET@HOST:PORT", help="The peer, or its name.", shell_complete=named_like)
CALLING: Final = option("--aet", metavar="AET", default="DULCET", callback=_title, help="Our AE title.")
JSON: Final = option("--json", is_flag=True, help="One JSON object a line.")
WORKERS: Final = option(
    "--workers", type=click.IntRange(1, 64), metavar="N", rare=True,
    help="Processes that share port and work, 1 unless said; as many as there are cores is plenty.",
)  # fmt: skip


# ---------------------------------------------------------------------- how it ends


def carry_out(command: Callable[[], int]) -> int:
    """Its exit code; what it raises becomes one sentence and a code, with --debug a traceback before it."""
    from dulcet.io.signals import stopping

    for number in stopping():
        if number != signal.SIGINT:
            signal.signal(number, _terminate)  # as Ctrl-C: peers are told
    try:
        return command()
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except click.ClickException:
        raise  # it is told apart by whoever knows the whole line
    except (click.exceptions.Exit, click.Abort, SystemExit):
        raise
    except Exception as error:
        code = exit_code(error)
        if code is None or (isinstance(error, OSError) and error.errno == errno.EPIPE):
            raise  # a fault of ours; or whoever read our output has gone: click ends quietly
        _show_traceback()
        complain(_said(error))
        return code


def _said(error: Exception) -> str:
    """Its sentence; what the system refused without its number, and behind the file that it refused."""
    if not isinstance(error, OSError) or error.strerror is None or error.filename2 is not None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def exit_code(error: Exception) -> int | None:
    """What a script is told about an error that ended the command; None where it should not have happened."""
    from dulcet import errors

    if isinstance(error, errors.AddressError | errors.LocalProtocolError | errors.TLSConfigError):
        return USAGE
    if isinstance(error, errors.AssociationError | errors.PeerUnreachable | errors.DimseTimeout):
        return NO_ASSOCIATION
    return FAILED if isinstance(error, errors.DulcetError | OSError) else None


def _show_traceback() -> None:
    """Where --debug asks for it: what is being handled, on standard error."""
    import logging

    if logging.getLogger().isEnabledFor(logging.DEBUG):
        show_traceback(*sys.exc_info())  # there is one


def _terminate(number: int, _: object) -> None:
    raise SystemExit(SIGNALED + number)
