"""The event-driven face: associate handles, callbacks, a storage listener, for those who come from SDKs."""

from __future__ import annotations

from dulcet.toolkit.associate import Associate, InvalidAssociate
from dulcet.toolkit.io_thread import shutdown, startup
from dulcet.toolkit.keeping import StoredObject
from dulcet.toolkit.messages import DataSet
from dulcet.toolkit.net import Associates, Net
from dulcet.toolkit.requester import Delivery, Requester
from dulcet.toolkit.storage_listener import Outcome, StorageListener

__all__ = [
    "Associate",
    "Associates",
    "DataSet",
    "Delivery",
    "InvalidAssociate",
    "Net",
    "Outcome",
    "Requester",
    "StorageListener",
    "StoredObject",
    "shutdown",
    "startup",
]
