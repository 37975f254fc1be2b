"""What is acknowledged comes back: an archive's C-STORE answers 0000H if, and only if, a C-GET then brings the bytes.

The sender here does not look at what it sends, so that the archive has to; our own sender gives the same verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.io import arriving
from tests.part10 import mutants
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

import dulcet
from dulcet import uids
from dulcet.archive.application import Archive
from dulcet.archive.sqlite import SqliteIndex
from dulcet.archive.sweep import adopt_all
from dulcet.archive.upkeep import check, import_files
from dulcet.dimse.status import Status
from dulcet.errors import InstanceError
from dulcet.io.instances import Instance, examine
from dulcet.part10 import locate_path
from dulcet.part10.scanner import scan
from dulcet.services.results import Sent
from dulcet.upper_layer.negotiation import Proposal

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
GET = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET
STUDY, SERIES = 0x0020000D, 0x0020000E
PIXELS = 0x7FE00010


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "data", durable=False, allow_any=True) as made:
        yield made


@pytest.fixture
def address(archive: Archive) -> Iterator[str]:
    with archive.node("ARCHIVE").threads() as running:
        yield str(running.address)


def associated(address: str, syntax: str) -> dulcet.Association:
    contexts = [Proposal(SECONDARY_CAPTURE, (syntax,), provider=True), Proposal(GET, (IMPLICIT,))]
    contexts.append(Proposal(uids.VERIFICATION, (IMPLICIT,)))
    return dulcet.associate(address, contexts=contexts)


def unseen(data: bytes, syntax: str, uid: str) -> Instance:
    """What somebody sends who does not look at it."""
    return arriving.unseen(data, sop_class=SECONDARY_CAPTURE, uid=uid, syntax=syntax)


def brought(association: dulcet.Association, data: bytes, syntax: str, uid: str, folder: Path) -> list[bytes]:
    """What a C-GET of the instance gives."""
    header = scan(data, syntax, wanted=frozenset({STUDY, SERIES}))
    keys = {"StudyInstanceUID": header.uid(STUDY), "SeriesInstanceUID": header.uid(SERIES), "SOPInstanceUID": uid}
    got = association.get(level="IMAGE", to=folder, **keys).check()
    return [path.read_bytes()[locate_path(path).offset :] for path in got.received]


def our_senders(data: bytes, syntax: str) -> bytes | None:
    """What our own sender makes of the same, None where it refuses."""
    try:
        instance = examine(part10(data, syntax))
        source = instance.open()
    except InstanceError:
        return None
    assert isinstance(source, memoryview)
    return bytes(source)


@pytest.mark.parametrize("syntax", mutants.SYNTAXES)
def test_stored_if_and_only_if_it_can_be_fetched(archive: Archive, address: str, syntax: str, tmp_path: Path) -> None:
    chance = Random(syntax)
    inner = EXPLICIT if syntax == DEFLATED else syntax
    base = mutants.plain(inner)
    taken = refused = 0
    with associated(address, syntax) as association:
        for number, mutant in enumerate(mutants.mutants(base, inner, chance, 120)):
            uid = f"2.{10000 + number}"
            plain = mutant.replace(b"1.2.3.4\0", uid.encode() + b"\0")
            data = deflate(plain) if syntax == DEFLATED else plain
            if not data:
                continue
            sent = association.store(unseen(data, syntax, uid))
            sendable = our_senders(data, syntax)
            folder = tmp_path / f"got{number}"
            if sent.status == 0:
                taken += 1
                assert sendable is not None
                assert brought(association, plain, inner, uid, folder) == [sendable]
            else:
                refused += 1
                assert sent.status in (0xC000, 0xA900)
                assert sent.error_comment
                assert not archive.index.known(uid)
    assert taken > 10
    assert refused > 30
    names = [key.rsplit("/", 1)[-1] for key in archive.objects.listing()]
    assert len(names) == taken
    assert check(tmp_path / "data", archive.index).damaged == 0


REFUSED = {
    "pixel data cut": (element(PIXELS, "OW", bytes(1000), length=524_288), "lacks 523288 bytes", (PIXELS,)),
    "pixel data cut, fragments": (
        sequence(PIXELS, item(), item(bytes(50)), vr="OB", undefined=True)[:-8], "is not closed", (PIXELS,),
    ),
    "behind the pixels": (
        element(PIXELS, "OW", bytes(100)) + element(0xFFFCFFFC, "OB", b"ab", length=10), "(FFFC,FFFC) lacks 8 bytes",
        (0xFFFCFFFC,),
    ),
    "an item outside of a sequence": (item(identity()), "(FFFE,E000) stands outside of a sequence", (0xFFFEE000,)),
    "an odd length that nothing mends": (element(0x00420011, "US", b"abc"), "odd length", (0x00420011,)),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("bulk", [0, 300_000])
def test_what_is_refused_is_refused_with_the_reason_and_nothing_is_kept(
    archive: Archive, address: str, case: str, bulk: int
) -> None:
    """Small objects that are held, and long ones that are in a file already."""
    rest, reason, tags = REFUSED[case]
    data = mutants.patient() + element(0x00211010, "OB", bytes(bulk)) + rest
    with associated(address, EXPLICIT) as association:
        sent: Sent = association.store(unseen(data, EXPLICIT, "1.2.3.4"))
        association.echo().check()
    assert sent.status == Status.CANNOT_UNDERSTAND
    assert reason in sent.error_comment
    assert len(sent.error_comment) <= 64
    assert sent.offending_elements == tags
    assert list(archive.objects.listing()) == []
    assert list(archive.objects.interrupted()) == []
    assert our_senders(data, EXPLICIT) is None


@pytest.mark.parametrize("syntax", mutants.SYNTAXES)
def test_what_a_file_would_take_for_file_meta_is_refused(archive: Archive, address: str, syntax: str) -> None:
    """It would name the transfer syntax of the data set behind it, and be no part of what is fetched."""
    claim = element(0x00020010, "UI", b"1.2.840.10008.1.2.4.50")
    data = b"\2\0\0\0\xff\xff" + deflate(mutants.patient()) if syntax == DEFLATED else claim + mutants.patient(syntax)
    with associated(address, syntax) as association:
        sent: Sent = association.store(unseen(data, syntax, "1.2.3.4"))
        association.echo().check()
    assert (sent.status, sent.error_comment) == (0xC000, "byte 0: begins as file meta does, with group 0002")
    assert list(archive.objects.listing()) == []


def test_two_hundred_thousand_elements_go_both_ways(archive: Archive, address: str, tmp_path: Path) -> None:
    group = item(element(0x00080016, "UI", b"1.2\0"), element(0x00080018, "UI", b"1.2\0"), undefined=True)
    data = mutants.patient() + sequence(0x52009230, group * 60_000, undefined=True)
    (tmp_path / "many.dcm").write_bytes(part10(data, EXPLICIT))
    with associated(address, EXPLICIT) as association:
        association.store(tmp_path / "many.dcm").check()
        assert brought(association, data, EXPLICIT, "1.2.3.4", tmp_path / "got") == [data]


ODD = {
    "text at its end": (EXPLICIT, element(0x00290010, "LO", b"ABC"), element(0x00290010, "LO", b"ABC ")),
    "a UID": (EXPLICIT, element(0x00290010, "UI", b"1.2"), element(0x00290010, "UI", b"1.2\0")),
    "pixels": (EXPLICIT, element(PIXELS, "OW", bytes(99)), element(PIXELS, "OW", bytes(100))),
    "implicit pixels": (
        IMPLICIT, element(PIXELS, "", bytes(99), syntax=IMPLICIT), element(PIXELS, "", bytes(100), syntax=IMPLICIT),
    ),
    "many pixels": (EXPLICIT, element(PIXELS, "OB", bytes(99_999)), element(PIXELS, "OB", bytes(100_000))),
    "big endian": (
        BIG_ENDIAN, element(PIXELS, "OB", bytes(99), syntax=BIG_ENDIAN),
        element(PIXELS, "OB", bytes(100), syntax=BIG_ENDIAN),
    ),
    "zeros": (EXPLICIT, bytes(3), bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_an_odd_length_is_padded_where_the_standard_says_how(
    archive: Archive, address: str, case: str, tmp_path: Path
) -> None:
    """Kept as it came, and sent with an even number of bytes: by `store` and by a C-GET."""
    syntax, odd, even = ODD[case]
    data = mutants.patient(syntax) + odd
    padded = mutants.patient(syntax) + even
    assert len(data) % 2
    with associated(address, syntax) as association:
        association.store(unseen(data, syntax, "1.2.3.4")).check()
        assert brought(association, data, syntax, "1.2.3.4", tmp_path / "one") == [padded]
        (tmp_path / "odd.dcm").write_bytes(part10(data, syntax))
        association.store(tmp_path / "odd.dcm").check()
    found = archive.index.known("1.2.3.4")
    kept = [archive.objects.path(one.object).read_bytes()[one.offset :] for one in found]
    assert kept == [data, padded]


@pytest.mark.parametrize(
    "odd",
    [element(0x00290010, "US", b"abc"), element(0x00290010, "LO", b"ABC") + element(0x00290020, "LO", b"AB"),
     element(0x00290010, "ST", b"x" * 65_535), sequence(0x00081140, item(element(0x00290010, "LO", b"ABC")))],
    ids=["a number", "before the end", "as long as its length can tell", "in a sequence"],
)  # fmt: skip
def test_an_odd_length_that_nothing_mends_fails_by_name_and_the_rest_goes(
    address: str, odd: bytes, tmp_path: Path
) -> None:
    for number in range(1, 5):
        data = mutants.patient().replace(b"1.2.3.4\0", b"1.2.3.%d\0" % number) + (odd if number == 1 else b"")
        (tmp_path / f"{number}.dcm").write_bytes(part10(data, EXPLICIT))
    with associated(address, EXPLICIT) as association:
        results = list(association.store_many([tmp_path / f"{number}.dcm" for number in range(1, 5)]))
        assert [sent.ok for sent in sorted(results, key=lambda sent: str(sent.path))] == [False, True, True, True]
        failed = next(sent for sent in results if not sent.ok)
        assert "1.dcm" in str(failed.error)
        assert "odd length" in str(failed.error)
        got = association.get(level="STUDY", StudyInstanceUID="1.2.3", to=tmp_path / "got").check()
        assert got.completed == 3


def test_an_import_gives_the_same_verdict(archive: Archive, tmp_path: Path) -> None:
    paths = []
    for number, (rest, _, _) in enumerate(REFUSED.values()):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(part10(mutants.patient() + rest, EXPLICIT))
    results = list(import_files(paths, archive.ingest))
    assert len(results) == len(REFUSED)
    for (_, error), (_, reason, _) in zip(results, REFUSED.values(), strict=True):
        assert reason in str(error)
    assert list(archive.objects.listing()) == []


def test_an_index_check_finds_what_is_damaged_and_a_rebuild_does_not_adopt_it(
    archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = tmp_path / "good.dcm", tmp_path / "bad.dcm"
    good.write_bytes(part10(mutants.patient() + element(PIXELS, "OW", bytes(1000)), EXPLICIT))
    bad.write_bytes(
        part10(mutants.patient().replace(b"1.2.3.4\0", b"1.2.3.5\0") + element(PIXELS, "OW", bytes(1000)), EXPLICIT)
    )
    assert [error for _, error in import_files([good, bad], archive.ingest)] == [None, None]
    assert check(tmp_path / "data", archive.index).damaged == 0
    [kept] = archive.index.known("1.2.3.5")
    path = archive.objects.path(kept.object)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\0OW\0\0") + 8
    path.write_bytes(data[:at] + b"\xff\xff\0\0" + data[at + 4 :])  # as long as it was
    found = check(tmp_path / "data", archive.index)
    assert (found.objects, found.damaged, found.without_object) == (2, 1, 0)
    assert kept.object in caplog.text
    [other] = archive.index.known("1.2.3.4")
    length = archive.objects.path(other.object).stat().st_size
    whole = archive.objects.path(other.object).read_bytes()
    archive.objects.path(other.object).write_bytes(whole[:-1])
    assert check(tmp_path / "data", archive.index).without_object == 1
    assert f"{other.object}, in the index as 1.2.3.4: its object has {length - 1} bytes, not {length}" in caplog.text
    archive.objects.path(other.object).write_bytes(b"")
    assert check(tmp_path / "data", archive.index).without_object == 1
    assert f"{other.object}, in the index as 1.2.3.4: its object has 0 bytes, not {length}" in caplog.text
    archive.objects.path(other.object).unlink()
    assert check(tmp_path / "data", archive.index).without_object == 1
    assert f"{other.object}, in the index as 1.2.3.4: its object is missing" in caplog.text
    archive.objects.path(other.object).write_bytes(whole)
    assert "(7FE0,0010) lacks 64535 bytes" in caplog.text
    anew = SqliteIndex(tmp_path / "anew.sqlite", durable=False)
    try:
        swept = adopt_all(archive.objects, anew)
        assert (swept.adopted, swept.unreadable) == (1, 1)
        assert anew.known("1.2.3.4")
        assert not anew.known("1.2.3.5")
    finally:
        anew.close()


@pytest.mark.parametrize(
    ("tag", "value", "what"),
    [
        (0x00080018, b"1.2.3.4\0", "SOP Instance UID"),
        (0x00080016, b"1.2.840.10008.5.1.4.1.1.7\0", "SOP Class UID"),
        (0x0020000D, b"1.2.3\0", "Study Instance UID"),
    ],
)
def test_an_index_check_names_what_does_not_say_which_instance_it_is(
    archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture, tag: int, value: bytes, what: str
) -> None:
    """Others may have put them there, earlier versions as well; no retrieve sends them, so nobody may count on them."""
    good = tmp_path / "good.dcm"
    good.write_bytes(part10(mutants.patient(), EXPLICIT))
    assert [error for _, error in import_files([good], archive.ingest)] == [None]
    assert check(tmp_path / "data", archive.index).damaged == 0
    [kept] = archive.index.known("1.2.3.4")
    path = archive.objects.path(kept.object)
    said = element(tag, "UI", value)
    data = path.read_bytes()
    at = data.index(said, kept.offset)
    # As long as it was, with something else in place of what said it.
    path.write_bytes(data[:at] + data[at + len(said) :] + element(0x00290010, "LO", b"X" * len(value)))
    found = check(tmp_path / "data", archive.index)
    assert (found.objects, found.damaged, found.without_object) == (1, 1, 0)
    assert f"{kept.object} is damaged: {what}: the data set has none" in caplog.text


def test_the_fragments_of_an_unknown_length_are_walked(address: str, tmp_path: Path) -> None:
    """Frames that are stored with their lengths after the fact: what is open at the end is not whole."""
    data = mutants.patient() + element(PIXELS, "OB", item() + item(b"ab"), length=UNDEFINED)
    with associated(address, EXPLICIT) as association:
        assert association.store(unseen(data, EXPLICIT, "1.2.3.4")).status == 0xC000
        association.store(unseen(data + element(0xFFFEE0DD, ""), EXPLICIT, "1.2.3.4")).check()
