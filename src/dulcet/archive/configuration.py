"""The configuration of `dulcet serve`: dataclasses, read from TOML, each value with its reason.

Rule: an error names the line and what is allowed; what is not known is an error, for a slip of the pen must not switch
off a limit silently.
"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from dulcet.archive.application import OPERATIONS, Archive, ArchiveWorker, Peer
from dulcet.archive.events import Hook
from dulcet.archive.index import INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE, Watch
from dulcet.config import AssociationConfig, Timers
from dulcet.errors import AddressError, DulcetError, LocalProtocolError
from dulcet.io.certificates import CertificateTable
from dulcet.io.tls import TLSConfig, password_from
from dulcet.io.toml_lines import lines_of, place
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.negotiation import check_ae_title

__all__ = ["Configuration", "ConfigurationError", "load", "open_archive", "parse", "render", "tls_config"]

SECTIONS: Final = "[server], [tls], [storage], [query], [limits], [events], [peers.TITLE]"
KINDS: Final = (INSTANCE_STORED, SERIES_STABLE, STUDY_STABLE)


class ConfigurationError(DulcetError, ValueError):
    """The configuration does not do; the message names file, line and what is allowed."""


def _value(default: Any, comment: str, *, choices: tuple[str, ...] = (), low: float | None = None) -> Any:
    """A setting: its default, what it is for, and what is allowed."""
    return field(default=default, metadata={"comment": comment, "choices": choices, "low": low})


@dataclass(slots=True)
class Server:
    """Who we are and where we listen."""

    ae_title: str = _value("ARCHIVE", "our AE title; calls to others are refused")
    bind: str = _value("127.0.0.1", "the address to listen on; 0.0.0.0 or * opens it to the network")
    port: int = _value(11112, "the TCP port; 0 takes a free one", low=0)
    data: str = _value("dulcet-data", "the folder that holds everything")
    allow_any: bool = _value(False, "true admits AE titles that no [peers.…] table lists, for everything")
    drain: float = _value(10.0, "seconds that associations have to end by themselves after SIGTERM", low=0)
    workers: int = _value(1, "processes that share port and work; as many as there are cores is plenty", low=1)


@dataclass(slots=True)
class Security:
    """TLS; on where a certificate is named.  Its usual port is 2762."""

    certificate: str = _value("", "our certificate, a file in PEM, behind it those up to the CA")
    key: str = _value("", "its private key; empty where it is in the same file")
    password_file: str = _value("", "a file whose first line opens the key; empty where it is not encrypted")
    ca: str = _value("", "who vouches for peers: a file in PEM, or a folder of hashed names")
    crl: str = _value("", "revocation lists, a file in PEM; empty for none")
    profile: str = _value("b12", "PS3.15 B.12 (BCP 195) or B.13", choices=("b12", "b13"))
    clients: str = _value(
        "required", "whether those who call prove who they are", choices=("required", "optional", "none")
    )


@dataclass(slots=True)
class Storage:
    """How objects are kept."""

    durability: str = _value(
        "fsync", "fsync: what is acknowledged is on disk; none: for tests only", choices=("fsync", "none")
    )
    strict: bool = _value(False, "true refuses instances with UIDs that PS3.5 section 9.1 does not allow")
    private: bool = _value(False, "true takes the storage classes that no table knows, private ones and newer ones")


@dataclass(slots=True)
class Queries:
    """How queries and retrieves are read."""

    strict: bool = _value(
        False, "true refuses (A900H) those without the unique key of each level above, unless negotiated as relational"
    )


@dataclass(slots=True)
class Limits:
    """What others may use."""

    associations: int = _value(500, "associations at once", low=1)
    associations_per_address: int = _value(100, "associations at once from one address", low=1)
    associations_per_title: int = _value(0, "associations at once of one calling AE title; 0 for any number", low=0)
    idle: float = _value(300.0, "seconds of silence before an association is aborted", low=1)
    maximum_length: int = _value(131072, "the longest P-DATA-TF that we take, bytes; 0 for any", low=0)
    move_associations: int = _value(4, "associations in parallel to the destination of a C-MOVE", low=1)


@dataclass(slots=True)
class Events:
    """Who is told what happens."""

    hook: tuple[str, ...] = _value((), "a program and its arguments, run for each event, JSON on its standard input")
    kinds: tuple[str, ...] = _value(KINDS, "the events that it is run for", choices=KINDS)
    seconds: float = _value(60.0, "how long it may take for one event", low=1)
    series_quiet: float = _value(30.0, "seconds without a new instance after which a series is stable", low=0)
    study_quiet: float = _value(60.0, "seconds without a new instance after which a study is stable", low=0)


@dataclass(slots=True)
class PeerTable:
    """Somebody who may call, by AE title."""

    address: str = _value("", "host:port, where C-MOVE and commitment results go; empty for one that only calls")
    operations: tuple[str, ...] = _value(OPERATIONS, "what it may do besides C-ECHO", choices=OPERATIONS)
    tls: bool = _value(False, "true calls it with TLS, by the files of [tls]")
    certificates: tuple[str, ...] = _value(
        (), "under [tls], who may call by this title: DNS:name, URI:…, IP:… or sha256: of the key; empty for anybody"
    )


@dataclass(slots=True)
class Configuration:
    """Everything that `dulcet serve` can be told."""

    server: Server = field(default_factory=Server)
    tls: Security = field(default_factory=Security)
    storage: Storage = field(default_factory=Storage)
    query: Queries = field(default_factory=Queries)
    limits: Limits = field(default_factory=Limits)
    events: Events = field(default_factory=Events)
    peers: dict[str, PeerTable] = field(default_factory=dict)

    def association_config(self) -> AssociationConfig:
        """What each association is run with."""
        return AssociationConfig(maximum_length=self.limits.maximum_length, timers=Timers(idle=self.limits.idle))


def load(path: Path) -> Configuration:
    """Read a file; ConfigurationError, OSError when it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not text in UTF-8, at byte {error.start}") from None
    return parse(text, str(path))


def parse(text: str, name: str = "the configuration") -> Configuration:
    """Read TOML."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    lines = lines_of(text)
    found = Configuration()
    for key, table in tables.items():
        if key not in ("server", "tls", "storage", "query", "limits", "events", "peers"):
            raise _wrong(name, lines, (key,), f"[{key}] is unknown; there are {SECTIONS}")
        if not isinstance(table, Mapping):
            raise _wrong(name, lines, (key,), f"{key} is a table: [{key}]")
        if key == "peers":
            for title, peer in table.items():
                if not isinstance(peer, Mapping):
                    raise _wrong(name, lines, ("peers", title), f"a peer is a table: [peers.{title}]")
                _check_title(title, name, lines, ("peers", title))
                found.peers[title] = _fill(PeerTable(), peer, ("peers", title), name, lines)
                _address(title, found.peers[title], name, lines)
                _certificates(title, found.peers[title], name, lines)
        else:
            _fill(getattr(found, key), table, (key,), name, lines)
    _check_title(found.server.ae_title, name, lines, ("server", "ae_title"))
    return found


def _fill(target: Any, table: Mapping[str, Any], path: tuple[str, ...], name: str, lines: Any) -> Any:
    known = {found.name: found for found in fields(target)}
    for key, value in table.items():
        where = (*path, key)
        if key not in known:
            raise _wrong(name, lines, where, f"{key} is unknown in [{'.'.join(path)}]; there are {', '.join(known)}")
        setattr(target, key, _checked(known[key], value, type(target), name, lines, where))
    return target


def _checked(found: Field[Any], value: Any, owner: type, name: str, lines: Any, where: tuple[str, ...]) -> Any:
    """The value, if its type and range are right."""
    wanted = typing.get_type_hints(owner)[found.name]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    base = tuple if isinstance(wanted, types.GenericAlias) else wanted
    if not isinstance(value, base) or (base is not bool and isinstance(value, bool)):
        words = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
        raise _wrong(name, lines, where, f"{found.name} is {words.get(wanted, 'a list of texts')}")
    choices, low = found.metadata["choices"], found.metadata["low"]
    for item in value if isinstance(value, tuple) else (value,):
        if choices and item not in choices:
            raise _wrong(name, lines, where, f"{found.name}: {item!a} is not allowed; allowed are {', '.join(choices)}")
    number = value if isinstance(value, int | float) else 0
    if low is not None and number < low:
        raise _wrong(name, lines, where, f"{found.name} is at least {low:g}")
    if found.name == "port" and number > 65535:
        raise _wrong(name, lines, where, "port is 0 to 65535")
    if found.name == "maximum_length" and 0 < number < 8:
        raise _wrong(name, lines, where, "maximum_length is 0 (no limit) or at least 8")
    return value


def _check_title(title: str, name: str, lines: Any, where: tuple[str, ...]) -> None:
    try:
        check_ae_title(title)
    except LocalProtocolError as error:
        raise _wrong(name, lines, where, str(error)) from None


def _certificates(title: str, peer: PeerTable, name: str, lines: Any) -> None:
    try:
        CertificateTable(dict.fromkeys(peer.certificates, title))
    except ValueError as error:
        raise _wrong(name, lines, ("peers", title, "certificates"), str(error)) from None


def _address(title: str, peer: PeerTable, name: str, lines: Any, tls: TLSConfig | None = None) -> Address | None:
    if not peer.address:
        return None
    if "@" in peer.address:  # else it would be a part of the AE title that is called
        what = f"address reads host:port; the AE title is the name of the table, {title}"
        raise _wrong(name, lines, ("peers", title, "address"), what)
    try:
        return Address.parse(f"{title}@{peer.address}", tls if peer.tls else None)
    except AddressError as error:
        raise _wrong(name, lines, ("peers", title, "address"), f"address reads host:port; {error}") from None


def _wrong(name: str, lines: Mapping[tuple[str, ...], int], where: tuple[str, ...], what: str) -> ConfigurationError:
    return ConfigurationError(f"{place(name, lines, where)}: {what}")


def tls_config(configuration: Configuration, given: TLSConfig | None = None) -> TLSConfig | None:
    """How connections are secured: by what is `given`, else by [tls]; with the certificates that peers are bound to.

    ConfigurationError for a peer that wants TLS where there is none.
    """
    section, peers = configuration.tls, configuration.peers
    if given is None and section.certificate:
        folder = Path(section.ca).is_dir()
        given = TLSConfig(
            profile=section.profile,  # type: ignore[arg-type]  # one of the choices
            ca_file=None if folder else section.ca or None,
            ca_dir=section.ca if folder else None,
            certificate=section.certificate,
            key=section.key or None,
            password=password_from(section.password_file) if section.password_file else None,
            crl_file=section.crl or None,
            client_certificates=section.clients,  # type: ignore[arg-type]
        )
    wanting = [title for title, peer in peers.items() if peer.tls or peer.certificates]
    if given is None:
        if wanting:
            raise ConfigurationError(f"[peers.{wanting[0]}] speaks of TLS, but [tls] names no certificate of ours")
        return None
    bound: dict[str, list[str]] = {}
    for title, peer in peers.items():
        for key in peer.certificates:
            bound.setdefault(key, []).append(title)
    return replace(given, table=CertificateTable(bound, unlisted=True)) if bound else given


def open_archive(
    configuration: Configuration, tls: TLSConfig | None = None, worker: ArchiveWorker | None = None
) -> Archive:
    """The archive that a configuration describes, its peers called with `tls` where they want it; FolderInUse,
    IndexDamaged, OSError; HookFailed for a hook that cannot be run.
    """
    events = configuration.events
    hooks = [Hook(events.hook, seconds=events.seconds)] if events.hook else []
    for hook in hooks:
        hook.check()
    peers = {
        title: Peer(_address(title, table, "the configuration", {}, tls), frozenset(table.operations))
        for title, table in configuration.peers.items()
    }
    return Archive(
        configuration.server.data,
        durable=configuration.storage.durability == "fsync",
        strict=configuration.storage.strict,
        private=configuration.storage.private,
        peers=peers,
        allow_any=configuration.server.allow_any,
        strict_queries=configuration.query.strict,
        handlers=hooks,
        watch=Watch(frozenset(events.kinds if events.hook else ()), events.series_quiet, events.study_quiet),
        worker=worker,
    )


def render(configuration: Configuration) -> str:
    """The configuration as TOML, a comment above each line."""
    parts = ["# The configuration of `dulcet serve`: what stands here are the values in force."]
    for section in fields(configuration):
        value = getattr(configuration, section.name)
        if is_dataclass(value):
            parts += ["", f"# {_summary(value)}", f"[{section.name}]", *_rendered(value)]
    example = PeerTable("192.0.2.7:104")
    for title, table in (configuration.peers or {"WORKSTATION": example}).items():
        lines = [f"# {_summary(table)}", f"[peers.{_key(title)}]", *_rendered(table)]
        parts += ["", *(lines if configuration.peers else (f"# {line}" for line in lines))]
    return "\n".join(parts) + "\n"


def _summary(value: Any) -> str:
    return str(type(value).__doc__)


def _rendered(value: Any) -> Iterator[str]:
    for found in fields(value):
        allowed = f" ({', '.join(found.metadata['choices'])})" if found.metadata["choices"] else ""
        yield f"# {found.metadata['comment']}{allowed}"
        yield f"{found.name} = {_toml(getattr(value, found.name))}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped) + '"'
    return str(value)


def _key(title: str) -> str:
    return title if re.fullmatch(r"[\w-]+", title, re.ASCII) else _toml(title)
