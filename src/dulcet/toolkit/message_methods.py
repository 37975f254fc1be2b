"""The methods of all messages, made from their table.

The .pyi beside this module shows them to type checkers and editors; tools/generate_message_stubs.py writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dulcet.dimse.messages import RESPONSE, CommandField
from dulcet.toolkit.messages import ALIASES, ALL, Message

__all__ = ["MessageMethods"]

EVERYWHERE: Final = {
    "presentation_id": "id of the accepted presentation context that it travels on.",
    "priority": "0 medium, 1 high, 2 low (`Priority`).",
    "move_destination": "AE title that the instances are to be sent to, up to 16 characters.",
    "move_originator_ae": "AE title of who asked for the C-MOVE that this is a sub-operation of; None: of no C-MOVE.",
    "move_originator_id": "message id of the request for that C-MOVE.",
    "event_type_id": "number of the event, as the SOP class defines it.",
    "action_type_id": "number of the action, as the SOP class defines it.",
    "remaining": "sub-operations still to be done; None: not said.  So are the next three.",
    "completed": "sub-operations done without failure or warning.",
    "failed": "sub-operations that failed.",
    "warning": "sub-operations done with a warning.",
}
"""What the parameters mean in every message that has them; where that differs, the tables below go before."""
SENT: Final = {
    "data_set": "encoded bytes, a pydicom Dataset, a received `DataSet` or the path of a DICOM file; None: none.",
    "offending_element": "tags that a failure is about (0000,0901); None: not said.",
    "error_comment": "what failed, up to 64 characters of ASCII (0000,0902).",
    "error_id": "a number of the application's for the failure (0000,0903).",
}
REQUEST_SENT: Final = {
    "message_id": "0 to 65535 and of no other open request; None takes the next one.",
    "class_uid": "SOP Class UID.",
    "instance_uid": "SOP Instance UID.",
    "attributes": "tags of what is asked for; None or none of them asks for all.",
}
RESPONSE_SENT: Final = {
    "message_id": "that of the request that is answered.",
    "class_uid": "SOP Class UID; None repeats that of the request.",
    "instance_uid": "SOP Instance UID; None repeats that of the request.",
    "status": "a `Status` or its number, which has no default.",
    "event_type_id": "number of the event; None leaves it out.",
    "action_type_id": "number of the action; None leaves it out.",
    "attributes": "tags of the Attribute Identifier List (0000,1005); None: not said.",
}
RECEIVED: Final = {
    "message_id": "that of the request, for its answer.",
    "class_uid": "SOP Class UID; None where it did not come.",
    "instance_uid": "SOP Instance UID; None where it did not come.",
    "status": "a `Status`; one that did not come is 0110H.",
    "attributes": "tags of what is asked for; empty asks for all.",
    "data_set": "a `DataSet`, still encoded; None where none came.",
}
RESPONSE_RECEIVED: Final = {
    "message_id": "that of our request.",
    "class_uid": "SOP Class UID; that of the request where the response does not say it.",
    "instance_uid": "SOP Instance UID; that of the request where the response does not say it.",
}
RAISES: Final = """

Raises LocalProtocolError without a connection, for a context that was not accepted, for a value that the message may
not hold or needs and was not given, and for what the association does not allow now; InstanceError for a data set that
cannot be sent.  Nothing goes out then."""
CLAUSES: Final = {
    CommandField.C_STORE_RQ: "9.3.1",
    CommandField.C_FIND_RQ: "9.3.2",
    CommandField.C_GET_RQ: "9.3.3",
    CommandField.C_MOVE_RQ: "9.3.4",
    CommandField.C_ECHO_RQ: "9.3.5",
    CommandField.C_CANCEL_RQ: "9.3.2.3, 9.3.3.3 and 9.3.4.3",
    CommandField.N_EVENT_REPORT_RQ: "10.3.1",
    CommandField.N_GET_RQ: "10.3.2",
    CommandField.N_SET_RQ: "10.3.3",
    CommandField.N_ACTION_RQ: "10.3.4",
    CommandField.N_CREATE_RQ: "10.3.5",
    CommandField.N_DELETE_RQ: "10.3.6",
}
"""Of PS3.7, for the request and its response."""
PECULIAR: Final = {
    "send_c_cancel_request": {"message_id": "that of the request that is to be cancelled."},
    "on_receive_c_cancel_request": {"message_id": "that of the request that is to be cancelled."},
    "send_n_create_request": {"instance_uid": "SOP Instance UID; None has the peer make one: its response says which."},
    "send_n_create_response": {
        "instance_uid": "SOP Instance UID; None repeats that of the request: name the one made where it had none."
    },
}


class MessageMethods:
    """`send_x_request`, `send_x_response` and what is called when one arrives, for every message that there is."""


def _sender(message: Message) -> Callable[..., int]:
    parameters = [one for one in message.signature.parameters.values() if one.name != "self"]
    ordered = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    known = {one.name for one in parameters}

    def send(self: Any, *positional: Any, **named: Any) -> int:
        values = {**defaults, **dict(zip(ordered, positional)), **named}
        if (
            len(positional) > len(ordered)
            or values.keys() != known
            or (named and not named.keys().isdisjoint(ordered[: len(positional)]))
        ):
            message.signature.bind(self, *positional, **named)  # slow: only for its sentence of what is wrong
        sent: int = self._send_message(message, values)
        return sent

    return _dressed(send, message, "send", "Queue {name} (PS3.7 section{clause}) and give back its message id.")


def _receiver(message: Message) -> Callable[..., None]:
    alias = {name: short for short, name in ALIASES.items()}.get(message.name)

    def receive(self: Any, presentation_id: int, message_id: int, *arguments: Any) -> None:
        if alias is not None:  # who overrides the field's name is called by it
            getattr(self, f"on_receive_{alias}")(presentation_id, message_id, *arguments)
        else:
            unprovided(self, presentation_id, message_id, *arguments)

    def unprovided(self: Any, presentation_id: int, message_id: int, *arguments: Any) -> None:
        if message.field | RESPONSE in _ANSWERS:
            self._answer_unprovided(message_id)

    if alias is not None:
        short = _dressed(unprovided, message, "on_receive", f"`on_receive_{message.name}` by the field's name of it.")
        _add(short, f"on_receive_{alias}")
    first = "{name} (PS3.7 section{clause}) came; override it, or assign a function to it."
    if message.field | RESPONSE in _ANSWERS and not message.is_response:
        status = "0000H" if message.field == CommandField.C_ECHO_RQ else "0122H"
        first += f"\n\nUnless one of these is done, the answer is {status}."
    return _dressed(receive, message, "on_receive", first)


def _add(method: Any, name: str) -> None:
    method.__name__, method.__qualname__ = name, f"Net.{name}"
    setattr(MessageMethods, name, method)


_ANSWERS = frozenset(message.field for message in ALL if message.is_response)


def _dressed(function: Any, message: Message, prefix: str, doc: str) -> Any:
    function.__name__ = f"{prefix}_{message.name}"
    function.__qualname__ = f"Net.{function.__name__}"
    function.__doc__ = _explained(message, prefix, doc)
    parameters = list(message.signature.parameters.values())
    if prefix == "on_receive":  # it is given everything, and no details
        bare = [one.replace(default=one.empty) for one in parameters if one.kind is not one.KEYWORD_ONLY]
        function.__signature__ = message.signature.replace(parameters=bare)
    else:
        function.__signature__ = message.signature
    return function


def _explained(message: Message, prefix: str, first: str) -> str:
    """The whole docstring: its first line, every parameter, and what is raised."""
    sent = prefix == "send"
    tables = [EVERYWHERE, SENT if sent else RECEIVED]
    if sent:
        tables.append(RESPONSE_SENT if message.is_response else REQUEST_SENT)
    elif message.is_response:
        tables.append(RESPONSE_RECEIVED)
    meanings = {name: text for table in tables for name, text in table.items()}
    meanings.update(PECULIAR.get(f"{prefix}_{message.name}", {}))
    parameters = message.signature.parameters.values()
    names = [one.name for one in parameters if one.name != "self" and (sent or one.kind is not one.KEYWORD_ONLY)]
    request = CommandField(message.field & ~RESPONSE)
    clause = CLAUSES[request]
    name = f"{'an' if message.field.name.startswith('N') else 'a'} {message.field.name.replace('_', '-')}"
    name = name if sent else name[0].upper() + name[1:]
    head = first.format(name=name, clause=f"{'s' if 'and' in clause else ''} {clause}")
    return "\n".join([head, "", *(f"* `{name}`: {meanings[name]}" for name in names)]) + (RAISES if sent else "")


for _one in ALL:
    for _made in (_sender(_one), _receiver(_one)):
        setattr(MessageMethods, _made.__name__, _made)
for _short, _long in ALIASES.items():
    _add(_sender(next(_one for _one in ALL if _one.name == _long)), f"send_{_short}")
