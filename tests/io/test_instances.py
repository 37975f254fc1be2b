"""What can be sent: each kind of source is the same instance, and what changed or cannot be sent says so itself."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
import pydicom.config
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from tests.corpus import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, Instance, make_instance, read_instance, survey

from dulcet.dimse.source import FileSpan
from dulcet.errors import CannotConvert, InstanceError, NotDicom
from dulcet.io import instances
from dulcet.io.instances import AT_ONCE, IN_MEMORY, examine
from dulcet.io.instances import Instance as InstanceToSend
from dulcet.part10.convert import convert
from dulcet.part10.location import locate_path

SMALL, LARGE = AT_ONCE + 1000, IN_MEMORY + 1000
JPEG = "1.2.840.10008.1.2.4.50"


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Instance:
    return read_instance(make_instance(tmp_path / "one.dcm", request.param))


def one(syntax: str) -> Instance:
    """A file of the corpus in one transfer syntax."""
    return next(found for found in survey()[0] if found.transfer_syntax == syntax and not found.truncated)


def everything(source: memoryview | FileSpan) -> bytes:
    if isinstance(source, FileSpan):
        return os.pread(source.file, source.length, source.offset)
    return bytes(source)


class OnlyPath(os.PathLike[str]):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


class Pipe(io.RawIOBase):
    """A stream that cannot go back."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        data, self._left = self._left, b""
        return data


def spooled(path: Path) -> BinaryIO:
    file = tempfile.SpooledTemporaryFile(max_size=1 << 30)  # noqa: SIM115
    file.write(path.read_bytes())
    return file  # type: ignore[return-value]


def named_temporary(path: Path) -> Any:
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115
    file.write(path.read_bytes())
    return file


def compressed(path: Path) -> Any:
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return gzip.open(packed)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "Path": lambda path: path,
    "str": str,
    "PathLike": OnlyPath,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "unbuffered file": lambda path: path.open("rb", buffering=0),
    "file open for both": lambda path: path.open("r+b"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "gzip": compressed,
    "spooled file": spooled,
    "temporary file, not flushed": named_temporary,
    "stream": lambda path: Pipe(path.read_bytes()),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_kind_of_source_is_the_same_instance(file: Instance, source: Callable[[Path], Any]) -> None:
    what = source(file.path)
    found = examine(what)
    assert found.origin is what
    assert (found.sop_class_uid, found.sop_instance_uid) == (file.sop_class_uid, file.sop_instance_uid)
    assert found.transfer_syntax == file.transfer_syntax
    assert everything(found.open()) == file.data_set()
    found.close()
    found.close()


def test_a_dataset_is_sent_as_pydicom_writes_it(file: Instance) -> None:
    dataset = pydicom.dcmread(file.path)
    found = examine(dataset)
    assert found.sop_instance_uid == file.sop_instance_uid
    assert everything(found.open()) == file.data_set()


def test_an_open_file_stays_where_it_was(file: Instance) -> None:
    with file.path.open("rb") as opened:
        opened.seek(7)
        found = examine(opened)
        assert opened.tell() == 7
        assert everything(found.open()) == file.data_set()
        found.close()
        assert opened.tell() == 7
    stream = io.BytesIO(file.path.read_bytes())
    stream.seek(9)
    examine(stream)
    assert stream.tell() == 9


def test_no_descriptor_stays_behind(file: Instance) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with file.path.open("rb") as opened:
        for what in (file.path, opened, file.path.read_bytes()):
            found = examine(what)
            found.open()
            found.close()
    for broken in (file.path.parent, file.path.with_name("none")):
        with pytest.raises(InstanceError):
            examine(broken)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_large_files_are_not_read_before_they_leave(tmp_path: Path) -> None:
    found = examine(make_instance(tmp_path / "large.dcm", LARGE))
    source = found.open()
    assert isinstance(source, FileSpan)
    assert source.length == found.location.length
    found.close()
    with pytest.raises(OSError):
        os.fstat(source.file)


@pytest.mark.parametrize("change", [b"longer", None], ids=["grown", "shrunk"])
def test_a_file_that_changed_is_not_sent(file: Instance, change: bytes | None) -> None:
    found = examine(file.path)
    data = file.path.read_bytes()
    file.path.write_bytes(data + change if change else data[:-2])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InstanceError, match="when it was looked at") as caught:
        found.open()
    assert caught.value.path == file.path
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_file_that_went_away_is_not_sent(file: Instance) -> None:
    found = examine(file.path)
    file.path.unlink()
    with pytest.raises(InstanceError, match="No such file"):
        found.open()
    with pytest.raises(InstanceError):
        found.converted([IMPLICIT])


def test_an_open_file_that_was_closed_is_not_sent(file: Instance) -> None:
    with file.path.open("rb") as opened:
        found = examine(opened)
    with pytest.raises(InstanceError, match="closed file"):
        found.open()
    with pytest.raises(InstanceError, match="closed file"):
        examine(opened)


def test_a_file_that_ends_while_it_is_read_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(make_instance(tmp_path / "one.dcm", SMALL))
    real = os.pread
    parts = [10, 20, 0]
    monkeypatch.setattr(os, "pread", lambda file, length, offset: real(file, min(parts.pop(0), length), offset))
    with pytest.raises(InstanceError, match="ended early"):
        found.open()


def test_systems_without_pread_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = read_instance(make_instance(tmp_path / "one.dcm", SMALL))
    monkeypatch.delattr(os, "pread")
    assert bytes(examine(file.path).open()) == file.data_set()  # type: ignore[arg-type]


@pytest.mark.parametrize("accepted", [IMPLICIT, BIG_ENDIAN, DEFLATED])
@pytest.mark.parametrize("source", ["Path", "open file", "bytes"])
def test_a_conversion_is_the_same_from_every_source(file: Instance, source: str, accepted: str) -> None:
    expected = convert(file.path, locate_path(file.path), [accepted])
    what = SOURCES[source](file.path)
    found = examine(what)
    data, syntax = found.converted([accepted])
    assert (bytes(data), syntax) == expected
    assert found.file is None


@pytest.mark.parametrize("source", ["Path", "open file", "bytes"])
def test_what_cannot_be_converted_says_which_and_what_to_do(source: str) -> None:
    jpeg = one(JPEG)
    what = SOURCES[source](jpeg.path)
    with pytest.raises(CannotConvert) as caught:
        examine(what).converted([EXPLICIT])
    assert caught.value.path == what
    assert "1.2.840.10008.1.2.4.50" in str(caught.value) or "JPEG" in str(caught.value)


@pytest.mark.parametrize("source", ["Path", "open file", "bytes"])
def test_an_odd_deflated_stream_gets_its_pad(source: str) -> None:
    deflated = one(DEFLATED)
    assert len(deflated.data_set()) % 2 == 1
    found = examine(SOURCES[source](deflated.path))
    assert everything(found.open()) == deflated.data_set() + b"\0"
    data, _ = found.converted([EXPLICIT])
    assert bytes(data) == convert(deflated.path, locate_path(deflated.path), [EXPLICIT])[0]


def test_a_large_odd_deflated_stream_gets_its_pad_too(tmp_path: Path) -> None:
    deflated = one(DEFLATED)
    head = deflated.path.read_bytes()[: deflated.data_set_offset]
    plain = zlib.decompress(deflated.data_set(), -15)
    for junk in range(1, 3):  # private bulk that does not shrink: of one of two lengths the stream is odd
        noise = os.urandom(IN_MEMORY + junk * 2)
        element = b"\x11\x60\x10\x00UN\0\0" + len(noise).to_bytes(4, "little") + noise
        packer = zlib.compressobj(wbits=-15)
        stream = packer.compress(plain[: plain.index(b"\xe0\x7f\x10\x00")] + element) + packer.flush()
        path = tmp_path / f"{junk}.dcm"
        path.write_bytes(head + stream)
        sent = everything(examine(path).open())
        assert sent == stream + b"\0" * (len(stream) % 2)


def _with_uids(
    *, sop_class: str = "1.2.840.10008.5.1.4.1.1.7", syntax: str = EXPLICIT, instance: str = "1.2.3"
) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.add_new(0x00020010, "UI", syntax)
    with pydicom.config.disable_value_validation():
        made.SOPClassUID, made.SOPInstanceUID = sop_class, instance
    return made


NOT_SENT: dict[str, tuple[Callable[[Path], Any], type[InstanceError], str]] = {
    "a folder": (lambda folder: folder, InstanceError, "is a folder"),
    "nothing": (lambda folder: folder / "none.dcm", InstanceError, "No such file"),
    "a text": (lambda folder: _write(folder / "a.txt", b"hello, world" * 20), NotDicom, "not a DICOM file"),
    "an empty file": (lambda folder: _write(folder / "a.dcm", b""), NotDicom, "empty"),
    "a pipe": (lambda folder: _fifo(folder / "pipe"), NotDicom, "no regular file"),
    "a device": (lambda folder: Path("/dev/zero"), NotDicom, "no regular file"),
    "bytes": (lambda folder: b"hello, world" * 20, NotDicom, "the bytes given: not a DICOM file"),
    "a file open as text": (lambda folder: io.StringIO("hello"), InstanceError, 'open it with "rb"'),
    "a name with NUL": (lambda folder: "a\0b", InstanceError, "null (byte|character)"),
    "a class of 70 characters": (
        lambda folder: _with_uids(sop_class="1." + "2" * 68), InstanceError,
        "SOP Class UID 1.2+ is 70 characters long; at most 64 are allowed in a UID; this one cannot be sent",
    ),
    "a class that is none": (lambda folder: _with_uids(sop_class="CT"), InstanceError, "SOP Class UID 'CT' is no UID"),
    "a syntax of 70 characters": (
        lambda folder: _with_uids(syntax="1." + "2" * 68), InstanceError, "Transfer Syntax UID 1.2+ is 70 characters"
    ),
    "an instance of 70 characters": (
        lambda folder: _with_uids(instance="1." + "2" * 68), InstanceError, "AffectedSOPInstanceUID is '1.2+'; expected"
    ),
    "an instance of another index": (
        lambda folder: InstanceToSend.of_span(
            FileSpan(0, 0, 0), sop_class_uid="CT", sop_instance_uid="1.2.3", transfer_syntax="1.2"
        ), InstanceError, "1.2.3: SOP Class UID 'CT' is no UID",
    ),
    "None": (lambda folder: None, InstanceError, "a NoneType cannot be sent"),
    "a Dataset without UIDs": (lambda folder: Dataset(), InstanceError, "no SOP Class UID"),
}


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(("source", "kind", "words"), NOT_SENT.values(), ids=NOT_SENT.keys())
def test_what_cannot_be_sent_says_why(
    tmp_path: Path, source: Callable[[Path], Any], kind: type[InstanceError], words: str
) -> None:
    what = source(tmp_path)
    with pytest.raises(kind, match=words) as caught:
        examine(what)
    assert type(caught.value) is kind
    assert caught.value.path is what


def test_a_directory_of_files_is_not_sent_but_named_for_what_it_is() -> None:
    folder = Path(str(pydicom.data.get_testdata_file("DICOMDIR")))
    with pytest.raises(NotDicom, match="DICOMDIR, an index of other files"):
        examine(folder)
    with pytest.raises(NotDicom, match="DICOMDIR"):
        examine(folder.read_bytes())


def test_a_cut_off_file_is_told_before_it_is_sent(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", SMALL)
    data = path.read_bytes()[:-100]
    path.write_bytes(data)
    with pytest.raises(InstanceError, match=f"{path}: truncated at byte {len(data)}"):
        examine(path)
    with pytest.raises(InstanceError, match="the bytes given: truncated"):
        examine(data)


def test_a_dataset_with_elements_of_a_message_is_not_sent(file: Instance) -> None:
    dataset = pydicom.dcmread(file.path)
    dataset.add_new(0x00020010, "UI", EXPLICIT)
    with pytest.raises(InstanceError, match=r"\(0002,0010\)"):
        examine(dataset)


def test_a_dataset_that_cannot_be_written_is_not_sent(file: Instance) -> None:
    dataset = pydicom.dcmread(file.path)
    dataset[0x00280010] = pydicom.DataElement(0x00280010, "US", "many", validation_mode=0)
    with pytest.raises(InstanceError, match="cannot be encoded") as caught:
        examine(dataset)
    assert caught.value.path is dataset


@pytest.mark.parametrize("name", [None, 3])
def test_a_file_without_a_name_has_one_in_messages(name: object) -> None:
    stream = io.BytesIO(b"hello, world" * 20)
    stream.name = name
    with pytest.raises(NotDicom, match=r"^(the open file|3): not a DICOM file"):
        examine(stream)


def test_a_span_of_an_open_file_stays_the_callers(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", LARGE)
    location = locate_path(path)
    with path.open("rb") as opened:
        span = FileSpan(opened.fileno(), location.offset, location.length)
        uids = {"sop_class_uid": location.sop_class_uid, "sop_instance_uid": location.sop_instance_uid}
        found = InstanceToSend.of_span(span, transfer_syntax=EXPLICIT, **uids)
        assert found.open() is span
        assert found.origin is span
        data, syntax = found.converted([IMPLICIT])
        assert (bytes(data), syntax) == convert(path, location, [IMPLICIT])
        found.close()
        assert os.fstat(opened.fileno()).st_size == location.offset + location.length
        assert InstanceToSend.of_span(span, transfer_syntax=EXPLICIT, origin="row 7", **uids).origin == "row 7"


def test_opening_never_waits_and_no_child_inherits_what_is_open() -> None:
    assert instances.READ_ONLY & os.O_NONBLOCK
    assert instances.READ_ONLY & os.O_CLOEXEC


def test_a_tiny_file_is_read_when_it_is_examined(tmp_path: Path) -> None:
    path = make_instance(tmp_path / "one.dcm", 2000)
    expected = read_instance(path).data_set()
    found = examine(path)
    path.unlink()
    assert bytes(found.open()) == expected  # type: ignore[arg-type]
    found.close()


def test_an_examined_instance_is_taken_as_it_is(tmp_path: Path) -> None:
    found = examine(make_instance(tmp_path / "one.dcm", 2000))
    assert examine(found) is found
