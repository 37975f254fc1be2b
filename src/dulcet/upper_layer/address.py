"""Where a peer is: `AET@host:port`, as every command and `associate()` take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dulcet.errors import AddressError, LocalProtocolError
from dulcet.upper_layer.negotiation import check_ae_title

__all__ = ["Address"]


@dataclass(frozen=True, slots=True)
class Address:
    """An application entity title and the host and TCP port where it is reached; IPv6 hosts stand in brackets."""

    ae_title: str
    """1 to 16 characters; case counts."""
    host: str
    """A name or an address, without brackets."""
    port: int
    """0 to 65535, else AddressError; 0 is a free one, to listen on."""
    tls: Any = None
    """How the connection is secured: a `TLSConfig` or an `ssl.SSLContext`; None is without TLS."""

    def __post_init__(self) -> None:
        port: object = self.port
        if not isinstance(port, int) or not 0 <= port <= 65535:
            raise AddressError(f"{port!r} is not a TCP port: 1 to 65535 expected, 0 for a free one to listen on")

    @classmethod
    def parse(cls, text: str | Address, tls: Any = None) -> Address:
        """Read `text`, `AET@host:port`, secured by `tls` where it is given; AddressError says which part does not fit.

        An Address is given back, with that `tls`.
        """
        if isinstance(text, Address):
            return text if tls is None else replace(text, tls=tls)
        if not isinstance(text, str):
            raise AddressError(f"an address is text, AET@host:port, or an Address; not a {type(text).__name__}")
        ae_title, at, where = text.rpartition("@")
        if not at:
            raise AddressError(f"{text!r} has no @: an address reads AET@host:port, as in ARCHIVE@127.0.0.1:11112")
        host, colon, port = where.rpartition(":")
        if not colon or host.endswith(":"):
            raise AddressError(f"{text!r} has no port: an address reads AET@host:port, for example {text}:104")
        if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
            raise AddressError(f"{port!r} in {text!r} is not a TCP port: 1 to 65535 expected")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressError(f"{text!r}: an IPv6 host stands in brackets, as in {ae_title}@[{host}]:{port}")
        if not host:
            raise AddressError(f"{text!r} names no host: an address reads AET@host:port")
        try:
            return cls(check_ae_title(ae_title), host, int(port), tls)
        except LocalProtocolError as error:
            raise AddressError(f"{text!r}: {error}") from None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"
