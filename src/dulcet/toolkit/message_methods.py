"""The methods of all messages, made from their table.

The .pyi beside this module shows them to type checkers and editors; tools/generate_message_stubs.py writes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dulcet.dimse.messages import RESPONSE
from dulcet.toolkit.messages import ALIASES, ALL, Message

__all__ = ["MessageMethods"]


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

    name = message.field.name.replace("_", "-")
    what = "message id None takes the next one" if not message.is_response else "what is None is that of its request"
    return _dressed(send, message, "send", f"Queue a {name}, {what}; its message id.")


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

    name = message.field.name.replace("_", "-")
    if alias is not None:
        short = _dressed(unprovided, message, "on_receive", f"`on_receive_{message.name}` by the field's name of it.")
        _add(short, f"on_receive_{alias}")
    return _dressed(receive, message, "on_receive", f"A {name} came; override it, or assign a function to it.")


def _add(method: Any, name: str) -> None:
    method.__name__, method.__qualname__ = name, f"Net.{name}"
    setattr(MessageMethods, name, method)


_ANSWERS = frozenset(message.field for message in ALL if message.is_response)


def _dressed(function: Any, message: Message, prefix: str, doc: str) -> Any:
    function.__name__ = f"{prefix}_{message.name}"
    function.__qualname__ = f"Net.{function.__name__}"
    function.__doc__ = doc
    parameters = list(message.signature.parameters.values())
    if prefix == "on_receive":  # it is given everything, and no details
        bare = [one.replace(default=one.empty) for one in parameters if one.kind is not one.KEYWORD_ONLY]
        function.__signature__ = message.signature.replace(parameters=bare)
    else:
        function.__signature__ = message.signature
    return function


for _one in ALL:
    for _made in (_sender(_one), _receiver(_one)):
        setattr(MessageMethods, _made.__name__, _made)
for _short, _long in ALIASES.items():
    _add(_sender(next(_one for _one in ALL if _one.name == _long)), f"send_{_short}")
