"""What a handler is given: values that may be read in any thread, without I/O of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dulcet.dimse.command import Command
from dulcet.dimse.operations import Request as CoreRequest
from dulcet.services.extended import Extended
from dulcet.services.models import InformationModel, model_of
from dulcet.upper_layer.negotiation import PresentationContext

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

__all__ = [
    "FindRequest",
    "NormalizedRequest",
    "Request",
    "Requestor",
    "RetrieveRequest",
    "StoreRequest",
]


@dataclass(frozen=True, slots=True)
class Requestor:
    """Who asks."""

    calling_ae_title: str
    called_ae_title: str
    peer: str
    """host:port as seen."""
    identity: Any = None
    """What the identity verifier gave for the user identity (PS3.7 D.3.3.7); None without one."""
    extended: Callable[[str], Extended | None] = field(default=lambda _: None, compare=False, repr=False)
    """What was agreed on in the extended negotiation of a SOP class (PS3.7 D.3.3.5); None for nothing."""

    @property
    def who(self) -> str:
        """Address and calling AE title, as lines of a log begin."""
        return f"{self.peer} {self.calling_ae_title!a}"


@dataclass(slots=True)
class Request:
    """C-ECHO-RQ; and what every request has."""

    requestor: Requestor
    context: PresentationContext
    command: Command
    _core: CoreRequest = field(repr=False)

    @property
    def message_id(self) -> int:
        return self._core.message_id

    @property
    def sop_class_uid(self) -> str:
        """The affected or requested SOP class, else the abstract syntax of the presentation context."""
        return self.command.sop_class_uid or self.context.abstract_syntax

    @property
    def sop_instance_uid(self) -> str:
        return self.command.sop_instance_uid or ""

    @property
    def transfer_syntax(self) -> str:
        return self.context.transfer_syntax

    @property
    def cancelled(self) -> bool:
        """True once the peer sent C-CANCEL for it: stop at the next good moment."""
        return self._core.cancelled


@dataclass(slots=True)
class StoreRequest(Request):
    """C-STORE-RQ, its data set received: in memory, or kept where `path` says when the node has a place for it."""

    data: bytes | None = None
    path: Path | None = None
    """The file, where the node stores to a folder; with a `Destination` of yours, what its `commit` gave."""

    def dataset(self) -> Dataset:
        """The data set, decoded by pydicom; ReceiveError (C000H) when it does not decode."""
        from dulcet.services.identifiers import decode_dataset

        if self.path is not None:
            from pydicom import dcmread

            return dcmread(self.path)
        assert self.data is not None
        return decode_dataset(self.data, self.transfer_syntax)


@dataclass(slots=True)
class FindRequest(Request):
    """C-FIND-RQ with its identifier decoded."""

    identifier: Dataset = field(kw_only=True)

    @property
    def level(self) -> str:
        """Query/Retrieve Level, "" where the model has none."""
        return str(self.identifier.get("QueryRetrieveLevel", "") or "").strip()

    @property
    def model(self) -> InformationModel | None:
        """The information model; None for a private SOP class."""
        return model_of(self.sop_class_uid)


@dataclass(slots=True)
class RetrieveRequest(FindRequest):
    """C-GET-RQ or C-MOVE-RQ with its identifier decoded; `destination` is that of a C-MOVE."""

    destination: str | None = field(default=None, kw_only=True)


@dataclass(slots=True)
class NormalizedRequest(Request):
    """An N-service request, its data set decoded (an empty Dataset where there is none)."""

    dataset: Dataset = field(kw_only=True)

    @property
    def attributes(self) -> Sequence[int]:
        """N-GET: Attribute Identifier List; empty asks for all."""
        return self.command.attribute_identifier_list or ()

    @property
    def action_type(self) -> int | None:
        """N-ACTION: Action Type ID."""
        return self.command.action_type_id

    @property
    def event_type(self) -> int | None:
        """N-EVENT-REPORT: Event Type ID."""
        return self.command.event_type_id
