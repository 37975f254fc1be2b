"""Names for the numbers that callbacks are given and `send_…` takes: integers all, so either can be written."""

from __future__ import annotations

from enum import IntEnum

from dulcet.dimse.command import HIGH, LOW, MEDIUM

__all__ = [
    "ACSERejectReason",
    "AbortReason",
    "AbortSource",
    "PDUType",
    "PresentationRejectReason",
    "PresentationResult",
    "Priority",
    "RejectReason",
    "RejectResult",
    "RejectSource",
]


class PresentationResult(IntEnum):
    """What became of a presentation context (PS3.8 Table 9-18): `Associate.result`."""

    ACCEPTED = 0
    USER_REJECTION = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class RejectResult(IntEnum):
    """Whether it helps to ask again (PS3.8 Table 9-21)."""

    PERMANENT = 1
    TRANSIENT = 2


class RejectSource(IntEnum):
    """Who rejected an association (PS3.8 Table 9-21): it says which of the three tables of reasons counts."""

    USER = 1
    PROVIDER_ACSE = 2
    PROVIDER_PRESENTATION = 3


class RejectReason(IntEnum):
    """Why the service user rejected, source 1 (PS3.8 Table 9-21)."""

    NO_REASON = 1
    APPLICATION_CONTEXT_NOT_SUPPORTED = 2
    CALLING_AE_TITLE_NOT_RECOGNIZED = 3
    CALLED_AE_TITLE_NOT_RECOGNIZED = 7


class ACSERejectReason(IntEnum):
    """Why the provider rejected, source 2 (PS3.8 Table 9-21)."""

    NO_REASON = 1
    PROTOCOL_VERSION_NOT_SUPPORTED = 2


class PresentationRejectReason(IntEnum):
    """Why the provider rejected, source 3 (PS3.8 Table 9-21)."""

    TEMPORARY_CONGESTION = 1
    LOCAL_LIMIT_EXCEEDED = 2


class AbortSource(IntEnum):
    """Who aborted (PS3.8 Table 9-26)."""

    USER = 0
    PROVIDER = 2


class AbortReason(IntEnum):
    """Why the provider aborted, source 2 (PS3.8 Table 9-26); not significant where the user did."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER = 6


class PDUType(IntEnum):
    """What `on_receive` and `on_send` tell of (PS3.8 section 9.3)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA_TF = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class Priority(IntEnum):
    """0000,0700 of a request (PS3.7 section 9.3.1.1)."""

    MEDIUM = MEDIUM
    HIGH = HIGH
    LOW = LOW
