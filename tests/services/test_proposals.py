"""What is proposed: contexts for instances, the default, the limit of 128."""

from __future__ import annotations

from typing import Any

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
    StoragePlan,
    association_request,
    proposals,
)
from dulcet.services.sop_classes import Service, service_of
from dulcet.upper_layer.address import Address
from dulcet.upper_layer.items import (
    AsynchronousOperationsWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentityRQ,
)
from dulcet.upper_layer.negotiation import MAX_CONTEXTS, PresentationContext, Proposal, associate_request
from dulcet.upper_layer.pdu import decode, encode

CT, MR = uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE
IMPLICIT, EXPLICIT = uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN
BIG, DEFLATED = uids.EXPLICIT_VR_BIG_ENDIAN, uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
JPEG, JPEG2000 = uids.JPEG_BASELINE_8_BIT, uids.JPEG2000_LOSSLESS
ADDRESS = Address("ARCHIVE", "127.0.0.1", 104)


# --- StoragePlan: what sending asks for ------------------------------------------------------------------------------


def accepted(*proposals: Proposal) -> list[PresentationContext]:
    """A peer's contexts: those of each class in the first syntax of what is given for it."""
    return [
        PresentationContext(2 * index + 1, proposal.abstract_syntax, proposal.transfer_syntaxes[0])
        for index, proposal in enumerate(proposals)
    ]


@pytest.mark.parametrize(
    ("syntaxes", "asked"),
    [
        ([JPEG], (JPEG,)),
        ([JPEG, JPEG2000], (JPEG, JPEG2000)),
        ([EXPLICIT], (EXPLICIT,)),
        ([IMPLICIT], (IMPLICIT,)),
        ([IMPLICIT, EXPLICIT], (IMPLICIT, EXPLICIT)),
        ([IMPLICIT, JPEG], (IMPLICIT, JPEG)),
        ([JPEG, DEFLATED, EXPLICIT], (JPEG, DEFLATED, EXPLICIT)),
        ([BIG], (BIG,)),
        (["1.2.3.4"], ("1.2.3.4",)),
    ],
)
def test_each_class_has_one_context_in_the_syntaxes_of_its_files(syntaxes: list[str], asked: tuple[str, ...]) -> None:
    wanted = [(CT, syntax) for syntax in syntaxes]
    assert StoragePlan([JPEG, JPEG2000]).contexts([*wanted, (MR, JPEG), *wanted]) == [
        Proposal(CT, asked), Proposal(MR, (JPEG,)),
    ]  # fmt: skip


def test_nothing_wanted_is_no_context() -> None:
    assert StoragePlan().contexts([]) == []


@pytest.mark.parametrize(
    ("syntaxes", "fallback"),
    [
        ([JPEG], (EXPLICIT, IMPLICIT)),
        ([BIG], (EXPLICIT, IMPLICIT)),
        ([IMPLICIT], (EXPLICIT,)),
        ([EXPLICIT], (IMPLICIT,)),
        ([JPEG2000], None),
    ],
)
def test_what_can_be_converted_is_proposed_uncompressed_after_a_refusal(
    syntaxes: list[str], fallback: tuple[str, ...] | None
) -> None:
    plan = StoragePlan([JPEG])
    wanted = [(CT, syntax) for syntax in syntaxes]
    plan.learn(plan.contexts(wanted), [])
    assert plan.contexts(wanted) == ([Proposal(CT, fallback)] if fallback else [])
    for pair in wanted:
        assert plan.settles(pair, []) is (fallback is None), "it fails once nothing is left to ask for"
    if fallback:
        assert all(plan.settles(pair, fallback[-1:]) for pair in wanted)
        plan.learn([Proposal(CT, fallback)], [])
        assert plan.contexts(wanted) == []
        assert all(plan.settles(pair, []) for pair in wanted)


def test_the_others_of_several_syntaxes_have_the_next_association() -> None:
    plan = StoragePlan([JPEG])
    wanted = [(CT, JPEG2000), (CT, JPEG), (CT, EXPLICIT)]
    plan.learn(plan.contexts(wanted), accepted(Proposal(CT, (JPEG,))))
    assert [plan.settles(pair, [JPEG]) for pair in wanted] == [False, True, False]
    left = [pair for pair in wanted if pair[1] != JPEG]
    assert plan.contexts(left) == [Proposal(CT, (JPEG2000, EXPLICIT))]


def test_who_takes_one_syntax_has_not_refused_the_others() -> None:
    plan = StoragePlan([JPEG])
    wanted = [(CT, JPEG), (CT, EXPLICIT), (CT, IMPLICIT)]
    plan.learn(plan.contexts(wanted), accepted(Proposal(CT, (IMPLICIT,))))
    assert [plan.settles(pair, [IMPLICIT]) for pair in wanted] == [False, False, True]
    assert plan.contexts(wanted[:2]) == [Proposal(CT, (JPEG, EXPLICIT))]


def test_contexts_of_the_association_before_are_taken_over_but_not_those_of_a_class_that_is_asked_for() -> None:
    before = accepted(Proposal(CT, (JPEG,)), Proposal(MR, (EXPLICIT,)))
    assert StoragePlan().contexts([(CT, JPEG2000)], before) == [Proposal(CT, (JPEG2000,)), Proposal(MR, (EXPLICIT,))]


@pytest.mark.parametrize(
    ("syntaxes", "otherwise"),
    [([JPEG], True), ([BIG], True), ([JPEG2000], False), ([EXPLICIT], True), ([IMPLICIT], False)],
)
def test_a_rejected_association_is_asked_for_otherwise_where_that_may_be_why(
    syntaxes: list[str], otherwise: bool
) -> None:
    plan = StoragePlan([JPEG])
    wanted = [(CT, syntax) for syntax in syntaxes]
    before = plan.contexts(wanted)
    fallback = Proposal(CT, tuple(uid for uid in UNCOMPRESSED_PREFERENCE if uid not in syntaxes))
    assert plan.refuse(before) is otherwise
    assert plan.contexts(wanted) == ([fallback] if otherwise else before)
    assert plan.refuse(plan.contexts(wanted)) is False


def test_one_association_holds_128_classes_and_the_rest_has_another() -> None:
    wanted = [(f"1.2.{number}", JPEG) for number in range(200)]
    plan = StoragePlan()
    first = plan.contexts(wanted)
    assert [found.abstract_syntax for found in first] == [sop_class for sop_class, _ in wanted[:128]]
    assert len(plan.contexts(wanted[128:], accepted(*first))) == 128


CLASSES = st.sampled_from([CT, MR, *(f"1.2.{number}" for number in range(200))])
SYNTAXES = st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, *(f"1.3.{number}" for number in range(100))])


@given(st.lists(st.tuples(CLASSES, SYNTAXES), max_size=400), st.data())
def test_every_pair_has_its_turn_whatever_the_peer_takes(wanted: list[tuple[str, str]], data: st.DataObject) -> None:
    """Each is sent as it is where the peer takes that, and the associations have an end."""
    takes = data.draw(st.sets(SYNTAXES))
    plan, left, sent = StoragePlan(), dict.fromkeys(wanted), dict[tuple[str, str], str]()
    for _ in range(500):
        asked = plan.contexts(left)
        if not asked:
            break
        assert 1 <= len(asked) <= MAX_CONTEXTS
        assert len({proposal.abstract_syntax for proposal in asked}) == len(asked)
        request = associate_request(
            asked,
            called="A",
            calling="B",
            maximum_length=0,
            implementation_class_uid="1.2",
            implementation_version_name="",
        )
        assert decode(encode(request)) == request
        chosen = {
            proposal.abstract_syntax: data.draw(st.sampled_from(common))
            for proposal in asked
            if (common := [syntax for syntax in proposal.transfer_syntaxes if syntax in takes])
        }
        plan.learn(asked, accepted(*(Proposal(sop_class, (syntax,)) for sop_class, syntax in chosen.items())))
        for pair in list(left):
            syntax = chosen.get(pair[0])
            if plan.settles(pair, [syntax] if syntax else []):
                del left[pair]
                if syntax is not None:
                    sent[pair] = syntax
    assert not left or not plan.contexts(left)
    for sop_class, syntax in wanted:
        if syntax in takes:
            assert sent[sop_class, syntax] == syntax


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


def test_what_is_no_configuration_and_no_list_of_proposals_is_said_to_be_none() -> None:
    wrong: Any = {"maximum_length": 1}
    address = Address.parse("A@host:104")
    with pytest.raises(TypeError, match="config is an AssociationConfig, not a dict"):
        association_request(address, calling_ae_title="B", contexts=None, config=wrong)
    contexts: Any = [uids.CT_IMAGE_STORAGE]
    with pytest.raises(LocalProtocolError, match=r"'1\.2\.840.* is no Proposal; write dulcet\.Proposal\(uid, synt"):
        association_request(address, calling_ae_title="B", contexts=contexts, config=AssociationConfig())


def test_a_request_without_contexts_is_not_asked() -> None:
    with pytest.raises(LocalProtocolError):
        association_request(ADDRESS, calling_ae_title="ME", contexts=[], config=AssociationConfig())


LONG = "1.2.840.10008.5.1.4.1.1.7." + "1" * 44
"""70 characters."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"contexts": [Proposal(LONG, (EXPLICIT,))]}, "abstract syntax 1.*is 70 characters long; at most 64"),
        ({"contexts": [Proposal(CT, (EXPLICIT, LONG))]}, "transfer syntax 1.*is 70 characters long"),
        ({"contexts": [Proposal("CT", (EXPLICIT,))]}, "abstract syntax 'CT' is no UID"),
        ({"contexts": [Proposal(CT, ("",))]}, "transfer syntax '' is no UID"),
        ({"contexts": [Proposal(CT, ("1.2.",))]}, "transfer syntax '1.2.' is no UID"),
        ({"contexts": [Proposal("1.2\n", ("1.2",))]}, "abstract syntax .* is no UID"),
        ({"config": AssociationConfig(implementation_class_uid=LONG)}, "implementation class UID"),
        ({"extended": {LONG: b"\1"}}, "extended negotiation"),
        ({"common_extended": [CommonExtendedNegotiation(CT, LONG, ())]}, "service class"),
        ({"common_extended": [CommonExtendedNegotiation(CT, "1.2", (LONG,))]}, "related general SOP class"),
        ({"user_items": [RoleSelection(LONG, True, True)]}, "roles"),
    ],
)
def test_a_uid_that_may_not_be_proposed_is_an_error_before_anything_is_sent(
    options: dict[str, Any], words: str
) -> None:
    given = {"contexts": proposals([CT]), "config": AssociationConfig(), **options}
    with pytest.raises(LocalProtocolError, match=words):
        association_request(ADDRESS, calling_ae_title="ME", **given)


def test_a_uid_of_64_characters_and_leading_zeros_may_be_proposed() -> None:
    for uid in (LONG[:64], "1.02.3"):
        contexts = [Proposal(uid, (uid,))]
        association_request(ADDRESS, calling_ae_title="ME", contexts=contexts, config=AssociationConfig())
