"""Where the data set lies: every file of pydicom's wheel, then each way in which a file can be wrong."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.part10 import samples
from tests.part10.samples import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    UNDEFINED,
    Counting,
    deflate,
    element,
    identity,
    item,
    meta,
    part10,
    sequence,
)

from dulcet.errors import InstanceError, NotDicom
from dulcet.part10 import check_whole, locate, locate_path
from dulcet.part10.location import HEAD, MAX_META, locate_at_once

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def where(data: bytes):
    return locate(io.BytesIO(data))


def whole(data: bytes):
    check_whole(io.BytesIO(data), where(data))


@pytest.mark.parametrize("path", samples.usable(), ids=samples.name)
def test_location_agrees_with_pydicom(path):
    location = locate_path(path)
    dataset = samples.dataset(path)
    guessed = {(True, True): IMPLICIT, (False, True): EXPLICIT, (False, False): BIG_ENDIAN}[dataset.original_encoding]
    assert location.transfer_syntax == dataset.file_meta.get("TransferSyntaxUID", guessed)
    media_class = dataset.file_meta.get("MediaStorageSOPClassUID")
    media_instance = dataset.file_meta.get("MediaStorageSOPInstanceUID")
    assert location.sop_class_uid == dataset.get("SOPClassUID", media_class)
    assert location.sop_instance_uid == dataset.get("SOPInstanceUID", media_instance)
    assert location.offset + location.length == path.stat().st_size
    assert set(location.meta) == set(dataset.file_meta.keys())
    if location.transfer_syntax != DEFLATED:
        first = dataset.get_item(sorted(dataset.keys())[0])
        header = first.value_tell if hasattr(first, "value_tell") else first.file_tell
        assert header - location.offset in (8, 12)


@pytest.mark.parametrize("path", sorted(set(samples.files()) - set(samples.usable())), ids=samples.name)
def test_unusable_files_are_refused_with_their_path(path):
    with pytest.raises(InstanceError) as caught:
        locate_path(path)
    assert str(path) in str(caught.value)
    assert caught.value.path == path


@pytest.mark.parametrize("path", samples.usable(), ids=samples.name)
def test_only_the_damaged_files_are_refused(path):
    location = locate_path(path)
    said = {**dict.fromkeys(samples.TRUNCATED, "truncated at byte"), "DICOMDIR-nooffset": "an item runs over the end"}
    with path.open("rb", buffering=0) as file:
        if path.name in said:
            with pytest.raises(InstanceError, match=said[path.name]):
                check_whole(file, location)
        else:
            check_whole(file, location)


def test_one_page_is_read():
    file = Counting(part10(identity() + element(0x7FE00010, "OW", bytes(100_000))))
    locate(file)
    assert (file.reads, file.taken) == (1, 4096)


HOWS = {
    "as the standard says": {},
    "group length too short": {"wrong": -20},
    "group length too long": {"wrong": 4000},
    "no group length": {"group_length": False},
    "implicit VR file meta": {"vr": False},
    "no media storage UIDs": {"uids": False},
}


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("syntax", samples.UNCOMPRESSED)
@pytest.mark.parametrize("preamble", [True, False])
def test_file_meta_is_walked_whatever_its_shape(how, syntax, preamble):
    data = identity(EXPLICIT if syntax == DEFLATED else syntax)
    data = deflate(data) if syntax == DEFLATED else data
    file = part10(data, syntax, **HOWS[how])[0 if preamble else 132 :]
    location = where(file)
    assert (location.transfer_syntax, location.sop_class_uid, location.sop_instance_uid) == (
        syntax,
        SECONDARY_CAPTURE,
        "1.2.3.4",
    )
    assert file[location.offset :] == data
    assert location.length == len(data)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("start", [b"", bytes(128) + b"DICM", meta(None)])
def test_transfer_syntax_is_seen_from_the_data_set(syntax, start):
    location = where(start + identity(syntax))
    assert location.transfer_syntax == syntax
    assert location.offset == len(start)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_transfer_syntax_is_seen_before_a_sequence(syntax):
    data = sequence(0x00041220, item(identity(syntax), syntax=syntax), syntax=syntax, undefined=True)
    assert where(part10(data, None)).transfer_syntax == syntax


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_explicit_vr_is_seen_in_a_file_cut_off_in_its_first_elements(syntax):
    first = element(0x00080005, "CS", b"ISO_IR 100", syntax=syntax)
    for data in (
        first[:-1],
        first + b"\x08\0\x16",
        first + b"\x08\0\x16\0UI\x08",
        element(0x00080005, "UT", b"", syntax=syntax, length=2_000_000),
    ):
        with pytest.raises(InstanceError, match="ends early") as caught:
            where(data)
        assert not isinstance(caught.value, NotDicom)


def test_explicit_vr_is_seen_before_a_value_longer_than_is_looked_into():
    data = element(0x00080000, "UN", bytes(1_200_000)) + identity()
    assert where(data).transfer_syntax == EXPLICIT


def test_implicit_vr_is_not_seen_before_a_value_longer_than_is_looked_into():
    with pytest.raises(NotDicom):
        where(element(0x00080000, "", bytes(1_200_000)) + identity(IMPLICIT))


def test_a_data_set_of_one_element_is_seen():
    with pytest.raises(InstanceError, match="SOP Class UID"):
        where(element(0x00080005, "", b"ISO_IR 100"))


NOT_DICOM = {
    "empty": b"",
    "one byte": b"\x08",
    "web": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(5000),
    "ones": b"\xff" * 5000,
    "implicit length beyond the file": b"\x08\0\x05\0" + b"\xff\xff\0\0" + bytes(200),
    "implicit and then nothing ascending": element(0x00080018, "", b"1.2.3.4\0") + element(0x00080016, "", b"1.2"),
    "implicit and then an implausible length": element(0x00080005, "", b"ab") + element(0x00080016, "", length=1 << 30),
    "the same element twice": element(0x00080005, "", b"ab") * 2 + element(0x00080018, "", b"1.2.3.4\0"),
    "explicit and then no VR": element(0x00080005, "CS", b"ab") + b"\x08\0\x16\0\1\1\1\1" + bytes(8),
    "explicit and then zeros": element(0x00080005, "CS", b"ab") + bytes(50),
    "implicit and cut off": element(0x00080005, "", b"ab") + b"\x08\0",
    "another group": element(0x00100010, "PN", b"ab") + element(0x00100020, "LO", b"ab"),
    "undefined length and no item": element(0x00080005, "", b"ISO_IR 100", length=UNDEFINED) + bytes(20),
    "group 0002 with no element behind": b"\2\0\0\0\xff\xff\xff\x7f" + bytes(20),
    "group 0002 and no length": b"\2\0\1\0OB\0\0",
}


@pytest.mark.parametrize("case", NOT_DICOM)
def test_not_dicom(case):
    with pytest.raises(NotDicom):
        where(NOT_DICOM[case])


REFUSED = {
    "file meta and nothing": (part10(b""), "cut off"),
    "preamble and nothing": (bytes(128) + b"DICM", "cut off"),
    "cut off in the file meta": (part10(b"")[:-3], "truncated at byte .* within the file meta"),
    "cut off in a file meta header": (part10(b"") + b"\2\0\x13\0OB\0\0", "truncated at byte"),
    "no UIDs anywhere": (part10(element(0x00080060, "CS", b"CT"), uids=False), "SOP Class UID"),
    "no instance UID": (part10(element(0x00080016, "UI", b"1.2\0"), uids=False), "SOP Instance UID"),
    "no transfer syntax and no VR": (part10(bytes(40), None), "no transfer syntax"),
    "no UIDs and damaged": (part10(sequence(0x00080006, identity(), undefined=True), uids=False), "cannot be read"),
    "long file meta": (part10(element(0x00020102, "OB", bytes(2_000_000)) + identity()), "not read"),
    "much file meta": (part10(element(0x00020102, "OB", bytes(600_000)) * 3), "longer than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    data, message = REFUSED[case]
    file = io.BytesIO(data)
    with pytest.raises(InstanceError, match=message) as caught:
        locate(file, path="x.dcm")
    assert not isinstance(caught.value, NotDicom)
    assert str(caught.value).startswith("x.dcm: ")
    assert caught.value.path == "x.dcm"


@pytest.mark.parametrize("there", range(16))
def test_what_lies_across_the_end_of_the_first_page_is_read(there):
    """An element of the file meta, the first of the data set, and the second: `there` bytes of it are in the page."""
    start = len(part10(element(0x00020102, "OB"), None))
    filler = element(0x00020102, "OB", bytes(HEAD - start - there))
    found = where(part10(filler + element(0x00020103, "OB", b"ab") + identity(), None))
    assert (found.offset, found.meta[0x00020103]) == (HEAD - there + 14, b"ab")
    found = where(part10(filler + element(0x00080000, "UN", b"abcd") + identity(), None))
    assert (found.offset, found.transfer_syntax) == (HEAD - there, EXPLICIT)
    found = where(element(0x00080000, "UN", bytes(HEAD - 12 - there)) + element(0x00080005, "UT", b"ab") + identity())
    assert found.transfer_syntax == EXPLICIT
    found = where(element(0x00080000, "", bytes(HEAD - 8 - there)) + identity(IMPLICIT))
    assert found.transfer_syntax == IMPLICIT


def test_implicit_vr_is_seen_where_the_second_element_is_a_sequence():
    second = sequence(0x00080006, item(), syntax=IMPLICIT, undefined=True)
    assert where(element(0x00080005, "", b"ISO_IR 100") + second + identity(IMPLICIT)).transfer_syntax == IMPLICIT


def test_implicit_vr_is_seen_where_the_second_element_ends_the_file():
    with pytest.raises(InstanceError, match="SOP Class UID"):
        where(element(0x00080005, "", b"ISO_IR 100") + element(0x00080016, ""))


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_limit_of_one_value_of_the_file_meta(beyond):
    data = part10(element(0x00020102, "OB", bytes(MAX_META + beyond)) + identity())
    if beyond:
        with pytest.raises(InstanceError, match=f"of {MAX_META + 1} bytes in the file meta; not read"):
            where(data)
    else:
        assert len(where(data).meta[0x00020102]) == MAX_META


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_limit_of_the_file_meta(beyond):
    """The last element of it that is read begins where the limit is."""
    start = len(part10(element(0x00020102, "OB")))
    data = part10(element(0x00020102, "OB", bytes(MAX_META - start + beyond)) + element(0x00020103, "OB") + identity())
    if beyond:
        with pytest.raises(InstanceError, match=f"longer than {MAX_META} bytes"):
            where(data)
    else:
        assert where(data).offset == MAX_META + 12


@pytest.mark.parametrize("beyond", [0, 1])
def test_implicit_vr_is_seen_behind_a_first_value_as_long_as_is_looked_into(beyond):
    data = element(0x00080000, "", bytes(MAX_META + beyond)) + identity(IMPLICIT)
    if beyond:
        with pytest.raises(NotDicom):
            where(data)
    else:
        assert where(data).transfer_syntax == IMPLICIT


@pytest.mark.parametrize("beyond", [0, 1])
def test_implicit_vr_is_seen_where_the_second_value_could_lie_in_the_file(beyond):
    """Cut off, or something else."""
    size = 10 + 8 + 20
    data = element(0x00080005, "", b"ab") + element(0x00080016, "", bytes(20), length=size + beyond)
    with pytest.raises(InstanceError) as caught:
        where(data)
    assert isinstance(caught.value, NotDicom) == bool(beyond)


def test_private_file_meta_longer_than_a_page_is_read():
    location = where(part10(element(0x00020102, "OB", bytes(9000)) + identity()))
    assert len(location.meta[0x00020102]) == 9000
    assert location.sop_instance_uid == "1.2.3.4"


def test_the_data_set_says_which_instance_it_is():
    data = element(0x00080016, "UI", b"1.2.5\0") + element(0x00080018, "UI", b"1.9.9\0")
    location = where(part10(data))
    assert (location.sop_class_uid, location.sop_instance_uid) == ("1.2.5", "1.9.9")
    assert location.meta[0x00020003] == b"1.2.3.4 \0\0"


def test_the_file_meta_says_it_where_the_data_set_does_not_in_its_first_page():
    data = element(0x00080000, "UN", bytes(9000)) + element(0x00080018, "UI", b"1.9.9\0")
    assert where(part10(data)).sop_instance_uid == "1.2.3.4"


def test_uids_are_searched_beyond_the_first_page_when_nothing_else_has_them():
    data = element(0x00080000, "UN", bytes(9000)) + identity()
    assert where(part10(data, uids=False)).sop_instance_uid == "1.2.3.4"


def test_uids_are_searched_beyond_the_first_page_when_it_ends_between_two_elements():
    """Before the SOP class, between it and the instance, behind both."""
    for own in (0, 34, 50):
        data = element(0x00080005, "UT", bytes(HEAD - 12 - own)) + identity()
        found = where(data)
        assert (found.sop_class_uid, found.sop_instance_uid) == (SECONDARY_CAPTURE, "1.2.3.4")


@pytest.mark.parametrize("path", ["/nonexistent/x.dcm", "/", "a\0b"])
def test_a_path_that_cannot_be_read_is_an_instance_error(path):
    with pytest.raises(InstanceError, match="cannot be read"):
        locate_path(path)


def test_a_file_object_without_a_name_is_called_the_file():
    with pytest.raises(NotDicom, match=r"^the file: "):
        where(b"")
    data = part10(identity())
    with pytest.raises(InstanceError, match=r"^the file: truncated"):
        check_whole(io.BytesIO(data[:-1]), where(data))


# check_whole

PIXELS = sequence(0x7FE00010, item(), item(bytes(50)), vr="OB", undefined=True)
NESTED = sequence(0x00081140, item(identity(), undefined=True), item(), undefined=True)
WHOLE = {
    "plain": identity(),
    "fragments": identity() + PIXELS,
    "sequences": identity() + NESTED + PIXELS,
    "item of known length in one that is not": identity() + sequence(0x00081140, item(NESTED), undefined=True),
    "padded with some zeros": identity() + bytes(5),
    "padded with many zeros": identity() + bytes(5000),
    "trailing padding element": identity() + element(0xFFFCFFFC, "OB", bytes(100)),
    "a stray delimiter": identity() + element(0xFFFEE00D, ""),
}


@pytest.mark.parametrize("case", WHOLE)
def test_whole_files_pass(case):
    whole(part10(WHOLE[case]))
    whole(part10(deflate(WHOLE[case]), DEFLATED))


@pytest.mark.parametrize("case", ["plain", "fragments", "sequences"])
@pytest.mark.parametrize("deflated", [False, True])
def test_every_cut_is_seen_but_those_between_elements(case, deflated):
    data = WHOLE[case]
    between = {0, 34, 50} | ({50 + len(NESTED)} if case == "sequences" else set())
    assert data[34:38] == b"\x08\0\x18\0"
    stored = deflate(data) if deflated else data
    file = part10(stored, DEFLATED if deflated else EXPLICIT)
    start = len(file) - len(stored)
    location = where(file)
    for cut in range(len(stored)):
        cut_file = file[: start + cut]
        cut_location = location.__class__(location.transfer_syntax, "1", "2", start, cut)
        if not deflated and (cut in between):
            check_whole(io.BytesIO(cut_file), cut_location)
            continue
        with pytest.raises(InstanceError, match="truncated at byte"):
            check_whole(io.BytesIO(cut_file), cut_location)


def test_damage_of_another_kind_is_refused_by_its_byte():
    data = part10(identity() + sequence(0x00081140, identity(), undefined=True))
    with pytest.raises(InstanceError, match=r"byte 62: expected an item, found \(0008,0016\); fetch or export"):
        whole(data)
    with pytest.raises(InstanceError, match=r"byte 50: \(FFFE,E000\) stands outside of a sequence"):
        whole(part10(identity() + item(identity())))


def test_a_file_that_shrank_since_it_was_located_is_truncated():
    data = part10(identity())
    with pytest.raises(InstanceError, match=f"truncated at byte {len(data) - 16}: "):
        check_whole(io.BytesIO(data[:-16]), where(data), path="x")


def test_a_damaged_deflate_stream_is_told():
    data = part10(deflate(identity()), DEFLATED)
    damaged = data[:-20] + b"\xff" * 20
    with pytest.raises(InstanceError, match=r"inflated|truncated"):
        check_whole(io.BytesIO(damaged), where(data))


def test_checking_reads_headers_only():
    frames = [item(bytes(100_000)) for _ in range(20)]
    file = Counting(part10(identity() + sequence(0x7FE00010, *frames, vr="OB", undefined=True)))
    check_whole(file, locate(file))
    assert file.taken < 40_000


# in one look


def refusal(data: bytes, location) -> str:
    """What the check says, nothing where all is well."""
    try:
        check_whole(io.BytesIO(data), location, path="it")
    except InstanceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("window", [700, 16 * 1024, 1 << 30])
def test_one_look_finds_the_same_and_what_it_calls_whole_is_whole(window):
    simple = 0
    for path in samples.usable():
        data = path.read_bytes()
        found = locate_at_once(data[:window], len(data))
        if found is not None:
            simple += 1
            assert found[0] == where(data)
            assert not (found[1] and refusal(data, found[0]))
    assert simple > len(samples.usable()) * 0.7


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_one_look_is_enough_for_what_is_simple(syntax):
    data = part10(identity(syntax) + element(0x00100010, "PN", b"A^B ", syntax=syntax), syntax)
    assert locate_at_once(data, len(data)) == (where(data), True)
    assert locate_at_once(data, len(data) + 2)[1] is False


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_one_look_at_a_file_cut_off_anywhere(syntax):
    content = identity(syntax) + element(0x00100010, "PN", b"A^B ", syntax=syntax)
    content += sequence(0x00081140, item(content, syntax=syntax), syntax=syntax, undefined=True) + content
    data = part10(content, syntax)
    for cut in range(len(data)):
        found = locate_at_once(data[:cut], cut)
        if found is not None:
            assert found[0] == where(data[:cut])
            assert not (found[1] and refusal(data[:cut], found[0]))


@pytest.mark.parametrize(
    "data",
    [
        identity(),
        part10(deflate(identity()), DEFLATED),
        part10(element(0x00100010, "PN", b"A^B ")),
        part10(identity(EXPLICIT), IMPLICIT),
        part10(b""),
        bytes(128) + b"DICM" + element(0x00010002, "UI", b"1.2 ") + meta()[132:] + identity(),
    ],
    ids=["no preamble", "deflated", "UIDs in the file meta alone", "other VRs", "nothing", "odd file meta"],
)
def test_one_look_is_not_enough(data):
    assert locate_at_once(data, len(data)) is None


# any bytes


@given(st.binary(max_size=400))
def test_locate_is_total(data):
    for start in (
        b"",
        bytes(128) + b"DICM",
        bytes(128) + b"DICM\2\0",
        b"\x08\0\x05\0",
        meta(),
        meta(None),
        meta(DEFLATED),
    ):
        try:
            location = where(start + data)
        except InstanceError:
            continue
        assert 0 < location.length <= len(start) + len(data)
        with suppress(InstanceError):
            check_whole(io.BytesIO(start + data), location)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_a_file_cut_off_anywhere_is_located_or_refused(syntax):
    data = part10(identity(syntax) + element(0x00100010, "PN", b"A^B ", syntax=syntax), syntax)
    for cut in range(len(data)):
        try:
            location = where(data[:cut])
        except InstanceError:
            continue
        assert location.offset + location.length == cut
