"""The table of verbs, and the line that they stand on: --debug, --version, help, completion, what is misspelt."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from dulcet._version import __version__
from dulcet.cli.command import HELP_ALL, Misuse, Option, Verb, option
from dulcet.cli.output import FAILED, INTERRUPTED, USAGE, complain, show_traceback, start_logging

__all__ = ["EXIT_CODES", "VERBS", "app", "commands", "run"]

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
    "peers": "peers",
}
"""The module of each, in the order of the help."""

SHELLS: Final = ("bash", "zsh", "fish")
COMPLETE: Final = "_DULCET_COMPLETE"
"""Set by a shell that asks how its line goes on."""

EXAMPLES: Final = ("dulcet echo ARCHIVE@127.0.0.1:11112", "dulcet store ARCHIVE@127.0.0.1:11112 study/")
EXIT_CODES: Final = (
    ("0", "all good"), ("1", "some operation failed"), ("2", "asked in a wrong way"), ("3", "no association"),
    ("130", "interrupted"), ("129", "ended by SIGHUP"),
    ("143", "ended by SIGTERM"),
)  # fmt: skip
"""Exit codes of every command."""


class Verbs(click.Group):
    """All commands, each loaded when it is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        return command(cmd_name) if cmd_name in VERBS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """The command that the line names."""
        if args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            hint = f"did you mean {near[0]}?" if near else "see dulcet --help"
            raise Misuse(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One screen: what it is, two examples, every command."""
        formatter.write(f"Usage: {ctx.command_path} [--debug] COMMAND ...\n\n")
        formatter.write("DICOM networking.  More: dulcet COMMAND --help, dulcet --help-all\n\n")
        for example in EXAMPLES:
            formatter.write(f"  {example}\n")
        with formatter.section("Commands"):
            formatter.write_dl([(name, command(name).get_short_help_str()) for name in VERBS])

    def complete_help(self, ctx: click.Context) -> str:
        """The same with the options that every command knows, and exit codes."""
        formatter = ctx.make_formatter()
        self.format_help(ctx, formatter)
        with formatter.section("Options"):
            formatter.write_dl([one.record() for one in self.options()])
        with formatter.section("Exit codes"):
            formatter.write_dl(list(EXIT_CODES))
        return formatter.getvalue()

    def options(self) -> list[Option]:
        """Those that stand before, or for, every command."""
        return [one for one in self.params if isinstance(one, Option)]


def command(name: str) -> Verb:
    """The command of this name, loaded."""
    found: Verb = getattr(import_module(f"dulcet.cli.{VERBS[name]}"), name if name != "import" else "import_")
    return found


def commands() -> dict[str, Verb]:
    """Every command, in the order of the help."""
    return {name: command(name) for name in VERBS}


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"dulcet {__version__}")
        context.exit()


def _completion(context: click.Context, _: click.Parameter, shell: str | None) -> None:
    if shell is not None:
        from click.shell_completion import get_completion_class

        kind = get_completion_class(shell)
        assert kind is not None
        click.echo(kind(app, {}, "dulcet", COMPLETE).source())
        context.exit()


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@option("--debug", is_flag=True, help="Log what happens, and show tracebacks; it may stand anywhere.")
@option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
@option(
    "--show-completion",
    type=click.Choice(SHELLS),
    metavar="|".join(SHELLS),
    is_eager=True,
    expose_value=False,
    callback=_completion,
    help="Print what makes this shell complete commands and options.",
)
def app(debug: bool) -> None:  # fmt: skip
    """DICOM networking."""
    import logging

    start_logging(logging.DEBUG if debug else logging.WARNING)


app.params.append(HELP_ALL)


def run(arguments: list[str]) -> NoReturn:
    """Run; ends in SystemExit with the exit code."""
    if not arguments and COMPLETE not in os.environ:
        with app.make_context("dulcet", [], resilient_parsing=True) as context:
            click.echo(app.get_help(context), err=True)
        sys.exit(USAGE)
    if "--debug" in arguments:  # it may stand anywhere
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    sys.excepthook = show_traceback
    try:
        code: Any = app.main(arguments, prog_name="dulcet", standalone_mode=False)
    except click.ClickException as error:
        if "--debug" in arguments:
            show_traceback(*sys.exc_info())  # there is one
        complain(_sentence(error))
        code = USAGE
    except click.Abort:
        code = INTERRUPTED
    except OSError as error:  # help that nothing takes; those of commands are told where they run
        complain(f"standard output: {error.strerror}")
        code = FAILED
    sys.exit(code)


def _sentence(error: click.ClickException) -> str:
    """What is wrong with the line, and where it stands what it may be."""
    text = " ".join(error.format_message().split()).rstrip(".")
    if text.endswith("?") or isinstance(error, Misuse) or not isinstance(error, click.UsageError) or error.ctx is None:
        return text
    return f"{text}; see {error.ctx.command_path} --help"
