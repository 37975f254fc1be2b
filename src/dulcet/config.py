"""Limits and timers, each with its unit, its default and the reason for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dulcet._version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

__all__ = ["AssociationConfig", "Limits", "Timers"]

KIB: Final = 1024
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one association may make us hold or do."""

    associate_pdu: int = MIB
    """Bytes of an A-ASSOCIATE PDU: 128 contexts with 40 transfer syntaxes are 150 KB, an identity token 64 KB."""
    command_set: int = 64 * KIB
    """Bytes of a command set: real ones have 100 to 300, an attribute identifier list some thousand."""
    identifier: int = MIB
    """Bytes of a data set that is kept in memory for its meaning: queries, N- services, answers to them."""
    unanswered: int = 32
    """Requests of the peer that may wait for their answers where it may send any number (window 0)."""
    progress: int = 1000
    """Bytes a second that a peer must deliver in the middle of a data set, over the span of the progress timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timers:
    """Seconds; None switches a timer off."""

    connect: float = 10.0
    """Name resolution and TCP connect together, over all addresses."""
    tls: float = 10.0
    """The TLS handshake; an acceptor's includes the A-ASSOCIATE-RQ, and nothing renews it."""
    artim: float = 10.0
    """PS3.8 section 9.1.5: from the accepted connection to a whole A-ASSOCIATE-RQ, from our last word to the close."""
    associate: float = 30.0
    """From our A-ASSOCIATE-RQ to the answer."""
    release: float = 10.0
    """From our A-RELEASE-RQ to the answer."""
    response: float | None = 120.0
    """From the last byte of a request to its response; each pending response and each sub-operation starts it anew."""
    idle: float | None = 300.0
    """Silence on an established association, where no answer of ours is owed; an acceptor's rule."""
    progress: float | None = 30.0
    """How long a data set may stand still, or come slower than `Limits.progress`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationConfig:
    """How an association is made and run; values, shared freely.

    ValueError for a length that is neither 0 nor 8 to 4294967295, for a `send_maximum` of 0, and for a window that is
    not 0 to 65535.
    """

    maximum_length: int = 128 * KIB
    """The P-DATA-TF length that we announce, bytes; 0 announces no limit.  128 KiB costs half the CPU of 16 KiB."""
    send_maximum: int = 128 * KIB
    """The longest P-DATA-TF that we make where the peer allows more."""
    window_invoked: int = 1
    """Operations that we ask to have outstanding (PS3.7 D.3.3.3), 0 for any number; 1 and 1 leave the item out."""
    window_performed: int = 1
    """Operations of the peer that we take at once; 0 for any number, bounded by `Limits.unanswered` all the same."""
    transfer_syntax_order: Literal["proposer", "acceptor"] = "proposer"
    """Whose order of preference counts where several transfer syntaxes fit."""
    strict: bool = False
    """Abort for what is harmless but wrong: P-DATA-TF longer than announced, even context ids, command VR slips."""
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    """Tells the peer which software this is (PS3.7 D.3.3.2.1); a product may name itself by a UID of its own."""
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME
    """Tells its version, 1 to 16 characters (PS3.7 D.3.3.2.3); an empty one is not sent."""
    observers: tuple[Callable[[Any, Any], object], ...] = ()
    """Each is called with every `TraceEvent` (dulcet.dimse.trace_events) and the association it happened on."""
    limits: Limits = field(default_factory=Limits)
    """What the peer may make us hold or do."""
    timers: Timers = field(default_factory=Timers)
    """How long each step may take."""

    def __post_init__(self) -> None:
        for name in ("maximum_length", "send_maximum"):
            value = getattr(self, name)
            if value != 0 and not 8 <= value <= 0xFFFFFFFF:
                raise ValueError(f"{name} is {value}: 0 (no limit) or 8 to 4294967295 bytes; 1 to 7 can carry nothing")
        if not self.send_maximum:
            raise ValueError("send_maximum must be a length: it bounds what we put together in one piece")
        for name in ("window_invoked", "window_performed"):
            value = getattr(self, name)
            if not 0 <= value <= 0xFFFF:
                raise ValueError(f"{name} is {value}: 0 (any number) to 65535 operations")
