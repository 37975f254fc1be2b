"""TLS between a face and its socket: bytes of the wire in and out, bytes of DICOM out and in; no socket, no timer.

Rules: what is not TLS is told from its first byte and never reaches OpenSSL; every failure is a sentence that says what
to change; many PDUs become one piece of ciphertext.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dulcet.errors import CertificateRefused, PeerNotTrusted, TLSError
from dulcet.io.certificates import CertificateTable, PeerCertificate
from dulcet.io.tls import TLSConfig, client_context, is_insecure, log, server_context
from dulcet.log_codes import coded

__all__ = ["RECEIVE", "SecureStream", "Session", "dial", "pick_up"]

RECEIVE: Final = 128 * 1024
"""Bytes of ciphertext taken at once: eight records; OpenSSL keeps its buffer for as long as the association lives."""

RECORD: Final = 16 * 1024
"""The longest piece of plaintext in a record (RFC 8446 section 5.1)."""

ALERT: Final = 0x15
HANDSHAKE: Final = 0x16

PROTOCOL_VERSION: Final = b"\x15\x03\x01\x00\x02\x02\x46"
"""A fatal alert (RFC 8446 section 6): the one answer to a peer without TLS from which it can guess what is wanted."""


@dataclass(frozen=True, slots=True)
class Session:
    """What was agreed on."""

    version: str
    """"TLSv1.2" or "TLSv1.3"."""
    cipher: str
    certificate: PeerCertificate | None
    """Who the peer proved to be; None where it gave no certificate, or nobody verified it."""


class SecureStream:
    """One TLS connection, as client or server."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        peer: str,
        host: str | None = None,
        table: CertificateTable | None = None,
        armed: bool = True,
    ) -> None:
        """A client names the `host` that the certificate is for; `armed` when it has a certificate of its own."""
        self.peer = peer
        self.established: bool = False
        """True once the handshake is done."""
        self.failure: TLSError | None = None
        """What broke it after that."""
        self.session: Session | None = None
        self.received: int = 0
        """Bytes of ciphertext that came."""
        self.has_unread: bool = False
        """True while what came may hold more than was taken."""
        self.server_side: bool = host is None
        self._table = table
        self._armed = armed
        self._heard = False
        self._head = b""
        self._eof = self._ended = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._in, self._out, self.server_side, host)
        except (ValueError, UnicodeError) as error:
            raise TLSError(f"{peer}: {host!r} cannot be looked for in a certificate: {error}") from error

    # ------------------------------------------------------------------ the wire's side

    def receive(self, data: memoryview) -> None:
        """Ciphertext came."""
        if len(self._head) < 8:
            self._head += bytes(data[: 8 - len(self._head)])
        self.received += len(data)
        self.has_unread = True
        self._in.write(data)

    def receive_eof(self) -> None:
        """The peer closed, or the connection broke."""
        self._eof = self.has_unread = True
        self._in.write_eof()

    @property
    def has_output(self) -> bool:
        """True while ciphertext waits to be sent."""
        return self._out.pending > 0

    def output(self) -> bytes:
        """Ciphertext to be sent."""
        return self._out.read()

    # ------------------------------------------------------------------ the handshake

    def handshake(self) -> bool:
        """Go on with what came; True when it is done.  TLSError when it failed: `output` may hold an alert."""
        if self._head and self._head[0] not in (HANDSHAKE, ALERT):
            raise self._not_tls()
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self.has_unread = False
            return False
        except OSError as error:
            raise self._explain(error) from error
        self.session = self._agreed()
        self.established = self.has_unread = True
        return True

    def objection(self, calling: str) -> str | None:
        """Server: why the peer's certificate does not allow it to call itself so; None where it does."""
        if self._table is None:
            return None
        assert self.session is not None
        return self._table.objection(self.session.certificate, calling)

    def _agreed(self) -> Session:
        cipher = self._object.cipher()
        der, fields = self._object.getpeercert(True), self._object.getpeercert()
        # Fields are there only where the certificate was verified.
        certificate = PeerCertificate.read(der, fields) if der and fields else None
        if certificate is not None and self._object.session_reused and certificate.expires < _now():
            # TLS 1.2: OpenSSL verified it when the session was new.
            raise PeerNotTrusted(
                f"{self.peer}: its certificate is not accepted, {CURES[10]}", "CERTIFICATE_HAS_EXPIRED"
            )
        return Session(self._object.version() or "?", cipher[0] if cipher else "?", certificate)

    # ------------------------------------------------------------------ DICOM's side

    def decrypt_into(self, buffer: memoryview) -> int | None:
        """Bytes put into `buffer`; 0 at the end of the stream, None when more ciphertext is needed first."""
        count, read = 0, self._object.read
        if self._ended:
            return 0
        try:
            while count < len(buffer):
                got = read(len(buffer) - count, buffer[count:])
                if not got:
                    return self._at_end(count)
                count += int(got)
                self._heard = True
        except ssl.SSLWantReadError:
            self.has_unread = False
            return count or None
        except OSError as error:
            if not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
                self.failure = self._explain(error)
            return self._at_end(count)
        return count

    def encrypt(self, plain: bytes | memoryview) -> bytes:
        """Ciphertext of `plain`, behind whatever else waited to be sent; OSError when the connection is spoilt."""
        view = memoryview(plain)
        position, write = 0, self._object.write
        while position < len(view):
            position += write(view[position : position + RECORD])
        return self._out.read()

    def close_notify(self) -> bytes:
        """Our last record; empty where none is due."""
        if self.established and self.failure is None:
            try:
                self._object.unwrap()
            except OSError:  # the peer's own need not be waited for
                pass
        return self._out.read()

    def verdict(self) -> TLSError | None:
        """What TLS knows about why the connection ended before the association was answered, or broke."""
        if self.failure is not None or not self.established or self._heard or self.server_side:
            return self.failure
        if self.session is None or self.session.version != "TLSv1.3":
            return None
        # RFC 8446: a client is done before the server has looked at its certificate.
        what = "our certificate" if self._armed else "us, for we have no certificate (certificate, --tls-cert)"
        return CertificateRefused(
            f"{self.peer} closed the connection right after the TLS handshake; it probably refused {what}"
        )

    def _at_end(self, count: int) -> int:
        self._ended = self.has_unread = True  # it is yet to be told where something came before it
        return count

    # ------------------------------------------------------------------ failures

    def _not_tls(self) -> TLSError:
        first, port = self._head[0], "a port with TLS" if self.server_side else "us"
        if first in b"GHPOCDT" and self._head.isascii():
            return TLSError(f"{self.peer} speaks HTTP or other text to {port}")
        if not 1 <= first <= 7:
            return TLSError(f"{self.peer} does not speak TLS; it began with {self._head[:4].hex(' ')}")
        if not self.server_side:
            return TLSError(f"{self.peer} speaks DICOM without TLS; call it without, or on its port for TLS")
        self._out.write(PROTOCOL_VERSION)
        return TLSError(f"{self.peer} speaks DICOM without TLS to a port with TLS")

    def _explain(self, error: OSError) -> TLSError:
        """The sentence for what OpenSSL says."""
        reason = getattr(error, "reason", None) or ""
        _, alert, told = reason.partition("_ALERT_")
        if isinstance(error, ssl.SSLCertVerificationError):
            cure = CURES.get(error.verify_code, "see its administrator")
            return PeerNotTrusted(
                f"{self.peer}: its certificate is not accepted, {error.verify_message.rstrip('.')}; {cure}", reason
            )
        if alert and told in REFUSALS:
            ours = "our certificate" if self._armed else "us"
            return CertificateRefused(f"{self.peer} refused {ours}: {REFUSALS[told]}", reason)
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return PeerNotTrusted(f"{self.peer} gave no certificate, and one is required here", reason)
        if alert:
            why = ALERTS.get(told, told.replace("_", " ").lower())
            return TLSError(f"{self.peer} refused the TLS handshake: {why}", reason)
        if self._eof or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            why = "" if self.received else "; does it speak TLS?"
            return TLSError(f"{self.peer} closed the connection in the middle of the TLS handshake{why}", reason)
        if self.established:
            return TLSError(f"{self.peer}: the TLS connection broke: {_words(error)}", reason)
        return TLSError(f"{self.peer}: no TLS handshake: {FAULTS.get(reason, _words(error))}", reason)


def _now() -> datetime:
    return datetime.now(UTC)


def _words(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else str(error)


CURES: Final = {  # by the codes of X509_V_ERR_*
    3: "there is no revocation list of its issuer (crl_file, --tls-crl)",
    9: "its time has not come: is one of the clocks wrong?",
    10: "it has expired, or one of the clocks is wrong",
    11: "the revocation list is from the future: is one of the clocks wrong?",
    12: "get a new revocation list (crl_file, --tls-crl)",
    18: "nobody vouches for it; if you know it, name it as a CA (ca_file, --tls-ca)",
    19: "nobody here knows its CA (ca_file, --tls-ca)",
    20: "nobody here knows its CA (ca_file, --tls-ca)",
    21: "nobody here knows its CA (ca_file, --tls-ca)",
    23: "it must not be used any more",
    26: "it was not made for this side of a connection (extended key usage)",
    62: "call it by a name of its certificate, or say which one is expected (expected_name)",
    64: "call it by a name of its certificate, or say which one is expected (expected_name)",
    66: "its key is too short for today",
    68: "its signature is too weak for today",
}

REFUSALS: Final = {
    "ACCESS_DENIED": "access denied",
    "BAD_CERTIFICATE": "it says that the certificate is bad",
    "CERTIFICATE_EXPIRED": "it says that the certificate has expired",
    "CERTIFICATE_REQUIRED": "it wants a certificate (certificate, --tls-cert)",
    "CERTIFICATE_REVOKED": "it says that the certificate was revoked",
    "CERTIFICATE_UNKNOWN": "it does not accept the certificate",
    "DECRYPT_ERROR": "it could not verify our signature",
    "UNKNOWN_CA": "it does not know the CA of the certificate",
    "UNSUPPORTED_CERTIFICATE": "it cannot use certificates of this kind",
}

ALERTS: Final = {
    "HANDSHAKE_FAILURE": "no cipher suite in common, or it wants a certificate (certificate, --tls-cert)",
    "INSUFFICIENT_SECURITY": "it wants stronger cipher suites",
    "PROTOCOL_VERSION": "no TLS version in common; ours are 1.2 and 1.3",
    "UNRECOGNIZED_NAME": "it does not know the host name that we called",
}

FAULTS: Final = {
    "NO_SHARED_CIPHER": "the peer offers none of the cipher suites of our profile",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS version of ours, 1.2 or 1.3",
    "VERSION_TOO_LOW": "the peer offers no TLS version of ours, 1.2 or 1.3",
    "WRONG_VERSION_NUMBER": "what came is no TLS",
}


# ---------------------------------------------------------------------- both ends


def dial(tls: TLSConfig | ssl.SSLContext, host: str, peer: str) -> SecureStream:
    """A client's stream to `host`; TLSConfigError for files that cannot be used."""
    context = client_context(tls)
    armed, name = True, host
    if isinstance(tls, TLSConfig):
        armed, name = tls.certificate is not None, tls.expected_name or host
    if is_insecure(tls):
        log.warning("%s: TLS without verification: anybody can be at the other end", peer, extra=coded("DUL152"))
    return SecureStream(context, peer=peer, host=name.partition("%")[0], armed=armed)


def pick_up(tls: TLSConfig | ssl.SSLContext, peer: str) -> SecureStream:
    """A server's stream to whoever called."""
    context = server_context(tls)
    table = None
    if isinstance(tls, TLSConfig):
        table = tls.table
        if tls.insecure:
            log.warning("%s: TLS without verification: anybody can be at the other end", peer, extra=coded("DUL152"))
    return SecureStream(context, peer=peer, table=table)
