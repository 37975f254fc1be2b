"""C-GET with as many associations as it takes to bring every class (PS3.4 C.4.3)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from dulcet.aio.association import Association, associate
from dulcet.aio.keeping import Keeper
from dulcet.aio.twin import on_disk
from dulcet.config import AssociationConfig
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.status import Status
from dulcet.errors import DulcetError
from dulcet.services.invocations import retrieve_query
from dulcet.services.results import Retrieved
from dulcet.services.retrieval import Fetch, Find, Retrieval, asking, find_class, progress_of
from dulcet.services.retrieval import retrieve as script_of
from dulcet.services.sop_classes import listed
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import UserIdentityRQ

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.aio.requests import IncomingRequest
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig

__all__ = ["retrieve"]

log: Final = logging.getLogger("dulcet.association")


async def retrieve(
    address: str | Address,
    identifier: Dataset | None = None,
    *,
    to: str | PathLike[str] | StoreDirectory | Callable[[IncomingRequest], object],
    level: str | None = None,
    model: str | None = None,
    syntaxes: Sequence[str] = (),
    classes: Iterable[str] = (),
    calling_ae_title: str = "DULCET",
    config: AssociationConfig | None = None,
    identity: UserIdentityRQ | None = None,
    tls: TLSConfig | SSLContext | None = None,
    priority: int = MEDIUM,
    progress: Callable[[Retrieved], object] | None = None,
    **keys: Any,
) -> Retrieved:
    """C-GET from the peer at `AET@host:port`, on associations that are made for it, into the folder `to` or a handler.

    The peer is asked by C-FIND which SOP classes there are, and where it tells, these are proposed, else all there are.
    What fails is fetched on further associations, with other classes, and with one transfer syntax at a time.
    `syntaxes` are transfer syntaxes to take besides the uncompressed ones, best first; without any, what the peer does
    not decompress is fetched as it lies.  `classes` are SOP classes to propose as well, by UID, keyword or name:
    private ones of a peer that does not tell.
    `address`, `calling_ae_title`, `config`, `identity` and `tls` are those of `associate`; `identifier`, `keys`,
    `level`, `model`, `priority` and `progress` are those of `Association.get` (PS3.4 section C.4.3).
    Raises what `associate` and `Association.get` raise: LocalProtocolError for keys that name nothing, ValueError for a
    class, keyword or model that does not exist, OSError when the folder cannot be written to.  A failed retrieve is no
    error: `Retrieved.check()` raises StatusError.

        (await retrieve("ARCHIVE@127.0.0.1:11112", StudyInstanceUID="1.2.3", to="study")).check()
    """
    address = Address.parse(address, tls)
    config = config or AssociationConfig()
    query, found = retrieve_query(identifier, keys, level=level, model=model)
    keeper = await on_disk(Keeper.of, to)
    own, keeper._own = keeper._own, False
    keeper.once = True
    wanted = Retrieval(
        query, found, model, listed(syntaxes), list(map(find_class, listed(classes))), keeper.arrived, keeper.refused
    )
    opening: dict[str, Any] = {"calling_ae_title": calling_ae_title, "identity": identity}
    asked: Association | None = None
    script = script_of(wanted)
    try:
        action = next(script)
        while True:
            result: Any
            if isinstance(action, Find):
                asked, result = await _ask(asked, action, address, asking(config), opening)
            else:
                if asked is not None:
                    await _leave(asked)
                    asked = None
                result = await _fetch(action, keeper, wanted, address, config, priority, progress, opening)
            action = script.send(result)
    except StopIteration as end:
        retrieved: Retrieved = end.value
        return retrieved
    finally:
        if asked is not None:
            await _leave(asked)
        keeper._own = own
        await keeper.close()


async def _ask(
    asked: Association | None, find: Find, address: Address, config: AssociationConfig, opening: dict[str, Any]
) -> tuple[Association | None, list[Dataset] | None]:
    """The matches, and the association for the next question; None for a peer that does not tell."""
    matches: list[Dataset] = []
    try:
        if asked is None:
            asked = await associate(address, contexts=find.contexts, config=config, **opening)
        async for match in asked.find(level=find.level, **find.keys):
            matches.append(match)
        return asked, matches
    except DulcetError as error:
        log.debug("%s does not tell its SOP classes: %s", address, error)
        return asked, None


async def _leave(asked: Association) -> None:
    """Release it; who only told classes spoils nothing by how it ends."""
    with contextlib.suppress(DulcetError):
        await asked.release()


async def _fetch(
    fetch: Fetch,
    keeper: Keeper,
    wanted: Retrieval,
    address: Address,
    config: AssociationConfig,
    priority: int,
    progress: Callable[[Retrieved], object] | None,
    opening: dict[str, Any],
) -> tuple[Retrieved, set[str]]:
    total = Retrieved(Status.SUCCESS)

    def show(now: Retrieved) -> None:
        if progress is not None:
            progress(progress_of(fetch.done, now if len(fetch.queries) == 1 else total.plus(now)))

    async with associate(address, contexts=fetch.contexts, config=config, **opening) as association:
        taken = {context.abstract_syntax for context in association.contexts if context.as_provider}
        for query in fetch.queries:
            model = wanted.model
            result = await association.get(query, to=keeper, model=model, priority=priority, progress=progress and show)
            total = result if len(fetch.queries) == 1 else total.plus(result)
            if result.status.is_cancel:
                break
    return total, taken
