"""The options of TLS, the same for every verb: a decorator gives them to a command, which gets what they say as `tls`.

Rule: any of them turns TLS on; what is not verified is said aloud.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from dulcet.cli.command import PATH, option
from dulcet.cli.nicknames import takes_names
from dulcet.errors import TLSConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from dulcet.io.tls import TLSConfig

__all__ = ["TLS_PORT", "calls_with_tls", "listens_with_tls"]

TLS_PORT: Final = 2762
"""Where a listener with TLS listens unless it is told."""

Command = Callable[..., int]
_tls: Final = functools.partial(option, rare=True, group="TLS")

COMMON: Final = (
    _tls("--tls-ca", type=PATH, metavar="FILE", help="Who vouches for the peer: a file or folder."),
    _tls("--tls-cert", type=PATH, metavar="FILE", help="Our certificate."),
    _tls("--tls-key", type=PATH, metavar="FILE", help="Its key, if not there too."),
    _tls("--tls-password-file", type=PATH, metavar="FILE", help="Its first line opens the key."),
    _tls("--tls-crl", type=PATH, metavar="FILE", help="Revocation lists."),
    _tls("--tls-profile", metavar="b12|b13", help="PS3.15 B.12 (default) or B.13."),
    _tls("--tls-insecure", is_flag=True, help="Verify nothing: anybody can be at the other end."),
)
CALLING: Final = (
    option("--tls", is_flag=True, group="TLS", help=f"Call with TLS; its usual port is {TLS_PORT}."),
    *COMMON,
    _tls("--tls-name", metavar="NAME", help="The name in its certificate, if not HOST."),
)
LISTENING: Final = (
    option("--tls", is_flag=True, group="TLS", help=f"Listen with TLS, on port {TLS_PORT} unless --port says."),
    *COMMON,
    _tls(
        "--tls-client", metavar="required|optional|none",
        help="Whether clients prove who they are: required where --tls-ca is given.",
    ),
)  # fmt: skip


def calls_with_tls(command: Command) -> Command:
    """Give a command that calls peers the options; it takes `tls`, a TLSConfig or None.  Its peer may have a name."""
    return takes_names(_with_options(command, CALLING))


def listens_with_tls(command: Command) -> Command:
    """The same for one that is called."""
    return _with_options(command, LISTENING)


def _with_options(command: Command, options: tuple[Callable[[Any], Any], ...]) -> Command:
    @functools.wraps(command)
    def run(**values: Any) -> int:
        chosen = {name: values.pop(name) for name in list(values) if name.partition("_")[0] == "tls"}
        tls = _config(**chosen) if any(chosen.values()) else None
        if tls is not None and options is CALLING:  # a listener looks at its files before all else anyway
            from dulcet.io.tls import client_context

            client_context(tls)
        return command(tls=tls, **values)

    for add in reversed(options):
        add(run)
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
            self._typed = str(click.prompt("Password of the key for TLS", hide_input=True, err=True))
        return self._typed
