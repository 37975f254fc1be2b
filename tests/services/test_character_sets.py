"""Text in character sets, as PS3.5 Annexes H, I, J and K print it, and held against pydicom's decoder and our own."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS

from dulcet.part10.charset import decode_text
from dulcet.services.character_sets import SINGLE_BYTE, NotHeld, character_sets

PN, LO, LT = "\\^=", "\\", ""

EVERY = [
    "", "ISO_IR 6", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13", *(f"ISO_IR {number}" for number in SINGLE_BYTE),
    *(f"ISO 2022 IR {number}" for number in ("6", "13", "58", "87", "149", "159", *SINGLE_BYTE)),
    "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "\\ISO 2022 IR 58", "ISO 2022 IR 13\\ISO 2022 IR 87",
    "ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159", "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159",
    "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126", "ISO 2022 IR 100\\ISO 2022 IR 87",
    "ISO 2022 IR 144\\ISO 2022 IR 149", "ISO 2022 IR 13\\ISO 2022 IR 100\\ISO 2022 IR 87",
]  # fmt: skip


def encode(text: str, value: str, delimiters: str = PN) -> bytes:
    sets = character_sets(value)
    assert sets is not None
    return sets.encode(text, delimiters)


@pytest.mark.parametrize(
    ("value", "text", "data"),
    [
        # PS3.5 H.3.1 and H.3.2
        (
            "\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
        (
            "ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        ),
        # I.2
        (
            "\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        ),
        # J.3 and K.2
        ("GB18030", "Wang^XiaoDong=王^小东", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東", "Wang^XiaoDong=王^小東".encode()),
        (
            "\\ISO 2022 IR 58", "Zhang^XiaoDong=张^小东",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
        ),
        ("ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
        ("ISO_IR 144", "Люкceмбypг", b"\xbb\xee\xdace\xdc\xd1yp\xd3"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ", b"\xd4\xcf\xc0\xde"),
        # The set of the first value is active again before a delimiter and at the end.
        ("ISO 2022 IR 100\\ISO 2022 IR 144", "é^Дд", b"\xe9^\x1b-L\xb4\xd4\x1b-A"),
        ("ISO 2022 IR 100\\ISO 2022 IR 87", "a山é", b"a\x1b$B;3\x1b(B\x1b-A\xe9"),
        ("ISO 2022 IR 13\\ISO 2022 IR 100\\ISO 2022 IR 87", "~é", b"\x1b(B~\x1b-A\xe9\x1b(J\x1b)I"),
    ],
)  # fmt: skip
def test_names_are_written_as_the_standard_prints_them(value: str, text: str, data: bytes) -> None:
    assert encode(text, value) == data
    assert decode_text(data, value) == text


@pytest.mark.parametrize(
    ("value", "data", "text"),
    [
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\x1b-L\xb4^\xe9", "Д^é"),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\x1b-L\xb4=\xe9\\\xe9", "Д=é\\é"),
        ("ISO 2022 IR 100\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8^\xe9", "김^é"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8^\xc8\xf1", "김^희"),  # the second escape is missing
    ],
)
def test_delimiters_take_back_to_the_first_set_where_it_has_an_upper_half(value: str, data: bytes, text: str) -> None:
    assert decode_text(data, value) == text


def test_lines_end_in_the_first_set() -> None:
    data = encode("山\r\n田", "\\ISO 2022 IR 87", LT)
    assert data == b"\x1b$B;3\x1b(B\r\n\x1b$BED\x1b(B"
    assert encode("a\\b^山", "\\ISO 2022 IR 87", LO) == b"a\\b^\x1b$B;3\x1b(B"


@pytest.mark.parametrize(
    ("value", "text", "delimiters"),
    [
        ("ISO_IR 13", "表^太郎", PN),  # Shift-JIS has it, with 5CH in it; JIS X 0201 has not
        ("ISO_IR 13", "ヤマダ", PN),
        ("ISO_IR 13", "a\\b", LT),  # 5CH is a yen sign there
        ("ISO_IR 13", "a~b", PN),
        ("ISO_IR 13", "¥", PN),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "~", PN),
        ("", "é", PN),
        ("ISO_IR 100", "Ł", PN),
        ("ISO_IR 100", "\x85", PN),  # a control character
        ("ISO_IR 166", "é", PN),
        ("\\ISO 2022 IR 87", "é", PN),
        ("\\ISO 2022 IR 149", "똠방", PN),  # not among the syllables of KS X 1001
        ("GBK", "\U00020000", PN),
        ("GB18030", "俓", PN),  # its second byte is 5CH
        ("GBK", "乗", LO),
        ("GB18030", "俕", PN),  # 5EH
        ("ISO 2022 IR 100", "\x1b$B;3", PN),
    ],
)
def test_what_a_set_does_not_have_is_told(value: str, text: str, delimiters: str) -> None:
    with pytest.raises(NotHeld):
        encode(text, value, delimiters)


@pytest.mark.parametrize("text", ["\x1b$B;3", "\ud800", "\x00\x85", "山\\^=~"])
def test_utf_8_holds_everything(text: str) -> None:
    assert encode(text, "ISO_IR 192") == text.encode("utf-8", "replace")


def test_a_byte_that_is_no_delimiter_of_the_vr_is_held() -> None:
    assert encode("俓", "GB18030", LT) == "俓".encode("gb18030")
    assert encode("俕", "GBK", LO) == "俕".encode("gbk")


@pytest.mark.parametrize(
    "value",
    "LATIN;ISO_IR 87;ISO_IR 149;ISO_IR 1;ISO 2022 IR 999;ISO_IR 192\\ISO 2022 IR 87;\\GB18030;\\\\".split(";"),
)
def test_what_is_no_character_set_to_write_in_is_none(value: str) -> None:
    assert character_sets(value) is None


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ("iso_ir 100 ", "ISO_IR 100"),
        ("ISO_IR 13\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87"),
        ("ISO 2022 IR 6\\ISO_IR 149", "ISO 2022 IR 6\\ISO 2022 IR 149"),
        ("\\ISO 2022 IR 149", "\\ISO 2022 IR 149"),
        ("ISO 2022 IR 87", "ISO 2022 IR 87"),
    ],
)
def test_an_answer_names_the_sets_as_defined(given: str, answered: str) -> None:
    sets = character_sets(given)
    assert sets is not None
    assert sets.value == answered


LETTERS = "aB ~\\^=\n-éßŁДяΩشשğก山田表本郎丂ﾔﾏﾞやヤ김희똠张东俓€\u0301¥"


@pytest.mark.parametrize("value", EVERY)
@given(text=st.text(LETTERS, max_size=12))
@settings(max_examples=80, deadline=None)
def test_what_is_written_reads_as_the_same(value: str, text: str) -> None:
    text = text.strip()
    try:
        data = encode(text, value)
    except NotHeld:
        return
    assert decode_text(data, value) == text
    if "203" in value:
        return  # pydicom does not know it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encodings = convert_encodings(value.split("\\")) if value else ["iso8859"]
    read = decode_bytes(data, encodings, PN_DELIMS | {"\n", "\r", "\t", "\f"})
    assert read.replace("\x1b$)A", "") == text  # pydicom leaves this escape where it is
    if b"\x1b" not in data and value not in ("ISO_IR 192", "GB18030", "GBK"):
        assert data.count(b"\\") == text.count("\\")
