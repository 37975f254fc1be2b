"""The associate handle: a mutable A-ASSOCIATE-RQ or -AC over the core's frozen PDUs (PS3.8 sections 9.3.2 and 9.3.3).

Rules: what a peer sent is kept as it came, in its order; what is set here is checked at once, and all of it again
before it is sent; contexts are named by id, roles and extended data by SOP class, so contexts of one class agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, TypeVar

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.toolkit.dumping import dump
from dulcet.toolkit.limits import (
    InvalidAssociate,
    check_id,
    check_index,
    check_length,
    check_result,
    check_title,
    check_uid,
    check_version,
    encodable,
    is_of,
    refuse,
    user_item,
)
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    ContextResult,
    ExtendedNegotiation,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    ProposedContext,
    RoleSelection,
    UnknownItem,
    UserItem,
)
from dulcet.upper_layer.negotiation import MAX_CONTEXTS, Offer, accept
from dulcet.upper_layer.pdu import DICOM_APPLICATION_CONTEXT, AssociateAC, AssociateRQ

__all__ = ["Associate", "InvalidAssociate"]

ACCEPTANCE: Final = 0
NAMED_ITEMS: Final = (
    MaximumLength,
    ImplementationClassUID,
    AsynchronousOperationsWindow,
    RoleSelection,
    ImplementationVersionName,
    ExtendedNegotiation,
)
"""51H to 56H: they have methods of their own, everything else is `user_info`."""

Item = TypeVar("Item", bound=UserItem)
Keyed = TypeVar("Keyed", RoleSelection, ExtendedNegotiation)


@dataclass(slots=True)
class _Context:
    id: int
    abstract: str = ""
    result: int = ACCEPTANCE
    transfer: list[str] = field(default_factory=list)


class Associate:
    """An A-ASSOCIATE-RQ (`request=True`) or -AC that can be read and changed; equal when equal on the wire.

    An `id` is that of a presentation context, an `index` counts from 0.  Methods and properties raise InvalidAssociate,
    which is a ValueError, for an `id` that is not there and for a value that may not be sent, and then change nothing;
    an `index` that is not there, a negative one too, is an IndexError.
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # it can be changed

    def __init__(self, request: bool = True) -> None:
        self.reset(request)

    def reset(self, request: bool = True) -> None:
        """Empty everything: titles, contexts, roles, extended data, user information; `request` as for the class."""
        self.request = request
        """True for an A-ASSOCIATE-RQ, False for an -AC."""
        self._version = 1
        self._called = self._calling = ""
        self._application_context = DICOM_APPLICATION_CONTEXT
        self._contexts: list[_Context] = []
        self._items: list[UserItem] = []
        self._unknown: tuple[UnknownItem, ...] = ()

    @classmethod
    def default(cls, request: bool = True, *, config: AssociationConfig | None = None) -> Associate:
        """Maximum length, implementation class and version of `config`, and a verification context with id 1.

        `config` is AssociationConfig() if None.  A `request` proposes implicit and explicit VR little endian, an accept
        takes the first; the AE titles are still to be set.
        """
        config = config or AssociationConfig()
        made = cls(request)
        made.max_length = config.maximum_length
        made.implementation_class_uid = config.implementation_class_uid
        made.implementation_version = config.implementation_version_name
        syntaxes = (uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        made.add_presentation(1, ACCEPTANCE, uids.VERIFICATION, syntaxes if request else syntaxes[:1])
        return made

    @classmethod
    def accepting(cls, request: Associate, offer: Offer | None = None) -> Associate:
        """An accept that answers each context of `request` as `offer` says; None takes each first transfer syntax."""
        config = AssociationConfig()
        offer = offer or Offer(
            syntaxes={},
            any_class=(),
            maximum_length=config.maximum_length,
            implementation_class_uid=config.implementation_class_uid,
            implementation_version_name=config.implementation_version_name,
        )
        pdu = request.to_pdu()
        assert isinstance(pdu, AssociateRQ), "only a request is answered"
        return cls.from_pdu(accept(pdu, offer), pdu)

    # ------------------------------------------------------------------ the core's PDUs

    @classmethod
    def from_pdu(cls, pdu: AssociateRQ | AssociateAC, request: AssociateRQ | None = None) -> Associate:
        """What `pdu` says, wrong values included; an -AC has abstract syntaxes only with the `request` it answers."""
        made = cls(isinstance(pdu, AssociateRQ))
        made._version = pdu.protocol_version
        made._called, made._calling = pdu.called_ae_title, pdu.calling_ae_title
        made._application_context = pdu.application_context
        made._items = list(pdu.user_information)
        made._unknown = pdu.unknown_items
        proposed = {context.context_id: context for context in (request.presentation_contexts if request else ())}
        for context in pdu.presentation_contexts:
            if isinstance(context, ProposedContext):
                found = _Context(context.context_id, context.abstract_syntax, 0, list(context.transfer_syntaxes))
            else:
                found = _Context(context.context_id, "", context.result)
                found.transfer += [context.transfer_syntax] if context.transfer_syntax else []
                if context.context_id in proposed:
                    found.abstract = proposed[context.context_id].abstract_syntax
            made._contexts.append(found)
        return made

    def to_pdu(self) -> AssociateRQ | AssociateAC:
        """The PDU as it stands, checked no further than its fields ask for; `check` says whether it may be sent."""
        if self.request:
            proposed = tuple(ProposedContext(one.id, one.abstract, tuple(one.transfer)) for one in self._contexts)
            made: AssociateRQ | AssociateAC = AssociateRQ(
                called_ae_title=self._called, calling_ae_title=self._calling, presentation_contexts=proposed
            )
        else:
            results = tuple(ContextResult(one.id, one.result, "".join(one.transfer[:1])) for one in self._contexts)
            made = AssociateAC(
                called_ae_title=self._called, calling_ae_title=self._calling, presentation_contexts=results
            )
        return replace(
            made,
            application_context=self._application_context,
            user_information=tuple(self._items),
            protocol_version=self._version,
            unknown_items=self._unknown,
        )

    def check(self) -> None:
        """Raise InvalidAssociate unless it may be sent; an accept is also held against its request when it is sent."""
        if self.request:
            check_title(self._called, "called AE title")
            check_title(self._calling, "calling AE title")
            if not self._contexts:
                refuse("no presentation context is proposed; add one")
        if len(self._contexts) > MAX_CONTEXTS:
            refuse(f"{len(self._contexts)} presentation contexts; at most {MAX_CONTEXTS} have an id")
        for index, context in enumerate(self._contexts):
            check_id(context.id, [other.id for other in self._contexts[:index]])
            if self.request and not (context.abstract and context.transfer):
                refuse(f"context {context.id} needs an abstract syntax and at least one transfer syntax")
            if not self.request and context.result == ACCEPTANCE and not (context.transfer and context.transfer[0]):
                refuse(f"context {context.id} is accepted; it needs its one transfer syntax")
        check_length(self.max_length)
        check_version(self.implementation_version)
        if not self.implementation_class_uid:
            refuse("the implementation class UID is mandatory (PS3.7 D.3.3.2)")
        self.to_pdu().encode()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Associate):
            return NotImplemented
        return self.to_pdu() == other.to_pdu()

    def __copy__(self) -> Associate:
        """A handle of its own: what is changed in one does not change the other."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._contexts = [replace(context, transfer=list(context.transfer)) for context in self._contexts]
        made._items = list(self._items)
        return made

    def __str__(self) -> str:
        """Everything in it, a line for each thing, to be printed or logged; user information only with its length."""
        return "\n".join(dump(self))

    def __repr__(self) -> str:
        kind = "request" if self.request else "accept"
        return f"<Associate {kind} {self.calling!r} -> {self.called!r}, {self.presentation_count} contexts>"

    # ------------------------------------------------------------------ fixed fields

    @property
    def version(self) -> int:
        """Protocol version, 16 bits; receivers test bit 0 alone (PS3.8 section 9.3.2)."""
        return self._version

    @version.setter
    def version(self, value: int) -> None:
        if not 0 <= value <= 0xFFFF:
            refuse(f"version {value} does not fit its 16 bits")
        self._version = value

    @property
    def called(self) -> str:
        """Called AE title without padding: up to 16 characters, no backslash, no controls, not blank."""
        return self._called.strip("\0 ")

    @called.setter
    def called(self, value: str) -> None:
        self._called = check_title(value, "called AE title")

    @property
    def calling(self) -> str:
        """Calling AE title without padding."""
        return self._calling.strip("\0 ")

    @calling.setter
    def calling(self, value: str) -> None:
        self._calling = check_title(value, "calling AE title")

    @property
    def application_context(self) -> str:
        """Application context name; any but DICOM's is answered with reject (1,1,2)."""
        return self._application_context

    @application_context.setter
    def application_context(self, value: str) -> None:
        self._application_context = check_uid(value)

    # ------------------------------------------------------------------ presentation contexts

    @property
    def presentation_count(self) -> int:
        """How many presentation contexts there are, rejected ones included; 128 at most (PS3.8 section 9.3.2.2)."""
        return len(self._contexts)

    @property
    def presentation_ids(self) -> list[int]:
        """The ids in the order of the PDU."""
        return [context.id for context in self._contexts]

    def presentation(self, index: int) -> int:
        """The id of the context at an `index` of the PDU's order; IndexError beyond the last."""
        return self._contexts[check_index(index, len(self._contexts))].id

    def set_presentation(self, index: int, id: int) -> None:
        """Give the context at an `index` another `id`, odd, 1 to 255 and free; role and extended data stay with it."""
        context = self._contexts[check_index(index, len(self._contexts))]
        check_id(id, [other.id for other in self._contexts if other is not context])
        context.id = id

    def add_presentation(self, id: int, result: int = 0, abstract: str = "", transfer: Iterable[str] = ()) -> int:
        """Add a context behind the others, and give back its `id`, which is odd, 1 to 255 and free.

        `result` is as for `set_result`.  `abstract` is the SOP class UID; "" leaves it to `set_abstract`.  `transfer`
        are UIDs, the preferred one first: one or more in a request, one in an accept.  InvalidAssociate for the 129th.
        """
        if len(self._contexts) >= MAX_CONTEXTS:
            refuse(f"{MAX_CONTEXTS} presentation contexts are there already: the ids are used up")
        check_id(id, self.presentation_ids)
        made = _Context(
            id, check_uid(abstract) if abstract else "", check_result(result), [check_uid(uid) for uid in transfer]
        )
        if not self.request and len(made.transfer) > 1:
            refuse("an accepted context has exactly one transfer syntax")
        self._contexts.append(made)
        return id

    def delete_presentation(self, id: int) -> None:
        """Remove the context `id`; with the last one of its class go role and extended data."""
        context = self._context(id)
        self._contexts.remove(context)
        if context.abstract and all(one.abstract != context.abstract for one in self._contexts):
            self._items = [item for item in self._items if not is_of(item, context.abstract)]

    def result(self, id: int) -> int:
        """Of context `id`: 0 accepted, 1 user rejection, 2 no reason, 3 unknown class, 4 no common transfer syntax."""
        return self._context(id).result

    def set_result(self, id: int, result: int) -> None:
        """Answer the context `id` with a `result` of 0 to 4 (`PresentationResult`); a request does not send it."""
        self._context(id).result = check_result(result)

    def abstract(self, id: int) -> str:
        """The abstract syntax of the context `id`; empty in an accept that was not joined with its request."""
        return self._context(id).abstract

    def set_abstract(self, id: int, uid: str) -> None:
        """Make `uid` the class of `id`; role and extended data come along unless those of that class have their own."""
        context = self._context(id)
        before, context.abstract = context.abstract, check_uid(uid)
        if before != uid:
            self._move(RoleSelection, before, uid)
            self._move(ExtendedNegotiation, before, uid)

    def find_abstract(self, uid: str, after: int = 0, transfer: str | None = None) -> int:
        """The id of the first context of the class `uid` behind the context with id `after`; 0 when there is none.

        `after` 0 starts with the first; `transfer`, a UID, must be among its transfer syntaxes; None takes any.  Never
        a context that an accept rejects.
        """
        start = self._contexts.index(self._context(after)) + 1 if after else 0
        found = (one.id for one in self._contexts[start:] if self._matches(one, uid, transfer))
        return next(found, 0)

    def abstract_count(self, uid: str) -> int:
        """How many contexts of the class `uid` `find_abstract` would find."""
        return sum(self._matches(context, uid, None) for context in self._contexts)

    def transfer_count(self, id: int) -> int:
        """How many transfer syntaxes the context `id` has: those proposed, or the one of an accept."""
        return len(self._context(id).transfer)

    def transfer(self, id: int, index: int = 0) -> str:
        """A transfer syntax of `id`, `index` 0 the preferred one; it means nothing where the context was refused."""
        syntaxes = self._context(id).transfer
        return syntaxes[check_index(index, len(syntaxes))]

    def set_transfer(self, id: int, index: int, uid: str) -> None:
        """Put the transfer syntax `uid` in place of the one at an `index` of the context `id`."""
        syntaxes = self._context(id).transfer
        syntaxes[check_index(index, len(syntaxes))] = check_uid(uid)

    def add_transfer(self, id: int, uid: str) -> None:
        """Add the transfer syntax `uid` behind those of the context `id`; an accept has one, a second is refused."""
        context = self._context(id)
        if not self.request and context.transfer:
            refuse(f"context {id} has its transfer syntax: an accepted context has exactly one")
        context.transfer.append(check_uid(uid))

    def delete_transfer(self, id: int, index: int) -> None:
        """Remove the transfer syntax at an `index` of the context `id`."""
        syntaxes = self._context(id).transfer
        del syntaxes[check_index(index, len(syntaxes))]

    # ------------------------------------------------------------------ user information with a name

    @property
    def max_length(self) -> int | None:
        """The longest P-DATA-TF that the sender takes, bytes (51H); 0 is no limit, None leaves the item out."""
        item = self._first(MaximumLength)
        return None if item is None else item.length

    @max_length.setter
    def max_length(self, value: int | None) -> None:
        check_length(value)
        self._set(MaximumLength, None if value is None else MaximumLength(value))

    @property
    def implementation_class_uid(self) -> str | None:
        """Who made the sender (52H); mandatory, though some peers leave it out."""
        item = self._first(ImplementationClassUID)
        return None if item is None else item.uid

    @implementation_class_uid.setter
    def implementation_class_uid(self, value: str | None) -> None:
        self._set(ImplementationClassUID, None if value is None else ImplementationClassUID(check_uid(value)))

    @property
    def implementation_version(self) -> str | None:
        """The sender's version name (55H), 1 to 16 characters; longer ones are kept on receipt."""
        item = self._first(ImplementationVersionName)
        return None if item is None else item.name

    @implementation_version.setter
    def implementation_version(self, value: str | None) -> None:
        check_version(value)
        self._set(ImplementationVersionName, None if value is None else ImplementationVersionName(value))

    @property
    def async_operations(self) -> tuple[int, int] | None:
        """(invoked, performed) of the requestor (53H); 0 is any number, None, which means 1 and 1, leaves it out."""
        item = self._first(AsynchronousOperationsWindow)
        return None if item is None else (item.invoked, item.performed)

    @async_operations.setter
    def async_operations(self, value: tuple[int, int] | None) -> None:
        if value is not None and not all(0 <= count <= 0xFFFF for count in value):
            refuse(f"operations {value}: 0 (any number) to 65535")
        self._set(AsynchronousOperationsWindow, None if value is None else AsynchronousOperationsWindow(*value))

    def has_role(self, id: int) -> bool:
        """True when roles are negotiated for the class of the context `id` (54H, PS3.7 D.3.3.4)."""
        return self._of_class(RoleSelection, self._context(id).abstract) is not None

    def user_role(self, id: int) -> bool:
        """True when the requestor may be user of the class of `id`; so it is where nothing is negotiated."""
        item = self._of_class(RoleSelection, self._context(id).abstract)
        return True if item is None else item.user

    def provider_role(self, id: int) -> bool:
        """True when the requestor may be provider of the class of `id`; False where nothing is negotiated."""
        item = self._of_class(RoleSelection, self._context(id).abstract)
        return False if item is None else item.provider

    def set_role(self, id: int, user: bool | None, provider: bool = False) -> None:
        """Let the requestor be `user`, `provider` or both for the class of `id`; `user` None ends the negotiation."""
        uid = self._class_of(id)
        item = None if user is None else RoleSelection(uid, bool(user), bool(provider))
        self._put(item, self._of_class(RoleSelection, uid))

    def extended(self, id: int) -> bytes | None:
        """Extended negotiation of the class of the context `id` (56H, PS3.7 D.3.3.5); None when there is none."""
        item = self._of_class(ExtendedNegotiation, self._context(id).abstract)
        return None if item is None else item.information

    def set_extended(self, id: int, data: bytes | None) -> None:
        """Extended negotiation `data` of the class of `id`, up to 65533 bytes with the UID; None takes it away."""
        uid = self._class_of(id)
        item = None if data is None else ExtendedNegotiation(uid, bytes(data))
        if item is not None:
            encodable(item)
        self._put(item, self._of_class(ExtendedNegotiation, uid))

    # ------------------------------------------------------------------ any other user information

    @property
    def user_info(self) -> list[tuple[int, bytes]]:
        """(type, bytes) of each sub-item that has no name here, in order: 57H to 59H and what is not yet known."""
        return [(data[0], data[4:]) for data in (item.encode() for item in self._others())]

    def add_user_info(self, type: int, data: bytes) -> None:
        """Add a sub-item: its `type`, one byte, not 51H to 56H, which have names here, and up to 65535 bytes `data`."""
        self._items.append(user_item(type, data))

    def set_user_info(self, index: int, type: int, data: bytes) -> None:
        """Put a sub-item in place of the one at an `index` of `user_info`; `type` and `data` as for `add_user_info`."""
        others = self._others()
        self._put(user_item(type, data), others[check_index(index, len(others))])

    def delete_user_info(self, index: int) -> None:
        """Remove the sub-item at an `index` of `user_info`."""
        others = self._others()
        self._put(None, others[check_index(index, len(others))])

    # ------------------------------------------------------------------ how it is kept

    def _context(self, id: int) -> _Context:
        found = next((context for context in self._contexts if context.id == id), None)
        if found is None:
            refuse(f"there is no presentation context {id}; there are {self.presentation_ids}")
        return found

    def _class_of(self, id: int) -> str:
        uid = self._context(id).abstract
        if not uid:
            refuse(f"context {id} has no abstract syntax yet: roles and extended data go by it")
        return uid

    def _matches(self, context: _Context, uid: str, transfer: str | None) -> bool:
        usable = self.request or context.result == ACCEPTANCE
        return usable and context.abstract == uid and (transfer is None or transfer in context.transfer)

    def _first(self, kind: type[Item]) -> Item | None:
        return next((item for item in self._items if isinstance(item, kind)), None)

    def _of_class(self, kind: type[Keyed], uid: str) -> Keyed | None:
        found = (item for item in self._items if isinstance(item, kind) and item.sop_class_uid == uid)
        return next(found, None) if uid else None

    def _move(self, kind: type[Keyed], before: str, uid: str) -> None:
        """A context of one class became one of another."""
        item, own = self._of_class(kind, before), self._of_class(kind, uid)
        left = any(context.abstract == before for context in self._contexts)
        if item is not None and own is None:
            self._put(replace(item, sop_class_uid=uid), None if left else item)
        elif item is not None and not left:
            self._put(None, item)

    def _others(self) -> list[UserItem]:
        return [item for item in self._items if not isinstance(item, NAMED_ITEMS)]

    def _set(self, kind: type[Item], item: Item | None) -> None:
        self._put(item, self._first(kind))

    def _put(self, item: UserItem | None, old: UserItem | None) -> None:
        """Put an item where an old one is, or at the end; None takes the old one away."""
        place = next((index for index, found in enumerate(self._items) if found is old), len(self._items))
        self._items[place : place + 1] = [] if item is None else [item]
