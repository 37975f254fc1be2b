"""The options of TLS, the same for every verb: a decorator gives them to a command, which gets what they say as `tls`.

Rule: any of them turns TLS on; what is not verified is said aloud.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dulcet.errors import TLSConfigError

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["TLS_PORT", "calls_with_tls", "listens_with_tls"]

TLS_PORT: Final = 2762
"""Where a listener with TLS listens unless it is told."""

Command = Callable[..., int]


def _option(*names: str, metavar: str | None = None, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, show_default=False, rich_help_panel="TLS")


CA: Final = Annotated[
    Path | None, _option("--tls-ca", metavar="FILE", help="Who vouches for the peer: a file or folder.")
]
COMMON: Final[dict[str, tuple[Any, Any]]] = {
    "tls_ca": (CA, None),
    "tls_cert": (Annotated[Path | None, _option("--tls-cert", metavar="FILE", help="Our certificate.")], None),
    "tls_key": (Annotated[Path | None, _option("--tls-key", metavar="FILE", help="Its key, if not there too.")], None),
    "tls_password_file": (
        Annotated[Path | None, _option("--tls-password-file", metavar="FILE", help="Its first line opens the key.")],
        None,
    ),
    "tls_crl": (Annotated[Path | None, _option("--tls-crl", metavar="FILE", help="Revocation lists.")], None),
    "tls_profile": (
        Annotated[str | None, _option("--tls-profile", metavar="b12|b13", help="PS3.15 B.12 (default) or B.13.")],
        None,
    ),
    "tls_insecure": (
        Annotated[bool, _option("--tls-insecure", help="Verify nothing: anybody can be at the other end.")],
        False,
    ),
}
CALLING: Final[dict[str, tuple[Any, Any]]] = {
    "tls": (Annotated[bool, _option("--tls", help=f"Call with TLS; its usual port is {TLS_PORT}.")], False),
    **COMMON,
    "tls_name": (
        Annotated[str | None, _option("--tls-name", metavar="NAME", help="The name in its certificate, if not HOST.")],
        None,
    ),
}
LISTENING: Final[dict[str, tuple[Any, Any]]] = {
    "tls": (Annotated[bool, _option("--tls", help=f"Listen with TLS, on port {TLS_PORT} unless --port says.")], False),
    **COMMON,
    "tls_client": (
        Annotated[
            str | None,
            _option(
                "--tls-client",
                metavar="required|optional|none",
                help="Whether clients prove who they are: required where --tls-ca is given.",
            ),
        ],
        None,
    ),
}


def calls_with_tls(command: Command) -> Command:
    """Give a command that calls peers the options; it takes `tls`, a TLSConfig or None."""
    return _with_options(command, CALLING)


def listens_with_tls(command: Command) -> Command:
    """The same for one that is called."""
    return _with_options(command, LISTENING)


def _with_options(command: Command, options: dict[str, tuple[Any, Any]]) -> Command:
    @functools.wraps(command)
    def run(*arguments: Any, **values: Any) -> int:
        chosen = {name: values.pop(name) for name in options if name in values}
        return command(*arguments, tls=_config(**chosen) if any(chosen.values()) else None, **values)

    del command.__annotations__["tls"]  # it is no option, and its type is not loaded
    signature = inspect.signature(command, eval_str=True)
    kept = [parameter for name, parameter in signature.parameters.items() if name != "tls"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*kept, *added)}
    return run


def _config(
    *,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_password_file: Path | None = None,
    tls_crl: Path | None = None,
    tls_profile: str | None = None,
    tls_insecure: bool = False,
    tls_name: str | None = None,
    tls_client: str | None = None,
) -> TLSConfig:
    from dulcet.io.tls import TLSConfig, password_from

    folder = tls_ca is not None and tls_ca.is_dir()
    options: dict[str, Any] = {} if tls_profile is None else {"profile": tls_profile}
    return TLSConfig(
        **options,
        ca_file=None if folder else tls_ca,
        ca_dir=tls_ca if folder else None,
        certificate=tls_cert,
        key=tls_key,
        password=_Asked() if tls_password_file is None else password_from(tls_password_file),
        crl_file=tls_crl,
        expected_name=tls_name,
        client_certificates=tls_client or ("none" if tls_ca is None else "required"),  # type: ignore[arg-type]
        insecure=tls_insecure,
    )


class _Asked:
    """A password that is asked for once, and only where the key is encrypted."""

    def __init__(self) -> None:
        self._typed: str | None = None

    def __call__(self) -> str:
        if self._typed is None:
            if not sys.stdin.isatty():
                raise TLSConfigError("the key for TLS is encrypted: --tls-password-file FILE says its password")
            self._typed = str(typer.prompt("Password of the key for TLS", hide_input=True, err=True))
        return self._typed
