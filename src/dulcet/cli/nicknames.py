"""Peers by name: `dulcet echo pacs`.

Rules: what stands on the command line wins; the file of names is read, and what reads it loaded, only where an argument
is no address.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from dulcet.cli.peer_text import is_name

__all__ = ["named_like", "takes_names", "title_of"]


def takes_names(command: Callable[..., int]) -> Callable[..., int]:
    """Let a command's `peer` be a name; what the file says of it holds for options that were not given."""

    @functools.wraps(command)
    def run(**values: Any) -> int:
        if is_name(values["peer"]):
            from dulcet.cli.peers_file import called

            peer = called(values["peer"])
            context = click.get_current_context()
            given = {
                name for name in values
                if (source := context.get_parameter_source(name)) is not None and source.name != "DEFAULT"
            }  # fmt: skip
            if "tls_cert" in given:  # its key is not the one of the other certificate
                given |= {"tls_key", "tls_password_file"}
            values |= {name: value for name, value in peer.options.items() if name in values and name not in given}
            values["peer"] = str(peer.address)
        return command(**values)

    return run


def title_of(text: str) -> str:
    """The AE title of the peer of this name; the text itself where there is none."""
    from dulcet.cli.peers_file import peers_file, read_peers

    try:
        peer = read_peers(peers_file()).get(text)
    except FileNotFoundError:
        return text
    return text if peer is None or peer.address is None else peer.address.ae_title


def named_like(context: click.Context, parameter: click.Parameter, start: str) -> list[str]:
    """For completion; nothing where the file cannot be read."""
    from dulcet.cli.peers_file import peers_file, read_peers
    from dulcet.errors import AddressError

    try:
        return [name for name, peer in read_peers(peers_file()).items() if peer.address and name.startswith(start)]
    except (AddressError, OSError):
        return []
