"""A storage and verification provider written with odil, as a program for the system's Python: Debian's python3-odil.

odil dispatches by SOP class and answers on the last context of the class.  Prints `stored UID` for each instance that
came.  It takes one association at a time, and does not listen while it has one.
"""

from __future__ import annotations

import sys
from typing import Any

import odil


def serve(port: int) -> None:
    while True:
        association = odil.Association()
        association.receive_association("v4", port)
        echo, store = odil.EchoSCP(association), odil.StoreSCP(association)
        echo.set_callback(lambda message: 0)
        store.set_callback(keep)
        dispatcher = odil.SCPDispatcher(association)
        dispatcher.set_echo_scp(echo)
        dispatcher.set_store_scp(store)
        try:
            while True:
                dispatcher.dispatch()
        except (odil.AssociationReleased, odil.AssociationAborted):
            pass


def keep(message: Any) -> int:
    uid = message.get_affected_sop_instance_uid()
    print("stored", uid.decode() if isinstance(uid, bytes) else uid, flush=True)
    return 0


serve(int(sys.argv[1]))
