"""DICOM networking for Python: the DICOM Upper Layer and DIMSE, as user and provider.

    with dulcet.associate("ARCHIVE@127.0.0.1:11112") as association:
        association.echo().check()
        for sent in association.store_many(Path("study").rglob("*.dcm")):
            print(sent.path, sent.status)

The names below are loaded when they are first used, so that `import dulcet` costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from dulcet._version import __version__

if TYPE_CHECKING:
    from dulcet import aio
    from dulcet.blocking.association import Association, associate
    from dulcet.blocking.listener import Listener, listen
    from dulcet.blocking.pool import Pool
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.config import AssociationConfig, Limits, Timers
    from dulcet.dimse.command import Command
    from dulcet.dimse.messages import CommandField
    from dulcet.dimse.source import FileSpan
    from dulcet.dimse.status import Status
    from dulcet.errors import (
        AddressError,
        AssociationAborted,
        AssociationClosed,
        AssociationError,
        AssociationRefused,
        CannotConvert,
        CertificateRefused,
        DimseTimeout,
        DulcetError,
        InstanceError,
        LocalProtocolError,
        NoPresentationContext,
        NotDicom,
        PeerNotTrusted,
        PeerUnreachable,
        ProtocolError,
        ReceiveError,
        RemoteProtocolError,
        StatusError,
        TLSConfigError,
        TLSError,
    )
    from dulcet.io.certificates import CertificateTable
    from dulcet.io.instances import Instance
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig
    from dulcet.node.application import Node
    from dulcet.node.scripts import Answer
    from dulcet.services.acceptance import AcceptancePolicy
    from dulcet.services.extended import QueryOptions, RetrieveOptions
    from dulcet.services.identity import Identified, IdentityUnconfirmed, UserIdentity
    from dulcet.services.observing import Metrics, log_happenings
    from dulcet.services.results import Response, Retrieved, Sent
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import PresentationContext, Proposal

__all__ = [
    "AcceptancePolicy",
    "Address",
    "AddressError",
    "Answer",
    "Association",
    "AssociationAborted",
    "AssociationClosed",
    "AssociationConfig",
    "AssociationError",
    "AssociationRefused",
    "CannotConvert",
    "CertificateRefused",
    "CertificateTable",
    "Command",
    "CommandField",
    "DimseTimeout",
    "DulcetError",
    "FileSpan",
    "Identified",
    "IdentityUnconfirmed",
    "IncomingRequest",
    "Instance",
    "InstanceError",
    "Limits",
    "Listener",
    "LocalProtocolError",
    "Metrics",
    "NoPresentationContext",
    "Node",
    "NotDicom",
    "PeerNotTrusted",
    "PeerUnreachable",
    "Pool",
    "PresentationContext",
    "Proposal",
    "ProtocolError",
    "QueryOptions",
    "ReceiveError",
    "RemoteProtocolError",
    "Response",
    "RetrieveOptions",
    "Retrieved",
    "Sent",
    "Status",
    "StatusError",
    "StoreDirectory",
    "TLSConfig",
    "TLSConfigError",
    "TLSError",
    "Timers",
    "UserIdentity",
    "__version__",
    "aio",
    "associate",
    "listen",
    "log_happenings",
]

_MODULES: Final = {
    "blocking.association": "Association associate",
    "blocking.listener": "Listener listen",
    "blocking.pool": "Pool",
    "blocking.requests": "IncomingRequest",
    "config": "AssociationConfig Limits Timers",
    "dimse.command": "Command",
    "dimse.messages": "CommandField",
    "dimse.source": "FileSpan",
    "dimse.status": "Status",
    "errors": "AddressError AssociationAborted AssociationClosed AssociationError AssociationRefused CannotConvert "
    "CertificateRefused DimseTimeout DulcetError InstanceError LocalProtocolError NoPresentationContext NotDicom "
    "PeerNotTrusted PeerUnreachable ProtocolError ReceiveError RemoteProtocolError StatusError TLSConfigError TLSError",
    "io.certificates": "CertificateTable",
    "io.instances": "Instance",
    "io.store_directory": "StoreDirectory",
    "io.tls": "TLSConfig",
    "node.application": "Node",
    "node.scripts": "Answer",
    "services.acceptance": "AcceptancePolicy",
    "services.extended": "QueryOptions RetrieveOptions",
    "services.identity": "Identified IdentityUnconfirmed UserIdentity",
    "services.observing": "Metrics log_happenings",
    "services.results": "Response Retrieved Sent",
    "upper_layer.address": "Address",
    "upper_layer.negotiation": "PresentationContext Proposal",
}
_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("dulcet.aio")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'dulcet' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"dulcet.{home}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
