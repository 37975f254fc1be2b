"""Every exception that dulcet raises; the tree is the documentation.

    DulcetError
    |-- ProtocolError
    |   |-- LocalProtocolError        we were asked for what the standard forbids here; nothing went on the wire
    |   `-- RemoteProtocolError       the peer broke the standard; carries the A-ABORT source and reason that answer it
    |-- AddressError (ValueError)     `AET@host:port` does not read as an address
    |-- PeerUnreachable (OSError)     nobody there: name resolution, refused, no route, no answer in time
    |-- AssociationError
    |   |-- AssociationRefused        A-ASSOCIATE-RJ: .result .source .reason
    |   |-- AssociationAborted        A-ABORT: .source .reason
    |   |-- AssociationClosed         the transport connection went away, or the association is over already
    |   `-- TLSError                  no TLS connection, or it broke: .reason
    |       |-- PeerNotTrusted        we do not accept the peer's certificate
    |       `-- CertificateRefused    the peer does not accept ours, or wants one
    |-- TLSConfigError (ValueError)   a certificate, key or setting cannot be used for TLS: .path says which
    |-- NoPresentationContext         the peer accepted no context that could carry this
    |-- DimseTimeout (TimeoutError)   the peer did not answer in time; the association is not usable any more
    |-- StatusError                   raised by .check() alone: a status is an answer, not an exception
    |-- ReceiveError                  a received data set could not be kept
    `-- InstanceError (ValueError)    a file or data set cannot be used as it is: .path says which
        |-- NotDicom                  it is no DICOM instance at all
        `-- CannotConvert             it is fine, but not in a transfer syntax that the peer accepted
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

__all__ = [
    "AddressError",
    "AssociationAborted",
    "AssociationClosed",
    "AssociationError",
    "AssociationRefused",
    "CannotConvert",
    "CertificateRefused",
    "DimseTimeout",
    "DulcetError",
    "InstanceError",
    "LocalProtocolError",
    "NoPresentationContext",
    "NotDicom",
    "PeerNotTrusted",
    "PeerUnreachable",
    "ProtocolError",
    "ReceiveError",
    "RemoteProtocolError",
    "StatusError",
    "TLSConfigError",
    "TLSError",
    "as_comment",
]


COMMENT_LENGTH: Final = 64
"""Error Comment (0000,0902) is LO, in the default character repertoire: a command set names no other."""
CUT: Final = "..."


def as_comment(text: str) -> str:
    """`text` as a value of Error Comment; empty where nothing of it can be said."""
    plain = text.encode("ascii", "replace").decode().replace("\\", "/")
    words = "".join(character if character.isprintable() else " " for character in plain).split()
    line = " ".join(words)
    if len(line) <= COMMENT_LENGTH:
        return line
    room = COMMENT_LENGTH - len(CUT)
    whole = line[: room + 1].rpartition(" ")[0].rstrip(" ,;:(")
    return (whole if len(whole) > room // 2 else line[:room]) + CUT


class DulcetError(Exception):
    """The root: `except DulcetError` catches everything that dulcet raises on purpose."""


class ProtocolError(DulcetError):
    """PS3.7 or PS3.8 was broken, by us or by the peer."""


class LocalProtocolError(ProtocolError):
    """The application asked for something that is not allowed in this state; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the standard; `message` says how.

    `source` and `reason` are those of our A-ABORT (PS3.8 Table 9-26); by default the upper layer's "invalid PDU
    parameter value".
    """

    def __init__(self, message: str, *, source: int = 2, reason: int = 6) -> None:
        super().__init__(message)
        self.source = source
        self.reason = reason


class AddressError(DulcetError, ValueError):
    """An address does not read `AET@host:port`."""


class PeerUnreachable(DulcetError, OSError):
    """No transport connection could be made; the message lists each address tried and what happened there."""


class AssociationError(DulcetError):
    """The association could not be made, or ended before the work did."""


REJECT_RESULTS: Final = {1: "rejected-permanent", 2: "rejected-transient"}
REJECT_REASONS: Final = {  # PS3.8 Table 9-21: (source, reason) is one key
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}
REJECT_CURES: Final = {
    (1, 1): "ask the peer's administrator to add this node, or check the peer's log",
    (1, 2): "this peer does not speak DICOM's application context; is it a DICOM node?",
    (1, 3): "register our calling AE title at the peer, or call with one it knows",
    (1, 7): "check the AE title before the @; it is case-sensitive",
    (2, 1): "check the peer's log",
    (2, 2): "the peer does not speak protocol version 1",
    (3, 1): "the peer is busy; try again later",
    (3, 2): "the peer serves as many associations as it can; try again later or use fewer at once",
}
ABORT_REASONS: Final = {  # PS3.8 Table 9-26, provider's
    0: "reason not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class AssociationRefused(AssociationError):
    """The peer answered A-ASSOCIATE-RJ (PS3.8 section 9.3.4); `transient` ones are worth another try.

    `result` is 1 (permanent) or 2 (transient), `source` 1 (its application) or 2 and 3 (its upper layer), `reason` a
    number whose meaning depends on the source (Table 9-21).  `peer` is what the message calls the peer.
    """

    def __init__(self, result: int, source: int, reason: int, peer: str = "the peer") -> None:
        what = REJECT_REASONS.get((source, reason), f"source {source}, reason {reason} (reserved)")
        cure = REJECT_CURES.get((source, reason), "check the peer's log")
        kind = REJECT_RESULTS.get(result, f"result {result}")
        super().__init__(f"{peer} refused the association: {what} ({kind}; {result},{source},{reason}); {cure}")
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def transient(self) -> bool:
        """True for result 2, rejected-transient."""
        return self.result == 2


class AssociationAborted(AssociationError):
    """A-ABORT ended the association (PS3.8 section 9.3.8): `source` 0 is the peer's application, 2 its upper layer.

    `reason` counts with source 2 alone (Table 9-26).  `message` is the text of the exception; None makes one from the
    two numbers.  `by_us` tells that the local side sent it.
    """

    def __init__(self, source: int, reason: int, message: str | None = None, *, by_us: bool = False) -> None:
        if message is None:
            who = "the peer's application" if source == 0 else "the peer's upper layer"
            why = "" if source == 0 else f": {ABORT_REASONS.get(reason, f'reason {reason} (reserved)')}"
            cure = "its log says why; what was not yet answered is not done"
            message = f"the association was aborted by {who}{why}; {cure}"
        super().__init__(message)
        self.source = source
        self.reason = reason
        self.by_us = by_us


class AssociationClosed(AssociationError):
    """The transport connection ended without A-RELEASE or A-ABORT, or the association is over already."""


class TLSError(AssociationError):
    """The TLS handshake failed or took too long, or what came later was no TLS.

    `message` says what happened and what to do; `reason` is OpenSSL's word for it, empty where it has none.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class PeerNotTrusted(TLSError):
    """The peer's certificate does not prove who it is, or the peer gave none; `reason` is what OpenSSL found."""


class CertificateRefused(TLSError):
    """The peer refused our certificate, or wants one and got none; under TLS 1.3 that shows after the handshake."""


class TLSConfigError(DulcetError, ValueError):
    """A certificate, key or setting cannot be used for TLS: `message` says why, `path` is the file, if it is one."""

    def __init__(self, message: str, path: object = None) -> None:
        super().__init__(message)
        self.path = path


class NoPresentationContext(DulcetError):
    """No accepted presentation context carries this SOP class and transfer syntax in the role needed."""


class DimseTimeout(DulcetError, TimeoutError):
    """No answer came within the limit; the association was aborted, for what follows could not be trusted."""


class StatusError(DulcetError):
    """A response carried a status that is neither success nor pending (PS3.7 Annex C); raised by `.check()`.

    `message` names the operation and what the status means; `status` is its code, 0 to 65535.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ReceiveError(DulcetError):
    """A received data set could not be kept; `status` is what the peer is told, `message` what the log says.

    `comment` is told too, as Error Comment (0000,0902): without values of patients and paths of this machine; what is
    longer than 64 characters is cut.  `offending` are the tags that stand for the Offending Element (0000,0901) (PS3.7
    Annex C).
    """

    def __init__(
        self, message: str, status: int = 0xC000, *, comment: str = "", offending: Sequence[int] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.comment = comment
        self.offending: tuple[int, ...] = tuple(offending)

    @property
    def elements(self) -> dict[str, Any]:
        """The command elements of the response that say why, by keyword; none where nothing was said."""
        elements: dict[str, Any] = {}
        if self.comment:
            elements["ErrorComment"] = as_comment(self.comment)
        if self.offending:
            elements["OffendingElement"] = self.offending
        return elements


class InstanceError(DulcetError, ValueError):
    """A file or data set cannot be sent or kept as it is: `message` says why.

    `path` is what was given: a path, an open file, a data set, bytes; None where that is not known.
    """

    def __init__(self, message: str, path: object = None) -> None:
        super().__init__(message)
        self.path = path


class NotDicom(InstanceError):
    """Neither file meta nor anything that reads as a DICOM instance; a DICOMDIR is none either."""


class CannotConvert(InstanceError):
    """The instance's transfer syntax was not accepted and no conversion to an accepted one is possible."""
