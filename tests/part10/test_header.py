"""Text, integers and items of a scanned header, against pydicom where it has an opinion."""

from __future__ import annotations

import warnings

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.multival import MultiValue
from tests.part10 import samples
from tests.part10.samples import BIG_ENDIAN, EXPLICIT, IMPLICIT, element, item, sequence

from dulcet.part10 import ScanError, ScanLimits, locate_path, scan

NAME = 0x00100010
CHARACTER_SET = 0x00080005
TEXT_VRS = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"}


def header(*elements: bytes, syntax: str = EXPLICIT):
    return scan(b"".join(elements), syntax)


def named(raw: bytes, character_sets: bytes = b"") -> str:
    return header(element(CHARACTER_SET, "CS", character_sets), element(NAME, "PN", raw)).text(NAME)


def texts_of(dataset: pydicom.Dataset):
    """Tag and pydicom's text, read by its own decoder, of each text element."""
    for tag in dataset.keys():  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            element = dataset[tag]
        if element.VR in TEXT_VRS and tag >> 16 < 0x7FE0:
            value = element.value
            several = list(value) if isinstance(value, (list, MultiValue)) else [value]
            yield tag, ["" if one is None else str(one).strip("\0 ") for one in several]


def compare(found, dataset: pydicom.Dataset) -> int:
    compared = 0
    for tag, texts in texts_of(dataset):
        if int(tag) not in found:
            continue
        if dataset[tag].VR in ("DS", "IS"):
            assert [float(text) for text in found.texts(tag)] == [float(text) for text in texts if text]
        elif dataset[tag].VR == "PN":  # pydicom drops empty component groups at the end
            assert [text.rstrip("=") for text in found.texts(tag)] == [text for text in texts if text]
        else:
            assert found.text(tag) == "\\".join(texts) or found.texts(tag) == texts
        compared += 1
    return compared


@pytest.mark.parametrize("path", [path for path in samples.usable() if "charset" in str(path)], ids=samples.name)
def test_text_is_decoded_as_by_pydicom(path):
    location = locate_path(path)
    found = scan(path.read_bytes()[location.offset :], location.transfer_syntax)
    dataset = samples.dataset(path)
    assert compare(found, dataset) > 2
    for element_ in dataset:
        if element_.VR == "SQ":
            for inner, expected in zip(found.items(element_.tag), element_.value, strict=True):
                compare(inner, expected)


SPELLINGS = [
    b"ISO_IR 144",
    b"ISO 2022 IR 144",
    b"ISO-IR 144",
    b"ISO IR 144",
    b"iso_ir 144 ",
    b"ISO2022IR144",
    b"ISO_IR_144",
]


@pytest.mark.parametrize("term", SPELLINGS)
def test_spellings_of_one_character_set(term):
    assert named("Люк".encode("iso8859_5"), term) == "Люк"


DECODED = {
    "latin by default": (b"M\xfcller ", b"", "Müller"),
    "unknown term": (b"M\xfcller", b"ISO_IR 999", "Müller"),
    "another unknown term": (b"M\xfcller", b"KLINGON", "Müller"),
    "utf-8": ("Мüller王".encode(), b"ISO_IR 192", "Мüller王"),
    "bad utf-8": (b"M\xfcller", b"ISO_IR 192", "M\ufffdller"),
    "gb18030 with a trailing backslash byte": ("傾".encode("gb18030"), b"GB18030", "傾"),
    "gbk, old spelling": ("王".encode("gbk"), b"ISO 2022 GBK", "王"),
    "chinese by escape": (b"\x1b$)A\xcd\xf5^A", b"\\ISO 2022 IR 58", "王^A"),
    "escape that nobody declared": (b"A\x1b-F\xe1", b"", "Aα"),
    "unknown escape": (b"A\x1b-Z\xe9", b"", "A\x1b-Zé"),
    "escape and nothing": (b"A\x1b", b"", "A\x1b"),
    "reset at a line end": (b"\x1b-F\xe1\n\xe1", b"ISO_IR 100", "α\ná"),
    "japanese": (b"\x1b$B;3ED\x1b(B^A", b"\\ISO 2022 IR 87", "山田^A"),
    "escape in plain ascii": (b"\x1b(BABC", b"", "ABC"),
}


@pytest.mark.parametrize("case", DECODED)
def test_text(case):
    raw, character_sets, text = DECODED[case]
    assert named(raw, character_sets) == text


@given(st.binary(), st.binary(max_size=40))
def test_text_never_raises(raw, character_sets):
    assert isinstance(named(raw, character_sets), str)
    found = header(element(NAME, "PN", raw))
    assert isinstance(found.uid(NAME), str)
    assert all(isinstance(text, str) for text in found.texts(NAME))
    assert found.int(NAME) is None or isinstance(found.int(NAME), int)
    assert found.raw(NAME) == raw


def test_items_use_the_character_set_around_them_unless_they_have_their_own():
    inner = item(element(NAME, "PN", "Люк".encode("iso8859_5")))
    own = item(element(CHARACTER_SET, "CS", b"ISO_IR 192"), element(NAME, "PN", "Люк".encode()))
    found = header(
        element(CHARACTER_SET, "CS", b"ISO_IR 144"), sequence(0x00400275, inner, own, item(sequence(0x00400275, inner)))
    )
    first, second, third = found.items(0x00400275)
    assert first.text(NAME) == second.text(NAME) == third.items(0x00400275)[0].text(NAME) == "Люк"


def test_values_and_padding():
    found = header(
        element(0x00080008, "CS", b"ORIGINAL \\ PRIMARY\\\\AXIAL "),
        element(0x00080018, "UI", b"1.2.3\0"),
        element(0x00100020, "LO", b"  "),
        element(0x00100030, "DA"),
    )
    assert found.texts(0x00080008) == ["ORIGINAL", "PRIMARY", "", "AXIAL"]
    assert found.text(0x00080008) == "ORIGINAL \\ PRIMARY\\\\AXIAL"
    assert found.uid(0x00080018) == "1.2.3"
    assert found.raw(0x00080018) == b"1.2.3\0"
    assert found.text(0x00100020) == found.text(0x00100030) == found.text(0x00101010) == ""
    assert found.texts(0x00100020) == found.texts(0x00100030) == []
    assert found.uid(0x00101010) == ""
    assert found.raw(0x00101010) is None
    assert 0x00100030 in found
    assert 0x00101010 not in found
    assert list(found) == [0x00080008, 0x00080018, 0x00100020, 0x00100030]


INTEGERS = {
    b"12": 12,
    b" 7 \\8": 7,
    b"-3\0": -3,
    b"+5": 5,
    b"": None,
    b"AB": None,
    b"1_0": None,
    b"1.5": None,
    b"9" * 64: int("9" * 64),
    b"9" * 65: None,
    b"9" * 5000: None,
    b"\0\1": 256,
    b"\1\0\0\0": 1,
    b"\1\0\0": None,
}


@pytest.mark.parametrize("raw", INTEGERS)
def test_integers_in_text(raw):
    assert header(element(0x00200013, "IS", raw)).int(0x00200013) == INTEGERS[raw]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
def test_integers_in_binary(syntax):
    order = "big" if syntax == BIG_ENDIAN else "little"
    rows, columns = 0x00280010, 0x00480006
    found = header(
        element(rows, "US", (12593).to_bytes(2, order), syntax=syntax),
        element(columns, "UL", (70_000).to_bytes(4, order), syntax=syntax),
        syntax=syntax,
    )
    assert found.int(rows) == 12593  # "11", were it text
    assert found.int(columns) == 70_000


def test_a_sequence_of_known_length_in_implicit_vr_is_read_when_asked_for():
    inner = sequence(0x00081140, item(samples.identity(IMPLICIT), syntax=IMPLICIT), syntax=IMPLICIT)
    found = header(sequence(0x00400275, item(inner, syntax=IMPLICIT), item(), syntax=IMPLICIT), syntax=IMPLICIT)
    first, second = found.items(0x00400275)
    assert first.items(0x00081140)[0].uid(0x00080018) == "1.2.3.4"
    assert found.items(0x00400275) is found.items(0x00400275)
    assert list(second) == []


def test_unknown_vr_of_known_length_holds_implicit_vr():
    inside = item(samples.identity(IMPLICIT), syntax=IMPLICIT)
    found = header(element(0x00400275, "UN", inside))
    assert found.items(0x00400275)[0].uid(0x00080018) == "1.2.3.4"


def test_what_is_no_sequence_has_no_items():
    found = header(element(NAME, "PN", b"A^B "))
    assert found.items(NAME) == found.items(0x00400275) == []


def test_a_damaged_sequence_that_is_read_late_raises_then():
    found = header(element(0x00400275, "UN", b"\xfe\xff\0\xe0\xff\0\0\0"))
    with pytest.raises(ScanError, match="runs over the end"):
        found.items(0x00400275)


def test_the_limits_hold_for_sequences_read_late():
    inside = item(samples.identity(IMPLICIT), syntax=IMPLICIT) * 3
    found = scan(element(0x00400275, "UN", inside), EXPLICIT, limits=ScanLimits(elements=5))
    with pytest.raises(ScanError, match="limit of 5 elements"):
        found.items(0x00400275)
