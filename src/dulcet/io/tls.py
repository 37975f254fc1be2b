"""TLS as PS3.15 wants it: profiles by name, certificates that are checked, contexts that follow their files.

Rules: verified unless somebody said `insecure`, which is logged each time; a file that cannot be used is named, with
what is wrong with it; a context is made anew when one of its files has changed, and where the new ones do not fit
together, the old one goes on; no password and no key reaches a log.
"""

from __future__ import annotations

import functools
import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dulcet.errors import TLSConfigError
from dulcet.io.certificates import CertificateTable, validity
from dulcet.log_codes import coded

__all__ = [
    "PORT",
    "PROFILES",
    "LiveContext",
    "TLSConfig",
    "client_context",
    "is_insecure",
    "password_from",
    "server_context",
]

log: Final = logging.getLogger("dulcet.tls")

PORT: Final = 2762
"""The registered port for DICOM over TLS (PS3.8 section 9.1.1)."""

ECDHE_AES_GCM: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "b12": ECDHE_AES_GCM,
    "b13": (
        *ECDHE_AES_GCM[:2],
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-CCM",
        *ECDHE_AES_GCM[2:],
        "ECDHE-ECDSA-AES128-CCM",
        "ECDHE-ECDSA-AES256-CCM8",
        "ECDHE-ECDSA-AES128-CCM8",
    ),
}
"""The suites of TLS 1.2, best first; those of TLS 1.3 are OpenSSL's own.

PS3.15 B.12 is BCP 195 (RFC 8996, RFC 9325: the four suites of its section 4.2); B.13 has more, of which OpenSSL lacks
Camellia-GCM."""

SECURITY_LEVEL: Final = "@SECLEVEL=2"
"""RSA from 2048 bits, curves from 224 bits, no SHA-1 in signatures (RFC 9325 section 4.5)."""

File = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """How connections are secured, on either side (PS3.15 Annex B); files are PEM.

    TLSConfigError for a profile that is not there, and for a key without a certificate; what is wrong with a file shows
    when a context is made.
    """

    profile: Literal["b12", "b13"] = "b12"
    """PS3.15 B.12 (BCP 195: TLS 1.2 with the four ECDHE AES-GCM suites, TLS 1.3), or the longer list of B.13."""
    ca_file: File | None = None
    """Certificates of those who may vouch for the peer; without `ca_file` and `ca_dir` a client trusts the system's."""
    ca_dir: File | None = None
    """The same as a folder of hashed names (`openssl rehash`)."""
    certificate: File | None = None
    """Our certificate, behind it those up to the CA; a server needs one."""
    key: File | None = None
    """Its private key; None where it stands in the same file."""
    password: str | Callable[[], str | bytes] | None = field(default=None, repr=False)
    """Of the key where it is encrypted, or who is asked for it, again at each reload."""
    crl_file: File | None = None
    """Revocation lists: a peer's certificate is refused when it is on one, and when its issuer has none here."""
    verify_host_name: bool = True
    """Client: the certificate must name the host that was called."""
    expected_name: str | None = None
    """Client: the name or IP address that it must have instead, where the host is called by another one."""
    client_certificates: Literal["required", "optional", "none"] = "required"
    """Server: whether clients must prove who they are, may, or are not asked."""
    table: CertificateTable | None = None
    """Server: which AE titles a client certificate may call itself; None lets any do so."""
    insecure: bool = False
    """Nothing is verified: encrypted, but anybody can be at the other end.  Logged each time."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise TLSConfigError(f"TLS profile {self.profile!r}: {' or '.join(PROFILES)}")
        if self.client_certificates not in ("required", "optional", "none"):
            raise TLSConfigError(f"client_certificates {self.client_certificates!r}: required, optional or none")
        if self.key is not None and self.certificate is None:
            raise TLSConfigError("a key for TLS, but no certificate that it belongs to", self.key)

    def client_context(self) -> ssl.SSLContext:
        """A context for calling; TLSConfigError says which file cannot be used, and why."""
        context = self._context(ssl.PROTOCOL_TLS_CLIENT)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context.check_hostname = self.verify_host_name
            self._trust(context)
        if self.certificate is not None:
            self._load_certificate(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """A context for being called; TLSConfigError says which file cannot be used, and why."""
        if self.certificate is None:
            raise TLSConfigError("a server needs a certificate for TLS (certificate, --tls-cert)")
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0  # OpenSSL does not verify again whom it knows from a ticket
        asks = not self.insecure and self.client_certificates != "none"
        if self.table is not None and not asks:
            raise TLSConfigError("a table says what client certificates may do, but none are asked for")
        if asks:
            if self.ca_file is None and self.ca_dir is None:
                raise TLSConfigError(
                    "clients are to prove who they are, but nobody is trusted to vouch for them: name their CA "
                    "(ca_file, --tls-ca), or ask for no client certificates (client_certificates, --tls-client none)"
                )
            required = self.client_certificates == "required"
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
            self._trust(context)
        self._load_certificate(context)
        return context

    @property
    def files(self) -> tuple[File, ...]:
        """What it is made from."""
        named = (self.ca_file, self.ca_dir, self.certificate, self.key, self.crl_file)
        return tuple(name for name in named if name is not None)

    def _context(self, protocol: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
        context.options |= ssl.OP_NO_COMPRESSION
        context.set_ciphers(":".join(PROFILES[self.profile]) + ":" + SECURITY_LEVEL)
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        if self.ca_file is None and self.ca_dir is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        if self.ca_dir is not None and not os.path.isdir(self.ca_dir):
            raise TLSConfigError(f"{self.ca_dir} is no folder with certificates of CAs", self.ca_dir)
        for name, what in ((self.ca_file, "certificate of a CA"), (self.crl_file, "revocation list")):
            if name is not None:
                _readable(name)
                _load(context, name, what)
        if self.ca_dir is not None:
            context.load_verify_locations(capath=self.ca_dir)
        if self.crl_file is not None:
            if not context.cert_store_stats()["crl"]:
                raise TLSConfigError(f"{self.crl_file}: no revocation list in it, PEM expected", self.crl_file)
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        assert self.certificate is not None
        key = self.key or self.certificate
        _check_times(self.certificate)
        _readable(key)
        asked: list[bool] = []

        def password() -> str | bytes:
            asked.append(True)
            if self.password is None:
                raise TLSConfigError(f"{key} is encrypted: it needs its password", key)
            return self.password() if callable(self.password) else self.password

        try:
            context.load_cert_chain(self.certificate, self.key, password)
        except ssl.SSLError as error:
            culprit: File = key
            if error.reason == "KEY_VALUES_MISMATCH":
                problem = f"the key in {key} does not belong to the certificate in {self.certificate}"
            elif asked:
                problem = f"the password for {key} is wrong"
            elif (error.reason or "").endswith(("TOO_SMALL", "TOO_WEAK")):
                culprit = self.certificate
                problem = f"{culprit} is too weak for TLS today: {_words(error)}"
            else:
                problem = f"{key} has no private key that can be read, PEM expected"
            raise TLSConfigError(problem, culprit) from error


def password_from(name: File) -> Callable[[], str]:
    """Who reads the first line of a file when a key is to be opened; TLSConfigError when that is not possible."""

    def password() -> str:
        try:
            with open(name, encoding="utf-8") as file:
                return file.readline().rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "no text"
            raise TLSConfigError(f"{name} cannot be read: {why}", name) from error

    return password


def _readable(name: File) -> None:
    try:
        with open(name, "rb"):
            pass
    except OSError as error:
        raise TLSConfigError(f"{name} cannot be read: {error.strerror}", name) from error


def _load(context: ssl.SSLContext, name: File, what: str) -> None:
    try:
        context.load_verify_locations(name)
    except ssl.SSLError as error:
        raise TLSConfigError(f"{name}: no {what} in it, PEM expected", name) from error


def _check_times(name: File) -> None:
    """Our own certificate has to be valid now: peers would only say that it is bad."""
    _readable(name)
    with open(name, "rb") as file:
        text = file.read().decode("latin-1")
    begin = text.find(ssl.PEM_HEADER)
    end = text.find(ssl.PEM_FOOTER, begin)
    if begin < 0 or end < 0:
        raise TLSConfigError(f"{name}: no certificate in it, PEM expected", name)
    try:
        first, last = validity(ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)]))
    except (ValueError, IndexError) as error:
        raise TLSConfigError(f"{name}: its certificate cannot be read", name) from error
    now = datetime.now(UTC)
    if last < now:
        raise TLSConfigError(f"the certificate in {name} expired on {last:%Y-%m-%d %H:%M} UTC; renew it", name)
    if first > now:
        raise TLSConfigError(f"the certificate in {name} is valid only from {first:%Y-%m-%d %H:%M} UTC on", name)


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


class LiveContext:
    """The context of a configuration, made anew for the next connection when one of its files has changed."""

    def __init__(self, config: TLSConfig, *, server_side: bool) -> None:
        """Raises TLSConfigError for what cannot be used."""
        self.config = config
        self._make = config.server_context if server_side else config.client_context
        self._lock = threading.Lock()
        self._seen = self._look()
        self._context = self._make()

    def context(self) -> ssl.SSLContext:
        """The context for a connection now; where changed files cannot be used, the old one, and why is logged once."""
        seen = self._look()
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:
                    self._seen = seen
                    try:
                        self._context = self._make()
                    except TLSConfigError as error:
                        log.error(
                            "TLS files have changed, but cannot be used; the old ones go on: %s", error,
                            extra=coded("DUL153"),
                        )  # fmt: skip
                    else:
                        log.info("TLS files have changed and were read again", extra=coded("DUL154"))
        return self._context

    def reload(self) -> None:
        """Read the files again now; raises TLSConfigError, and the old context goes on."""
        with self._lock:
            self._seen = self._look()
            self._context = self._make()

    def _look(self) -> tuple[object, ...]:
        found: list[object] = []
        for name in self.config.files:
            try:
                status = os.stat(name)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(found)


@functools.lru_cache(maxsize=64)
def _live(config: TLSConfig, server_side: bool) -> LiveContext:
    return LiveContext(config, server_side=server_side)


def client_context(tls: TLSConfig | ssl.SSLContext) -> ssl.SSLContext:
    """The context for calling somebody now."""
    return tls if isinstance(tls, ssl.SSLContext) else _live(_checked(tls), False).context()


def server_context(tls: TLSConfig | ssl.SSLContext) -> ssl.SSLContext:
    """The context for somebody who calls now."""
    return tls if isinstance(tls, ssl.SSLContext) else _live(_checked(tls), True).context()


def is_insecure(tls: TLSConfig | ssl.SSLContext) -> bool:
    """True where a client would talk to anybody."""
    return tls.verify_mode == ssl.CERT_NONE if isinstance(tls, ssl.SSLContext) else tls.insecure


def _checked(tls: object) -> TLSConfig:
    if not isinstance(tls, TLSConfig):
        raise TypeError(f"tls is a TLSConfig or an ssl.SSLContext, not {type(tls).__name__}")
    return tls
