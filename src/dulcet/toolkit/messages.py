"""Every message as a pair of methods, read off the one table of messages (PS3.7 sections 9.3 and 10.3).

Rule: `send_x` takes what `on_receive_x` is given, in the same order: presentation id, message id, class, instance, then
by tag what the message has besides, but the priority of a C-MOVE before its destination, as users know it; its data set
last; the details of a failure only by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dulcet.dimse.command import MEDIUM, Command
from dulcet.dimse.elements import COMMAND_TAGS
from dulcet.dimse.messages import MESSAGES, CommandField, DataSetRule
from dulcet.dimse.source import FileSpan, Source
from dulcet.dimse.status import received_status
from dulcet.io.instances import Instance, examine
from dulcet.services.identifiers import decode_dataset, encode_dataset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["ALIASES", "ALL", "BY_FIELD", "DataSet", "DataSetSource", "Message", "encoded"]

LEADING: Final = ("message_id", "class_uid", "instance_uid")
NAMES: Final = {
    "MessageID": "message_id",
    "MessageIDBeingRespondedTo": "message_id",
    "AffectedSOPClassUID": "class_uid",
    "RequestedSOPClassUID": "class_uid",
    "AffectedSOPInstanceUID": "instance_uid",
    "RequestedSOPInstanceUID": "instance_uid",
    "MoveDestination": "move_destination",
    "Priority": "priority",
    "Status": "status",
    "EventTypeID": "event_type_id",
    "ActionTypeID": "action_type_id",
    "AttributeIdentifierList": "attributes",
    "NumberOfRemainingSuboperations": "remaining",
    "NumberOfCompletedSuboperations": "completed",
    "NumberOfFailedSuboperations": "failed",
    "NumberOfWarningSuboperations": "warning",
    "MoveOriginatorApplicationEntityTitle": "move_originator_ae",
    "MoveOriginatorMessageID": "move_originator_id",
}
DETAILS: Final = {"OffendingElement": "offending_element", "ErrorComment": "error_comment", "ErrorID": "error_id"}
ABSENT: Final[dict[str, object]] = {"priority": MEDIUM, "message_id": 0, "attributes": ()}
"""What a callback is told of an element that did not come; None of any other."""


class DataSet:
    """A received data set, encoded: in memory, or behind our file meta in a file; `dataset()` decodes it.

    `data` are its bytes, in the transfer syntax with the UID `transfer_syntax`; None where it was streamed to the file
    `path` instead.  `bytes(data_set)` gives the bytes of either.
    """

    __slots__ = ("data", "path", "transfer_syntax")

    def __init__(self, data: bytes | None, transfer_syntax: str, path: Path | None = None) -> None:
        self.data: bytes | None = data
        self.transfer_syntax: str = transfer_syntax
        self.path: Path | None = path
        """Where it was streamed to; `data` is None then."""

    def __bytes__(self) -> bytes:
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()[examine(self.path).location.offset :]

    def dataset(self) -> Dataset:
        """As a pydicom Dataset; ReceiveError (C000H) when it does not decode."""
        if self.data is not None:
            return decode_dataset(self.data, self.transfer_syntax)
        from pydicom import dcmread

        assert self.path is not None
        return dcmread(self.path)


DataSetSource: TypeAlias = "Source | DataSet | Dataset | str | os.PathLike[str] | None"
"""A data set to send: encoded bytes, a pydicom Dataset, a received DataSet, or the path of a DICOM file."""


def encoded(source: Any, transfer_syntax: str) -> tuple[Source | None, Instance | None]:
    """The bytes that travel in a transfer syntax, and the open file that they may lie in."""
    if isinstance(source, DataSet):
        source = source.path if source.data is None else source.data
    if isinstance(source, str | os.PathLike):
        instance = examine(source)
        if instance.transfer_syntax != transfer_syntax:
            return instance.converted((transfer_syntax,))[0], None
        return instance.open(), instance
    if source is None or isinstance(source, bytes | bytearray | memoryview | FileSpan):
        return source or None, None
    return encode_dataset(source, transfer_syntax)[0] or None, None


@dataclass(frozen=True)
class Message:
    """One message as its two methods see it."""

    name: str
    """`c_store_request` and the like."""
    field: CommandField
    keywords: Mapping[str, str]
    """Parameters behind the presentation id, in their order, and the keywords they stand for."""
    details: Mapping[str, str]
    """Parameters that can only be named."""
    has_data_set: bool
    is_response: bool
    signature: Signature

    def make(self, values: Mapping[str, Any], *, data_set: bool) -> Command:
        """The command set; LocalProtocolError for what the message table does not allow."""
        elements: dict[str, Any] = {
            keyword: values.get(name) for name, keyword in (*self.keywords.items(), *self.details.items())
        }
        return Command.make(self.field, data_set=data_set, **elements)

    def arguments(self, command: Command, asked: Command | None, data_set: DataSet | None) -> list[Any]:
        """What the callback is given behind the presentation id; UIDs that a response leaves out are the request's."""
        given: list[Any] = []
        for name, keyword in self.keywords.items():
            value = command.elements.get(COMMAND_TAGS[keyword])
            if name == "status":
                value = received_status(value)
            elif value is None and asked is not None and name in LEADING:
                value = asked.sop_class_uid if name == "class_uid" else asked.sop_instance_uid
            given.append(ABSENT.get(name) if value is None else value)
        return [*given, data_set] if self.has_data_set else given


def _message(field: CommandField) -> Message:
    definition = MESSAGES[field]
    keywords = sorted(definition.required + definition.optional, key=COMMAND_TAGS.__getitem__)
    # Of a response, Attribute Identifier List says what was wrong: a field related to the status (PS3.7 Annex C).
    details = {**DETAILS, **({"AttributeIdentifierList": "attributes"} if definition.is_response else {})}
    named = {NAMES[keyword]: keyword for keyword in keywords if keyword not in details}
    order = [name for name in LEADING if name in named] + [name for name in named if name not in LEADING]
    has_data_set = definition.data_set is not DataSetRule.NEVER
    options = {details[keyword]: keyword for keyword in keywords if keyword in details}
    if "move_destination" in order:
        order.insert(order.index("move_destination"), order.pop(order.index("priority")))
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in ("self", "presentation_id")]
    optional = False
    for name in order:
        optional |= (name == "priority" and "move_destination" not in order) or named[name] in definition.optional
        default = (MEDIUM if name == "priority" else None) if optional else Parameter.empty
        parameters.append(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default))
    if has_data_set:
        parameters.append(Parameter("data_set", Parameter.POSITIONAL_OR_KEYWORD, default=None))
    parameters += [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in options]
    words = field.name.lower().removesuffix("_rq").removesuffix("_rsp")
    return Message(
        f"{words}_{'response' if definition.is_response else 'request'}",
        field,
        {name: named[name] for name in order},
        options,
        has_data_set,
        definition.is_response,
        Signature(parameters),
    )


ALL: Final = tuple(_message(field) for field in MESSAGES)
ALIASES: Final = {"n_report_request": "n_event_report_request", "n_report_response": "n_event_report_response"}
"""Names that the field has besides: `send_…` and `on_receive_…` of the left are those of the right."""
BY_FIELD: Final = {int(message.field): message for message in ALL}
