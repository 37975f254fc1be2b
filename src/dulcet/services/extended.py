"""SOP class extended negotiation of query/retrieve (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1), typed; others travel as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from dulcet.services.models import model_of

__all__ = ["Extended", "QueryOptions", "RetrieveOptions", "agree", "encode_extended", "options_for"]


class _Flags:
    """Booleans, a byte each in the order of the page; bytes that are missing are off."""

    __slots__ = ()

    def encode(self) -> bytes:
        """The Service-class-application-information, without the trailing bytes that are off, as older peers expect."""
        flags = [bool(getattr(self, found.name)) for found in fields(self)]  # type: ignore[arg-type]
        while len(flags) > 1 and not flags[-1]:
            flags.pop()
        return bytes(flags)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Any bytes; 1 is on, everything else off, further bytes are passed over."""
        names = [found.name for found in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: byte == 1 for name, byte in zip(names, data, strict=False)})

    def __and__(self, other: Self) -> Self:
        """What both sides want."""
        names = [found.name for found in fields(self)]  # type: ignore[arg-type]
        return type(self)(**{name: getattr(self, name) and getattr(other, name) for name in names})


@dataclass(frozen=True, slots=True)
class QueryOptions(_Flags):
    """For C-FIND (PS3.4 Table C.5.1-1)."""

    relational: bool = False
    """Relational queries: keys of any level, without the unique keys above it."""
    date_time: bool = False
    """A date and a time range match as one range."""
    fuzzy: bool = False
    """Fuzzy semantic matching of person names."""
    time_zone: bool = False
    """Times are compared across time zones."""
    enhanced_multi_frame: bool = False
    """Enhanced multi-frame image conversion."""


@dataclass(frozen=True, slots=True)
class RetrieveOptions(_Flags):
    """For C-MOVE and C-GET (PS3.4 Tables C.5.2-1 and C.5.3-1)."""

    relational: bool = False
    """Relational retrieval: unique keys of the level alone."""
    enhanced_multi_frame: bool = False
    """Enhanced multi-frame image conversion."""


Extended = bytes | QueryOptions | RetrieveOptions
"""Service-class-application-information: typed for query/retrieve, raw for the rest."""


def encode_extended(extended: Mapping[str, Extended]) -> dict[str, bytes]:
    """SOP class UID -> application information, as bytes."""
    return {uid: value if isinstance(value, bytes) else value.encode() for uid, value in extended.items()}


def options_for(sop_class_uid: str, data: bytes) -> Extended:
    """The typed options of a query/retrieve SOP class; the bytes as they are for any other."""
    model = model_of(sop_class_uid)
    if model is None:
        return data
    return QueryOptions.decode(data) if sop_class_uid == model.find else RetrieveOptions.decode(data)


def agree(supported: Mapping[str, Extended], proposed: Mapping[str, bytes]) -> dict[str, bytes]:
    """An acceptor's answer: for each SOP class that both name, the options that both want; bytes as we support them."""
    answer: dict[str, bytes] = {}
    for uid, data in proposed.items():
        ours = supported.get(uid)
        if ours is None:
            continue
        theirs = options_for(uid, data)
        if isinstance(ours, QueryOptions) and isinstance(theirs, QueryOptions):  # noqa: SIM114 - they do not mix
            answer[uid] = (ours & theirs).encode()
        elif isinstance(ours, RetrieveOptions) and isinstance(theirs, RetrieveOptions):
            answer[uid] = (ours & theirs).encode()
        else:
            answer[uid] = ours if isinstance(ours, bytes) else ours.encode()
    return answer
