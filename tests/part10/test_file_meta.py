"""File meta information and names made from UIDs."""

from __future__ import annotations

import io

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.part10.samples import EXPLICIT, IMPLICIT, identity

from dulcet.part10 import encode_file_meta, is_valid_uid, locate, safe_name

CLASS = "1.2.840.10008.5.1.4.1.1.2"


def read(meta: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(meta), force=False).file_meta


def test_pydicom_reads_what_is_written():
    meta = read(
        encode_file_meta(
            CLASS,
            "1.2.3",
            EXPLICIT,
            implementation_class_uid="2.25.1",
            implementation_version_name="DULCET_1",
            source_ae_title="ME",
            sending_ae_title="THEM",
            receiving_ae_title="YOU",
        )
    )
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == CLASS
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.ImplementationClassUID == "2.25.1"
    assert meta.ImplementationVersionName == "DULCET_1"
    assert meta.SourceApplicationEntityTitle == "ME"
    assert meta.SendingApplicationEntityTitle == "THEM"
    assert meta.ReceivingApplicationEntityTitle == "YOU"


def test_the_preamble_is_zeros_and_the_group_length_is_right():
    encoded = encode_file_meta(CLASS, "1.2.34", IMPLICIT)
    assert encoded[:132] == bytes(128) + b"DICM"
    assert encoded[132:144] == b"\2\0\0\0UL\4\0" + (len(encoded) - 144).to_bytes(4, "little")
    assert len(encoded) % 2 == 0


def test_empty_ae_titles_are_left_out():
    assert not {0x00020016, 0x00020017, 0x00020018} & {
        element.tag for element in read(encode_file_meta(CLASS, "1", IMPLICIT))
    }


@pytest.mark.parametrize(("length", "vr"), [(65_534, b"UI\xfe\xff"), (65_536, b"UN\0\0")])
def test_a_uid_too_long_for_its_vr_is_written_as_un(length, vr):
    uid = "1." + "2" * (length - 2)
    encoded = encode_file_meta(CLASS, uid, EXPLICIT)
    assert b"\2\0\3\0" + vr in encoded
    assert locate(io.BytesIO(encoded + identity())).meta[0x00020003] == uid.encode()


@given(st.text(), st.text(), st.text(), st.text(max_size=20))
def test_any_text_is_written_and_found_again(class_uid, instance_uid, syntax, title):
    encoded = encode_file_meta(class_uid, instance_uid, "1" + syntax, source_ae_title=title)
    meta = locate(io.BytesIO(encoded + identity())).meta
    for tag, text in ((0x00020002, class_uid), (0x00020003, instance_uid), (0x00020010, "1" + syntax)):
        value = text.encode("utf-8", "surrogatepass")
        assert meta[tag] == value + b"\0" * (len(value) % 2)


VALID = ["1.2.840.10008.1.1", "0", "2.25.1", "1." * 31 + "22", "1.02"]
INVALID = ["", ".", "..", "1.", ".1", "1..2", "1.2/..", "1.2\0", "1.2\n", "a", "-1", "1 ", "٣.١", "1" * 65, "../1"]


@pytest.mark.parametrize("uid", VALID)
def test_valid_uids_are_names_as_they_are(uid):
    assert is_valid_uid(uid)
    assert safe_name(uid) == uid


@pytest.mark.parametrize("uid", INVALID)
def test_other_text_becomes_a_digest(uid):
    assert not is_valid_uid(uid)
    assert safe_name(uid).startswith("uid-")
    assert len(safe_name(uid)) == 36


def test_leading_zeros_are_refused_only_when_strict():
    assert is_valid_uid("1.02")
    assert not is_valid_uid("1.02", strict=True)
    assert is_valid_uid("1.0.2", strict=True)


@given(st.text(), st.text())
def test_names_are_safe_and_differ_as_the_uids_do(one, other):
    name = safe_name(one)
    assert name[0] in "0123456789u"
    assert set(name) <= set("0123456789.abcdefuid-")
    assert not name.endswith(".")
    assert (name == safe_name(other)) == (one == other)
