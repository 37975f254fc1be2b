"""An association on an event loop, as requestor or acceptor, service user and provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dulcet.aio.connecting import connect
from dulcet.aio.keeping import Keeper
from dulcet.aio.operation_stream import Matches, OperationStream
from dulcet.aio.operations import Operations
from dulcet.aio.protocol import Wire
from dulcet.aio.response_queue import ResponseQueue
from dulcet.aio.threads import disk
from dulcet.config import AssociationConfig
from dulcet.dimse.association import DimseAssociation
from dulcet.dimse.command import MEDIUM
from dulcet.dimse.messages import CommandField
from dulcet.dimse.status import Status
from dulcet.errors import TLSError
from dulcet.io.answers import Answers
from dulcet.io.instances import InstanceSource, examine
from dulcet.io.store_directory import StoreDirectory
from dulcet.services import invocations
from dulcet.services.extended import Extended
from dulcet.services.identity import check_confirmed
from dulcet.services.invocations import Invocation
from dulcet.services.origin import Origin, receiving_policy
from dulcet.services.proposals import association_request
from dulcet.services.results import Response, Retrieved, Sent
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import CommonExtendedNegotiation, UserIdentityRQ, UserItem
from dulcet.upper_layer.negotiation import Proposal

if TYPE_CHECKING:
    from os import PathLike
    from ssl import SSLContext

    from pydicom.dataset import Dataset

    from dulcet.io.tls import TLSConfig

__all__ = ["Association", "associate"]


def associate(
    address: str | Address,
    *,
    calling_ae_title: str = "DULCET",
    contexts: Iterable[Proposal] | None = None,
    config: AssociationConfig | None = None,
    identity: UserIdentityRQ | None = None,
    extended: Mapping[str, Extended] | None = None,
    common_extended: Iterable[CommonExtendedNegotiation] = (),
    user_items: Iterable[UserItem] = (),
    handler: Callable[[Any], object] | None = None,
    tls: TLSConfig | SSLContext | None = None,
) -> _Associating:
    """An established association with the peer at `AET@host:port`; use it as a context manager.

    `address` is that text or an `Address`; the AE title in it is the one that is called.  `calling_ae_title` is ours, 1
    to 16 characters.
    `contexts` is what to propose, 128 at most; by default verification, query/retrieve, worklist and the storage
    classes.
    `config` holds limits, timers and the operations window; by default those of `AssociationConfig()`.
    `identity` says who asks (`UserIdentity`), `extended` and `common_extended` negotiate by SOP class, `user_items` are
    further sub-items of user information, as they are.
    `handler` answers requests that the peer makes on it, such as N-EVENT-REPORT; without one they get 0122H.
    `tls` secures the connection; the address may bring it along.
    Raises AddressError, LocalProtocolError for what cannot be proposed, PeerUnreachable, TLSError, TLSConfigError,
    AssociationRefused, AssociationAborted, AssociationClosed, DimseTimeout, IdentityUnconfirmed (PS3.8 section 7.1).
    """
    address = Address.parse(address, tls)
    config = config or AssociationConfig()
    core = DimseAssociation(requestor=True, config=config)
    core.associate(
        association_request(
            address,
            calling_ae_title=calling_ae_title,
            contexts=contexts,
            config=config,
            identity=identity,
            extended=extended,
            common_extended=common_extended,
            user_items=user_items,
        )
    )
    return _Associating(core, address, handler)


class _Associating:
    """An association to be: await it, or enter it."""

    def __init__(self, core: DimseAssociation, address: Address, handler: Callable[[Any], object] | None) -> None:
        self._core = core
        self._address = address
        self._handler = handler
        self._association: Association | None = None

    def __await__(self) -> Generator[Any, None, Association]:
        return self._associate().__await__()

    async def __aenter__(self) -> Association:
        self._association = await self._associate()
        return self._association

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._association is not None
        await self._association.__aexit__(kind, error, trace)

    async def _associate(self) -> Association:
        core, address = self._core, self._address
        loop = asyncio.get_running_loop()
        wire = self._wire(loop)
        association = Association(core, wire, peer=str(address), address=address)
        association.handler = self._handler
        sock = await connect(loop, address.host, address.port, core.config.timers.connect)
        try:
            await loop.create_connection(lambda: wire, sock=sock)
        except BaseException:
            sock.close()
            raise
        try:
            while not association._accepted:
                association._check_usable()
                await association._wait()
            check_confirmed(association.request, association.accept)
        except BaseException:
            await association.abort()
            raise
        return association

    def _wire(self, loop: asyncio.AbstractEventLoop) -> Wire:
        core, address = self._core, self._address
        if address.tls is None:
            return Wire(core, loop)
        from dulcet.aio.secure import SecureWire
        from dulcet.io.secure_stream import dial

        stream = dial(address.tls, address.host, str(address))
        seconds = core.config.timers.tls
        late = TLSError(f"{address}: no TLS handshake within {seconds:g} s; does it speak TLS?")
        return SecureWire(core, loop, lambda: stream, (seconds, late))


class Association(Operations):
    """One association; made by `associate()` or by a server, for the tasks of one loop, except for `interrupt()`.

    Every operation can raise, besides what it says itself: NoPresentationContext where the peer accepted no context for
    it and LocalProtocolError for a value that may not be sent, both before anything is sent; DimseTimeout where no
    response comes within `Timers.response` seconds; AssociationAborted or AssociationClosed when the association ends
    or has ended.
    More operations than were agreed on wait for their turn.  A status is no error: it is in the result, whose `check()`
    raises StatusError.
    """

    handler: Callable[[Any], object] | None

    # ------------------------------------------------------------------ as user

    async def echo(self) -> Response:
        """C-ECHO (PS3.7 section 9.1.5): does the peer answer?  The context is that of verification."""
        return await self._ask(invocations.echo(self._core))

    async def store(
        self, what: InstanceSource, *, priority: int = MEDIUM, originator: tuple[str, int] | None = None
    ) -> Sent:
        """C-STORE of a path, open file, bytes or Dataset (PS3.7 section 9.1.1), converted if need be and possible.

        `what` is one instance: a file or its bytes with or without preamble, or a Dataset with its SOP class and
        instance UID.
        `priority` is 0 medium, 1 high, 2 low; many peers ignore it.  `originator` is AE title and message ID of the
        C-MOVE-RQ that this is a sub-operation of.
        Raises InstanceError for what cannot be sent, NotDicom and CannotConvert among them, and NoPresentationContext
        when the peer did not accept its class.  A file that changes while it is sent ends the association.
        """
        instance = await self._loop.run_in_executor(disk, examine, what)
        response_queue = ResponseQueue(self)
        operation = None
        try:
            self._check_usable()
            context, data, syntax = await self._prepare(instance)
            await self._place()
            operation = self._core.store(
                context,
                instance.sop_class_uid,
                instance.sop_instance_uid,
                data,
                priority=priority,
                originator=originator,
                owner=response_queue,
            )
            self._wire.pump()
            event = await response_queue.get()
        except BaseException:
            if operation is not None:
                self._leave(operation, response_queue)
            raise
        finally:
            self._let_go(operation, instance)
        uids = (instance.sop_class_uid, instance.sop_instance_uid)
        return Sent.answered(what, event.command, *uids, syntax, len(data))

    def store_many(
        self,
        what: InstanceSource | Iterable[InstanceSource],
        *,
        associations: int = 1,
        window: int = 8,
        priority: int = MEDIUM,
    ) -> AsyncIterator[Sent]:
        """C-STORE of many: contexts are taken from the files, and more associations are made where this one lacks some.

        `what` is a path, a folder with all that is below it, bytes, an open file, a Dataset, or an iterable of these.
        Yields one `Sent` for each, in the order of their answers; what cannot be sent fails for itself alone.  Nothing
        is sent before it is iterated over: a RuntimeWarning says so where it never was.
        `associations` send in parallel; `window` operations, 0 for any number, are proposed to be outstanding on each
        that is made; `priority` is that of `store`.  An acceptor sends on this association alone.
        Raises, when it is called, ValueError for numbers that do not fit and TypeError for what is neither path nor
        instance; later on what ended this association where it had ended before.
        """
        from dulcet.aio.sending import StoreMany

        job = StoreMany(
            self.address,
            calling_ae_title=self.calling_ae_title,
            config=self._core.config,
            associations=associations,
            window=window,
            priority=priority,
            given=self,
        )
        return job.run(what)

    def find(
        self,
        identifier: Dataset | None = None,
        *,
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        limit: int | None = None,
        **keys: Any,
    ) -> AsyncIterator[Dataset]:
        """C-FIND (PS3.4 C.4.1): the matches, one by one as they come; leaving early cancels.

        `keys` are keywords with values to match, None or "" to be returned; `identifier` adds to them or stands alone.
        Dates and times may be objects of `datetime`, a pair of them is a range: `StudyDate=(date(2026, 1, 1), None)`.
        `level` is PATIENT, STUDY, SERIES or IMAGE, STUDY where nothing says it; `model` a name of
        `dulcet.services.models.MODELS` or the UID of a SOP class, else the first that fits the level, study root before
        patient root; `priority` is that of `store`; `limit` is how many are taken before the rest is cancelled.
        Raises StatusError when it ends with anything but success, ValueError for what is no keyword or model, and
        ReceiveError at the end, behind all others, when there were matches that do not decode.
        """

        def invocation() -> Invocation:
            return invocations.find(self._core, identifier, keys, level=level, model=model, priority=priority)

        return Matches(OperationStream(self, invocation), Answers(self.peer, limit))

    async def get(
        self,
        identifier: Dataset | None = None,
        *,
        to: str | PathLike[str] | StoreDirectory | Callable[[Any], object],
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-GET (PS3.4 C.4.3): the instances come back on this association, into the folder `to` or a handler.

        `identifier` and `keys` name what is wanted by its unique keys, such as `StudyInstanceUID="1.2.3"`; an answer of
        `find` can be given as it is.  `to` is a path, a `StoreDirectory`, or a function that answers each C-STORE-RQ.
        `level` is that of the lowest unique key with a value where nothing says it; `model` and `priority` are as in
        `find`.  `progress` is called with what was `Retrieved` so far after each pending response.
        The contexts of what comes must have been accepted with the requestor as provider, as the default ones are
        proposed; `dulcet.retrieve` sees to that.
        Raises LocalProtocolError, with nothing sent, for keys that name nothing; ValueError for what is no keyword or
        model; OSError when the folder cannot be written to; ReceiveError when the final response does not decode.
        """
        invocation = invocations.get(self._core, identifier, keys, level=level, model=model, priority=priority)
        async with self._retrieving:  # what comes does not say which of several asked for it
            return await self._retrieve(invocation, await self._keeper(to), progress)

    async def move(
        self,
        identifier: Dataset | None = None,
        *,
        destination: str,
        receive: str | Address | None = None,
        to: str | PathLike[str] | StoreDirectory | Callable[[Any], object] | None = None,
        level: str | None = None,
        model: str | None = None,
        priority: int = MEDIUM,
        progress: Callable[[Retrieved], object] | None = None,
        **keys: Any,
    ) -> Retrieved:
        """C-MOVE (PS3.4 C.4.2): the peer sends the instances to the AE title `destination`.

        The peer must know host and port of `destination`, 1 to 16 characters.  `receive` is where this side listens for
        them, as `AET@host:port`, from before it asks until all came; `to` is the folder or handler that takes them.
        `identifier`, `keys`, `level`, `model`, `priority` and `progress` are as in `get`.
        Raises ValueError for `receive` without `to`, AddressError and OSError when it cannot listen there, and what
        `get` does.
        """
        invocation = invocations.move(
            self._core, destination, identifier, keys, level=level, model=model, priority=priority
        )
        if receive is None and to is not None:
            raise ValueError("move(to=…) needs `receive`, an address to listen on: `destination` is who gets it")
        if receive is None:
            return await self._retrieve(invocation, None, progress)
        if to is None:
            raise ValueError("move(receive=…) needs `to`, a folder or a handler for what comes")
        from dulcet.aio.server import serve

        keeper = await self._keeper(to)
        keeper.origin = Origin(self.calling_ae_title, self.called_ae_title, self._wire.host)
        try:
            async with serve(receive, keeper, policy=receiving_policy()):
                result = await self._retrieve(invocation, None, progress, keeper.origin)
        finally:
            await keeper.close()
        keeper.told(result)
        return result

    async def n_event_report(
        self, sop_class_uid: str, sop_instance_uid: str, event_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-EVENT-REPORT (PS3.7 section 10.1.1): tell the user of an instance what happened to it.

        `sop_class_uid` and `sop_instance_uid` name the instance, `event_type` is a number that its SOP class gives a
        meaning, `dataset` the event information, None for none.  `context` is the SOP class negotiated for it where
        that is another one.
        A context where this side is the provider is taken first.  Raises InstanceError for what cannot be encoded.
        """
        return await self._normalized(
            CommandField.N_EVENT_REPORT_RQ,
            sop_class_uid,
            sop_instance_uid,
            dataset,
            context=context,
            type_id=event_type,
        )

    async def n_get(
        self, sop_class_uid: str, sop_instance_uid: str, attributes: Sequence[str | int] = (), *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-GET (PS3.7 section 10.1.2): attributes of an instance; they are in the response's data set.

        `sop_class_uid` and `sop_instance_uid` name the instance, `attributes` are keywords or tags; none asks for all.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises ValueError for what is no keyword.
        """
        return await self._normalized(
            CommandField.N_GET_RQ, sop_class_uid, sop_instance_uid, context=context, attributes=attributes
        )

    async def n_set(
        self, sop_class_uid: str, sop_instance_uid: str, dataset: Dataset, *, context: str | None = None
    ) -> Response:
        """N-SET (PS3.7 section 10.1.3): change attributes of an instance.

        `sop_class_uid` and `sop_instance_uid` name the instance, `dataset` holds the new values.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return await self._normalized(CommandField.N_SET_RQ, sop_class_uid, sop_instance_uid, dataset, context=context)

    async def n_action(
        self, sop_class_uid: str, sop_instance_uid: str, action_type: int, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-ACTION (PS3.7 section 10.1.4): have something done with an instance.

        `sop_class_uid` and `sop_instance_uid` name the instance, `action_type` is a number that its SOP class gives a
        meaning, `dataset` the action information, None for none.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return await self._normalized(
            CommandField.N_ACTION_RQ, sop_class_uid, sop_instance_uid, dataset, context=context, type_id=action_type
        )

    async def n_create(
        self, sop_class_uid: str, sop_instance_uid: str | None = None, dataset: Dataset | None = None, *,
        context: str | None = None,
    ) -> Response:  # fmt: skip
        """N-CREATE (PS3.7 section 10.1.5): make an instance.

        `sop_class_uid` is its class; without a `sop_instance_uid` the peer makes one and its response names it.
        `dataset` holds its attributes, None for none.
        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        Raises InstanceError for a data set that cannot be encoded.
        """
        return await self._normalized(
            CommandField.N_CREATE_RQ, sop_class_uid, sop_instance_uid, dataset, context=context
        )

    async def n_delete(self, sop_class_uid: str, sop_instance_uid: str, *, context: str | None = None) -> Response:
        """N-DELETE (PS3.7 section 10.1.6): delete an instance, named by `sop_class_uid` and `sop_instance_uid`.

        `context` is the SOP class negotiated for it where that is another one, as in printing and UPS.
        """
        return await self._normalized(CommandField.N_DELETE_RQ, sop_class_uid, sop_instance_uid, context=context)

    async def _normalized(self, field: CommandField, *arguments: Any, **options: Any) -> Response:
        return await self._ask(invocations.normalized(self._core, field, *arguments, **options))

    async def _keeper(self, to: Any) -> Keeper:
        return await self._loop.run_in_executor(disk, Keeper.of, to)

    async def _retrieve(
        self,
        invocation: Invocation,
        keeper: Keeper | None,
        progress: Callable[[Retrieved], object] | None,
        origin: Origin | None = None,
    ) -> Retrieved:
        result = Retrieved(Status.PENDING)
        handler = self.handler
        if keeper is not None:
            self.handler = keeper
        operation_stream = OperationStream(self, lambda: invocation, origin)
        try:
            async for response in operation_stream:
                result.update(response)
                if response.status.is_pending and progress is not None:
                    progress(result)
        finally:
            self.handler = handler
            operation_stream.leave()
            if keeper is not None:
                await keeper.close()
                keeper.told(result)
        return result
