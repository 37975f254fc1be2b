"""What is proposed: contexts for instances, the default, the limit of 128."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dulcet import uids
from dulcet.config import AssociationConfig
from dulcet.errors import LocalProtocolError
from dulcet.services.proposals import (
    DEFAULT_PROPOSALS,
    SELDOM,
    UNCOMPRESSED_PREFERENCE,
    association_request,
    plan_storage,
    proposals,
)
from dulcet.services.sop_classes import Service, service_of
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    UserIdentityRQ,
)
from dulcet.upper_layer.negotiation import MAX_CONTEXTS, Proposal, associate_request
from dulcet.upper_layer.pdu import decode, encode

CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
IMPLICIT, EXPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG, DEFLATED = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
JPEG, JPEG2000 = uids.JPEG_BASELINE_8_BIT, uids.JPEG2000_LOSSLESS
ADDRESS = Address("ARCHIVE", "127.0.0.1", 104)


def offered(plan: list[Proposal]) -> set[tuple[str, str]]:
    """Every (SOP class, transfer syntax) that an association proposes."""
    return {(found.abstract_syntax, syntax) for found in plan for syntax in found.transfer_syntaxes}


# --- plan_storage ----------------------------------------------------------------------------------------------------


def test_each_pair_gets_a_context_of_its_own() -> None:
    plan = plan_storage([(CT, JPEG), (CT, JPEG2000), (MR, JPEG)])
    assert plan == [[Proposal(CT, (JPEG,)), Proposal(CT, (JPEG2000,)), Proposal(MR, (JPEG,))]]


def test_a_pair_that_comes_again_changes_nothing() -> None:
    pairs = [(CT, JPEG), (MR, EXPLICIT), (CT, JPEG2000)]
    assert plan_storage(pairs * 50) == plan_storage(pairs)
    assert plan_storage(iter(pairs)) == plan_storage(pairs)


def test_nothing_wanted_is_no_association() -> None:
    assert plan_storage([]) == []


@pytest.mark.parametrize(
    ("syntaxes", "fallback"),
    [
        ([EXPLICIT], (IMPLICIT,)),
        ([IMPLICIT], (EXPLICIT,)),
        ([IMPLICIT, EXPLICIT], None),
        ([BIG], (EXPLICIT, IMPLICIT)),
        ([DEFLATED], (EXPLICIT, IMPLICIT)),
        ([JPEG, DEFLATED, EXPLICIT], (IMPLICIT,)),
        ([JPEG], None),
        ([JPEG, JPEG2000], None),
        (["1.2.3.4"], None),
    ],
)
def test_what_can_be_converted_gets_a_context_to_fall_back_on(
    syntaxes: list[str], fallback: tuple[str, ...] | None
) -> None:
    (plan,) = plan_storage((CT, syntax) for syntax in syntaxes)
    own = [Proposal(CT, (syntax,)) for syntax in syntaxes]
    assert plan == own + ([Proposal(CT, fallback)] if fallback else [])


def test_more_than_128_contexts_are_split_over_associations() -> None:
    classes = [f"1.2.{number}" for number in range(100)]
    plan = plan_storage(product(classes, (JPEG, JPEG2000)))
    assert [len(association) for association in plan] == [128, 72]
    # a class stays on one association, so that its instances need not wait for each other's
    assert not {found.abstract_syntax for found in plan[0]} & {found.abstract_syntax for found in plan[1]}


def test_exactly_128_contexts_are_one_association() -> None:
    assert len(plan_storage((f"1.2.{number}", JPEG) for number in range(128))) == 1
    assert len(plan_storage((f"1.2.{number}", JPEG) for number in range(129))) == 2


def test_a_class_in_more_than_128_syntaxes_is_split_too() -> None:
    wanted = [(CT, f"1.2.{number}") for number in range(200)]
    plan = plan_storage([(MR, JPEG), *wanted])
    assert [len(association) for association in plan] == [1, 128, 72]
    assert set().union(*map(offered, plan)) == {(MR, JPEG), *wanted}


CLASSES = st.sampled_from([CT, MR, *(f"1.2.{number}" for number in range(60))])
SYNTAXES = st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, *sorted(uids.ENCAPSULATED)])


@given(st.lists(st.tuples(CLASSES, SYNTAXES), max_size=400))
def test_every_pair_is_there_in_order_and_every_association_can_be_asked_for(wanted: list[tuple[str, str]]) -> None:
    plan = plan_storage(wanted)
    assert plan == plan_storage(wanted)
    everything = [found for association in plan for found in association]
    own = [(found.abstract_syntax, found.transfer_syntaxes[0]) for found in everything if is_own(found, wanted)]
    by_class = dict.fromkeys(sop_class for sop_class, _ in wanted)
    expected = [pair for sop_class in by_class for pair in dict.fromkeys(wanted) if pair[0] == sop_class]
    assert own == expected
    for association in plan:
        assert 1 <= len(association) <= MAX_CONTEXTS
        request = associate_request(
            association,
            called="A",
            calling="B",
            maximum_length=0,
            implementation_class_uid="1.2",
            implementation_version_name="",
        )
        assert decode(encode(request)) == request


def is_own(proposal: Proposal, wanted: list[tuple[str, str]]) -> bool:
    """True for the context of a pair, as opposed to one to fall back on."""
    return (proposal.abstract_syntax, proposal.transfer_syntaxes[0]) in wanted


# --- the default -----------------------------------------------------------------------------------------------------

COMMON = """
CTImageStorage MRImageStorage UltrasoundImageStorage UltrasoundMultiFrameImageStorage ComputedRadiographyImageStorage
DigitalXRayImageStorageForPresentation DigitalXRayImageStorageForProcessing SecondaryCaptureImageStorage
DigitalMammographyXRayImageStorageForPresentation BreastTomosynthesisImageStorage
DigitalIntraOralXRayImageStorageForPresentation
BasicTextSRStorage EnhancedSRStorage ComprehensiveSRStorage Comprehensive3DSRStorage XRayRadiationDoseSRStorage
KeyObjectSelectionDocumentStorage EncapsulatedPDFStorage EncapsulatedCDAStorage
SegmentationStorage SurfaceSegmentationStorage LabelMapSegmentationStorage ParametricMapStorage
EnhancedCTImageStorage EnhancedMRImageStorage EnhancedMRColorImageStorage EnhancedPETImageStorage
EnhancedXAImageStorage EnhancedXRFImageStorage EnhancedUSVolumeStorage LegacyConvertedEnhancedCTImageStorage
NuclearMedicineImageStorage PositronEmissionTomographyImageStorage
XRayAngiographicImageStorage XRayRadiofluoroscopicImageStorage XRay3DAngiographicImageStorage
MultiFrameGrayscaleByteSecondaryCaptureImageStorage MultiFrameTrueColorSecondaryCaptureImageStorage
GrayscaleSoftcopyPresentationStateStorage ColorSoftcopyPresentationStateStorage
RTImageStorage RTDoseStorage RTStructureSetStorage RTPlanStorage RTIonPlanStorage RTBeamsTreatmentRecordStorage
VLEndoscopicImageStorage VideoEndoscopicImageStorage VLPhotographicImageStorage VLWholeSlideMicroscopyImageStorage
OphthalmicPhotography8BitImageStorage OphthalmicTomographyImageStorage
TwelveLeadECGWaveformStorage GeneralECGWaveformStorage HemodynamicWaveformStorage
SpatialRegistrationStorage DeformableSpatialRegistrationStorage RealWorldValueMappingStorage RawDataStorage
""".split()


@pytest.mark.parametrize("keyword", COMMON)
def test_the_default_has_the_classes_of_everyday_work_in_both_roles(keyword: str) -> None:
    wanted = uids.KEYWORDS[keyword]
    (found,) = [each for each in DEFAULT_PROPOSALS if each.abstract_syntax == wanted]
    assert found.user
    assert found.provider
    assert found.transfer_syntaxes == UNCOMPRESSED_PREFERENCE


def test_the_default_fits_one_association() -> None:
    assert len(DEFAULT_PROPOSALS) == MAX_CONTEXTS
    assert len({found.abstract_syntax for found in DEFAULT_PROPOSALS}) == MAX_CONTEXTS
    request = association_request(ADDRESS, calling_ae_title="ME", contexts=None, config=AssociationConfig())
    assert len(request.presentation_contexts) == 128
    assert decode(encode(request)) == request


def test_the_default_has_what_queries_and_retrieves_and_no_retired_class() -> None:
    services = {service_of(found.abstract_syntax) for found in DEFAULT_PROPOSALS if not found.provider}
    assert services == {
        Service.VERIFICATION, Service.QUERY, Service.RETRIEVE_MOVE, Service.RETRIEVE_GET, Service.WORKLIST,
    }  # fmt: skip
    assert DEFAULT_PROPOSALS[0].abstract_syntax == uids.VERIFICATION
    assert not {found.abstract_syntax for found in DEFAULT_PROPOSALS} & uids.RETIRED


def test_what_the_default_leaves_out_is_what_few_peers_exchange() -> None:
    """A class that is new in the standard must not push an old one out: look at SELDOM when this fails."""
    left_out = uids.STORAGE_CLASSES - uids.RETIRED - {found.abstract_syntax for found in DEFAULT_PROPOSALS}
    assert {uid for uid in left_out if not uid.startswith(SELDOM) and f"{uid}." not in SELDOM} == set()


def test_proposals_name_each_class_once_in_the_uncompressed_syntaxes() -> None:
    assert proposals([CT, MR]) == [
        Proposal(CT, UNCOMPRESSED_PREFERENCE),
        Proposal(MR, UNCOMPRESSED_PREFERENCE),
    ]
    assert all(found.provider and found.user for found in proposals([CT, MR], provider=True))


# --- the whole request -----------------------------------------------------------------------------------------------


def test_a_request_says_what_its_configuration_says() -> None:
    config = AssociationConfig(maximum_length=65_536, window_invoked=8, window_performed=2)
    identity = UserIdentityRQ(1, b"me", b"", False)
    common = CommonExtendedNegotiation(CT, "1.2.840.10008.4.2", ())
    extra = ExtendedNegotiation("1.2.9", b"x")
    request = association_request(
        ADDRESS,
        calling_ae_title="ME",
        contexts=proposals([CT]),
        config=config,
        identity=identity,
        extended={MR: b"\1\0"},
        common_extended=[common],
        user_items=[extra],
    )
    assert (request.called, request.calling) == ("ARCHIVE", "ME")
    assert request.maximum_length == 65_536
    assert request.window == AsynchronousOperationsWindow(8, 2)
    assert request.user_identity == identity
    assert request.extended == {MR: ExtendedNegotiation(MR, b"\1\0"), "1.2.9": extra}
    assert request.common_extended == {CT: common}
    assert decode(encode(request)) == request


def test_a_request_without_contexts_is_not_asked() -> None:
    with pytest.raises(LocalProtocolError):
        association_request(ADDRESS, calling_ae_title="ME", contexts=[], config=AssociationConfig())
