"""TLS of a `Net`: an ssl.SSLContext or a TLSConfig becomes a secured socket, and a certificate is held against a title.

Rule: what cannot be used is an error that says so, never an exception that leaves a peer waiting.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from dulcet.errors import TLSError

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["check_tls", "objection", "secured"]


def check_tls(tls: TLSConfig | ssl.SSLContext | None, *, server_side: bool) -> None:
    """TLSConfigError for files that cannot be used, before anybody is connected to; TypeError for what is no TLS."""
    if tls is None or isinstance(tls, ssl.SSLContext):
        return  # a context does not tell everything before it is used: `secured` does
    from dulcet.io.tls import client_context, server_context

    server_context(tls) if server_side else client_context(tls)


def secured(tls: TLSConfig | ssl.SSLContext, sock: socket.socket, host: str | None, peer: str) -> ssl.SSLSocket:
    """The socket with its handshake still to do; None for `host` is the server's side.  TLSError, TLSConfigError."""
    from dulcet.io.tls import TLSConfig, client_context, server_context

    context = server_context(tls) if host is None else client_context(tls)
    if isinstance(tls, TLSConfig) and host is not None:
        host = tls.expected_name or host
    side, wrong = ("server", "client") if host is None else ("client", "server")
    if context.protocol is (ssl.PROTOCOL_TLS_CLIENT if host is None else ssl.PROTOCOL_TLS_SERVER):
        raise TLSError(f"{peer}: this ssl.SSLContext is made for a {wrong}; the {side}'s side needs one of its own")
    try:
        return context.wrap_socket(sock, server_side=host is None, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        raise TLSError(f"{peer}: this ssl.SSLContext cannot be used as {side}: {error}") from error


def objection(tls: TLSConfig | ssl.SSLContext | None, sock: socket.socket, calling: str) -> str | None:
    """Why the peer's certificate does not allow it to call itself so; None where it does, or nobody asks."""
    table = None if tls is None or isinstance(tls, ssl.SSLContext) else tls.table
    if table is None or not isinstance(sock, ssl.SSLSocket):
        return None
    from dulcet.io.certificates import PeerCertificate

    der, fields = sock.getpeercert(True), sock.getpeercert()
    # Fields are there only where the certificate was verified.
    return table.objection(PeerCertificate.read(der, fields) if der and fields else None, calling)
