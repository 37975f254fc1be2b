"""The asyncio face: the names of the blocking one, awaited.

    async with dulcet.aio.associate("ARCHIVE@127.0.0.1:11112") as association:
        (await association.echo()).check()

It runs on the loop that is there, uvloop included, and installs none.  The names of the services are loaded when they
are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.association import Association, associate
from dulcet.aio.pool import Pool
from dulcet.aio.requests import IncomingRequest
from dulcet.aio.server import Server, serve

if TYPE_CHECKING:
    from dulcet.aio.availability import notify_availability
    from dulcet.aio.commitment import Commitments, request_commitment
    from dulcet.aio.mpps import get_procedure_step, perform_procedure_step, step_from_worklist
    from dulcet.aio.printing import FilmSession
    from dulcet.aio.retrieving import retrieve
    from dulcet.aio.ups import create_step, get_step, perform_step, watch_steps

__all__ = [
    "Association",
    "Commitments",
    "FilmSession",
    "IncomingRequest",
    "Pool",
    "Server",
    "associate",
    "create_step",
    "get_procedure_step",
    "get_step",
    "notify_availability",
    "perform_procedure_step",
    "perform_step",
    "request_commitment",
    "retrieve",
    "serve",
    "step_from_worklist",
    "watch_steps",
]

_MODULES: Final = {
    "availability": "notify_availability",
    "commitment": "Commitments request_commitment",
    "mpps": "get_procedure_step perform_procedure_step step_from_worklist",
    "printing": "FilmSession",
    "retrieving": "retrieve",
    "ups": "create_step get_step perform_step watch_steps",
}
_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'dulcet.aio' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"dulcet.aio.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
