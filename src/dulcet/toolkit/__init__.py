"""The event-driven face: associate handles, callbacks, a storage listener, for those who come from SDKs."""

from __future__ import annotations

from dulcet.toolkit.associate import Associate, InvalidAssociate
from dulcet.toolkit.io_thread import shutdown, startup
from dulcet.toolkit.messages import DataSet
from dulcet.toolkit.net import Associates, Net

__all__ = ["Associate", "Associates", "DataSet", "InvalidAssociate", "Net", "shutdown", "startup"]
