"""Names in the character sets of DICOM at Orthanc, DCMTK's dcmqrscp and our archive: found and read alike.

Each name lies there in its own character set, and is asked for by a wildcard in that and in UTF-8.  Where others find
or read something else, DIFFERENCES says so, and why; a difference that is not listed fails, and so does one that is
listed and does not show.  What we answer is decoded by DCMTK, or where that cannot by iconv, as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from tests.archive.making import data_set
from tests.interop import peers
from tests.interop.archives import dulcet_serve, orthanc
from tests.interop.test_archive_find import fill

import dulcet
from dulcet import uids
from dulcet.services.identifiers import build_identifier
from dulcet.services.written_text import with_text_written

UTF_8 = "ISO_IR 192"
EXPLICIT = uids.EXPLICIT_VR_LITTLE_ENDIAN


@dataclass(frozen=True)
class Named:
    """A name in a character set, and a key that finds it by its characters."""

    sets: str
    name: str
    key: str
    study: str = ""
    path: str = ""
    """Of the file that it is in; without one it is made."""


def _values(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


NAMES = {
    "ascii": Named("", "Plain^Ann", "Plai*"),
    "ir 6": Named("ISO_IR 6", "Simple^Ann", "Simp*"),
    "ir 13": Named("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", "ﾔﾏ*"),
    "ir 100": Named("ISO_IR 100", "Äneas^Rüdiger", "Än*"),
    "ir 101": Named("ISO_IR 101", "Łukasz^Wałęsa", "Łuk*"),
    "ir 109": Named("ISO_IR 109", "Ħalliġ^Ġorġ", "Ħal*"),
    "ir 110": Named("ISO_IR 110", "Ķirsis^Ģirts", "Ķir*"),
    "ir 126": Named("ISO_IR 126", "Διονυσιος", "Διο*"),
    "ir 127": Named("ISO_IR 127", "قباني^لنزار", "قبا*"),
    "ir 138": Named("ISO_IR 138", "שרון^דבורה", "שר*"),
    "ir 144": Named("ISO_IR 144", "Люкceмбypг", "Люк*"),
    "ir 148": Named("ISO_IR 148", "Şükrü^Çelik", "Şük*"),
    "ir 166": Named("ISO_IR 166", "นามสกุล^ชื่อ", "นาม*"),
    "utf-8": Named(UTF_8, "Wang^XiaoDong=王^小東", "*=王^小東*"),
    "gb18030": Named("GB18030", "Wang^XiaoDong=王^小东", "*=王^小东*"),
    "gbk": Named("GBK", "Zhang^San=张^三", "*=张*"),
    "ir 87": Named("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", "*=山田*"),
    "ir 13 and 87": Named("ISO 2022 IR 13\\ISO 2022 IR 87", "ｽｽﾞｷ^ﾊﾅｺ=鈴木^花子=すずき^はなこ", "ｽｽﾞｷ*"),
    "ir 149": Named("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "*=*=홍*"),
    "ir 58": Named("\\ISO 2022 IR 58", "Li^Xiaolong=李^小龙", "*=李*"),
    "ir 87 and 159": Named("ISO 2022 IR 6\\ISO 2022 IR 87\\ISO 2022 IR 159", "Otsu=丂田^花", "*=丂*"),
    "ir 100 and 144": Named("ISO 2022 IR 100\\ISO 2022 IR 144", "Jérôme^Люк", "Jér*"),
}

NAMES = {
    **{name: replace(named, study=f"1.2.4.{number}") for number, (name, named) in enumerate(NAMES.items())},
    **{
        Path(path).name: Named(
            "\\".join(_values(read.SpecificCharacterSet)),
            str(read.PatientName), f"{str(read.PatientName)[:2]}*", read.StudyInstanceUID, path,
        )
        for path in sorted(get_charset_files("chr*.dcm"))
        if "PatientName" in (read := pydicom.dcmread(path))
        # The one is a second image of the other's study; the other has the UIDs of a file before.
        and Path(path).name not in ("chrFrenMulti.dcm", "chrJapMultiExplicitIR6.dcm")
    },
}  # fmt: skip

OWN = "own"
NO_JIS = "Debian's DCMTK, with GNU iconv, reads no ISO 2022 IR 87 and 159"
ESCAPES = "without that, dcmqrscp compares bytes, and the key has an escape where the name goes on"
FIRST_GROUP = "Orthanc reads the groups of a name in the first character set"
NO_0212 = "Orthanc does not read ISO 2022 IR 159"
DIFFERENCES: dict[tuple[str, str, str], str] = {
    **{
        (name, asked, "orthanc"): reason
        for asked in (OWN, UTF_8)
        for name, reason in (
            ("ir 13 and 87", FIRST_GROUP), ("chrH32.dcm", FIRST_GROUP), ("ir 100 and 144", FIRST_GROUP),
            ("ir 87 and 159", NO_0212),
        )
    },
    ("ir 87", UTF_8, "dcmqrscp"): NO_JIS,
    ("ir 13 and 87", UTF_8, "dcmqrscp"): NO_JIS,
    ("ir 87 and 159", UTF_8, "dcmqrscp"): NO_JIS,
    ("chrH32.dcm", UTF_8, "dcmqrscp"): NO_JIS,
    ("chrJapMulti.dcm", UTF_8, "dcmqrscp"): NO_JIS,
    ("ir 87 and 159", OWN, "dcmqrscp"): ESCAPES,
    ("chrJapMulti.dcm", OWN, "dcmqrscp"): ESCAPES,
}  # fmt: skip
"""(name, character set of the query, archive) -> why it answers otherwise."""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, peers.Server]]:
    folder = tmp_path_factory.mktemp("character-sets")
    for name in ("dcmqrscp", "dulcet"):
        (folder / name).mkdir()
    files: list[Any] = [named.path or made(number, named) for number, named in enumerate(NAMES.values())]
    with ExitStack() as stack:
        servers = {
            "dulcet": stack.enter_context(dulcet_serve(folder / "dulcet", "--durability", "none")),
            "orthanc": stack.enter_context(orthanc(folder / "orthanc")),
            "dcmqrscp": stack.enter_context(peers.dcmqrscp(folder / "dcmqrscp", environment=peers.TUNED)),
        }
        for server in servers.values():
            assert all(fill(server.address, files).values())
        yield servers


def made(number: int, named: Named) -> Dataset:
    return data_set(
        900 + number, study=named.study, series=f"{named.study}.1", PatientID=f"C{number}",
        SpecificCharacterSet=named.sets.split("\\"), PatientName=named.name,
    )  # fmt: skip


def query(named: Named, sets: str) -> Dataset:
    identifier = build_identifier({"StudyInstanceUID": named.study}, level="STUDY")
    identifier.SpecificCharacterSet = sets.split("\\")
    identifier.PatientName = named.key
    return identifier


def ask(address: str, named: Named, sets: str) -> list[str]:
    """The names that are answered, as read by pydicom."""
    with warnings.catch_warnings(), dulcet.associate(address, calling_ae_title="DULCET") as association:
        warnings.simplefilter("ignore")
        answers = list(association.find(query(named, sets)))
        # pydicom leaves the escape of ISO 2022 IR 58 where it is.
        return [str(answer.PatientName).replace("\x1b$)A", "").rstrip(" =^") for answer in answers]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("asked", [OWN, UTF_8])
@pytest.mark.parametrize("archive", ["dulcet", "orthanc", "dcmqrscp"])
def test_a_name_is_found_by_its_characters_and_read_alike(
    archives: dict[str, peers.Server], archive: str, asked: str, name: str
) -> None:
    named = NAMES[name]
    found = ask(archives[archive].address, named, named.sets if asked == OWN else asked)
    assert (found != [named.name.rstrip("=^")]) is ((name, asked, archive) in DIFFERENCES), found


@pytest.mark.parametrize("name", NAMES)
def test_what_we_answer_is_read_alike_by_other_programs(
    archives: dict[str, peers.Server], name: str, tmp_path: Path
) -> None:
    named, server = NAMES[name], archives["dulcet"]
    keys = query(named, named.sets)
    keys.file_meta = FileMetaDataset()
    keys.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    keys.file_meta.MediaStorageSOPClassUID = UID(uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
    keys.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    with_text_written(keys).save_as(tmp_path / "keys.dcm", enforce_file_format=True)
    command = [peers.tool("findscu"), "-S", "-X", "-od", tmp_path, "-aec", server.aet, server.host, str(server.port)]
    peers.run([*command, tmp_path / "keys.dcm"]).check()
    (answer,) = tmp_path.glob("rsp*.dcm")
    read = pydicom.dcmread(answer)
    held = not named.name.isascii()
    assert "\\".join(_values(read.get("SpecificCharacterSet"))) == (named.sets if held else "")
    if "87" in named.sets:  # NO_JIS
        raw = read.get_item("PatientName").value.rstrip(b" ")
        groups = [group for group in raw.split(b"=") if group.isascii()]
        assert groups
        assert [_iconv(group, tmp_path) for group in groups] == named.name.split("=")[-len(groups) :]
        return
    shown = peers.run([peers.tool("dcmdump"), "+U8", "+P", "0010,0010", answer]).check().output
    assert shown.split("[", 1)[1].rsplit("]", 1)[0].rstrip(" =^") == named.name.rstrip("=^")


def _iconv(data: bytes, folder: Path) -> str:
    (folder / "name").write_bytes(data)
    return peers.run(["iconv", "-f", "ISO-2022-JP-2", "-t", "UTF-8", folder / "name"]).check().output
