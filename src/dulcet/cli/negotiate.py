"""`dulcet negotiate`: what a peer accepts, as a matrix of SOP classes and transfer syntaxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dulcet.cli.command import CALLING, JSON, PEER, Misuse, option, verb
from dulcet.cli.output import say, say_json
from dulcet.cli.tls_options import calls_with_tls

if TYPE_CHECKING:
    from dulcet.io.tls import TLSConfig

__all__ = ["negotiate"]

SYNTAXES: Final = (
    ("implicit", "1.2.840.10008.1.2"),
    ("explicit", "1.2.840.10008.1.2.1"),
    ("deflated", "1.2.840.10008.1.2.1.99"),
    ("big-end", "1.2.840.10008.1.2.2"),
    ("jpeg", "1.2.840.10008.1.2.4.50"),
    ("jpeg-ll", "1.2.840.10008.1.2.4.70"),
    ("jls-ll", "1.2.840.10008.1.2.4.80"),
    ("j2k-ll", "1.2.840.10008.1.2.4.90"),
    ("j2k", "1.2.840.10008.1.2.4.91"),
    ("rle", "1.2.840.10008.1.2.5"),
)
UNCOMPRESSED: Final = 2
"""Services without images are asked for the first syntaxes alone."""

SERVICES: Final = (
    "Verification",
    "PatientRootQueryRetrieveInformationModelFind",
    "PatientRootQueryRetrieveInformationModelMove",
    "PatientRootQueryRetrieveInformationModelGet",
    "StudyRootQueryRetrieveInformationModelFind",
    "StudyRootQueryRetrieveInformationModelMove",
    "StudyRootQueryRetrieveInformationModelGet",
    "ModalityWorklistInformationModelFind",
    "ModalityPerformedProcedureStep",
    "StorageCommitmentPushModel",
)
STORAGE: Final = (
    "CTImageStorage",
    "EnhancedCTImageStorage",
    "MRImageStorage",
    "EnhancedMRImageStorage",
    "UltrasoundImageStorage",
    "UltrasoundMultiFrameImageStorage",
    "ComputedRadiographyImageStorage",
    "DigitalXRayImageStorageForPresentation",
    "DigitalMammographyXRayImageStorageForPresentation",
    "BreastTomosynthesisImageStorage",
    "XRayAngiographicImageStorage",
    "PositronEmissionTomographyImageStorage",
    "NuclearMedicineImageStorage",
    "SecondaryCaptureImageStorage",
    "SegmentationStorage",
    "BasicTextSRStorage",
    "EncapsulatedPDFStorage",
    "RTPlanStorage",
    "RTDoseStorage",
    "RTStructureSetStorage",
)
ANSWERS: Final = {0: "yes", 1: "user", 2: "no", 3: "class", 4: "-"}


@verb("negotiate")
@PEER
@option("--class", "classes", multiple=True, metavar="NAME", help="SOP classes by keyword or UID, instead of ours.")
@CALLING
@JSON
@calls_with_tls
def negotiate(peer: str, classes: tuple[str, ...], aet: str, json: bool, tls: TLSConfig | None) -> int:
    """Show which SOP classes and transfer syntaxes a peer accepts.

    And what else it says of itself: implementation, limits, operations at a time.

    \b
    dulcet negotiate ARCHIVE@127.0.0.1:11112
    dulcet negotiate ARCHIVE@pacs:104 --class CTImageStorage
    dulcet negotiate ARCHIVE@pacs:104 --class CTImageStorage \\
        --class 1.2.840.10008.5.1.4.1.1.4
    """
    from dulcet import uids
    from dulcet.blocking.association import associate
    from dulcet.config import AssociationConfig
    from dulcet.upper_layer.negotiation import Proposal

    rows = _classes(classes)
    proposals = [
        Proposal(uid, (syntax,), provider=storage)
        for uid, storage in rows
        for _, syntax in (SYNTAXES if storage else SYNTAXES[:UNCOMPRESSED])
    ]
    results: dict[tuple[str, str], int] = {}
    roles: set[str] = set()
    last: Any = None
    config = AssociationConfig(window_invoked=0, window_performed=0)
    for some in _portions(proposals):
        with associate(peer, calling_ae_title=aet, contexts=some, config=config, tls=tls) as association:
            answered = {result.context_id: result.result for result in association.accept.presentation_contexts}
            for context in association.request.presentation_contexts:
                key = (context.abstract_syntax, context.transfer_syntaxes[0])
                results[key] = answered.get(context.context_id, 2)
            roles |= {uid for uid, role in association.accept.roles.items() if role.provider}
            last = association
    accept = last.accept
    facts = {
        "implementation": f"{accept.implementation_version_name} ({accept.implementation_class_uid})",
        "maximum_length": accept.maximum_length,
        "window": [last.window.invoked, last.window.performed] if accept.window else None,
        "provider_role": len(roles),
    }
    if json:
        for (uid, syntax), result in results.items():
            say_json(sop_class_uid=uid, transfer_syntax=syntax, result=result, provider_role=uid in roles)
        say_json(summary=True, **facts)
        return 0
    _matrix(rows, results, uids.name_of)
    window = (
        "1, it does not negotiate more"
        if facts["window"] is None
        else "invoked {}, performed {}".format(*("any number" if count == 0 else count for count in facts["window"]))
    )
    length = f"{accept.maximum_length} bytes" if accept.maximum_length else "no limit"
    say(f"implementation   {facts['implementation']}")
    say(f"maximum length   {length}")
    say(f"operations       {window}")
    say(f"C-GET            it sends {len(roles)} of these classes back on the same association")
    return 0


def _classes(names: Iterable[str]) -> list[tuple[str, bool]]:
    """(UID, is storage) of what to ask for."""
    from dulcet import uids

    chosen = []
    for name in list(names) or (*SERVICES, *STORAGE):
        uid = name if name[:1].isdigit() else uids.KEYWORDS.get(name, "")
        if not uid:
            raise Misuse(f"--class {name} is no SOP class, as CTImageStorage is one")
        chosen.append((uid, uid in uids.STORAGE_CLASSES or not uids.SOP_CLASSES.get(uid)))
    return chosen


def _portions(proposals: list[Any]) -> Iterator[list[Any]]:
    """As many as fit one association."""
    from dulcet.upper_layer.negotiation import MAX_CONTEXTS

    for start in range(0, len(proposals), MAX_CONTEXTS):
        yield proposals[start : start + MAX_CONTEXTS]


def _matrix(rows: list[tuple[str, bool]], results: dict[tuple[str, str], int], name_of: Any) -> None:
    names = [name_of(uid).replace("Query/Retrieve Information Model", "Q/R")[:44] for uid, _ in rows]
    width = max(map(len, names))
    say(" " * width + "  " + " ".join(f"{short:>8}" for short, _ in SYNTAXES))
    for (uid, _), name in zip(rows, names, strict=True):
        cells = [ANSWERS.get(results[uid, syntax], "?") if (uid, syntax) in results else "" for _, syntax in SYNTAXES]
        say(f"{name:<{width}}  " + " ".join(f"{cell:>8}" for cell in cells))
    say("yes accepted, - that syntax not, class: the SOP class not, no/user: refused without and by its user")
