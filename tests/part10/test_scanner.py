"""The scanner: pydicom's values for every file of its wheel, each form of element, each limit, any bytes."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress

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
    sequence,
)

from dulcet.part10 import DamagedDeflate, ScanError, ScanLimits, ScanTruncated, locate_path, scan
from dulcet.part10.sources import CHUNK, FileSource, MemorySource

SEQUENCE = 0x00400275
INSTANCE = 0x00080018
PIXELS = 0x7FE00010
ALL_VALUES = ScanLimits(value=1 << 30)
SCANNABLE = [path for path in samples.usable() if path.name not in {"rtplan_truncated.dcm", "DICOMDIR-nooffset"}]


def raw_elements(dataset: pydicom.Dataset):
    for tag in dataset.keys():  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield int(tag), dataset.get_item(tag)


def compare(found, dataset: pydicom.Dataset, *, top: bool) -> None:
    """Every raw value and every item as pydicom has them."""
    expected = {tag: one for tag, one in raw_elements(dataset) if not (top and tag >= 0x7FE00008)}
    assert set(found) == set(expected)
    for tag, one in expected.items():
        if isinstance(one, pydicom.dataelem.RawDataElement) and one.VR != "SQ":
            kept = found.raw(tag)
            if kept is not None:
                assert kept == (one.value or b"")
        if dataset[tag].VR == "SQ":
            items = found.items(tag)
            assert len(items) == len(dataset[tag].value)
            for inner, inner_dataset in zip(items, dataset[tag].value, strict=True):
                compare(inner, inner_dataset, top=False)


class Trickle:
    """Gives a few bytes at a time, and skips as few."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self.file.read(min(size, 7))

    def skip(self, size: int) -> int:
        return len(self.file.read(size))


def sources_of(data: bytes):
    """The same bytes in each way that the scanner takes them."""
    return [
        data,
        bytearray(data),
        memoryview(data),
        MemorySource(data),
        FileSource(io.BytesIO(b"xyz" + data), 3, len(data)),
        Trickle(data),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", SCANNABLE, ids=samples.name)
def test_every_value_is_pydicoms(path):
    location = locate_path(path)
    data = path.read_bytes()[location.offset :]
    found = scan(data, location.transfer_syntax, limits=ALL_VALUES)
    assert found.complete
    compare(found, pydicom.dcmread(path, force=True), top=True)


@pytest.mark.parametrize("path", SCANNABLE, ids=samples.name)
def test_every_source_gives_the_same(path):
    location = locate_path(path)
    data = path.read_bytes()[location.offset :]
    if len(data) > 300_000:
        data = data[:300_000]
    wanted = frozenset({0x00080016, INSTANCE, 0x0020000D, SEQUENCE, 0x00081140})
    one = scan(data, location.transfer_syntax, wanted=wanted)
    assert set(one) <= wanted | {0x00080005}
    for source in sources_of(data):
        other = scan(source, location.transfer_syntax, wanted=wanted)
        assert (other.values, other.consumed, list(other)) == (one.values, one.consumed, list(one))


def test_the_scan_stops_after_the_highest_wanted_tag():
    data = identity() + element(0x00100010, "PN", b"A^B ") + b"garbage"
    found = scan(data, EXPLICIT, wanted=frozenset({0x00080016}))
    assert list(found) == [0x00080016]
    assert found.consumed == len(element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"))


@pytest.mark.parametrize("tag", [0x7FE00008, 0x7FE00009, 0x7FE00010])
@pytest.mark.parametrize("wanted", [None, frozenset({0xFFFCFFFC})])
def test_the_scan_stops_before_pixel_data(tag, wanted):
    found = scan(identity() + element(tag, "OB", b"", length=UNDEFINED) + b"anything", EXPLICIT, wanted=wanted)
    assert found.consumed == len(identity())
    assert tag not in found


def test_nothing_wanted_is_nothing_kept_but_the_character_set():
    data = element(0x00080005, "CS", b"ISO_IR 100") + identity()
    assert list(scan(data, EXPLICIT, wanted=frozenset())) == []
    assert list(scan(data, EXPLICIT, wanted=frozenset({INSTANCE}))) == [0x00080005, INSTANCE]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("outer", [True, False])
def test_sequences_of_every_kind_of_length(syntax, inner, outer):
    items = [item(identity(syntax), syntax=syntax, undefined=inner), item(syntax=syntax)]
    data = sequence(SEQUENCE, *items, syntax=syntax, undefined=outer) + element(
        0x00402001, "LO", b"behind", syntax=syntax
    )
    found = scan(data, syntax)
    assert [one.uid(INSTANCE) for one in found.items(SEQUENCE)] == ["1.2.3.4", ""]
    assert found.text(0x00402001) == "behind"
    skipped = scan(data, syntax, wanted=frozenset({0x00402001}))
    assert list(skipped) == [0x00402001]


UN_CONTENTS = {"implicit": IMPLICIT, "explicit, against the standard": EXPLICIT}


@pytest.mark.parametrize("around", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("inside", UN_CONTENTS)
def test_unknown_vr_of_undefined_length_is_a_sequence(around, inside):
    value = item(identity(UN_CONTENTS[inside]), undefined=True) + item() + element(0xFFFEE0DD, "")
    data = element(SEQUENCE, "UN", value, syntax=around, length=UNDEFINED)
    found = scan(data + element(0x00402001, "LO", b"behind", syntax=around), around)
    assert [one.uid(INSTANCE) for one in found.items(SEQUENCE)] == ["1.2.3.4", ""]
    assert found.text(0x00402001) == "behind"


def test_encapsulated_data_in_an_icon_is_passed_over():
    fragments = sequence(PIXELS, item(b"\xff\xd8"), item(), vr="OB", undefined=True)
    data = sequence(0x00880200, item(identity(), fragments), undefined=True) + element(0x00880904, "LO", b"x ")
    found = scan(data, EXPLICIT)
    assert list(found.items(0x00880200)[0]) == [0x00080016, INSTANCE]
    assert found.text(0x00880904) == "x"


def test_fragments_in_implicit_vr_are_known_by_their_tag():
    data = sequence(0x00880200, item(sequence(PIXELS, item(b"ab"), vr="", undefined=True)), vr="", undefined=True)
    assert list(scan(data, IMPLICIT).items(0x00880200)[0]) == []


OPEN_ITEM = element(0xFFFEE000, "", length=UNDEFINED)
ITEM_END = element(0xFFFEE00D, "")
SEQUENCE_END = element(0xFFFEE0DD, "")
SLIPS = {
    "sequence delimiter where the item's was to come": sequence(SEQUENCE, OPEN_ITEM, identity(), undefined=True),
    "item delimiter after an item of known length": sequence(SEQUENCE, item(identity()), ITEM_END, undefined=True),
    "item delimiter within one of known length": sequence(SEQUENCE, item(identity(), ITEM_END)),
    "sequence delimiter within an item of known length": sequence(SEQUENCE, item(identity(), SEQUENCE_END)),
    "item of undefined length that ends with its sequence": sequence(SEQUENCE, OPEN_ITEM + identity()),
    "implicit VR inside of explicit": sequence(SEQUENCE, item(identity(IMPLICIT))),
    "implicit VR inside of explicit, undefined": sequence(
        SEQUENCE, item(identity(IMPLICIT), undefined=True), undefined=True
    ),
    "explicit VR in a data set said to be implicit": sequence(SEQUENCE, item(identity())),
}


@pytest.mark.parametrize("case", SLIPS)
def test_harmless_slips_are_read(case):
    syntax = IMPLICIT if "said to be implicit" in case else EXPLICIT
    found = scan(SLIPS[case] + element(0x00402001, "LO", b"behind"), syntax)
    assert [one.uid(INSTANCE) for one in found.items(SEQUENCE)] == ["1.2.3.4"]
    assert found.text(0x00402001) == "behind"


@pytest.mark.parametrize("head", [b"QQ\0\0\4\0\0\0", b"QQ\4\0"])
def test_unknown_vrs_are_read_in_either_form_of_length(head):
    data = b"\x09\0\1\x10" + head + b"abcd" + element(0x00100010, "PN", b"A^B ")
    found = scan(data, EXPLICIT)
    assert found.raw(0x00091001) == b"abcd"
    assert found.text(0x00100010) == "A^B"


def test_values_longer_than_the_limit_are_passed_over():
    long = element(0x00090010, "UN", bytes(70_000))
    for data in (long, sequence(SEQUENCE, item(long))):
        found = scan(data + element(0x00402001, "LO", b"behind"), EXPLICIT)
        assert not found.complete
        assert found.text(0x00402001) == "behind"
        assert 0x00090010 not in found
    assert scan(long + element(0x00402001, "LO"), EXPLICIT, wanted=frozenset({0x00402001})).complete
    short = scan(element(0x00100010, "PN", b"ABCDEF"), EXPLICIT, limits=ScanLimits(value=4))
    assert (short.complete, list(short)) == (False, [])


def test_values_longer_than_a_chunk_are_kept_whole():
    value = bytes(range(256)) * 250
    data = element(0x00090010, "UN", value) + element(0x00091001, "LO", b"behind")
    for source in sources_of(data):
        found = scan(source, EXPLICIT)
        assert found.raw(0x00090010) == value
        assert found.text(0x00091001) == "behind"


def test_zeros_may_pad_the_end():
    for data in (identity() + bytes(7), identity() + bytes(64)):
        assert scan(data, EXPLICIT).uid(INSTANCE) == "1.2.3.4"


def test_an_empty_data_set_is_an_empty_header():
    for syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
        assert list(scan(b"", syntax)) == []


DAMAGED = {
    "runs over the end": [
        sequence(SEQUENCE, item(element(0x00080016, "UI", b"1.2", length=40)), bytes(99)),
        sequence(SEQUENCE, item(element(0x00081140, "SQ", length=40)), undefined=True) + bytes(99),
        sequence(SEQUENCE, element(0xFFFEE000, "", length=9)) + bytes(40),
    ],
    "only 8 bytes": [
        sequence(SEQUENCE, item(element(0x00081140, "SQ")[:8]), bytes(40)),
    ],
    "only 4 bytes": [
        sequence(SEQUENCE, item(identity()[:4]), bytes(40)),
        sequence(SEQUENCE, item()[:4]) + bytes(40),
    ],
    "expected an item": [
        sequence(SEQUENCE, identity()),
        element(0x00090010, "OB", item(undefined=True), length=UNDEFINED),
    ],
    "outside of a sequence": [
        sequence(SEQUENCE, item(item())),
        sequence(SEQUENCE, item(element(0xFFFEE00D, "", b"ab"))),
    ],
}


@pytest.mark.parametrize(("message", "data"), [(message, data) for message, them in DAMAGED.items() for data in them])
def test_damage_is_told_with_its_byte(message, data):
    for source in sources_of(identity() + data):
        with pytest.raises(ScanError, match=message) as caught:
            scan(source, EXPLICIT)
        assert not isinstance(caught.value, ScanTruncated)
        assert len(identity()) <= caught.value.offset <= len(identity() + data)
        assert f"byte {caught.value.offset}: " in str(caught.value)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_every_cut_is_truncation_or_lies_between_elements(syntax):
    inner = EXPLICIT if syntax == DEFLATED else syntax
    parts = [
        element(0x00080005, "CS", b"ISO_IR 100", syntax=inner),
        identity(inner),
        sequence(SEQUENCE, item(identity(inner), syntax=inner, undefined=True), syntax=inner, undefined=True),
        element(0x00402001, "UT", b"behind", syntax=inner),
    ]
    data = b"".join(parts)
    stored = deflate(data) if syntax == DEFLATED else data
    whole = 0
    for cut in range(len(stored)):
        for source in sources_of(stored[:cut]):
            try:
                found = scan(source, syntax)
            except ScanTruncated as error:
                reached = error.offset
            else:
                reached = found.consumed
                whole += 1
            assert reached == cut or syntax == DEFLATED
    # a single zero, the first byte of a big endian group, is taken as padding
    between = {DEFLATED: 0, BIG_ENDIAN: 10}.get(syntax, 5)
    assert whole == between * len(sources_of(b""))


def test_limits_of_depth():
    def nested(depth: int) -> bytes:
        data = b""
        for _ in range(depth - 1):
            data = sequence(SEQUENCE, item(data, undefined=True), undefined=True)
        return data

    scan(nested(64), EXPLICIT)
    for wanted in (None, frozenset({0x00402001})):
        with pytest.raises(ScanError, match="deeper than the limit of 64"):
            scan(nested(65), EXPLICIT, wanted=wanted)


def test_a_bomb_of_open_sequences_ends_at_the_limit_of_depth():
    bomb = (element(SEQUENCE, "SQ", length=UNDEFINED) + element(0xFFFEE000, "", length=UNDEFINED)) * 100_000
    with pytest.raises(ScanError, match="deeper than the limit of 64") as caught:
        scan(bomb, EXPLICIT, wanted=frozenset({0x00402001}))
    assert caught.value.offset < 2000


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_limit_of_elements(syntax):
    data = element(0x00080005, "CS", syntax=syntax) * 11
    scan(data[8:], syntax, limits=ScanLimits(elements=10))
    with pytest.raises(ScanError, match="limit of 10 elements") as caught:
        scan(data, syntax, limits=ScanLimits(elements=10))
    assert caught.value.offset == 80


def test_items_and_delimiters_count_as_elements():
    data = sequence(SEQUENCE, *[item()] * 300_000, undefined=True)
    with pytest.raises(ScanError, match="limit of 200000 elements"):
        scan(data, EXPLICIT)


@pytest.mark.parametrize("beyond", [0, 1])
def test_limit_of_inflated_bytes(beyond):
    data = identity() + element(0x00090010, "UN", bytes(1000))
    limits = ScanLimits(inflated=len(data) - beyond)
    for source in sources_of(deflate(data)):
        if beyond:
            with pytest.raises(ScanError, match=f"limit of {limits.inflated} bytes"):
                scan(source, DEFLATED, limits=limits)
        else:
            scan(source, DEFLATED, limits=limits)


def test_a_deflate_bomb_ends_at_the_limit_of_inflated_bytes():
    bomb = deflate(element(0x00090010, "UN", bytes(200_000_000)))
    assert len(bomb) < 200_000
    with pytest.raises(ScanError, match="limit of 16777216 bytes"):
        scan(bomb, DEFLATED, wanted=frozenset({0x00402001}))
    many = deflate(element(0x00090010, "UN", bytes(60_000)) * 3000)
    with pytest.raises(ScanError, match="limit of 16777216 bytes"):
        scan(many, DEFLATED)


def test_a_deflate_stream_of_nothing_ends():
    empty_blocks = b"\0\0\0\xff\xff" * 400_000
    with pytest.raises(DamagedDeflate, match="hold nothing"):
        scan(empty_blocks, DEFLATED)


def test_damaged_deflate_is_told():
    with pytest.raises(DamagedDeflate, match="cannot be inflated further than byte 0"):
        scan(b"\xff" * 100, DEFLATED)


def test_what_follows_a_deflate_stream_is_left_alone():
    assert scan(deflate(identity()) + b"\0", DEFLATED).uid(INSTANCE) == "1.2.3.4"


def test_a_file_that_shrinks_ends_early():
    source = FileSource(io.BytesIO(identity()), 0, len(identity()) + 50)
    assert scan(source, EXPLICIT).consumed == len(identity())
    assert source.read(10) == b""
    assert source.skip(10) == 0


def test_a_value_that_is_passed_over_ends_early():
    data = element(0x00090010, "UN", bytes(5000))
    for source in sources_of(data[:-10]):
        with pytest.raises(ScanTruncated, match=r"\(0009,0010\) lacks 10 bytes") as caught:
            scan(source, EXPLICIT, wanted=frozenset({0x00100010}))
        assert caught.value.offset == len(data) - 10
        assert caught.value.tag == 0x00090010


def test_little_is_read_of_a_long_data_set():
    file = samples.Counting(identity() + element(0x00090010, "UN", bytes(1_000_000)) + element(0x00100010, "PN", b"A^"))
    source = FileSource(file, 0, len(file.getvalue()))
    assert scan(source, EXPLICIT, wanted=frozenset({0x00100010})).text(0x00100010) == "A^"
    assert file.taken < 2 * CHUNK


# any bytes

ELEMENTS = st.recursive(
    st.builds(
        lambda tag, value, syntax: element(tag, "OB", value, syntax=syntax, length=UNDEFINED),
        st.sampled_from([SEQUENCE, PIXELS, 0x00090010]),
        st.binary(max_size=20),
        st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]),
    )
    | st.builds(
        lambda tag, vr, value, syntax, length: element(tag, vr, value, syntax=syntax, length=length),
        st.sampled_from([0x00080005, 0x00080018, SEQUENCE, PIXELS, 0x00090010, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD]),
        st.sampled_from(["UI", "CS", "SQ", "UN", "OB", "QQ", ""]),
        st.binary(max_size=20),
        st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]),
        st.sampled_from([None, None, None, 0, 0xFFFF, 100]),
    ),
    lambda inner: st.builds(
        lambda parts, undefined, vr, syntax: sequence(
            SEQUENCE, item(*parts, undefined=undefined, syntax=syntax), undefined=undefined, vr=vr, syntax=syntax
        ),
        st.lists(inner, max_size=4),
        st.booleans(),
        st.sampled_from(["SQ", "UN", ""]),
        st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN]),
    ),
    max_leaves=12,
)
SYNTAXES = st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, "1.2.840.10008.1.2.4.50", ""])


def visit(header) -> None:
    """Ask a header for everything."""
    for tag in header:
        header.text(tag), header.texts(tag), header.uid(tag), header.int(tag)
        with suppress(ScanError):
            for inner in header.items(tag):
                visit(inner)


@given(
    st.lists(ELEMENTS | st.binary(max_size=30), max_size=6), SYNTAXES, st.sampled_from([None, frozenset({SEQUENCE})])
)
def test_scan_is_total_and_alike_for_every_source(parts, syntax, wanted):
    data = b"".join(parts)
    results = set()
    for stored in sources_of(deflate(data) if syntax == DEFLATED else data):
        try:
            header = scan(stored, syntax, wanted=wanted)
        except ScanError as error:
            results.add((type(error), error.offset, error.reason, error.tag))
        else:
            visit(header)
            results.add((header.consumed, tuple(header), tuple(header.values.values())))
    assert len(results) == 1
