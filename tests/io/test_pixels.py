"""What a peer does not take compressed is decompressed on the way out, where it can be, and nothing else changes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

import dulcet
from dulcet import uids
from dulcet.blocking.receiver import Receiver
from dulcet.blocking.sending import StoreMany
from dulcet.errors import CannotConvert
from dulcet.io import pixels
from dulcet.io.instances import examine
from dulcet.part10.file_meta import encode_file_meta
from dulcet.services.acceptance import AcceptancePolicy

RLE = Path(str(get_testdata_file("MR_small_RLE.dcm")))
PLAIN = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)


def pixels_of(data: bytes, syntax: str) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.int16]]:
    return dcmread(io.BytesIO(encode_file_meta("1.2", "1.2", syntax) + data)).pixel_array


@pytest.mark.parametrize("syntax", [uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN])
@pytest.mark.parametrize("what", [RLE, RLE.read_bytes()], ids=["path", "bytes"])
def test_the_pixels_are_the_same(what: Path | bytes, syntax: str) -> None:
    data, made = examine(what).converted([syntax])
    assert made == syntax
    expected = dcmread(str(get_testdata_file("MR_small.dcm")))
    assert (pixels_of(bytes(data), syntax) == expected.pixel_array).all()
    again = dcmread(io.BytesIO(encode_file_meta("1.2", "1.2", syntax) + bytes(data)))
    assert again.SOPInstanceUID == dcmread(RLE).SOPInstanceUID


def test_what_cannot_be_decompressed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = examine(RLE)
    with pytest.raises(CannotConvert):
        instance.converted([uids.JPEG_BASELINE_8_BIT])
    damaged = examine(RLE.read_bytes())
    assert isinstance(damaged.data, memoryview)
    damaged.data = damaged.data[:-2000]
    with pytest.raises(CannotConvert, match="cannot be decompressed") as caught:
        damaged.converted(PLAIN)
    assert caught.value.path is not None
    monkeypatch.setattr(pixels, "LIMIT", 100)
    with pytest.raises(CannotConvert, match="at most 100"):
        instance.converted(PLAIN)


def test_without_a_decoder_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels.decompressible.cache_clear()
    try:
        monkeypatch.setattr(pixels, "find_spec", lambda name: None)
        assert pixels.decompressible() == frozenset()
        with pytest.raises(CannotConvert, match="compressed"):
            examine(RLE).converted(PLAIN)
    finally:
        pixels.decompressible.cache_clear()
    monkeypatch.undo()
    assert uids.RLE_LOSSLESS in pixels.decompressible()


def test_a_peer_without_compression_is_sent_what_it_takes(tmp_path: Path) -> None:
    policy = AcceptancePolicy.storage(transfer_syntaxes=PLAIN)
    with dulcet.StoreDirectory(tmp_path, durability="none") as directory:

        def keep(request: dulcet.IncomingRequest) -> None:
            request.save(directory)
            request.respond()

        with Receiver("PLAIN@127.0.0.1:0", keep, policy=policy) as receiver:
            (sent,) = StoreMany(receiver.address, calling_ae_title="TEST").run([RLE])
    assert (sent.ok, sent.transfer_syntax) == (True, uids.EXPLICIT_VR_LITTLE_ENDIAN)
    (path,) = tmp_path.glob("*.dcm")
    assert (dcmread(path).pixel_array == dcmread(str(get_testdata_file("MR_small.dcm"))).pixel_array).all()
