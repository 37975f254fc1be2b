"""The file that gives peers names: where it is, and what it says.

Rules: it is the user's own, never one of the folder that a command runs in, for a folder must not decide where images
go; what is not known in it is an error, for a slip of the pen must not switch off TLS silently.  Its words are those of
the archive's configuration, which is such a file too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dulcet.cli.peer_text import is_name
from dulcet.errors import AddressError, LocalProtocolError

if TYPE_CHECKING:
    from dulcet.upper_layer.address import Address

__all__ = ["VARIABLE", "Peer", "called", "peers_file", "read_peers"]

VARIABLE: Final = "DULCET_PEERS"
"""Names the file; a configuration of `dulcet serve` is one, too."""

SUGGESTED: Final = 12
"""Names that a complaint about an unknown one lists."""

FILES: Final = {
    "ca": "tls_ca",
    "certificate": "tls_cert",
    "key": "tls_key",
    "password_file": "tls_password_file",
    "crl": "tls_crl",
}
"""Keys of TLS that name files, in the words of the archive's configuration, and the option that each stands for."""
TLS: Final = {**FILES, "profile": "tls_profile", "name": "tls_name", "insecure": "tls_insecure"}
PROFILES: Final = ("b12", "b13")
OF_A_PEER: Final = ("address", "calling", "timeout", "tls")

ELSEWHERE: Final = frozenset({"server", "storage", "limits", "events", "query"})
OF_THE_ARCHIVE: Final = frozenset({"operations", "certificates"})
ARCHIVES_TLS: Final = frozenset({"clients"})
"""What a configuration of the archive says besides; passed over."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer as the file has it."""

    name: str
    address: Address | None
    """None for one that only calls, as the archive's configuration may list it."""
    options: Mapping[str, Any]
    """What holds where the command line does not say otherwise, by parameter: `aet`, `timeout`, `tls` and `tls_…`."""


def peers_file() -> Path:
    """What $DULCET_PEERS says, else `dulcet/peers.toml` in $XDG_CONFIG_HOME, which is ~/.config where it is not set."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is to be ignored (XDG Base Directory Specification).
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".config") / "dulcet" / "peers.toml"


def called(name: str) -> Peer:
    """The peer of this name, which has an address; AddressError that says which there are."""
    path = peers_file()
    try:
        peers = read_peers(path)
    except FileNotFoundError:
        if VARIABLE in os.environ and path == Path(os.environ[VARIABLE]):
            raise AddressError(f"there is no peer {name!r}: {path}, which ${VARIABLE} names, does not exist") from None
        raise AddressError(
            f"{name!r} has no @: an address reads AET@host:port, as in ARCHIVE@127.0.0.1:11112; "
            f"names for peers stand in {path}, which does not exist"
        ) from None
    if name not in peers:
        raise AddressError(f"{path} has no peer {name!r}{_others(name, peers)}; an address reads AET@host:port")
    if peers[name].address is None:
        raise AddressError(f'{path}: peer {name!r} has no address; write address = "AET@host:port"')
    return peers[name]


def _others(name: str, peers: Iterable[str]) -> str:
    """Which one may have been meant, and which there are."""
    import difflib

    names = sorted(peers)
    if not names:
        return ", it lists none"
    folded = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    meant = f"; did you mean {folded[near[0]]!r}?  It has " if near else "; it has "
    return f"{meant}{', '.join(names[:SUGGESTED])}{', …' if len(names) > SUGGESTED else ''}"


# ---------------------------------------------------------------------- reading


def read_peers(path: Path) -> dict[str, Peer]:
    """Everybody in a file; AddressError that names line and key, FileNotFoundError."""
    import tomllib

    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise AddressError(f"{path}: not text in UTF-8, at byte {error.start}") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AddressError(f"cannot read {path}, where peers have their names: {error.strerror}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise AddressError(f"{path}: {error}") from None
    return _Reading(path, text).peers(tables)


class _Reading:
    """One file on its way to peers; complains with file and line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def peers(self, tables: Mapping[str, Any]) -> dict[str, Peer]:
        for key in tables:
            if key not in ("peers", "tls", *ELSEWHERE):
                raise self._wrong((key,), f"{key} is unknown; a peer is [peers.{key}], what several share is [tls]")
        shared = self._secured(self._table(tables, "tls"), ("tls",), ARCHIVES_TLS)
        listed = self._table(tables, "peers")
        return {name: self._peer(name, self._table(listed, name, ("peers",)), shared) for name in listed}

    def _peer(self, name: str, table: Mapping[str, Any], shared: Mapping[str, Any]) -> Peer:
        where = ("peers", name)
        if not is_name(name) or name.startswith("-"):
            raise self._wrong(where, f"{name!r} is no name for a peer: it has @ or : in it, or begins with -")
        self._known(table, where, OF_A_PEER, OF_THE_ARCHIVE)
        options: dict[str, Any] = {}
        if "calling" in table:
            options["aet"] = self._title_at(table, (*where, "calling"))
        if "timeout" in table:
            seconds = table["timeout"]
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0.1:
                raise self._wrong((*where, "timeout"), "timeout is a number of seconds, at least 0.1")
            options["timeout"] = float(seconds)
        tls = table.get("tls", False)
        if isinstance(tls, Mapping):
            options |= {"tls": True, **self._secured(tls, (*where, "tls"))}
        elif not isinstance(tls, bool):
            raise self._wrong((*where, "tls"), "tls is true, for what [tls] says, or a table of its own")
        elif tls:
            options |= {"tls": True, **shared}
        return Peer(name, self._address(name, table, where), options)

    def _address(self, name: str, table: Mapping[str, Any], where: tuple[str, ...]) -> Address | None:
        from dulcet.upper_layer.address import Address

        text = self._text_at(table, (*where, "address")) if "address" in table else ""
        if not text:
            return None
        try:
            return Address.parse(text if "@" in text else f"{name}@{text}")
        except AddressError as error:
            what = f'address reads "AET@host:port", or "host:port" where {name} is the AE title'
            raise self._wrong((*where, "address"), f"{what}; {error}") from None

    def _secured(
        self, table: Mapping[str, Any], where: tuple[str, ...], passed_over: Iterable[str] = ()
    ) -> dict[str, Any]:
        """What a table of TLS says, as options; files are found from where the file stands."""
        self._known(table, where, TLS, passed_over)
        options: dict[str, Any] = {}
        for key in TLS.keys() & table.keys():
            if key == "insecure":
                if not isinstance(table[key], bool):
                    raise self._wrong((*where, key), "insecure is true or false")
                options[TLS[key]] = table[key]
            elif text := self._text_at(table, (*where, key)):
                if key == "profile" and text not in PROFILES:
                    raise self._wrong((*where, key), f"profile: {text!r} is not allowed; allowed are b12, b13")
                options[TLS[key]] = self._path.parent / Path(text).expanduser() if key in FILES else text
        return options

    def _table(self, tables: Mapping[str, Any], key: str, inside: tuple[str, ...] = ()) -> Mapping[str, Any]:
        found = tables.get(key, {})
        if not isinstance(found, Mapping):
            whole = ".".join((*inside, key))
            below = "" if inside or key == "tls" else ".NAME"
            raise self._wrong((*inside, key), f"{whole} is a table: [{whole}{below}]")
        return found

    def _known(
        self, table: Mapping[str, Any], where: tuple[str, ...], known: Iterable[str], passed_over: Iterable[str]
    ) -> None:
        for key in table:
            if key not in known and key not in passed_over:
                whole = ".".join(where)
                raise self._wrong((*where, key), f"{key} is unknown in [{whole}]; there are {', '.join(known)}")

    def _text_at(self, table: Mapping[str, Any], where: tuple[str, ...]) -> str:
        value = table[where[-1]]
        if not isinstance(value, str):
            raise self._wrong(where, f"{where[-1]} is text in quotes")
        return value

    def _title_at(self, table: Mapping[str, Any], where: tuple[str, ...]) -> str:
        from dulcet.upper_layer.negotiation import check_ae_title

        try:
            return check_ae_title(self._text_at(table, where))
        except LocalProtocolError as error:
            raise self._wrong(where, str(error)) from None

    def _wrong(self, where: tuple[str, ...], what: str) -> AddressError:
        from dulcet.io.toml_lines import lines_of, place

        return AddressError(f"{place(str(self._path), lines_of(self._text), where)}: {what}")
