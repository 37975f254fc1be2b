"""Sentences for what an association cannot do: who, what, and what to change.

Rule: no state; called where an exception is raised, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Iterable

from dulcet.dimse.command import Command
from dulcet.dimse.messages import RESPONSE, CommandField
from dulcet.dimse.operations import Operation
from dulcet.uids import name_of
from dulcet.upper_layer.pdu import AssociateRQ

__all__ = ["not_accepted", "too_many", "unfit"]


def not_accepted(
    request: AssociateRQ | None, requestor: bool, sop_class: str, syntax: str | None, accepted: Iterable[str]
) -> str:
    """No context carries this class and transfer syntax; `accepted` are the syntaxes that it was accepted in."""
    title = None if request is None else request.called if requestor else request.calling
    who = "the peer" if title is None else ascii(title)[1:-1]
    what = _named(sop_class) + (f" in {_named(syntax)}" if syntax else "")
    instead = ", ".join(map(_named, accepted)) or "no context of that class"
    return f"{who} did not accept {what}; it accepted {instead}; propose what it takes, `dulcet negotiate` shows that"


def too_many(outstanding: Iterable[Operation]) -> str:
    """One operation more than was agreed on."""
    fields = [operation.field for operation in outstanding]
    sentence = f"{len(fields)} operations are outstanding, as many as were agreed on; await a response first"
    if CommandField.C_FIND_RQ in fields:
        sentence += (
            "; a C-FIND is under way: inside a loop over its answers, take all of them before, "
            "list(association.find(...)), or ask on another association"
        )
    return sentence


def unfit(command: Command, context_id: int, outstanding: Iterable[Operation]) -> str:
    """An answer that fits none of these, and so no other is to be expected for them."""
    expected = ", ".join(
        f"{Command({0x0100: operation.field | RESPONSE}).name} to message {operation.message_id} on context "
        f"{operation.context.context_id}"
        for operation in outstanding
    )
    answered = command.message_id_being_responded_to
    to = "no message" if answered is None else f"message {answered}"
    return f"the peer answered with {command.name} to {to} on context {context_id}; expected {expected}"


def _named(uid: str) -> str:
    name = name_of(uid)
    return uid if name == uid else f"{uid} ({name})"
