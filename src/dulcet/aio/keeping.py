"""Who takes the instances that a C-GET or C-MOVE brings: a folder or a handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dulcet.aio.disk import Disk
from dulcet.dimse.messages import CommandField
from dulcet.dimse.reasons import not_provided
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError

if TYPE_CHECKING:
    from pathlib import Path

    from dulcet.aio.requests import IncomingRequest
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.services.origin import Origin
    from dulcet.services.results import Retrieved

__all__ = ["Keeper"]


class Keeper:
    """Takes instances that come: into a folder, or to a handler."""

    def __init__(self, directory: StoreDirectory | None, handler: Callable[[Any], object] | None) -> None:
        self.received: list[Path] = []
        self.arrived: set[str] = set()
        """SOP Instance UIDs of what was kept, or taken by the handler."""
        self.refused: set[str] = set()
        """Those that our side could not take: a full disk, a handler that failed."""
        self.once = False
        """True when an instance that arrived already is acknowledged and not kept again."""
        self.origin: Origin | None = None
        self._directory = directory
        self._handler = handler
        self._own = False

    @classmethod
    def of(cls, to: Any) -> Keeper:
        """For a folder, a StoreDirectory or a handler; a keeper is its own, and is closed by who made it."""
        from dulcet.io.store_directory import StoreDirectory

        if isinstance(to, Keeper):
            return to
        if isinstance(to, StoreDirectory):
            return cls(to, None)
        if callable(to):
            return cls(None, to)
        keeper = cls(StoreDirectory(to), None)
        keeper._own = True
        return keeper

    async def __call__(self, request: IncomingRequest) -> None:
        if request.field == CommandField.C_ECHO_RQ:
            await request.respond(Status.SUCCESS)
        elif request.field != CommandField.C_STORE_RQ:
            await request.respond(Status.SOP_CLASS_NOT_SUPPORTED, ErrorComment=not_provided(request.command))
        else:
            if self.origin is not None:
                self.origin.check(request.command, request.association.calling_ae_title, request.association.peer)
            try:
                await self._take(request)
            except Exception as error:
                if not isinstance(error, DulcetError) or getattr(error, "status", None) == Status.OUT_OF_RESOURCES:
                    self.refused.add(request.sop_instance_uid)  # in another syntax it would not fare better
                raise

    async def _take(self, request: IncomingRequest) -> None:
        uid = request.sop_instance_uid
        if self.once and uid in self.arrived:
            await request.respond(Status.SUCCESS)
        elif self._handler is not None:
            await request.association._call(self._handler, request)
            self.arrived.add(uid)
        else:
            assert self._directory is not None
            path = await request.save(self._directory)
            await request.respond(Status.SUCCESS)
            self.received.append(path)
            self.arrived.add(uid)

    def told(self, result: Retrieved) -> None:
        """Note what came."""
        result.received = self.received
        result.refused = sorted(self.refused - self.arrived)
        if self._directory is not None:
            result.arrived = len(self.received)

    async def close(self) -> None:
        """Close the folder, where it was opened here."""
        if self._own and self._directory is not None:
            await Disk.of(asyncio.get_running_loop()).do(self._directory.close)
