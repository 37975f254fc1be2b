"""The event-driven face: associate handles, callbacks, a storage listener, for those who come from SDKs."""

from __future__ import annotations

from dulcet.toolkit.associate import Associate, InvalidAssociate
from dulcet.toolkit.codes import (
    AbortReason,
    AbortSource,
    ACSERejectReason,
    PDUType,
    PresentationRejectReason,
    PresentationResult,
    Priority,
    RejectReason,
    RejectResult,
    RejectSource,
)
from dulcet.toolkit.io_thread import shutdown, startup
from dulcet.toolkit.messages import DataSet
from dulcet.toolkit.net import Associates, Net
from dulcet.toolkit.requester import Delivery, Requester
from dulcet.toolkit.storage_handler import StoredObject
from dulcet.toolkit.storage_listener import Outcome, StorageListener

__all__ = [
    "ACSERejectReason",
    "AbortReason",
    "AbortSource",
    "Associate",
    "Associates",
    "DataSet",
    "Delivery",
    "InvalidAssociate",
    "Net",
    "Outcome",
    "PDUType",
    "PresentationRejectReason",
    "PresentationResult",
    "Priority",
    "RejectReason",
    "RejectResult",
    "RejectSource",
    "Requester",
    "StorageListener",
    "StoredObject",
    "shutdown",
    "startup",
]
