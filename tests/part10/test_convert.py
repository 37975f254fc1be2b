"""Conversion between uncompressed transfer syntaxes, against pydicom, against DCMTK, and there and back again."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import subprocess
import warnings
import zlib
from contextlib import suppress
from struct import pack, unpack

import pydicom
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
    deflate,
    element,
    identity,
    item,
    part10,
    sequence,
)

from dulcet.errors import CannotConvert, InstanceError
from dulcet.part10 import UNCOMPRESSED, Location, convert, encode_file_meta, locate, locate_path, scan
from dulcet.part10 import convert as convert_function

JPEG = "1.2.840.10008.1.2.4.50"
SEQUENCE = 0x00400275
DAMAGED = {"rtplan_truncated.dcm", "MR_truncated.dcm", "DICOMDIR-nooffset"}
PLAIN = [
    path
    for path in samples.usable()
    if path.name not in DAMAGED
    and locate_path(path).transfer_syntax in UNCOMPRESSED
    and "TINY_ALPHA" not in str(path)
    and path.stat().st_size < 400_000
]


def converted(data: bytes, source: str, target: str) -> bytes:
    """Data set in, data set out."""
    result, syntax = convert(data, Location(source, "1", "2", 0, len(data)), [target])
    assert syntax == target
    return result


def through(data: bytes, *syntaxes: str) -> bytes:
    for source, target in itertools.pairwise(syntaxes):
        data = converted(data, source, target)
    return data


def reread(data: bytes, syntax: str) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(encode_file_meta("1.2", "1.2.3", syntax) + data))


def plain(data: bytes, syntax: str) -> bytes:
    return zlib.decompress(data, -15) if syntax == DEFLATED else data


def words(one: pydicom.DataElement, dataset: pydicom.Dataset) -> object:
    """The value of an element without its byte order: numbers, text, or bytes as little endian words."""
    if one.VR in ("OW", "OB or OW", "OB", "UN") and isinstance(one.value, bytes):
        little = dataset.original_encoding[1]
        value = one.value
        if one.VR != "OB" and one.VR != "UN" and not little:
            return b"".join(value[at : at + 2][::-1] for at in range(0, len(value), 2))
        return value
    return one.value


def same(one: pydicom.Dataset, other: pydicom.Dataset) -> None:
    ours = {tag for tag in one.keys() if tag & 0xFFFF}  # noqa: SIM118
    assert ours == {tag for tag in other.keys() if tag & 0xFFFF}  # noqa: SIM118
    for tag in ours:
        if other.get_item(tag).VR == "UN":  # stays little endian (PS3.5 section 6.2.2), which pydicom does not know
            continue
        first, second = one[tag], other[tag]
        if first.VR == "SQ" and second.VR == "SQ":
            assert len(first.value) == len(second.value)
            for inner, other_inner in zip(first.value, second.value, strict=True):
                same(inner, other_inner)
            continue
        if first.VR == second.VR:
            assert words(first, one) == words(second, other), tag
        else:  # an implicit VR is looked up: OB may be OW then, and private elements are what a dictionary says
            assert tag >> 16 & 1 or {first.VR, second.VR} <= {"OB", "OW"} or "UN" in (first.VR, second.VR), tag


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", samples.UNCOMPRESSED)
@pytest.mark.parametrize("path", PLAIN, ids=samples.name)
def test_pydicom_reads_the_same_from_each_syntax(path, target):
    location = locate_path(path)
    data, syntax = convert(path, location, [target])
    assert syntax == target
    same(samples.dataset(path), reread(data, target))
    assert convert(path.read_bytes(), location, [target])[0] == data


@pytest.mark.parametrize("around", [EXPLICIT, BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize("path", PLAIN, ids=samples.name)
def test_there_and_back_again_is_the_same_bytes(path, around):
    """Once normalised (lengths of sequences, group lengths), an explicit data set survives every other explicit one."""
    location = locate_path(path)
    first = through(convert(path, location, [BIG_ENDIAN])[0], BIG_ENDIAN, EXPLICIT)
    assert plain(through(first, EXPLICIT, around, BIG_ENDIAN, around, EXPLICIT), EXPLICIT) == first


DCMTK_NAMES = {
    "CT_small",
    "MR_small_implicit",
    "MR_small_bigendian",
    "rtdose_1frame",
    "SC_rgb_small_odd",
    "waveform_ecg",
}
DCMTK_PAIRS = [
    (path, target)
    for path in PLAIN
    for target in (IMPLICIT, EXPLICIT, BIG_ENDIAN)
    if path.stem in DCMTK_NAMES and locate_path(path).transfer_syntax != target
]


@pytest.mark.interop
@pytest.mark.skipif(shutil.which("dcmconv") is None, reason="DCMTK's dcmconv is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "target"), DCMTK_PAIRS, ids=lambda value: getattr(value, "name", value))
def test_dcmtk_writes_the_same(path, target, tmp_path):
    flag = {IMPLICIT: "+ti", EXPLICIT: "+te", BIG_ENDIAN: "+tb"}[target]
    environment = {"PATH": os.environ["PATH"]}
    command = ["dcmconv", flag, "-e", "-g", path, tmp_path / "x.dcm"]  # undefined lengths, no group lengths
    subprocess.run(command, env=environment, timeout=60, check=True)
    theirs = (tmp_path / "x.dcm").read_bytes()[locate_path(tmp_path / "x.dcm").offset :]
    assert convert(path, locate_path(path), [target])[0] == theirs


VALUES = {  # VR, little endian value, big endian value
    "AT": (b"\x08\0\x18\0", b"\0\x08\0\x18"),
    "FD": (pack("<d", 1.5), pack(">d", 1.5)),
    "FL": (pack("<2f", 1.5, -2), pack(">2f", 1.5, -2)),
    "OB": (b"\1\2\3\4", b"\1\2\3\4"),
    "OD": (pack("<2d", 1.5, 3), pack(">2d", 1.5, 3)),
    "OF": (pack("<2f", 1.5, 3), pack(">2f", 1.5, 3)),
    "OL": (pack("<2L", 1, 2), pack(">2L", 1, 2)),
    "OV": (pack("<2Q", 1, 2), pack(">2Q", 1, 2)),
    "OW": (b"\1\2\3\4\5\6", b"\2\1\4\3\6\5"),
    "SL": (pack("<l", -2), pack(">l", -2)),
    "SS": (pack("<h", -2), pack(">h", -2)),
    "SV": (pack("<q", -2), pack(">q", -2)),
    "UL": (pack("<2L", 7, 8), pack(">2L", 7, 8)),
    "UN": (b"\1\2\3\4", b"\1\2\3\4"),
    "US": (pack("<3H", 7, 8, 9), pack(">3H", 7, 8, 9)),
    "UV": (pack("<Q", 7), pack(">Q", 7)),
    "LO": (b"text", b"text"),
    "UT": (b"text", b"text"),
}


@pytest.mark.parametrize("vr", VALUES)
def test_words_turn_around_with_the_byte_order(vr):
    little, big = VALUES[vr]
    one, other = element(0x00091001, vr, little), element(0x00091001, vr, big, syntax=BIG_ENDIAN)
    assert converted(one, EXPLICIT, BIG_ENDIAN) == other
    assert converted(other, BIG_ENDIAN, EXPLICIT) == one
    assert converted(other, BIG_ENDIAN, IMPLICIT) == element(0x00091001, vr, little, syntax=IMPLICIT)
    assert zlib.decompress(converted(other, BIG_ENDIAN, DEFLATED), -15) == one


def test_eight_bit_pixels_in_words_turn_around_too():
    one = element(0x00280100, "US", b"\x08\0") + element(0x7FE00010, "OW", b"\1\2\3\4")
    assert converted(one, EXPLICIT, BIG_ENDIAN).endswith(b"\2\1\4\3")
    one = element(0x00280100, "US", b"\x08\0") + element(0x7FE00010, "OB", b"\1\2\3\4")
    assert converted(one, EXPLICIT, BIG_ENDIAN).endswith(b"\1\2\3\4")


def test_bytes_after_the_last_whole_word_stay():
    assert converted(element(0x7FE00010, "OW", b"\1\2\3"), EXPLICIT, BIG_ENDIAN).endswith(b"\2\1\3")


def implicit(*pairs: tuple[int, bytes]) -> bytes:
    return b"".join(element(tag, "", value) for tag, value in pairs)


def vr_of(data: bytes, tag: int) -> str:
    return reread(converted(data, IMPLICIT, EXPLICIT), EXPLICIT).get_item(tag).VR


VRS = {
    "dictionary": (0x00100010, b"A^B ", "PN"),
    "repeating group": (0x60000010, b"\1\0", "US"),
    "pixel data": (0x7FE00010, b"\1\2", "OW"),
    "overlay data": (0x60003000, b"\1\2", "OW"),
    "look-up table data": (0x00283006, b"\1\2", "OW"),
    "unknown": (0x00080FFF, b"abcd", "UN"),
    "private without creator": (0x00091001, b"abcd", "UN"),
    "first private creator": (0x00090010, b"abcd", "LO"),
    "last private creator": (0x000900FF, b"abcd", "LO"),
    "before the first private creator": (0x0009000F, b"abcd", "UN"),
    "behind the last private creator": (0x00090100, b"abcd", "UN"),
    "wrong length for its VR": (0x00280010, b"abc", "UN"),
    "sequence that is none": (0x00081140, b"abcdefgh", "UN"),
    "empty sequence": (0x00081140, b"", "SQ"),
    "as long as its VR can be": (0x00081030, b"x" * 65_535, "LO"),
    "too long for its VR": (0x00081030, b"x" * 65_536, "UN"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", VRS)
def test_vrs_come_from_the_dictionary(case):
    tag, value, vr = VRS[case]
    result = converted(implicit((tag, value)), IMPLICIT, EXPLICIT)
    assert result[4:6].decode() == vr
    assert result.endswith(value) or vr == "SQ"


def test_us_or_ss_follows_the_pixel_representation_around_it():
    smallest = (0x00280106, b"\1\0")
    for representation, vr in ((b"\1\0", b"SS"), (b"\0\0", b"US")):
        inner = item(implicit(smallest), syntax=IMPLICIT)
        data = implicit((0x00280103, representation), smallest) + sequence(SEQUENCE, inner, syntax=IMPLICIT)
        result = converted(data, IMPLICIT, EXPLICIT)
        assert result.count(b"\x28\0\6\1" + vr) == 2


@pytest.mark.parametrize(("creator", "vr"), [(b"GEMS_ACQU_01", "SL"), (b"GEMS_PARM_01 ", "UN"), (b"nobody", "UN")])
def test_private_elements_follow_their_creator(creator, vr):
    data = implicit((0x00190011, creator), (0x00191125, b"\1\0\0\0"))
    from pydicom.datadict import private_dictionary_VR

    with suppress(KeyError):
        vr = private_dictionary_VR(0x00191125, creator.decode().strip())
    result = converted(data, IMPLICIT, EXPLICIT)
    assert result[result.index(b"\x19\0\x25\x11") + 4 :][:2].decode() == vr


@pytest.mark.parametrize(("block", "vr"), [(0x0F, b"UN"), (0x10, b"SS"), (0xFF, b"SS")])
def test_a_block_of_private_elements_is_one_that_can_be_reserved(block, vr):
    data = implicit((0x00190000 | block, b"GEMS_ACQU_01"), (0x00190025 | block << 8, b"\1\0\0\0"))
    assert vr + (b"\0\0\4\0" if vr == b"UN" else b"\4\0") in converted(data, IMPLICIT, EXPLICIT)


def test_group_lengths_are_left_out():
    data = element(0x00080000, "UL", b"\1\0\0\0") + identity()
    assert converted(data, EXPLICIT, IMPLICIT) == identity(IMPLICIT)


def test_unknown_vr_of_undefined_length_becomes_a_sequence():
    for inside in (IMPLICIT, EXPLICIT):
        value = item(identity(inside)) + element(0xFFFEE0DD, "")
        data = element(SEQUENCE, "UN", value, length=UNDEFINED)
        result = scan(converted(data, EXPLICIT, BIG_ENDIAN), BIG_ENDIAN)
        assert result.items(SEQUENCE)[0].uid(0x00080018) == "1.2.3.4"


@pytest.mark.parametrize("target", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("undefined", [True, False])
def test_implicit_sequences_become_explicit_ones(undefined, target):
    inner = item(identity(IMPLICIT), syntax=IMPLICIT, undefined=undefined)
    data = sequence(0x00081140, inner, syntax=IMPLICIT, undefined=undefined)
    result = converted(data, IMPLICIT, target)
    expected = item(identity(target), syntax=target, undefined=True)
    assert result == sequence(0x00081140, expected, syntax=target, undefined=True)


OPEN_ITEM = element(0xFFFEE000, "", length=UNDEFINED)
SLIPS = {
    "sequence delimiter where the item's was to come": sequence(SEQUENCE, OPEN_ITEM, identity(), undefined=True),
    "item delimiter after an item": sequence(SEQUENCE, item(identity()), element(0xFFFEE00D, ""), undefined=True),
    "item delimiter within an item of known length": sequence(SEQUENCE, item(identity(), element(0xFFFEE00D, ""))),
    "sequence delimiter within an item of known length": sequence(SEQUENCE, item(identity(), element(0xFFFEE0DD, ""))),
    "implicit VR inside of explicit": sequence(SEQUENCE, item(identity(IMPLICIT))),
    "padding zeros": sequence(SEQUENCE, item(identity())) + bytes(3),
}


@pytest.mark.parametrize("case", SLIPS)
def test_harmless_slips_are_put_right(case):
    expected = sequence(
        SEQUENCE, item(identity(BIG_ENDIAN), syntax=BIG_ENDIAN, undefined=True), syntax=BIG_ENDIAN, undefined=True
    )
    assert converted(SLIPS[case], EXPLICIT, BIG_ENDIAN) == expected


def test_explicit_vr_said_to_be_implicit_is_read_as_it_is():
    assert converted(identity(), IMPLICIT, BIG_ENDIAN) == identity(BIG_ENDIAN)


# which syntax, and what cannot be


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ([IMPLICIT, EXPLICIT], EXPLICIT),
        ([BIG_ENDIAN, DEFLATED, IMPLICIT], IMPLICIT),
        ([BIG_ENDIAN, DEFLATED], DEFLATED),
        ([JPEG, BIG_ENDIAN], BIG_ENDIAN),
    ],
)
def test_the_best_accepted_syntax_is_chosen(accepted, chosen):
    source = next(syntax for syntax in samples.UNCOMPRESSED if syntax not in accepted)
    data = identity(EXPLICIT if source == DEFLATED else source)
    file = part10(deflate(data) if source == DEFLATED else data, source)
    assert convert(file, locate(io.BytesIO(file)), accepted)[1] == chosen


@pytest.mark.parametrize("syntax", [IMPLICIT, JPEG])
def test_its_own_syntax_is_sent_as_stored(syntax, tmp_path):
    data = element(0x00080000, "UL", b"\1\0\0\0") + identity()
    file = part10(data, syntax)
    path = tmp_path / "x.dcm"
    path.write_bytes(file)
    location = locate_path(path)
    assert convert(path, location, [EXPLICIT, syntax]) == convert(file, location, [syntax]) == (data, syntax)


def test_deflated_has_an_even_number_of_bytes():
    for text in range(40):
        data = identity() + element(0x00100010, "PN", b"x" * text)
        result = converted(data, EXPLICIT, DEFLATED)
        assert len(result) % 2 == 0
        assert converted(result, DEFLATED, EXPLICIT) == data


CANNOT = {
    "compressed": (JPEG, identity(), [EXPLICIT], "compressed .*decompress the file first"),
    "nothing accepted": (EXPLICIT, identity(), [], "accepted .none."),
    "only compressed accepted": (EXPLICIT, identity(), [JPEG], JPEG),
    "fragments in an uncompressed syntax": (
        EXPLICIT,
        sequence(0x7FE00010, item(), item(b"ab"), vr="OB", undefined=True),
        [IMPLICIT],
        "encapsulated",
    ),
    "fragments in implicit VR": (
        IMPLICIT,
        sequence(0x7FE00010, item(), vr="", undefined=True),
        [EXPLICIT],
        "encapsulated",
    ),
}


@pytest.mark.parametrize("case", CANNOT)
def test_cannot_convert(case, tmp_path):
    syntax, data, accepted, message = CANNOT[case]
    path = tmp_path / "x.dcm"
    path.write_bytes(data)
    with pytest.raises(CannotConvert, match=message) as caught:
        convert(path, Location(syntax, "1", "2", 0, len(data)), accepted)
    assert caught.value.path == path


BROKEN = {
    "value over the end": element(0x00080018, "UI", b"1", length=50),
    "value over the end of its item": sequence(SEQUENCE, item(element(0x00080018, "UI", b"1", length=9)), bytes(20)),
    "header over the end of its item": sequence(SEQUENCE, item(b"\x08\0"), bytes(20)),
    "no item": sequence(SEQUENCE, identity()),
    "item over the end": sequence(SEQUENCE, element(0xFFFEE000, "", length=9)) + bytes(20),
    "item cut off": sequence(SEQUENCE, b"\xfe\xff"),
    "header cut off": identity()[:-11],
    "item among data elements": item(),
    "nested beyond reason": (element(SEQUENCE, "SQ", length=UNDEFINED) + OPEN_ITEM) * 2000,
}


@pytest.mark.parametrize("case", BROKEN)
def test_damage_is_an_instance_error(case, tmp_path):
    path = tmp_path / "x.dcm"
    path.write_bytes(BROKEN[case])
    with pytest.raises(InstanceError, match="cannot be read at byte") as caught:
        convert(path, Location(EXPLICIT, "1", "2", 0, len(BROKEN[case])), [IMPLICIT])
    assert caught.value.path == path


def test_the_limit_of_depth():
    """It is beyond what the walk takes."""
    most = 1024 // 2
    for depth in (most, most + 1):
        data = (element(SEQUENCE, "SQ", length=UNDEFINED) + OPEN_ITEM) * depth
        data += (element(0xFFFEE00D, "") + element(0xFFFEE0DD, "")) * depth
        if depth == most:
            assert through(data, EXPLICIT, BIG_ENDIAN, EXPLICIT) == data
        else:
            with pytest.raises(InstanceError, match=f"nested deeper than {most}"):
                converted(data, EXPLICIT, BIG_ENDIAN)


@pytest.mark.parametrize("inside", [item(), item(element(0x00080018, "UI")), item(element(0x00420011, "OB"))])
def test_what_ends_with_its_sequence_is_taken(inside):
    for beyond in (0, 1):
        data = element(SEQUENCE, "SQ", inside[: len(inside) - beyond]) + bytes(20)
        if beyond:
            with pytest.raises(InstanceError):
                converted(data, EXPLICIT, BIG_ENDIAN)
        else:
            assert converted(data, EXPLICIT, BIG_ENDIAN)


def test_damaged_and_cut_off_deflate():
    data = deflate(identity())
    with pytest.raises(InstanceError, match="damaged"):
        converted(b"\xff" * 20, DEFLATED, EXPLICIT)
    with pytest.raises(InstanceError, match="ends early"):
        converted(data[:-3], DEFLATED, EXPLICIT)


def test_a_deflate_bomb_stops_at_the_limit(monkeypatch):
    monkeypatch.setitem(convert_function.__globals__, "MAX_INFLATED", 1_000_000)
    with pytest.raises(InstanceError, match="longer than 1000000 bytes"):
        converted(deflate(element(0x00090010, "UN", bytes(5_000_000))), DEFLATED, EXPLICIT)


def test_a_deflated_data_set_may_be_as_long_as_the_limit(monkeypatch):
    data = element(0x00090010, "UN", bytes(100_000))
    for limit, taken in ((len(data), True), (len(data) - 1, False)):
        monkeypatch.setitem(convert_function.__globals__, "MAX_INFLATED", limit)
        if taken:
            assert converted(deflate(data), DEFLATED, EXPLICIT) == data
        else:
            with pytest.raises(InstanceError, match=f"longer than {limit} bytes"):
                converted(deflate(data), DEFLATED, EXPLICIT)


def test_a_file_that_is_gone_is_an_instance_error(tmp_path):
    with pytest.raises(InstanceError, match="cannot be read"):
        convert(tmp_path / "gone.dcm", Location(EXPLICIT, "1", "2", 0, 10), [IMPLICIT])


PIECES = [*SLIPS.values(), *BROKEN.values(), identity(), identity(IMPLICIT)]


@given(
    st.lists(
        st.sampled_from([*SLIPS.values(), *BROKEN.values(), identity(), identity(IMPLICIT)]) | st.binary(max_size=30)
    ),
    st.sampled_from(samples.UNCOMPRESSED),
    st.sampled_from(samples.UNCOMPRESSED),
)
def test_convert_is_total(parts, source, target):
    data = b"".join(parts)
    stored = deflate(data) if source == DEFLATED else data
    with suppress(InstanceError):
        result = plain(converted(stored, source, target), target)
        assert len(result) <= 4 * len(data) + 16


def test_word_structure_of_pixels_survives_in_values():
    path = next(path for path in PLAIN if path.name == "MR_small.dcm")
    location = locate_path(path)
    big = convert(path, location, [BIG_ENDIAN])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = samples.dataset(path).PixelData
        found = reread(big, BIG_ENDIAN).PixelData
    count = len(expected) // 2
    assert unpack(f">{count}H", found) == unpack(f"<{count}H", expected)
