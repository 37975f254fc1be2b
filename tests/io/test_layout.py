"""How files are named: whatever a peer puts into its values, a name stays in the folder and instances stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.corpus import EXPLICIT, element

from dulcet.io.layout import NAME_LENGTH, Layout
from dulcet.part10.header import Header
from dulcet.part10.scanner import scan

STUDY, SERIES, PATIENT_ID, PATIENT_NAME, MODALITY = 0x0020000D, 0x0020000E, 0x00100020, 0x00100010, 0x00080060
TREE = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
TALKATIVE = "{PatientID}/{PatientName}-{Modality}/x{SeriesInstanceUID}/{SOPInstanceUID}"
LAYOUTS = [Layout(), Layout(TREE), Layout(TALKATIVE), Layout(".{PatientID}/..{PatientName}/{SOPInstanceUID}")]

VALUE = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"..", b".", b"/", b"../../etc/passwd", b"a/b", b"\0", b"partial", b"..\\..", b"con", b"~", b" "]),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.from_regex(rb"[0-9.]{1,70}", fullmatch=True),
)
UID_TEXT = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"[0-9.]{0,70}", fullmatch=True),
    st.sampled_from(["", ".", "..", "../..", "/etc/passwd", "a\0b", "1.2\\..\\3", "1" * 65, "uid-", "lock", "~1"]),
)


def header(values: dict[int, bytes]) -> Header:
    vrs = {STUDY: b"UI", SERIES: b"UI", PATIENT_ID: b"LO", PATIENT_NAME: b"PN", MODALITY: b"CS"}
    charset = {0x00080005: (b"CS", b"ISO_IR 192")}
    elements = charset | {tag: (vrs[tag], value) for tag, value in values.items()}
    data = b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(elements.items()) if value)
    return scan(data, EXPLICIT, wanted=frozenset(elements))


def assert_inside(path: Path, depth: int) -> None:
    assert not path.is_absolute()
    assert len(path.parts) == depth
    for part in path.parts:
        assert part not in ("", ".", "..")
        assert not {"/", "\\", "\0"} & set(part)
        assert part.isprintable()
        assert len(part.encode()) <= NAME_LENGTH
    assert path.parts[0] != ".partial"


@given(
    values=st.dictionaries(st.sampled_from([STUDY, SERIES, PATIENT_ID, PATIENT_NAME, MODALITY]), VALUE),
    uid=UID_TEXT,
)
@example(values={PATIENT_ID: b"partial"}, uid="1.2")
@example(values={PATIENT_ID: b"PARTIAL"}, uid="..")
def test_no_value_leads_out_of_the_folder(values: dict[int, bytes], uid: str) -> None:
    found = header(values)
    for layout in LAYOUTS:
        assert_inside(layout.path(found, uid), layout.template.count("/") + 1)
        assert_inside(layout.path(None, uid), layout.template.count("/") + 1)


@given(one=UID_TEXT, other=UID_TEXT)
@example(one="..", other=".")
@example(one="1" * 65, other="1" * 66)
@example(one="", other="\0")
def test_different_uids_never_share_a_name(one: str, other: str) -> None:
    for layout in LAYOUTS:
        assert (layout.path(None, one) == layout.path(None, other)) == (one == other)


def test_a_tree_of_uids() -> None:
    found = header({STUDY: b"1.2.3", SERIES: b"1.2.3.4"})
    assert Layout(TREE).path(found, "1.2.3.4.5") == Path("1.2.3/1.2.3.4/1.2.3.4.5.dcm")
    assert Layout(TREE).path(None, "1.2.3.4.5") == Path("unknown/unknown/1.2.3.4.5.dcm")


def test_values_are_made_harmless_and_stay_readable() -> None:
    found = header({PATIENT_NAME: "Müller^Änne=山田".encode(), PATIENT_ID: b" 12/34 ", MODALITY: b"\\"})
    layout = Layout("{PatientID}_{Modality}/{PatientName}/{SOPInstanceUID}")
    assert layout.path(found, "1.2") == Path("12_34_unknown/M_ller_nne/1.2")


def test_long_values_are_shortened_together_until_the_name_fits() -> None:
    uid = "1" * 64
    found = header({PATIENT_ID: b"i" * 64, PATIENT_NAME: b"n" * 64, STUDY: uid.encode()})
    assert Layout("{PatientID}-{PatientName}.{SOPInstanceUID}").path(found, "1.2") == Path(
        f"{'i' * 64}-{'n' * 64}.1.2"
    )
    name = Layout("{PatientID}-{PatientName}-{StudyInstanceUID}.{SOPInstanceUID}").path(found, uid).name
    assert name == f"{'i' * 32}-{'n' * 32}-{uid}.{uid}"


def test_text_around_the_fields_and_the_class_are_possible() -> None:
    layout = Layout("in {{braces}}/{SOPClassUID} {SOPInstanceUID}.DCM")
    assert layout.path(None, "1.2") == Path("in {braces}/unknown 1.2.DCM")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "relative path without empty parts"),
        ("/{SOPInstanceUID}", "relative path without empty parts"),
        ("{SOPInstanceUID}/", "relative path without empty parts"),
        ("../{SOPInstanceUID}", "relative path without empty parts"),
        ("a/./{SOPInstanceUID}", "relative path without empty parts"),
        ("a/ .. /{SOPInstanceUID}", "relative path without empty parts"),
        ("{StudyInstanceUID}.dcm", "must contain {SOPInstanceUID}"),
        ("{Nonsense}/{SOPInstanceUID}", "'Nonsense' is no DICOM keyword"),
        ("{0}/{SOPInstanceUID}", "'0' is no DICOM keyword"),
        ("{}/{SOPInstanceUID}", "names nothing"),
        ("{PatientID!r}/{SOPInstanceUID}", "takes no format"),
        ("{PatientID:>9}/{SOPInstanceUID}", "takes no format"),
        ("{PatientID/{SOPInstanceUID}", "expected '}'"),
        ("}{SOPInstanceUID}", "encountered in format string"),
        ("a\\b{SOPInstanceUID}", "cannot have"),
        ("a\0b{SOPInstanceUID}", "cannot have"),
        ("a\nb{SOPInstanceUID}", "cannot have"),
        ("{StudyInstanceUID}{SeriesInstanceUID}{FrameOfReferenceUID}{SOPInstanceUID}", "may become longer than 240"),
        ("ä" * 100 + "{SOPInstanceUID}", "may become longer than 240"),
    ],
)
def test_a_layout_that_does_not_do_says_why(template: str, words: str) -> None:
    with pytest.raises(ValueError, match="layout") as caught:
        Layout(template)
    assert words in str(caught.value)


@pytest.mark.parametrize("template", [".partial/{SOPInstanceUID}", ".Partial/{SOPInstanceUID}"])
def test_the_place_of_partial_files_is_nobody_elses(template: str) -> None:
    assert Layout(template).path(None, "1.2").parts[0].casefold() == "_.partial"
