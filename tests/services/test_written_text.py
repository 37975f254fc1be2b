"""Text on its way out: in its Specific Character Set or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_charset_files

from dulcet.errors import InstanceError
from dulcet.part10.charset import decode_text
from dulcet.services.identifiers import build_identifier, decode_dataset, encode_dataset
from dulcet.services.written_text import with_text_written

SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"]
EXPLICIT = "1.2.840.10008.1.2.1"


def named(sets: str | None, name: Any) -> Dataset:
    made = build_identifier({"PatientID": "1", "ReferencedStudySequence": [{"PatientName": name}], "PatientName": name})
    del made[0x00080005:0x00080006]
    if sets is not None:
        made.SpecificCharacterSet = sets.split("\\")
    return made


def names(data: bytes, syntax: str) -> list[bytes]:
    read = decode_dataset(data, syntax)
    return [one.get_item(0x00100010).value.rstrip(b" ") for one in (read, read.ReferencedStudySequence[0])]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("sets", "name"),
    [
        ("ISO_IR 13", "ﾔﾏ*"), ("\\ISO 2022 IR 58", "Li=李"), ("ISO_IR 100", "é"), ("ISO_IR 192", "山"),
        ("GB18030", "俓"), ("\\ISO 2022 IR 87", "Y=山"), ("ISO 2022 IR 100\\ISO 2022 IR 144", "é^Дд"),
    ],
)  # fmt: skip
def test_text_is_written_as_its_character_sets_have_it(sets: str, name: str, syntax: str) -> None:
    dataset = named(sets, name)
    written = names(encode_dataset(dataset, syntax)[0], syntax)
    assert [decode_text(one, sets) for one in written] == [name, name]
    assert dataset == named(sets, name)


@pytest.mark.parametrize(
    ("sets", "name"), [("ISO_IR 100", "山"), ("ISO_IR 13", "表"), ("", "山"), (None, "山"), ("\\ISO 2022 IR 87", "é")]
)
def test_what_the_character_sets_lack_is_an_error_that_names_the_tag(sets: str | None, name: str) -> None:
    with pytest.raises(InstanceError, match=r"\(0010,0010\) has characters") as caught:
        encode_dataset(named(sets, name), EXPLICIT)
    assert name not in str(caught.value)


def test_several_values_and_unsaid_latin_1() -> None:
    made = named("ISO_IR 144", "a")
    made.OperatorsName = ["Ж^Д", "b"]
    made.OtherPatientIDs = ["Ж", "b"]
    read = decode_dataset(encode_dataset(made, EXPLICIT)[0], EXPLICIT)
    assert (list(read.OperatorsName), list(read.OtherPatientIDs)) == (["Ж^Д", "b"], ["Ж", "b"])
    assert names(encode_dataset(named(None, "é"), EXPLICIT)[0], EXPLICIT) == [b"\xe9", b"\xe9"]


def test_an_escape_means_nothing_without_code_extensions() -> None:
    for sets in (None, "", "ISO_IR 100", "ISO_IR 192", "ISO_IR 6"):
        assert names(encode_dataset(named(sets, "a\x1b[31m"), EXPLICIT)[0], EXPLICIT) == [b"a\x1b[31m"] * 2
    with pytest.raises(InstanceError):
        encode_dataset(named("ISO 2022 IR 100", "a\x1b[31m"), EXPLICIT)


def test_plain_text_costs_no_copy() -> None:
    made = named("ISO_IR 100", "Doe^John")
    assert with_text_written(made) is made


def test_kanji_in_shift_jis_that_were_decoded_are_no_text_of_iso_ir_13() -> None:
    wrong = encode_dataset(named("ISO_IR 13", "ab"), EXPLICIT)[0].replace(b"ab", "表".encode("shift_jis"))
    read = decode_dataset(wrong, EXPLICIT)
    assert encode_dataset(read, EXPLICIT)[0] == wrong  # what nobody looked at
    assert str(read.PatientName) == "表"
    with pytest.raises(InstanceError, match="Character Set"):
        encode_dataset(read, EXPLICIT)


def test_dashes_of_another_code_page_are_written_as_they_were_read() -> None:
    wrong = encode_dataset(named("ISO_IR 100", "ab"), EXPLICIT)[0].replace(b"ab", b"\x96\xe9")
    read = decode_dataset(wrong, EXPLICIT)
    assert str(read.PatientName) == "\x96é"
    assert encode_dataset(read, EXPLICIT)[0] == wrong


@pytest.mark.parametrize("path", get_charset_files("*.dcm"), ids=lambda path: path.rsplit("/", 1)[-1])
def test_files_of_pydicom_are_written_as_they_were_read(path: str) -> None:
    read = dcmread(path, force=True)
    syntax = read.file_meta.get("TransferSyntaxUID", SYNTAXES[0])
    before = encode_dataset(read, syntax)[0]
    _ = str(read)  # every value is decoded
    assert decode_dataset(encode_dataset(read, syntax)[0], syntax) == decode_dataset(before, syntax)
