"""Requests that no well-behaved user makes: encoded data sets of one's own making."""

from __future__ import annotations

from typing import Any

import dulcet
from dulcet.dimse.command import Command
from dulcet.services.results import Response, response_of

GARBAGE = b"\x08\x00\x99\x11SQ\x00\x00\xff\xff\xff\xffjunkjunkjunk"
"""A sequence that never ends, in explicit VR little endian."""


def ask(association: dulcet.Association, field: int, context: str, data: bytes | None, **elements: Any) -> Response:
    """The response to a request made of these command elements and bytes."""
    core = association._core
    command = Command.make(field, validate=False, data_set=data is not None, **elements)
    operation = core.invoke(core.need_context(context), command, data)
    return response_of(association._response_to(operation))
