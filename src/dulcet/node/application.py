"""The node: an application entity with handlers for what it provides (PS3.7, PS3.4), on either face.

    node = dulcet.Node("RECEIVER")

    @node.on_store
    def keep(request): ...

    node.serve("127.0.0.1", 11112)

Rules: a handler is a plain or an async function; what it returns is a status, a Dataset, a pair of both, or an iterable
of answers; what it raises is a failure status.  What is accepted in negotiation follows from the handlers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakSet

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.dimse.messages import MESSAGES, CommandField
from dulcet.errors import LocalProtocolError
from dulcet.io.receiving import Destination
from dulcet.io.store_directory import DEFAULT_LAYOUT, StoreDirectory
from dulcet.services.acceptance import STORED_SYNTAXES, AcceptancePolicy
from dulcet.services.extended import Extended
from dulcet.services.identity import Verifier
from dulcet.services.models import Verb, find_model
from dulcet.services.sop_classes import classes_with, listed, service_of, storage_classes
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.negotiation import check_ae_title
from dulcet.upper_layer.pdu import AssociateRQ

if TYPE_CHECKING:
    from ssl import SSLContext

    from dulcet.io.shared_port import SharedPort
    from dulcet.io.tls import TLSConfig
    from dulcet.node.loop import NodeServer
    from dulcet.node.threads import NodeThreads

__all__ = ["Companion", "Node"]

Handler = TypeVar("Handler", bound=Callable[..., Any])
AdmissionHook = TypeVar("AdmissionHook", bound=Callable[[AssociateRQ], tuple[int, int, int] | None])
VerifierFunction = TypeVar("VerifierFunction", bound=Verifier)

MEMORY_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one received data set that are kept in memory where the node has no folder; longer ones get A700H."""

ALL: Final = "*"
"""A handler for every SOP class of its message that has none of its own."""

UNKNOWN: Final = "?"
"""A handler for the SOP classes that no table knows."""

UNCOMPRESSED: Final = tuple(sorted(uids.UNCOMPRESSED))


class Companion(Protocol):
    """What a node starts when it serves, and stops when it does not any more; neither call waits for long."""

    def start(self) -> None:
        """The node serves."""

    def stop(self, seconds: float) -> None:
        """The node's associations are over; what goes on may take `seconds` to end."""


class Node:
    """An application entity: its title, its handlers, its peers.

    What registers a handler is written `@node.on_store` or `@node.on_store(…)`.  It raises LocalProtocolError once the
    node serves, unless it replaces a handler of the same message and SOP class.
    """

    def __init__(
        self,
        ae_title: str,
        *,
        store_to: str | PathLike[str] | Destination | None = None,
        layout: str = DEFAULT_LAYOUT,
        durability: Any = "fsync",
        peers: Mapping[str, str | Address] | None = None,
        calling: Iterable[str] | None = None,
        any_called: bool = False,
        config: AssociationConfig | None = None,
        move_associations: int = 1,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """`ae_title` is ours, 1 to 16 characters; calls to other titles are refused unless there is `any_called`.

        `store_to` is a folder (or another `Destination`) that data sets are streamed into before the `on_store` handler
        sees them; `layout` and `durability` of the folder are as for `StoreDirectory`.  Without it they are kept in
        memory, and those of more than `memory_limit` bytes are answered A700H.
        `peers` are C-MOVE destinations by AE title, as `AET@host:port`, or as an `Address` that brings its TLS along;
        a C-MOVE sends over `move_associations` associations at once.
        `calling` are the AE titles that may call, None for any.  `config` holds lengths, limits and timers.

        Raises LocalProtocolError for an AE title that may not be sent, AddressError for a peer that does not read as an
        address, and what `StoreDirectory` raises.
        """
        self.ae_title: str = check_ae_title(ae_title)
        self.config: AssociationConfig = config or AssociationConfig()
        self.store_directory: Destination | None = (
            StoreDirectory(Path(store_to), layout=layout, durability=durability)
            if isinstance(store_to, str | PathLike)
            else store_to
        )
        self.peers: dict[str, Address] = {
            title: Address.parse(address) for title, address in (peers or {}).items()
        }
        """C-MOVE destinations by AE title; may be changed at any time."""
        self.calling: frozenset[str] | None = None if calling is None else frozenset(calling)
        self.any_called = any_called
        self.move_associations = move_associations
        self.memory_limit = memory_limit
        self.extra_syntaxes: dict[str, Sequence[str]] = {}
        """SOP classes that are accepted besides those of the handlers, with their transfer syntaxes."""
        self.extended: dict[str, Extended] = {}
        """What this node supports of the extended negotiation of its SOP classes (`QueryOptions`, bytes)."""
        self._judge: Callable[[AssociateRQ], tuple[int, int, int] | None] | None = None
        self._verifier: Verifier | None = None
        self._handlers: dict[tuple[int, str], Callable[..., Any]] = {}
        self.companions: list[Companion] = []
        """What works beside the associations, such as a sender of reports: started and stopped with the node."""
        self._serving: WeakSet[Any] = WeakSet()
        self.on_echo(_echo)

    # ------------------------------------------------------------------ handlers

    def on_associate(self, admission_hook: AdmissionHook) -> AdmissionHook:
        """`admission_hook(request: AssociateRQ)` has the last word on an association.

        A (result, source, reason) of PS3.8 Table 9-21 rejects it, None accepts it.  A plain function.  Where it
        raises, the association is rejected as transient, (2,1,1).
        """
        self._check_open("an admission hook")
        self._judge = admission_hook
        return admission_hook

    def verify_identity(self, verifier: VerifierFunction) -> VerifierFunction:
        """`verifier(identity: UserIdentityRQ | None, request: AssociateRQ)` gives `Identified`, or True or False.

        A plain function (PS3.7 D.3.3.7); handlers find its `user` in `request.requestor.identity`.  False and None
        reject the association as (1,1,1), what it raises as transient, (2,1,1).
        """
        self._check_open("a verifier of identities")
        self._verifier = verifier
        return verifier

    def on_echo(self, handler: Handler) -> Handler:
        """C-ECHO: `handler(request: Request)` gives a status, None for success; without it, success is answered."""
        return self._register(CommandField.C_ECHO_RQ, handler, (uids.VERIFICATION,))

    def on_store(
        self, handler: Handler | None = None, *, classes: Iterable[str] | None = None, private: bool = False
    ) -> Any:
        """C-STORE: `handler(request: StoreRequest)`, called once the data set is here whole, gives a status.

        None is success.  What it refuses is not kept, unless the same was kept before.
        `classes` are SOP classes, by default every storage class of the standard and of `register_private`; with
        `private` those that no table knows as well, in the transfer syntaxes of storage.
        """
        chosen = tuple(storage_classes()) if classes is None else listed(classes)
        return self._decorator(CommandField.C_STORE_RQ, handler, (*chosen, *((UNKNOWN,) if private else ())))

    def on_find(self, handler: Handler | None = None, *, models: Iterable[str] = ("patient", "study")) -> Any:
        """C-FIND: `handler(request: FindRequest)` gives Datasets (pending FF00H), (status, Dataset) pairs, or a status.

        An answer may be bytes as well: encoded already, in `request.transfer_syntax`.

        `models` are names of `dulcet.services.models.MODELS`, or SOP classes; ValueError for a name that is not there.
        """
        return self._decorator(CommandField.C_FIND_RQ, handler, _classes("find", models))

    def on_get(self, handler: Handler | None = None, *, models: Iterable[str] = ("patient", "study")) -> Any:
        """C-GET: `handler(request: RetrieveRequest)` gives what to send: paths, Datasets, bytes, `Instance`s.

        A list tells the peer how many remain, an iterator cannot.  `models` are as for `on_find`.
        """
        return self._decorator(CommandField.C_GET_RQ, handler, _classes("get", models))

    def on_move(self, handler: Handler | None = None, *, models: Iterable[str] = ("patient", "study")) -> Any:
        """C-MOVE: `handler(request: RetrieveRequest)` gives what to send to `request.destination`, one of `peers`.

        Any other destination is answered A801H before.  `models` are as for `on_find`, what is given as for `on_get`.
        """
        return self._decorator(CommandField.C_MOVE_RQ, handler, _classes("move", models))

    def on_n_event_report(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-EVENT-REPORT: `handler(request: NormalizedRequest)` gives a status, None for success.

        `classes` are SOP class UIDs, as for `on_n_get`.
        """
        return self._decorator(CommandField.N_EVENT_REPORT_RQ, handler, listed(classes))

    def on_n_get(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-GET: `handler(request: NormalizedRequest)` gives the attributes as a Dataset.

        `classes` are SOP class UIDs; by default every class of the standard that has the operation, and each of them
        may have a handler of its own besides.
        """
        return self._decorator(CommandField.N_GET_RQ, handler, listed(classes))

    def on_n_set(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-SET: `handler(request: NormalizedRequest)` gives a status, None for success.

        `classes` are SOP class UIDs, as for `on_n_get`.
        """
        return self._decorator(CommandField.N_SET_RQ, handler, listed(classes))

    def on_n_action(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-ACTION: `handler(request: NormalizedRequest)` gives a status, a Dataset (the reply), or both.

        `classes` are SOP class UIDs, as for `on_n_get`.
        """
        return self._decorator(CommandField.N_ACTION_RQ, handler, listed(classes))

    def on_n_create(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-CREATE: `handler(request: NormalizedRequest)` gives a status, a Dataset, or both.

        Where the request leaves the UID to us, it says which one it took: `Answer(AffectedSOPInstanceUID=…)` (PS3.7
        section 10.1.5.1.4).  `classes` are SOP class UIDs, as for `on_n_get`.
        """
        return self._decorator(CommandField.N_CREATE_RQ, handler, listed(classes))

    def on_n_delete(self, handler: Handler | None = None, *, classes: Iterable[str] = (ALL,)) -> Any:
        """N-DELETE: `handler(request: NormalizedRequest)` gives a status, None for success.

        `classes` are SOP class UIDs, as for `on_n_get`.
        """
        return self._decorator(CommandField.N_DELETE_RQ, handler, listed(classes))

    def handler_for(self, field: int, *sop_classes: str) -> Callable[..., Any] | None:
        """The handler of a message: that of the first of the `sop_classes` that has one, else the one for all.

        `field` is the Command Field of the request.  None where nobody handles it.
        """
        for sop_class in (*sop_classes, ALL):
            handler = self._handlers.get((field, sop_class))
            if handler is not None:
                return handler
        if all(service_of(sop_class) is None for sop_class in sop_classes):
            return self._handlers.get((field, UNKNOWN))
        return None

    @property
    def has_async_handlers(self) -> bool:
        """True when a handler needs an event loop."""
        return any(_is_async(handler) for handler in self._handlers.values())

    def _decorator(self, field: CommandField, handler: Any, classes: Sequence[str]) -> Any:
        """Usable as `@node.on_x` and as `@node.on_x(…)`."""
        if handler is not None:
            return self._register(field, handler, classes)
        return lambda function: self._register(field, function, classes)

    def _register(self, field: CommandField, handler: Handler, classes: Iterable[str]) -> Handler:
        if not callable(handler):
            raise TypeError(f"a handler of {MESSAGES[field].name} is a function, not a {type(handler).__name__}")
        keys = [(int(field), sop_class) for sop_class in classes]
        if not self._handlers.keys() >= set(keys):
            self._check_open(f"a handler of {MESSAGES[field].name}")
        self._handlers.update(dict.fromkeys(keys, handler))
        return handler

    def _check_open(self, what: str) -> None:
        """LocalProtocolError once it serves: what is negotiated was settled then."""
        if self._serving:
            raise LocalProtocolError(
                f"node {self.ae_title} serves already, and {what} would not be negotiated: register it before the node "
                "is started"
            )

    # ------------------------------------------------------------------ negotiation

    def policy(self) -> AcceptancePolicy:
        """What is accepted: the SOP classes that have handlers, and the storage classes for C-GET."""
        syntaxes: dict[str, Sequence[str]] = {}
        fields = {field for field, _ in self._handlers}
        for field, sop_class in self._handlers:
            if sop_class == UNKNOWN:
                continue
            classes = _every_class(field) if sop_class == ALL else (sop_class,)
            syntaxes |= dict.fromkeys(classes, STORED_SYNTAXES if field == CommandField.C_STORE_RQ else UNCOMPRESSED)
        gets = CommandField.C_GET_RQ in fields
        if gets:
            syntaxes = dict.fromkeys(storage_classes(), STORED_SYNTAXES) | syntaxes
        syntaxes.update(self.extra_syntaxes)
        return AcceptancePolicy(
            called=None if self.any_called else frozenset((self.ae_title,)),
            calling=self.calling,
            syntaxes=syntaxes,
            unknown_class=STORED_SYNTAXES if (CommandField.C_STORE_RQ, UNKNOWN) in self._handlers else None,
            unknown_provided=STORED_SYNTAXES if gets else None,
            extended=self.extended,
            admission_hook=self._judge,
            verifier=self._verifier,
        )

    # ------------------------------------------------------------------ serving

    def threads(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        tls: TLSConfig | SSLContext | None = None,
        shared: SharedPort | None = None,
    ) -> NodeThreads:
        """Serve in the background with a thread for each association, until `stop()` or the end of a `with` block.

        Handlers are registered before, all of them plain functions: TypeError for an async one.
        `host` "" or "*" is every address of this machine, `port` 0 a free one.  `tls` secures every connection.
        Beyond `maximum_associations` in all, `maximum_per_host` from one address and `maximum_per_ae` of one calling AE
        title (None: any number), requests are rejected as transient (2,3,2).  `shared` is a port, used instead of
        `host` and `port`, from which other processes accept as well; these limits are for all of them together then,
        and ValueError says where it counts fewer.
        Raises OSError when it cannot listen, AddressError for a port that is none, TLSConfigError.
        """
        from dulcet.node.threads import NodeThreads

        return NodeThreads(
            self,
            Address(self.ae_title, host, port, tls),
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
            shared=shared,
        )

    def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        maximum_associations: int = 500,
        maximum_per_host: int = 100,
        maximum_per_ae: int | None = None,
        tls: TLSConfig | SSLContext | None = None,
    ) -> NodeServer:
        """Serve in the running event loop: `server = await node.start(…)`, or `async with node.start(…)`.

        Handlers are registered before; plain ones run in threads.  `host`, `port`, `maximum_associations`,
        `maximum_per_host`, `maximum_per_ae` and `tls` are as for `threads`, and so is what is raised.
        """
        from dulcet.node.loop import NodeServer

        return NodeServer(
            self,
            Address(self.ae_title, host, port, tls),
            maximum_associations=maximum_associations,
            maximum_per_host=maximum_per_host,
            maximum_per_ae=maximum_per_ae,
        )

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 11112,
        *,
        drain: float = 10.0,
        tls: TLSConfig | SSLContext | None = None,
    ) -> bool:
        """Serve until SIGTERM, Ctrl-C or SIGHUP; who is at it then has `drain` seconds.  True when none was aborted.

        `host`, `port` and `tls` are as for `threads`, and so is what is raised.  It serves with threads where every
        handler is a plain function, else in an event loop (uvloop's where it is installed).
        """
        if not self.has_async_handlers:
            from dulcet.node.threads import serve_threads

            return serve_threads(self, host, port, drain, tls)
        from dulcet.node.loop import serve_loop

        return serve_loop(self, host, port, drain, tls)

    def with_peers(self, peers: Mapping[str, str | Address]) -> Node:
        """This node, knowing these C-MOVE destinations as well: `peers` as for `Node`, AddressError likewise."""
        self.peers.update({title: Address.parse(address) for title, address in peers.items()})
        return self


def _echo(request: Any) -> None:
    """Success."""


_echo.immediate = True  # type: ignore[attr-defined]  # it never waits: no thread for it


def _every_class(field: int) -> frozenset[str]:
    """The SOP classes that a normalized operation is allowed for."""
    return classes_with(MESSAGES[CommandField(field)].name.removesuffix("-RQ"))


def _is_async(handler: Callable[..., Any]) -> bool:
    """True for `async def`, with and without `yield`, and for an object that is called like one."""
    found = (handler, getattr(handler, "__call__", None))  # noqa: B004 - what it is, not whether there is one
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in found)


def _classes(verb: Verb, models: Iterable[str]) -> tuple[str, ...]:
    """SOP classes from names of models; a UID stands for itself."""
    found: list[str] = []
    for model in listed(models):
        uid = model if model[:1].isdigit() else find_model(model).sop_class(verb)
        if uid is None:
            raise ValueError(f"information model {model!r} has no C-{verb.upper()} (PS3.4)")
        found.append(uid)
    return tuple(found)
