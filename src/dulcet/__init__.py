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
    from dulcet.blocking.availability import notify_availability
    from dulcet.blocking.commitment import Commitments, request_commitment
    from dulcet.blocking.listener import Listener, listen
    from dulcet.blocking.mpps import get_procedure_step, perform_procedure_step, step_from_worklist
    from dulcet.blocking.pool import Pool
    from dulcet.blocking.printing import FilmSession
    from dulcet.blocking.requests import IncomingRequest
    from dulcet.blocking.retrieving import retrieve
    from dulcet.blocking.ups import create_step, get_step, perform_step, watch_steps
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
    from dulcet.io.shared_port import SharedPort
    from dulcet.io.store_directory import StoreDirectory
    from dulcet.io.tls import TLSConfig
    from dulcet.node.application import Node
    from dulcet.node.availability import InstanceAvailability
    from dulcet.node.commitment import StorageCommitment
    from dulcet.node.mpps import MPPS
    from dulcet.node.scripts import Answer
    from dulcet.node.ups import UnifiedProcedureSteps
    from dulcet.node.worklist import Worklist
    from dulcet.services.acceptance import AcceptancePolicy
    from dulcet.services.availability import AVAILABILITY_PROPOSALS, AvailableInstance
    from dulcet.services.commitment import COMMITMENT_PROPOSALS, CommitmentResult, Reference
    from dulcet.services.extended import QueryOptions, RetrieveOptions
    from dulcet.services.identity import Identified, IdentityUnconfirmed, UserIdentity
    from dulcet.services.mpps import MPPS_PROPOSALS
    from dulcet.services.observing import Metrics, log_trace_events
    from dulcet.services.print_management import PRINT_PROPOSALS, grayscale_image
    from dulcet.services.refusals import Refused
    from dulcet.services.results import Response, Retrieved, Sent
    from dulcet.services.ups import UPS_PROPOSALS
    from dulcet.services.worklist import worklist_query
    from dulcet.upper_layer.address import Address
    from dulcet.upper_layer.negotiation import PresentationContext, Proposal

__all__ = [
    "AVAILABILITY_PROPOSALS",
    "COMMITMENT_PROPOSALS",
    "MPPS",
    "MPPS_PROPOSALS",
    "PRINT_PROPOSALS",
    "UPS_PROPOSALS",
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
    "AvailableInstance",
    "CannotConvert",
    "CertificateRefused",
    "CertificateTable",
    "Command",
    "CommandField",
    "CommitmentResult",
    "Commitments",
    "DimseTimeout",
    "DulcetError",
    "FileSpan",
    "FilmSession",
    "Identified",
    "IdentityUnconfirmed",
    "IncomingRequest",
    "Instance",
    "InstanceAvailability",
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
    "Reference",
    "Refused",
    "RemoteProtocolError",
    "Response",
    "RetrieveOptions",
    "Retrieved",
    "Sent",
    "SharedPort",
    "Status",
    "StatusError",
    "StorageCommitment",
    "StoreDirectory",
    "TLSConfig",
    "TLSConfigError",
    "TLSError",
    "Timers",
    "UnifiedProcedureSteps",
    "UserIdentity",
    "Worklist",
    "__version__",
    "aio",
    "associate",
    "create_step",
    "get_procedure_step",
    "get_step",
    "grayscale_image",
    "listen",
    "log_trace_events",
    "notify_availability",
    "perform_procedure_step",
    "perform_step",
    "request_commitment",
    "retrieve",
    "step_from_worklist",
    "watch_steps",
    "worklist_query",
]

_MODULES: Final = {
    "blocking.association": "Association associate",
    "blocking.availability": "notify_availability",
    "blocking.commitment": "Commitments request_commitment",
    "blocking.listener": "Listener listen",
    "blocking.mpps": "get_procedure_step perform_procedure_step step_from_worklist",
    "blocking.pool": "Pool",
    "blocking.printing": "FilmSession",
    "blocking.requests": "IncomingRequest",
    "blocking.retrieving": "retrieve",
    "blocking.ups": "create_step get_step perform_step watch_steps",
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
    "io.shared_port": "SharedPort",
    "io.store_directory": "StoreDirectory",
    "io.tls": "TLSConfig",
    "node.application": "Node",
    "node.availability": "InstanceAvailability",
    "node.commitment": "StorageCommitment",
    "node.mpps": "MPPS",
    "node.scripts": "Answer",
    "node.ups": "UnifiedProcedureSteps",
    "node.worklist": "Worklist",
    "services.acceptance": "AcceptancePolicy",
    "services.availability": "AVAILABILITY_PROPOSALS AvailableInstance",
    "services.commitment": "COMMITMENT_PROPOSALS CommitmentResult Reference",
    "services.extended": "QueryOptions RetrieveOptions",
    "services.identity": "Identified IdentityUnconfirmed UserIdentity",
    "services.mpps": "MPPS_PROPOSALS",
    "services.observing": "Metrics log_trace_events",
    "services.print_management": "PRINT_PROPOSALS grayscale_image",
    "services.refusals": "Refused",
    "services.results": "Response Retrieved Sent",
    "services.ups": "UPS_PROPOSALS",
    "services.worklist": "worklist_query",
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
